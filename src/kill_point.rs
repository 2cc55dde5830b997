//! Named places where a test has the process killed, as `kill -9` would at that very moment. What
//! is left there is what a crash leaves. Other builds have none of it.

/// The places, in the order of a message's road.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KillPoint {
    /// A commit is decided and nothing of it is written.
    Append,
    /// It is written and not durable.
    Sync,
    /// It is durable, and nobody knows yet.
    Reply,
    /// A call is about to be made.
    Send,
    /// A call has ended and its outcome is not recorded.
    Outcome,
    /// A dead letter is where it is forwarded to, and that is not recorded.
    Forward,
    /// A segment is sealed and the next is not made.
    Seal,
    /// The files of the next segment are half made.
    Segment,
    /// Rows of a snapshot are written and not durable.
    Snapshot,
    /// Rows of a projection are in its store and not flushed.
    Project,
    /// Where the log begins now is published, and that is not on record.
    Origin,
    /// A cut is on record, and nothing was removed.
    Cut,
    /// The newest segment was read again and nothing more was done.
    Recover,
    /// Everything is recovered, and nothing runs yet.
    Resume,
}

#[cfg(feature = "testing")]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    use crate::kill_point::KillPoint;

    /// `<place>:<how many passes before it>`, the place as it is called in [`KillPoint`].
    const VARIABLE: &str = "HOOKLOG_TEST_KILL_AT";

    struct Armed {
        place: String,
        passes: AtomicU64,
    }

    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let text = std::env::var(VARIABLE).ok()?;
            let (place, passes) = text.split_once(':')?;
            Some(Armed {
                place: place.to_owned(),
                passes: AtomicU64::new(passes.parse().ok()?),
            })
        };
        ARMED.get_or_init(read).as_ref()
    }

    impl KillPoint {
        /// Kills the process when it was told to die here.
        pub(crate) fn pass(self) {
            let Some(armed) = armed() else { return };
            if format!("{self:?}") == armed.place
                && armed.passes.fetch_sub(1, Ordering::Relaxed) == 0
            {
                let this = rustix::process::getpid();
                // It does not return.
                let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
            }
        }
    }
}

#[cfg(not(feature = "testing"))]
impl KillPoint {
    /// Nothing.
    #[inline]
    #[expect(
        clippy::unused_self,
        reason = "it stands in for one that looks at the place"
    )]
    pub(crate) const fn pass(self) {}
}
