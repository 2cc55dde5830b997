//! Events as bytes: the payload's encoding, and the small numbers around it.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use serde::Deserialize as _;

use crate::model::{Event, EventType, UnknownEvent};

use super::{Upcast, Upcaster};

/// The most upcasters that one event may pass: more is a circle.
const UPCASTS_MAX: usize = 64;

/// The payload of an event, `MessagePack` with named fields.
pub(crate) fn encode_payload(event: &Event) -> Result<Vec<u8>, String> {
    if let Event::Unknown(unknown) = event {
        return Ok(unknown.payload.to_vec());
    }
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    event
        .serialize_payload(&mut serializer)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Reads payloads of any schema version.
pub(crate) struct Decoder {
    current: HashMap<&'static str, u16>,
    upcasters: HashMap<(String, u16), Arc<dyn Upcaster>>,
}

impl Decoder {
    pub(crate) fn new(upcasters: &[Arc<dyn Upcaster>]) -> Self {
        Self {
            current: Event::known_types().collect(),
            upcasters: upcasters
                .iter()
                .map(|u| {
                    (
                        (u.event_type().to_owned(), u.reads_version()),
                        Arc::clone(u),
                    )
                })
                .collect(),
        }
    }

    /// Whether a payload of this type and version is read as it is.
    pub(crate) fn is_current(&self, event_type: &str, schema_version: u16) -> bool {
        self.current.get(event_type) == Some(&schema_version)
    }

    /// The event of this payload. A type that is not known, a newer schema version, and an older
    /// one without an upcaster give [`Event::Unknown`].
    pub(crate) fn decode(
        &self,
        event_type: &str,
        schema_version: u16,
        payload: &[u8],
    ) -> Result<Event, String> {
        if self.is_current(event_type, schema_version) {
            return decode_current(event_type, payload);
        }
        let Some(newer) = self.upcast(event_type, schema_version, payload)? else {
            return Ok(unknown(event_type, schema_version, payload));
        };
        let name = newer.event_type.as_str();
        if self.is_current(name, newer.schema_version) {
            decode_current(name, &newer.payload)
        } else {
            Ok(unknown(event_type, schema_version, payload))
        }
    }

    fn upcast(
        &self,
        event_type: &str,
        version: u16,
        payload: &[u8],
    ) -> Result<Option<Upcast>, String> {
        let Some(first) = self.upcasters.get(&(event_type.to_owned(), version)) else {
            return Ok(None);
        };
        let mut newer = first.upcast(payload)?;
        for _ in 0..UPCASTS_MAX {
            let key = (newer.event_type.as_str().to_owned(), newer.schema_version);
            let Some(next) = self.upcasters.get(&key) else {
                return Ok(Some(newer));
            };
            newer = next.upcast(&newer.payload)?;
        }
        Err(format!("more than {UPCASTS_MAX} upcasters in a row"))
    }
}

/// The event of a payload that [is read as it is](Decoder::is_current).
pub(crate) fn decode_current(event_type: &str, payload: &[u8]) -> Result<Event, String> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(payload);
    let event = Event::deserialize_payload(event_type, &mut deserializer)
        .ok_or_else(|| format!("type {event_type} is not known"))?
        .map_err(|error| error.to_string())?;
    // The decoder stops at the end of the value and would pass over anything behind it. It does not
    // say how far it came, but there is nothing left where not even a marker can be read.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(event),
        _ => Err("bytes follow the payload".to_owned()),
    }
}

fn unknown(event_type: &str, schema_version: u16, payload: &[u8]) -> Event {
    Event::Unknown(UnknownEvent {
        event_type: EventType::from_text(event_type),
        schema_version,
        payload: Bytes::copy_from_slice(payload),
    })
}

/// Appends a number, seven bits a byte, lowest first.
pub(crate) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Takes values from the front of bytes; `None` where they end too early or make no sense.
pub(crate) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return None;
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// A count or a length, at most `max`.
    pub(crate) fn length(&mut self, max: usize) -> Option<usize> {
        usize::try_from(self.varint()?).ok().filter(|n| *n <= max)
    }
}

/// Payloads of every type, as they were written once.
#[cfg(test)]
pub(crate) mod recorded {
    use std::{fs, path::Path};

    /// Type, schema version, bytes.
    pub(crate) fn payloads() -> Vec<(String, u16, Vec<u8>)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/events");
        let files = fs::read_dir(directory).expect("fixtures are there");
        let mut payloads: Vec<_> = files
            .map(|file| file.expect("fixtures are there").path())
            .map(|path| {
                let bytes = fs::read(&path).expect("a fixture is read");
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                let named = stem.and_then(|stem| stem.rsplit_once('.'));
                let (name, version) = named.expect("it is <type>.<version>.msgpack");
                let version = version.parse().expect("it is <type>.<version>.msgpack");
                (name.to_owned(), version, bytes)
            })
            .collect();
        payloads.sort();
        payloads
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{ApiStarted, CircuitOpened, Timestamp};

    #[test]
    fn a_number_reads_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut cursor = Cursor(&bytes);
            assert_eq!(cursor.varint(), Some(number));
            assert!(cursor.0.is_empty());
        }
        assert_eq!(Cursor(&[0xff; 10]).varint(), None);
        assert_eq!(Cursor(&[0x80]).varint(), None);
    }

    #[test]
    fn bytes_behind_a_payload_are_refused() {
        let decoder = Decoder::new(&[]);
        let bytes = encode_payload(&ApiStarted {}.into()).unwrap();
        assert_eq!(
            decoder.decode("api.started", 1, &bytes).unwrap(),
            ApiStarted {}.into()
        );
        for byte in 0..=u8::MAX {
            for behind in [vec![byte], vec![byte, 0xc0]] {
                let bytes = [bytes.as_slice(), &behind].concat();
                assert!(
                    decoder.decode("api.started", 1, &bytes).is_err(),
                    "{byte:#x}"
                );
            }
        }
    }

    #[test]
    fn unknown_types_and_newer_versions_pass_through_byte_for_byte() {
        let decoder = Decoder::new(&[]);
        for (name, version) in [("planet.found", 1), ("api.started", 9)] {
            let event = decoder.decode(name, version, b"\x81\xa1a\x01").unwrap();
            assert!(matches!(event, Event::Unknown(_)));
            assert_eq!(encode_payload(&event).unwrap(), b"\x81\xa1a\x01");
        }
    }

    struct FromZero;

    impl Upcaster for FromZero {
        fn event_type(&self) -> &'static str {
            "circuit.opened"
        }

        fn reads_version(&self) -> u16 {
            0
        }

        fn upcast(&self, payload: &[u8]) -> Result<Upcast, String> {
            assert_eq!(payload, b"old");
            let event = opened();
            Ok(Upcast {
                event_type: event.event_type(),
                schema_version: event.schema_version(),
                payload: encode_payload(&event)?,
            })
        }
    }

    fn opened() -> Event {
        CircuitOpened {
            failures: 3,
            probe_at: Timestamp::EPOCH,
            pause_ms: 5,
        }
        .into()
    }

    #[test]
    fn an_old_version_is_read_through_its_upcaster() {
        let decoder = Decoder::new(&[Arc::new(FromZero)]);
        assert_eq!(
            decoder.decode("circuit.opened", 0, b"old").unwrap(),
            opened()
        );
    }

    proptest! {
        #[test]
        fn no_payload_panics_and_what_is_read_is_written_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            sample in any::<prop::sample::Index>(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
        ) {
            let decoder = Decoder::new(&[]);
            let samples = recorded::payloads();
            let (_, _, mut flipped) = sample.get(&samples).clone();
            for (at, bit) in flips {
                let at = at.index(flipped.len());
                flipped[at] ^= 1 << bit;
            }
            for payload in [bytes, flipped] {
                for (event_type, version) in Event::known_types() {
                    let read = decoder.decode(event_type, version, &payload);
                    if let Ok(event) = read {
                        let written = encode_payload(&event).expect("an event is written");
                        let again = decoder.decode(event_type, version, &written);
                        prop_assert_eq!(again, Ok(event));
                    }
                }
            }
        }
    }
}
