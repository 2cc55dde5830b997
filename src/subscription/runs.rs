//! A set of versions, kept as runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::Version;

/// A set of versions as runs that neither touch nor overlap: small where versions are settled
/// nearly in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Runs(BTreeMap<Version, Version>);

impl Runs {
    /// Whether the version is in the set.
    pub fn contains(&self, version: Version) -> bool {
        self.run_of(version).is_some()
    }

    /// First and last of the run that holds the version.
    pub fn run_of(&self, version: Version) -> Option<(Version, Version)> {
        let (first, last) = self.0.range(..=version).next_back()?;
        (*last >= version).then_some((*first, *last))
    }

    /// Adds `first..=last`. Nothing happens when `last` is before `first`.
    pub fn insert(&mut self, first: Version, last: Version) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        while let Some((start, end)) = self.touching(first, last) {
            self.0.remove(&start);
            first = first.min(start);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }

    /// Takes out every version up to and with `last`.
    pub fn remove_through(&mut self, last: Version) {
        while let Some(entry) = self.0.first_entry().filter(|entry| *entry.key() <= last) {
            let end = entry.remove();
            if end > last {
                self.0.insert(last.next(), end);
            }
        }
    }

    /// First and last of each run, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Version, Version)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a version of `first..=last` is in the set.
    pub fn intersects(&self, first: Version, last: Version) -> bool {
        let below = self.0.range(..=last).next_back();
        below.is_some_and(|(_, end)| *end >= first)
    }

    fn touching(&self, first: Version, last: Version) -> Option<(Version, Version)> {
        let (start, end) = self.0.range(..=last.plus(1)).next_back()?;
        (end.plus(1) >= first).then_some((*start, *end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: &Runs) -> Vec<(u64, u64)> {
        runs.iter().map(|(a, b)| (a.get(), b.get())).collect()
    }

    #[test]
    fn runs_that_touch_become_one() {
        let mut set = Runs::default();
        for (first, last) in [(5, 5), (9, 10), (7, 7), (6, 6), (1, 2)] {
            set.insert(Version::new(first), Version::new(last));
        }
        assert_eq!(runs(&set), [(1, 2), (5, 7), (9, 10)]);
        set.insert(Version::new(2), Version::new(9));
        assert_eq!(runs(&set), [(1, 10)]);
        set.remove_through(Version::new(4));
        assert_eq!(runs(&set), [(5, 10)]);
        assert!(set.contains(Version::new(5)) && !set.contains(Version::new(4)));
        assert!(set.intersects(Version::new(1), Version::new(5)));
        assert!(!set.intersects(Version::new(11), Version::new(15)));
    }
}
