//! Paths as they are described, with things in place of their names.

use hooklog::console::Console;

/// A name in paths, and the id of a thing.
pub(crate) type Thing = (&'static str, String);

/// A path with these things in it.
pub(crate) fn filled(path: &str, things: &[Thing]) -> String {
    let mut path = path.to_owned();
    for (name, thing) in things {
        path = path.replace(&format!("{{{name}}}"), thing);
    }
    assert!(!path.contains('{'), "nothing to put into {path}");
    path
}

/// Method and path of every page and step of the console, with the query that one does not come
/// without.
pub(crate) fn pages() -> impl Iterator<Item = (&'static str, String)> {
    Console::routes().map(|(method, path)| {
        if path == "/console/jobs/new" {
            (method, format!("{path}?all=on&api={{api}}"))
        } else {
            (method, path)
        }
    })
}
