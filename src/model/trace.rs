//! Traces: what ties a request, and the calls that follow from it, together across programs
//! (W3C Trace Context).

use std::{fmt, num::NonZero, str::FromStr};

/// The name of the header that carries a trace.
pub const TRACEPARENT: &str = "traceparent";

/// The identity of a trace, never zero. Written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZero<u128>);

/// The identity of a span in its trace, never zero. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZero<u64>);

impl TraceId {
    /// The trace with this number; that of zero is one.
    pub const fn new(number: u128) -> Self {
        match NonZero::new(number) {
            Some(number) => Self(number),
            None => Self(NonZero::<u128>::MIN),
        }
    }

    /// The number.
    pub const fn get(self) -> u128 {
        self.0.get()
    }
}

impl SpanId {
    /// The span with this number; that of zero is one.
    pub const fn new(number: u64) -> Self {
        match NonZero::new(number) {
            Some(number) => Self(number),
            None => Self(NonZero::<u64>::MIN),
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A span of a trace, as it is told to others in a `traceparent` header.
///
/// ```
/// use hooklog::model::TraceContext;
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context: TraceContext = header.parse()?;
/// assert!(context.is_sampled);
/// assert_eq!(context.to_string(), header);
/// # Ok::<(), hooklog::model::ForeignTrace>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span in it.
    pub span: SpanId,
    /// Whether whoever began the trace keeps it.
    pub is_sampled: bool,
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{}-{}-{flags:02x}", self.trace, self.span)
    }
}

/// Text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no trace context: expected 00-<32 digits>-<16 digits>-<2 digits>, hexadecimal")]
pub struct ForeignTrace;

impl FromStr for TraceContext {
    type Err = ForeignTrace;

    /// Reads version 00, and what later versions have in common with it.
    fn from_str(text: &str) -> Result<Self, ForeignTrace> {
        let mut parts = text.split('-');
        let mut part = |digits| hexadecimal(parts.next()?, digits);
        let parsed = (|| {
            let version = part(2)?;
            let trace = NonZero::new(part(32)?)?;
            let span = NonZero::new(u64::try_from(part(16)?).ok()?)?;
            let flags = part(2)?;
            Some((version, trace, span, flags))
        })();
        let (version, trace, span, flags) = parsed.ok_or(ForeignTrace)?;
        let has_more = parts.next().is_some();
        if version == 0xff || (version == 0 && has_more) {
            return Err(ForeignTrace);
        }
        Ok(Self {
            trace: TraceId(trace),
            span: SpanId(span),
            is_sampled: flags & 1 == 1,
        })
    }
}

/// A number of exactly so many lower-case digits.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_number = text.len() == digits && text.bytes().all(is_digit);
    is_number.then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_is_written_reads_back() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            let context: TraceContext = text.parse().unwrap();
            assert_eq!(context.to_string(), text);
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let context: TraceContext = format!("01-{TRACE}-{SPAN}-03-more").parse().unwrap();
        assert!(context.is_sampled);
        assert_eq!(context.trace.to_string(), TRACE);
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(ForeignTrace), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

        #[test]
        fn no_text_panics_and_a_trace_that_is_read_is_told_on_as_it_came(
            text in prop_oneof![
                1 => ".{0,60}",
                3 => "(00|01|fe|ff|0A)-([0-9a-f]{32}|0{32}|[0-9a-f]{31,33})-([0-9a-f]{16}|0{16}|[0-9A-F]{16})-[0-9a-f]{2}(-.{0,4}){0,2}",
            ],
            trace in prop_oneof![9 => any::<u128>(), 1 => Just(0_u128)],
            span in prop_oneof![9 => any::<u64>(), 1 => Just(0_u64)],
            flags: u8,
        ) {
            let written = format!("00-{trace:032x}-{span:016x}-{flags:02x}");
            let read = written.parse::<TraceContext>();
            prop_assert_eq!(read.is_ok(), trace != 0 && span != 0);
            for text in [text, written] {
                let Ok(context) = text.parse::<TraceContext>() else {
                    continue;
                };
                let told = context.to_string();
                prop_assert_eq!(told.parse::<TraceContext>(), Ok(context));
                // Of a later version no more is told than what both have in common.
                prop_assert_eq!(&told[2..53], &text[2..53]);
                prop_assert_ne!(&text[..2], "ff");
            }
        }
    }
}
