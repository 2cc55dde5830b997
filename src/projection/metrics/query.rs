//! Questions to the metrics.

use std::time::Duration;

use super::{Gauges, Metrics, SERIES, Scope, TOTALS, Tally};
use crate::{
    model::{Invalid, Timestamp},
    projection::{ReadRows, View, ViewError, codec::u64_at, rows::Held as _},
};

/// Most points of one series.
const POINTS_MAX: u64 = 10_000;

/// How wide the buckets of a series are, as they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// A second, kept for an hour; not of a subscription.
    Second,
    /// A minute, kept for seven days, of a subscription for one.
    Minute,
    /// An hour, kept for two years, of a subscription for ninety days.
    Hour,
}

impl Resolution {
    /// Every resolution, finest first.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// The width of a bucket.
    pub const fn width(self) -> Duration {
        Duration::from_secs(self.seconds().unsigned_abs())
    }

    /// How long buckets of a scope are kept, and up to a bucket of the next wider series longer;
    /// `None` where they are not. There may be a hundred thousand subscriptions: each has some
    /// 3,700 buckets at most, or 0.2 MB.
    pub const fn kept(self, scope: Scope) -> Option<Duration> {
        const DAY: u64 = 86_400;
        let is_many = matches!(scope, Scope::Subscription(_));
        Some(Duration::from_secs(match self {
            Self::Second if is_many => return None,
            Self::Second => 3_600,
            Self::Minute if is_many => DAY,
            Self::Minute => 7 * DAY,
            Self::Hour if is_many => 90 * DAY,
            Self::Hour => 2 * 365 * DAY,
        }))
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Second => "seconds",
            Self::Minute => "minutes",
            Self::Hour => "hours",
        }
    }

    const fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// The key of the bucket that holds this time. Times before 1970 fall into the first.
    pub(super) fn key(self, scope: Scope, time: Timestamp) -> Vec<u8> {
        let mut key = Self::prefix(scope);
        self.extend_to_bucket(&mut key, time);
        key
    }

    /// Makes that key of what every key of the scope's series begins with.
    pub(super) fn extend_to_bucket(self, prefix: &mut Vec<u8>, time: Timestamp) {
        let seconds = u64::try_from(time.as_seconds()).unwrap_or(0);
        let start = seconds - seconds % self.seconds().unsigned_abs();
        prefix.push(self as u8);
        prefix.extend_from_slice(&start.to_be_bytes());
    }

    /// What every key of a scope's series begins with.
    pub(super) fn prefix(scope: Scope) -> Vec<u8> {
        scope.key(SERIES)
    }

    pub(super) fn first_key(self, scope: Scope) -> Vec<u8> {
        let mut key = Self::prefix(scope);
        key.push(self as u8);
        key
    }
}

/// A question for a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeriesQuery {
    /// About what.
    pub scope: Scope,
    /// The first time that is shown.
    pub from: Timestamp,
    /// The first time that is not, but for the rest of its bucket.
    pub to: Timestamp,
    /// Distance of two points: a whole number of seconds.
    pub step: Duration,
}

impl SeriesQuery {
    /// Refuses a step whose buckets are, at this time, no longer kept as far back as the range
    /// begins, where those of a longer step are kept for longer.
    pub fn check_kept(&self, now: Timestamp) -> Result<(), Invalid> {
        /// Between who asks and this check some time passes.
        const ON_THE_WAY: Duration = Duration::from_secs(60);
        let resolution = resolution_for(self)?;
        let back = now.since(self.from).saturating_sub(ON_THE_WAY);
        let reaches = |of: Resolution| {
            let kept = of.kept(self.scope);
            of == Resolution::Hour || kept.is_some_and(|kept| back <= kept)
        };
        let mut longer = Resolution::ALL.into_iter().filter(|of| *of > resolution);
        let Some(longer) = longer.find(|of| !reaches(resolution) && reaches(*of)) else {
            return Ok(());
        };
        let kept = resolution.kept(self.scope).unwrap_or_default();
        let reason = format!(
            "is {}: {} are kept for {} h, and the range begins before; take a multiple of {} or begin later",
            self.step.as_secs(),
            resolution.unit(),
            kept.as_secs() / 3_600,
            longer.width().as_secs(),
        );
        Err(Invalid::one("/step", reason))
    }
}

/// One point of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesPoint {
    /// Where its bucket begins.
    pub at: Timestamp,
    /// What happened in it.
    pub tally: Tally,
}

/// A series, one point for each step that saw anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// How wide the kept buckets are that it was added up from.
    pub resolution: Resolution,
    /// The points, oldest first; steps in which nothing happened are left out.
    pub points: Vec<SeriesPoint>,
}

impl View<Metrics> {
    /// Counters and histograms over all time.
    pub fn totals(&self, scope: Scope) -> Result<Tally, ViewError> {
        self.read(|rows| {
            let row = rows.get(&scope.key(TOTALS))?;
            Ok(row.map_or(Ok(Tally::default()), |row| Tally::from_row(&row))?)
        })
    }

    /// What stands at this moment.
    pub fn gauges(&self, scope: Scope) -> Result<Gauges, ViewError> {
        self.read(|rows| Ok(Gauges::read(rows, scope)?))
    }

    /// A series for a chart, added up from the coarsest resolution that fits into `step`. Points
    /// begin at multiples of `step` since 1970. What is no longer kept is left out; see
    /// [`SeriesQuery::check_kept`].
    ///
    /// # Errors
    /// [`ViewError::Query`] when the step is no whole number of seconds, or of minutes where the
    /// scope is a subscription, or the range has more than 10,000 steps.
    pub fn series(&self, query: &SeriesQuery) -> Result<Series, ViewError> {
        let resolution = resolution_for(query)?;
        let (scope, step) = (query.scope, query.step.as_secs());
        // A bucket that has begun is shown, as the one at the beginning is.
        let part = resolution.width().saturating_sub(Duration::from_millis(1));
        let end = resolution.key(scope, query.to.plus(part));
        let range = resolution.key(scope, query.from)..end;
        self.read(|rows| {
            let mut points: Vec<SeriesPoint> = Vec::new();
            for row in rows.range(range) {
                let row = row?;
                let start = u64_at(&row.key, row.key.len() - 8)?;
                let start = i64::try_from(start - start % step).unwrap_or(i64::MAX);
                let at = Timestamp::from_millis(start.saturating_mul(1_000));
                let tally = Tally::from_row(&row.value)?;
                match points.last_mut() {
                    Some(point) if point.at == at => point.tally.add(&tally),
                    _ => points.push(SeriesPoint { at, tally }),
                }
            }
            Ok(Series { resolution, points })
        })
    }
}

fn resolution_for(query: &SeriesQuery) -> Result<Resolution, Invalid> {
    let step = query.step.as_secs();
    let mut fits = Resolution::ALL.into_iter().rev().filter(|resolution| {
        step > 0
            && resolution.kept(query.scope).is_some()
            && query.step.subsec_nanos() == 0
            && step.is_multiple_of(resolution.width().as_secs())
    });
    let Some(resolution) = fits.next() else {
        let unit = match query.scope {
            Scope::Subscription(_) => Resolution::Minute.unit(),
            Scope::All | Scope::Api(_) => Resolution::Second.unit(),
        };
        return Err(Invalid::one(
            "/step",
            format!("must be a whole number of {unit}"),
        ));
    };
    if query.to.since(query.from).as_secs() / step > POINTS_MAX {
        return Err(Invalid::one(
            "/step",
            format!("gives more than {POINTS_MAX} points; take a longer step or a shorter range"),
        ));
    }
    Ok(resolution)
}
