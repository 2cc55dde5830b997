//! How a log is opened.

use std::{fmt, sync::Arc, time::Duration};

use crate::clock::{SharedClock, SystemClock};

use super::{OpenError, Upcaster};

/// What an acknowledged append survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// Nothing but the end of a call: it is in the process's memory, and with the operating system
    /// half a second later. A killed process may lose it.
    Buffered,
    /// A killed process: the operating system has it.
    Flushed,
    /// Power loss: the disk has said that it has it.
    #[default]
    Synced,
}

/// The most that [`LogOptions::commit_events_max`] may be.
const COMMIT_EVENTS_MAX: usize = 100_000;
/// The most that [`LogOptions::commit_bytes_max`] may be: with the largest append behind it a page
/// stays below what a reader is willing to make room for.
const COMMIT_BYTES_MAX: usize = 32 << 20;

/// How a log is opened. Numbers were chosen on the measurements in `benches/README.md`, or by the
/// reason beside them.
#[derive(Clone)]
pub struct LogOptions {
    /// What an acknowledged append survives. Default: power loss.
    pub durability: Durability,
    /// Where times come from. Default: the machine's clock.
    pub clock: SharedClock,
    /// A segment is sealed at this size, or where its index has 200,000 rows. Default 64 MiB: small
    /// enough that retention is fine grained and the scan of the newest at open takes well under a
    /// second, large enough that a terabyte is not a directory of a million files.
    pub segment_bytes_max: u64,
    /// A segment is sealed at this age. Default a day: retention is spoken of in days.
    pub segment_age_max: Duration,
    /// Sealed segments held open for readers. Default 4; each holds files and a cache.
    pub segments_open_max: usize,
    /// A commit takes no further append from this many events on. Default 1,024: the price of an
    /// event hardly falls after 256. At most 100,000.
    pub commit_events_max: usize,
    /// A commit takes no further append from this many encoded bytes on. Default 1 MiB, the
    /// largest message. At most 32 MiB.
    pub commit_bytes_max: usize,
    /// How long an append that nobody waits for may wait for company. Default 3 ms: a commit costs
    /// 150 to 280 µs whatever its size.
    pub linger: Duration,
    /// Appends that may wait in the writer's queue; when it is full `append` waits and `enqueue`
    /// answers busy. Default 4,096: four full commits.
    pub queue_appends_max: usize,
    /// Encoded bytes that may wait in the writer's queue, like the appends. Default 64 MiB: four of
    /// the largest appends.
    pub queue_bytes_max: usize,
    /// Encoded bytes of the newest events kept decoded in memory. Default 16 MiB.
    pub tail_cache_bytes: usize,
    /// Bytes of cache the store may take for the newest segment; a sealed one gets a quarter.
    /// Default 16 MiB (sled's own default is 1 GiB).
    pub cache_capacity: u64,
    /// Below this many free bytes messages are refused, below a quarter of it everything is, so
    /// outcomes of calls under way are still recorded. Default 64 MiB, one segment.
    pub min_free_bytes: u64,
    /// Readers of old schema versions.
    pub upcasters: Vec<Arc<dyn Upcaster>>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            clock: SystemClock::shared(),
            segment_bytes_max: 64 << 20,
            segment_age_max: Duration::from_hours(24),
            segments_open_max: 4,
            commit_events_max: 1_024,
            commit_bytes_max: 1 << 20,
            linger: Duration::from_millis(3),
            queue_appends_max: 4_096,
            queue_bytes_max: 64 << 20,
            tail_cache_bytes: 16 << 20,
            cache_capacity: 16 << 20,
            min_free_bytes: 64 << 20,
            upcasters: Vec::new(),
        }
    }
}

impl LogOptions {
    /// The defaults with another durability.
    pub fn with_durability(durability: Durability) -> Self {
        Self {
            durability,
            ..Self::default()
        }
    }

    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let counts = [
            ("segments_open_max", self.segments_open_max),
            ("commit_events_max", self.commit_events_max),
            ("commit_bytes_max", self.commit_bytes_max),
            ("queue_appends_max", self.queue_appends_max),
            ("queue_bytes_max", self.queue_bytes_max),
        ];
        for (option, count) in counts {
            if count == 0 {
                return Err(OpenError::Option {
                    option,
                    reason: "it must be at least 1".to_owned(),
                });
            }
        }
        let limits = [
            (
                "queue_appends_max",
                self.queue_appends_max,
                tokio::sync::Semaphore::MAX_PERMITS,
            ),
            ("queue_bytes_max", self.queue_bytes_max, u32::MAX as usize),
            (
                "commit_events_max",
                self.commit_events_max,
                COMMIT_EVENTS_MAX,
            ),
            ("commit_bytes_max", self.commit_bytes_max, COMMIT_BYTES_MAX),
        ];
        for (option, value, max) in limits {
            if value > max {
                return Err(OpenError::Option {
                    option,
                    reason: format!("it must be at most {max}"),
                });
            }
        }
        Ok(())
    }
}

impl fmt::Debug for LogOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOptions")
            .field("durability", &self.durability)
            .field("segment_bytes_max", &self.segment_bytes_max)
            .field("segment_age_max", &self.segment_age_max)
            .field("commit_events_max", &self.commit_events_max)
            .field("commit_bytes_max", &self.commit_bytes_max)
            .field("linger", &self.linger)
            .field("queue_appends_max", &self.queue_appends_max)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("tail_cache_bytes", &self.tail_cache_bytes)
            .field("cache_capacity", &self.cache_capacity)
            .field("min_free_bytes", &self.min_free_bytes)
            .finish_non_exhaustive()
    }
}
