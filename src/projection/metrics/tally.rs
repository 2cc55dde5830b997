//! Counters and histograms of one scope. Of their numbers nearly all are 0, so a row holds the
//! others alone: a byte that tells the form, then the place of each (u8) and the number itself
//! (LEB128), lowest place first. A minute of a subscription takes some 30 bytes.
//!
//! | places | numbers |
//! |---|---|
//! | 0 to 14 | the counters, in the order of [`Counter::ALL`] |
//! | 15 to 36 | `attempt_duration`: its buckets, then the sum |
//! | 37 to 58 | `e2e`: the same |

use std::time::Duration;

use super::{
    SERIES, TOTALS,
    histogram::{self, Histogram},
};
use crate::{
    log::{Cursor, put_varint},
    projection::{
        Row, RowError,
        codec::{malformed, u64_at},
        rows::Held,
    },
};

/// The class of a status, as metrics label it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// No response.
    None,
    /// 100 to 599 by its first digit, 1 to 5.
    Hundreds(u8),
    /// Any other.
    Other,
}

impl StatusClass {
    /// The class of a status.
    pub fn of(status: u16) -> Self {
        match status / 100 {
            0 => Self::None,
            hundreds @ 1..=5 => Self::Hundreds(u8::try_from(hundreds).expect("1 to 5")),
            _ => Self::Other,
        }
    }

    /// Its label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Hundreds(1) => "1xx",
            Self::Hundreds(2) => "2xx",
            Self::Hundreds(3) => "3xx",
            Self::Hundreds(4) => "4xx",
            Self::Hundreds(5) => "5xx",
            Self::Hundreds(_) | Self::Other => "other",
        }
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// `hooklog_messages_accepted_total`.
    MessagesAccepted,
    /// `hooklog_attempts_total{outcome="succeeded"}`: always status class 2xx.
    AttemptsSucceeded,
    /// `hooklog_attempts_total{outcome="failed",status_class="none"}`.
    FailedNoResponse,
    /// The same, `1xx`.
    Failed1xx,
    /// The same, `2xx`: an answer whose body or form made it a failure.
    Failed2xx,
    /// The same, `3xx`.
    Failed3xx,
    /// The same, `4xx`.
    Failed4xx,
    /// The same, `5xx`.
    Failed5xx,
    /// The same, `other`.
    FailedOther,
    /// `hooklog_deliveries_total{outcome="delivered"}`.
    Delivered,
    /// `hooklog_deliveries_total{outcome="dead_lettered"}`.
    DeadLettered,
    /// `hooklog_deliveries_total{outcome="discarded"}`.
    Discarded,
    /// Messages that were not for a subscription.
    Filtered,
    /// Retries that were planned.
    Retries,
    /// Past deliveries that were made again.
    Redelivered,
}

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 15] = [
        Self::MessagesAccepted,
        Self::AttemptsSucceeded,
        Self::FailedNoResponse,
        Self::Failed1xx,
        Self::Failed2xx,
        Self::Failed3xx,
        Self::Failed4xx,
        Self::Failed5xx,
        Self::FailedOther,
        Self::Delivered,
        Self::DeadLettered,
        Self::Discarded,
        Self::Filtered,
        Self::Retries,
        Self::Redelivered,
    ];

    /// The counters of failed attempts, each with its status class.
    pub const FAILED: [(Self, StatusClass); 7] = [
        (Self::FailedNoResponse, StatusClass::None),
        (Self::Failed1xx, StatusClass::Hundreds(1)),
        (Self::Failed2xx, StatusClass::Hundreds(2)),
        (Self::Failed3xx, StatusClass::Hundreds(3)),
        (Self::Failed4xx, StatusClass::Hundreds(4)),
        (Self::Failed5xx, StatusClass::Hundreds(5)),
        (Self::FailedOther, StatusClass::Other),
    ];

    /// The counter of attempts that failed with this status.
    pub fn failed_with(status: u16) -> Self {
        let class = StatusClass::of(status);
        let mut classes = Self::FAILED.into_iter();
        classes
            .find(|(_, of)| *of == class)
            .map_or(Self::FailedOther, |(counter, _)| counter)
    }
}

const COUNTERS: usize = Counter::ALL.len();
/// The first place of `attempt_duration`.
const ATTEMPT: usize = COUNTERS;
/// The first place of `e2e`.
const E2E: usize = ATTEMPT + histogram::NUMBERS;
const PLACES: usize = E2E + histogram::NUMBERS;
/// The form of rows. Up to version 4 they began with 0.
const FORM: u8 = 1;

/// The counters and histograms of one scope, over all time or one bucket of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    counters: [u64; COUNTERS],
    /// `hooklog_attempt_duration_seconds`.
    pub attempt_duration: Histogram,
    /// `hooklog_delivery_e2e_seconds`: from acceptance to delivery.
    pub e2e: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counters: [0; COUNTERS],
            attempt_duration: Histogram::default(),
            e2e: Histogram::default(),
        }
    }
}

impl Tally {
    /// The value of a counter.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// Failed attempts of every class.
    pub fn failed(&self) -> u64 {
        let failed = Counter::FAILED.iter();
        failed.map(|(counter, _)| self.get(*counter)).sum()
    }

    /// All attempts.
    pub fn attempts(&self) -> u64 {
        self.failed() + self.get(Counter::AttemptsSucceeded)
    }

    /// Adds the figures of another.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counters.iter_mut().zip(other.counters) {
            *count += more;
        }
        self.attempt_duration.add(&other.attempt_duration);
        self.e2e.add(&other.e2e);
    }

    pub(super) fn take(&mut self, steps: &[Step]) {
        for step in steps {
            match *step {
                Step::Count(counter, n) => {
                    let count = &mut self.counters[counter as usize];
                    *count = count.saturating_add(n);
                }
                Step::AttemptTook(duration) => self.attempt_duration.observe(duration),
                Step::DeliveredAfter(duration) => self.e2e.observe(duration),
            }
        }
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        let histograms = [&self.attempt_duration, &self.e2e];
        let counters = self.counters.iter().copied();
        counters.chain(histograms.into_iter().flat_map(Histogram::numbers))
    }

    fn number_mut(&mut self, place: usize) -> Option<&mut u64> {
        match place {
            ..ATTEMPT => self.counters.get_mut(place),
            ATTEMPT..E2E => self.attempt_duration.number_mut(place - ATTEMPT),
            _ => self.e2e.number_mut(place - E2E),
        }
    }

    /// The row of versions 3 and 4: every number (u64), in order.
    fn from_fixed(row: &[u8]) -> Result<Self, RowError> {
        if row.len() != PLACES * 8 {
            return Err(malformed(row, "a tally of the fixed form has another size"));
        }
        let mut tally = Self::default();
        for place in 0..PLACES {
            if let Some(number) = tally.number_mut(place) {
                *number = u64_at(row, place * 8)?;
            }
        }
        Ok(tally)
    }
}

impl Held for Tally {
    fn from_row(row: &[u8]) -> Result<Self, RowError> {
        let refused = |reason| malformed(row, reason);
        let mut rest = Cursor(row);
        if rest.u8() != Some(FORM) {
            return Err(refused("a tally of an unknown form"));
        }
        let mut tally = Self::default();
        let mut lowest = 0;
        while let Some(place) = rest.u8().map(usize::from) {
            let before = rest.0;
            let number = rest.varint();
            let number =
                number.ok_or_else(|| refused("a number of a tally is cut off or too large"))?;
            // Of the same tally there is one row alone.
            let written = &before[..before.len() - rest.0.len()];
            if written.ends_with(&[0]) {
                return Err(refused(
                    "a number of a tally is 0, or longer than it must be",
                ));
            }
            match tally.number_mut(place) {
                Some(slot) if place >= lowest => *slot = number,
                Some(_) => return Err(refused("the numbers of a tally are out of order")),
                None => return Err(refused("a tally has no such number")),
            }
            lowest = place + 1;
        }
        Ok(tally)
    }

    fn to_row(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(64);
        row.push(FORM);
        for (place, number) in (0..).zip(self.numbers()) {
            if number > 0 {
                row.push(place);
                put_varint(&mut row, number);
            }
        }
        row
    }
}

/// A row of version 3 or 4, whose tallies had a fixed form.
pub(super) fn adopt(row: Row) -> Result<Row, RowError> {
    match row.key.first() {
        Some(&(TOTALS | SERIES)) => Ok(Row {
            value: Tally::from_fixed(&row.value)?.to_row(),
            ..row
        }),
        _ => Ok(row),
    }
}

/// One step of a tally.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Count(Counter, u64),
    AttemptTook(Duration),
    DeliveredAfter(Duration),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally_of(numbers: &[(usize, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (place, number) in numbers {
            *tally.number_mut(*place).unwrap() = *number;
        }
        tally
    }

    fn fixed(tally: &Tally) -> Vec<u8> {
        tally.numbers().flat_map(u64::to_be_bytes).collect()
    }

    fn tallies() -> impl Strategy<Value = Tally> {
        let number = prop_oneof![1..1_000_u64, any::<u64>()];
        prop::collection::vec((0..PLACES, number), 0..20).prop_map(|numbers| tally_of(&numbers))
    }

    fn reason(row: &[u8]) -> String {
        Tally::from_row(row).unwrap_err().to_string()
    }

    proptest! {
        #[test]
        fn a_tally_reads_back_from_its_row(tally in tallies()) {
            prop_assert_eq!(Tally::from_row(&tally.to_row()).unwrap(), tally);
        }

        #[test]
        fn a_tally_of_the_fixed_form_is_taken_over(tally in tallies(), tag in any::<u8>()) {
            let (key, value) = (vec![tag, 0], fixed(&tally));
            let row = adopt(Row { key: key.clone(), value: value.clone() }).unwrap();
            let is_tally = tag == TOTALS || tag == SERIES;
            let value = if is_tally { tally.to_row() } else { value };
            prop_assert_eq!(row, Row { key, value });
        }

        #[test]
        fn damage_is_refused_or_another_tally(
            tally in tallies(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            end in any::<prop::sample::Index>(),
        ) {
            let mut row = tally.to_row();
            let at = at.index(row.len());
            row[at] = byte;
            row.truncate(end.index(row.len()) + 1);
            if let Ok(tally) = Tally::from_row(&row) {
                prop_assert_eq!(tally.to_row(), row);
            }
        }

        #[test]
        fn bytes_are_refused_or_the_only_row_of_a_tally(row in prop::collection::vec(0..70_u8, 0..12)) {
            if let Ok(tally) = Tally::from_row(&row) {
                prop_assert_eq!(tally.to_row(), row);
            }
        }
    }

    #[test]
    fn a_row_holds_what_is_not_0() {
        assert_eq!(Tally::default().to_row(), [FORM]);
        let tally = tally_of(&[(1, 3), (COUNTERS, 300), (PLACES - 1, 1)]);
        assert_eq!(tally.to_row(), [FORM, 1, 3, 15, 0xac, 0x02, 58, 1]);
    }

    #[test]
    fn a_minute_of_a_subscription_is_small() {
        let mut tally = Tally::default();
        for ms in [3, 4, 7, 15, 22, 41] {
            tally.take(&[
                Step::Count(Counter::AttemptsSucceeded, 1),
                Step::Count(Counter::Delivered, 1),
                Step::AttemptTook(Duration::from_millis(ms)),
                Step::DeliveredAfter(Duration::from_millis(ms + 5)),
            ]);
        }
        assert_eq!(tally.to_row().len(), 27);
    }

    #[test]
    fn a_row_that_no_tally_has_is_refused() {
        assert!(reason(&[]).contains("unknown form"));
        assert!(reason(&[0; PLACES * 8]).contains("unknown form"));
        assert!(reason(&[FORM, 1]).contains("cut off"));
        assert!(reason(&[FORM, 1, 0x80]).contains("cut off"));
        assert!(reason(&[FORM, 1, 0]).contains("is 0"));
        assert!(reason(&[FORM, 1, 0x81, 0]).contains("longer than it must be"));
        assert!(reason(&[FORM, 59, 1]).contains("no such number"));
        assert!(reason(&[FORM, 2, 1, 1, 1]).contains("out of order"));
        assert!(reason(&[FORM, 2, 1, 2, 1]).contains("out of order"));
        let too_large = [&[FORM, 1][..], &[0xff; 9], &[2]].concat();
        assert!(reason(&too_large).contains("cut off"));
        let short = Row {
            key: vec![TOTALS, 0],
            value: vec![0; PLACES * 8 - 1],
        };
        assert!(adopt(short).unwrap_err().is_damage());
    }
}
