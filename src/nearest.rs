//! The nearest of the names that are known, for whoever mistyped one.

/// The name that is nearest to a mistyped one; `None` when none is near.
pub(crate) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    /// Below this, names have little in common.
    const LIKENESS_MIN: f64 = 0.7;
    let likeness = |name: &str| strsim::jaro_winkler(&wrong.to_lowercase(), &name.to_lowercase());
    let rated = known.map(|name| (likeness(name), name));
    let best = rated.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["description", "name", "entrypoint"];
        assert_eq!(
            nearest("descripton", known.into_iter()),
            Some("description")
        );
        assert_eq!(nearest("Name", known.into_iter()), Some("name"));
        assert_eq!(nearest("zzz", known.into_iter()), None);
    }
}
