//! The fewest steps of a life that still break it.

use std::collections::BTreeSet;

/// Takes steps out as long as what is left still `breaks`, many at once first. What it gives breaks,
/// and with any one step less it does not. All of them must break.
pub(super) fn shrink(steps: u32, mut breaks: impl FnMut(&BTreeSet<u32>) -> bool) -> BTreeSet<u32> {
    let mut kept: BTreeSet<u32> = (0..steps).collect();
    let mut chunk = kept.len().div_ceil(2);
    while chunk > 0 {
        let mut from = 0;
        while from < kept.len() {
            let fewer: BTreeSet<u32> = kept
                .iter()
                .enumerate()
                .filter(|(at, _)| !(from..from + chunk).contains(at))
                .map(|(_, step)| *step)
                .collect();
            if breaks(&fewer) {
                kept = fewer;
            } else {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        for needed in [
            vec![],
            vec![0],
            vec![99],
            vec![3, 4, 5],
            vec![0, 17, 50, 99],
        ] {
            let needed: BTreeSet<u32> = needed.into_iter().collect();
            let mut tries = 0;
            let left = shrink(100, |kept| {
                tries += 1;
                kept.is_superset(&needed)
            });
            assert_eq!(left, needed);
            assert!(tries < 200, "{tries}");
        }
    }

    #[test]
    fn either_of_two_ways_to_break_is_enough() {
        let left = shrink(64, |kept| {
            [[5, 6], [40, 41]]
                .iter()
                .any(|pair| pair.iter().all(|step| kept.contains(step)))
        });
        assert_eq!(left.len(), 2);
    }
}
