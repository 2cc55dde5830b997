//! Who may import whom, where the crates that could be swapped are seen, and which crates come at all.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Fields, File, Item, ItemMod, Signature, Type, UseTree, Visibility,
    visit::{self, Visit},
};

/// Each room with the rooms it may import. A room that is not listed may import nothing.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("activity", &[]),
    ("kill_point", &[]),
    ("clock", &["model"]),
    ("log", &["model", "clock", "kill_point"]),
    ("subscription", &["model"]),
    ("filter", &["model"]),
    ("vault", &["model", "clock"]),
    ("projection", &["model", "clock", "kill_point", "log"]),
    ("delivery", &["model", "clock"]),
    (
        "actor",
        &[
            "model",
            "clock",
            "activity",
            "kill_point",
            "log",
            "subscription",
            "filter",
            "delivery",
        ],
    ),
    ("source", &["model", "clock", "activity", "log"]),
    (
        "runtime",
        &[
            "model",
            "clock",
            "activity",
            "kill_point",
            "log",
            "subscription",
            "filter",
            "vault",
            "projection",
            "delivery",
            "actor",
            "source",
        ],
    ),
    ("nearest", &[]),
    (
        "http",
        &[
            "model",
            "log",
            "projection",
            "actor",
            "source",
            "runtime",
            "nearest",
        ],
    ),
    (
        "console",
        // Its own tests run on the testing kit.
        &[
            "http",
            "model",
            "log",
            "projection",
            "runtime",
            "nearest",
            "testing",
        ],
    ),
    ("gravitee", &["model", "delivery", "projection", "runtime"]),
    (
        "cli",
        &[
            "http",
            "console",
            "nearest",
            "model",
            "clock",
            "gravitee",
            "log",
            "projection",
            "delivery",
            "runtime",
            "testing",
        ],
    ),
    (
        "testing",
        &[
            "model",
            "clock",
            "log",
            "subscription",
            "filter",
            "projection",
            "delivery",
            "actor",
            "runtime",
        ],
    ),
];

/// Crates that could be swapped, and where alone they are seen.
const CRATES: &[(&str, &[&str])] = &[
    ("sled", &["log/sled_", "projection/sled_store"]),
    ("actix", &["actor/"]),
    ("actix_rt", &["actor/"]),
    ("actix_web", &["http/server"]),
    ("regex", &["filter/"]),
    ("prometheus_client", &["http/exposition"]),
    ("hyper", &["delivery/", "testing/callback"]),
    ("hyper_util", &["delivery/", "testing/callback"]),
    ("tower_service", &["delivery/"]),
    ("reqwest", &["cli/client", "cli/telemetry/otlp"]),
    ("rustls", &["delivery/"]),
    ("tokio_rustls", &["delivery/"]),
    ("maud", &["console/"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/completions"]),
    ("comfy_table", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("saphyr_parser", &["gravitee/yaml"]),
    ("tracing_subscriber", &["cli/telemetry/"]),
    ("opentelemetry", &["cli/telemetry/"]),
    ("opentelemetry_http", &["cli/telemetry/"]),
    ("opentelemetry_otlp", &["cli/telemetry/"]),
    ("opentelemetry_sdk", &["cli/telemetry/"]),
];

/// What the pure core must not touch, beside the rooms it may not import.
const IMPURE: &[&str] = &[
    "tokio",
    "actix",
    "sled",
    "reqwest",
    "getrandom",
    "futures_util",
    "tracing",
];

/// One source file: where it is below `src`, and what it names.
struct Source {
    path: String,
    file: File,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    fn paths(&self) -> BTreeSet<Vec<String>> {
        let mut paths = Paths::default();
        paths.visit_file(&self.file);
        paths.0
    }
}

/// Whether a condition asks for `test`, alone or among others.
fn names_test(mut tokens: impl Iterator<Item = proc_macro2::TokenTree>) -> bool {
    tokens.any(|token| match token {
        proc_macro2::TokenTree::Ident(name) => name == "test",
        proc_macro2::TokenTree::Group(group) => names_test(group.stream().into_iter()),
        _ => false,
    })
}

/// Every path that a file names outside its tests, each as its segments.
#[derive(Default)]
struct Paths(BTreeSet<Vec<String>>);

impl Paths {
    fn add_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: String| [before, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.add_tree(&path.tree, &with(path.ident.to_string())),
            UseTree::Group(group) => group
                .items
                .iter()
                .for_each(|tree| self.add_tree(tree, before)),
            UseTree::Name(name) => drop(self.0.insert(with(name.ident.to_string()))),
            UseTree::Rename(name) => drop(self.0.insert(with(name.ident.to_string()))),
            UseTree::Glob(_) => drop(self.0.insert(before.to_vec())),
        }
    }
}

impl Visit<'_> for Paths {
    fn visit_item_mod(&mut self, module: &ItemMod) {
        let is_test = module.attrs.iter().any(|attribute| {
            let syn::Meta::List(list) = &attribute.meta else {
                return false;
            };
            let tokens = list.tokens.clone().into_iter();
            list.path.is_ident("cfg") && names_test(tokens)
        });
        if !is_test {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        self.add_tree(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments = path.segments.iter();
        self.0
            .insert(segments.map(|s| s.ident.to_string()).collect());
        visit::visit_path(self, path);
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut directories: Vec<PathBuf> = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).unwrap();
                sources.push(Source {
                    path: below.to_str().unwrap().to_owned(),
                    file: syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap(),
                });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 100, "the sources were not found");
    sources
}

#[test]
fn rooms_import_only_the_rooms_below_them() {
    for source in sources() {
        let room = source.room();
        if room == "lib" || room == "main" {
            continue;
        }
        let allowed = ROOMS.iter().find(|(name, _)| *name == room);
        let (_, below) = allowed.unwrap_or_else(|| panic!("{} has no rule in ROOMS", source.path));
        for path in source.paths() {
            let [start, other, ..] = path.as_slice() else {
                continue;
            };
            let is_room = ROOMS.iter().any(|(name, _)| name == other);
            assert!(
                start != "crate" || !is_room || other == room || below.contains(&other.as_str()),
                "src/{} imports crate::{other}; {room} may import {below:?}",
                source.path
            );
        }
    }
}

#[test]
fn no_path_climbs_out_of_its_room() {
    for source in sources() {
        // `a/mod.rs` is the module a, `a/b.rs` the module a::b: so deep below its room's door.
        let parts = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let depth = parts.split('/').count() - 1;
        for path in source.paths() {
            let climbs = path.iter().take_while(|name| *name == "super").count();
            assert!(
                climbs <= depth,
                "src/{} names {}, which is outside its room: name it from crate",
                source.path,
                path.join("::")
            );
        }
    }
}

#[test]
fn a_crate_that_could_be_swapped_is_seen_in_its_room_alone() {
    for source in sources() {
        for path in source.paths() {
            let rule = CRATES.iter().find(|(name, _)| *name == path[0]);
            let Some((name, places)) = rule else { continue };
            assert!(
                places.iter().any(|place| source.path.starts_with(place)),
                "src/{} imports {name}, which is seen in {places:?} alone",
                source.path
            );
        }
    }
}

#[test]
fn the_pure_core_touches_no_clock_no_disk_no_socket_and_no_chance() {
    for source in sources() {
        if source.room() != "subscription" {
            continue;
        }
        for path in source.paths() {
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let impure = IMPURE.contains(&names[0])
                || matches!(
                    names.as_slice(),
                    ["std", "fs" | "net" | "thread" | "process" | "env", ..]
                        | ["std", "time", "Instant" | "SystemTime", ..]
                );
            assert!(!impure, "src/{} names {}", source.path, path.join("::"));
        }
    }
}

const NOT_SHOWN: [&str; 6] = [
    "sled",
    "actix",
    "actix_rt",
    "hyper",
    "hyper_util",
    "reqwest",
];

/// What a file imports of the crates that must not show, by the name it goes by there.
fn foreign_names(source: &Source) -> BTreeSet<String> {
    let mut imported = Paths::default();
    for item in &source.file.items {
        if let Item::Use(item) = item {
            imported.visit_item_use(item);
        }
    }
    let foreign = imported.0.into_iter();
    let foreign = foreign.filter(|path| NOT_SHOWN.contains(&path[0].as_str()));
    let names = foreign.filter_map(|path| path.last().cloned());
    names.chain(NOT_SHOWN.map(str::to_owned)).collect()
}

/// The types that an item shows to whoever uses the crate.
fn shown(item: &Item) -> Vec<Type> {
    let is_public = |visibility: &Visibility| matches!(visibility, Visibility::Public(_));
    let fields = |fields: &Fields, all: bool| -> Vec<Type> {
        let shown = fields.iter().filter(|field| all || is_public(&field.vis));
        shown.map(|field| field.ty.clone()).collect()
    };
    match item {
        Item::Struct(item) if is_public(&item.vis) => fields(&item.fields, false),
        Item::Enum(item) if is_public(&item.vis) => {
            let variants = item.variants.iter();
            variants.flat_map(|v| fields(&v.fields, true)).collect()
        }
        Item::Fn(item) if is_public(&item.vis) => signature(&item.sig),
        Item::Trait(item) if is_public(&item.vis) => {
            let methods = item.items.iter().filter_map(|item| match item {
                syn::TraitItem::Fn(method) => Some(signature(&method.sig)),
                _ => None,
            });
            methods.flatten().collect()
        }
        Item::Impl(item) => {
            let methods = item.items.iter().filter_map(|item| match item {
                syn::ImplItem::Fn(method) if is_public(&method.vis) => Some(signature(&method.sig)),
                _ => None,
            });
            methods.flatten().collect()
        }
        _ => Vec::new(),
    }
}

fn signature(signature: &Signature) -> Vec<Type> {
    let inputs = signature.inputs.iter().filter_map(|input| match input {
        syn::FnArg::Typed(typed) => Some((*typed.ty).clone()),
        syn::FnArg::Receiver(_) => None,
    });
    let output = match &signature.output {
        syn::ReturnType::Type(_, output) => Some((**output).clone()),
        syn::ReturnType::Default => None,
    };
    inputs.chain(output).collect()
}

#[test]
fn no_type_of_actix_sled_hyper_or_reqwest_shows_in_the_public_api() {
    for source in sources() {
        let foreign = foreign_names(&source);
        for shown in source.file.items.iter().flat_map(shown) {
            let mut paths = Paths::default();
            paths.visit_type(&shown);
            let shown = paths.0.iter().find(|path| foreign.contains(&path[0]));
            assert_eq!(shown, None, "src/{} shows it", source.path);
        }
    }
}

/// Crates that must not come, by whatever way, and what comes in their place.
const SHUT_OUT: [(&str, &str); 4] = [
    ("h2", "HTTP/1.1 alone is spoken"),
    ("jsonschema", "it fetches what schemas refer to"),
    ("native-tls", "TLS is rustls"),
    ("openssl-sys", "TLS is rustls"),
];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[test]
fn every_crate_is_from_the_registry_and_none_is_one_that_is_shut_out() {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    let mut others = 0;
    for package in lock.split("[[package]]\n").skip(1) {
        let value = |key: &str| {
            let mut lines = package.lines();
            lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
        };
        let name = value("name").unwrap().trim_matches('"');
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        let source = value("source").map(|source| source.trim_matches('"'));
        assert_eq!(source, Some(REGISTRY), "where {name} comes from");
        let shut_out = SHUT_OUT.iter().find(|(shut_out, _)| *shut_out == name);
        assert_eq!(shut_out, None, "Cargo.lock holds {name}");
        others += 1;
    }
    assert!(others > 100, "the crates were not found");
}
