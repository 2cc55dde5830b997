//! Any history of appends reads back equal, whatever the sizes of commits and segments.

use std::sync::Arc;

use hooklog::{
    log::{EventLog, ExpectedVersion, LogOptions, Urgency},
    model::{Position, Version},
    testing::{
        MemoryStorage,
        log_conformance::{assert_gapless, message, options, stream},
    },
};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn g1_any_history_reads_back_equal_after_each_reopening(
        sessions in prop::collection::vec(
            prop::collection::vec((0_u128..4, 1_usize..5, 0_usize..600, any::<bool>()), 0..20),
            1..4,
        ),
        segment_bytes in 300_u64..8_000,
        commit_events in 1_usize..12,
        tail_bytes in 0_usize..4_000,
    ) {
        let storage = MemoryStorage::new();
        let mut written = Vec::new();
        let settings = LogOptions {
            commit_events_max: commit_events,
            tail_cache_bytes: tail_bytes,
            ..options(segment_bytes)
        };
        for session in sessions {
            let (log, mut writer) =
                EventLog::open_stepped(Arc::new(storage.clone()), settings.clone()).unwrap();
            for (number, count, bytes, commits) in session {
                let events = vec![message(number, bytes); count];
                written.extend(events.iter().map(|event| (stream(number), event.clone())));
                let expected = ExpectedVersion::Any;
                drop(log.enqueue(stream(number), expected, events, Urgency::Now).unwrap());
                while commits && writer.step() {}
            }
            while writer.step() {}
            let events = log.read(Position::ZERO, usize::MAX).unwrap();
            assert_gapless(&events);
            let read: Vec<_> = events.iter().map(|e| (e.stream, e.event.clone())).collect();
            prop_assert_eq!(&read, &written);
            for number in 0..4 {
                let of_stream = log.read_stream(stream(number), Version::ZERO, usize::MAX).unwrap();
                let filtered: Vec<_> =
                    events.iter().filter(|e| e.stream == stream(number)).cloned().collect();
                prop_assert_eq!(of_stream, filtered);
            }
            let report = log.verify(|_| {}).unwrap();
            prop_assert!(report.is_sound(), "{:?}", report.problems);
            storage.crash();
        }
    }
}
