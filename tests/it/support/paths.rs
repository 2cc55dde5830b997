//! Paths as they are described, with things in place of their names.

/// A name in paths, and the id of a thing; of one kind there may be several.
pub(crate) type Thing = (&'static str, String);

/// A path with each of these things in its place.
pub(crate) fn filled(path: &str, things: &[Thing]) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (name, after) = rest.split_once('}').unwrap();
    let named = things.iter().filter(|(known, _)| *known == name);
    let filled: Vec<_> = named
        .flat_map(|(_, thing)| filled(&format!("{before}{thing}{after}"), things))
        .collect();
    assert!(!filled.is_empty(), "nothing to put in place of {name}");
    filled
}
