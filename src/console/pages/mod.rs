//! The table of every page and step, one file per kind of thing.

mod apis;
mod applications;
mod configuration;
mod dead_letters;
mod delivery;
mod events;
mod jobs;
mod login;
mod logs;
mod overview;
mod projections;
mod settings;
mod source;
mod subscription;
mod subscriptions;

use super::{
    ROOT,
    answer::{Answer, Trouble},
    live,
    visit::{Page, Run},
};
use crate::model::Permission;

/// A page that whoever may read is shown.
const fn shows(path: &'static str, run: Run) -> Page {
    Page {
        method: "GET",
        path,
        needs: Some(Permission::Read),
        run,
    }
}

/// A page for whoever may do this.
const fn shows_to(needs: Permission, path: &'static str, run: Run) -> Page {
    Page {
        method: "GET",
        path,
        needs: Some(needs),
        run,
    }
}

/// A step that needs this.
const fn does(needs: Permission, path: &'static str, run: Run) -> Page {
    Page {
        method: "POST",
        path,
        needs: Some(needs),
        run,
    }
}

/// A page's function as the table takes it.
macro_rules! run {
    ($page:expr) => {
        |visit| {
            futures_util::FutureExt::boxed(async move {
                let visit: &crate::console::visit::Visit = &visit;
                $page(visit).await
            })
        }
    };
}
use run;

const LIVE: &[Page] = &[
    shows(
        "/live/{projection}",
        run!(async |visit| live::changes(visit)),
    ),
    shows("", run!(async |_| first())),
];

#[expect(clippy::unnecessary_wraps, reason = "as the table takes it")]
fn first() -> Result<Answer, Trouble> {
    Ok(Answer::see(format!("{ROOT}/apis")))
}

/// Every page and step.
pub(super) fn all() -> impl Iterator<Item = &'static Page> {
    [
        LIVE,
        login::PAGES,
        apis::PAGES,
        overview::PAGES,
        configuration::PAGES,
        source::PAGES,
        subscriptions::PAGES,
        subscription::PAGES,
        logs::PAGES,
        delivery::PAGES,
        dead_letters::PAGES,
        applications::PAGES,
        events::PAGES,
        jobs::PAGES,
        projections::PAGES,
        settings::PAGES,
    ]
    .into_iter()
    .flatten()
}

/// What stands in the path in place of names.
type Parameters = Vec<(&'static str, String)>;

/// The page of this path.
pub(super) fn find(method: &str, path: &str) -> Option<(&'static Page, Parameters)> {
    let path = path.strip_prefix(ROOT).unwrap_or("").trim_end_matches('/');
    let method = if method == "HEAD" { "GET" } else { method };
    all()
        .filter(|page| page.method == method)
        .find_map(|page| Some((page, matched(page.path, path)?)))
}

fn matched(pattern: &'static str, path: &str) -> Option<Parameters> {
    let (mut names, mut parts) = (pattern.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        match (names.next(), parts.next()) {
            (None, None) => return Some(parameters),
            (Some(name), Some(part)) => {
                let placeholder = name
                    .strip_prefix('{')
                    .and_then(|name| name.strip_suffix('}'));
                match placeholder {
                    Some(name) if !part.is_empty() => parameters.push((name, part.to_owned())),
                    None if name == part => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_by_method_and_path() {
        let found = |method: &str, path: &str| {
            find(method, path).map(|(page, parameters)| (page.path, parameters.len()))
        };
        assert_eq!(found("GET", "/"), Some(("", 0)));
        assert_eq!(found("GET", "/console"), Some(("", 0)));
        assert_eq!(found("GET", "/console/apis/7"), Some(("/apis/{api}", 1)));
        assert_eq!(found("GET", "/console/apis/new"), Some(("/apis/new", 0)));
        assert_eq!(found("DELETE", "/console/apis/7"), None);
    }

    #[test]
    fn no_two_pages_have_the_same_path() {
        let mut seen = std::collections::BTreeSet::new();
        for page in all() {
            assert!(seen.insert((page.method, page.path)), "{}", page.path);
        }
    }
}
