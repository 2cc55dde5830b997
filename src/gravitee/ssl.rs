//! TLS options of a subscription's calls.

use super::{ledger::Node, note::NoteKind, plan::Untaken, scalar::quoted};
use crate::{
    delivery::{NoSecrets, check_configuration},
    model::{ConsumerConfiguration, Secret, Ssl},
};

/// What happens to a subscription one of whose stores cannot be taken over.
const INSTEAD: &str = "imported without it, and paused; one that is set here is kept";

/// What a store comes to.
enum Store {
    /// There is none.
    Absent,
    /// Its content, as PEM.
    Pem(String),
    /// One that cannot be taken over; why is noted.
    Unusable,
}

/// The TLS options under `ssl`. Stores that could not be taken over are told.
pub(super) fn ssl(holder: &Node<'_>, untaken: &mut Untaken) -> Ssl {
    let mut ssl = Ssl::default();
    let Some(node) = holder.object("ssl") else {
        let unread = holder.has("ssl");
        (untaken.trust_store, untaken.key_store) = (unread, unread);
        return ssl;
    };
    let flag = |key: &str| node.get(key).and_then(|node| node.flag());
    if let Some(on) = flag("hostnameVerifier") {
        ssl.hostname_verifier = on;
    }
    if let Some(on) = flag("trustAll") {
        ssl.trust_all = on;
    }
    let trusts = store(&node, "trustStore", &[&["content", "certContent"]]);
    let keys = store(
        &node,
        "keyStore",
        &[&["certContent", "content"], &["keyContent"]],
    );
    untaken.trust_store = matches!(trusts, Store::Unusable);
    untaken.key_store = matches!(keys, Store::Unusable);
    if let Store::Pem(content) = trusts {
        ssl.trust_store = Some(content);
    }
    if let Store::Pem(content) = keys {
        ssl.key_store = Some(Secret::new(content));
    }
    ssl
}

/// The store under `key`, made of these parts one after the other. Each part goes by one of
/// several names.
fn store(ssl: &Node<'_>, key: &str, parts: &[&[&str]]) -> Store {
    let Some(node) = ssl.object(key) else {
        return if ssl.has(key) {
            Store::Unusable
        } else {
            Store::Absent
        };
    };
    match is_pem(&node, parts) {
        Some(true) => {}
        Some(false) => return Store::Absent,
        None => return Store::Unusable,
    }
    let mut content = Vec::new();
    for names in parts {
        let Some(part) = node.any(names) else {
            continue;
        };
        let Some(text) = part.literal(INSTEAD) else {
            return Store::Unusable;
        };
        content.extend(Some(text).filter(|text| !text.trim().is_empty()));
    }
    if content.is_empty() {
        let reason = "holds no content; files of the gateway's machine are not read";
        node.note(NoteKind::Unsupported, reason, INSTEAD);
        return Store::Unusable;
    }
    let content = content.join("\n");
    match problem(key, &content) {
        None => Store::Pem(content),
        Some(reason) => {
            node.note(NoteKind::Invalid, reason, INSTEAD);
            Store::Unusable
        }
    }
}

/// Whether a store is PEM, or none at all; `None`, and a note, when it is of another kind.
fn is_pem(node: &Node<'_>, parts: &[&[&str]]) -> Option<bool> {
    const KINDS: [(&str, Option<bool>); 5] = [
        ("NONE", Some(false)),
        ("PEM", Some(true)),
        ("JKS", None),
        ("PKCS12", None),
        ("P12", None),
    ];
    let kind = node.get("type");
    if let Some(blank) = kind.as_ref().filter(|kind| kind.value() == "") {
        blank.mark();
    }
    let kind = kind.filter(|kind| kind.value() != "");
    let Some(kind) = kind else {
        return Some(parts.iter().any(|names| node.any(names).is_some()));
    };
    let known = kind.choice(&KINDS, INSTEAD)?;
    if known.is_none() {
        let name = quoted(kind.value().as_str().unwrap_or_default());
        let reason = format!("is a store of type {name}; give its content as PEM");
        node.note(NoteKind::Unsupported, reason, INSTEAD);
    }
    known
}

/// Why calls could not be made with this store.
fn problem(key: &str, content: &str) -> Option<String> {
    let (trust_store, key_store) = match key {
        "trustStore" => (Some(content.to_owned()), None),
        _ => (None, Some(Secret::new(content))),
    };
    let ssl = Ssl {
        trust_store,
        key_store,
        ..Ssl::default()
    };
    let configuration = ConsumerConfiguration {
        ssl,
        ..ConsumerConfiguration::default()
    };
    let invalid = check_configuration(&configuration, &NoSecrets).err()?;
    let reasons: Vec<_> = invalid
        .problems
        .into_iter()
        .map(|problem| problem.reason)
        .collect();
    Some(reasons.join("; "))
}
