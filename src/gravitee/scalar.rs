//! Single values: text, switches, numbers, durations, choices.

use serde_json::Value;

use super::{ledger::Node, note::NoteKind};

/// How Gravitee marks an expression that it works out at each call, and how its Kubernetes
/// operator marks a template.
const EXPRESSIONS: [&str; 2] = ["{#", "[["];
/// Longest value that a note quotes, in characters.
const QUOTED_CHARS_MAX: usize = 40;

/// A duration is written in this unit when it is a bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Seconds,
}

impl Node<'_> {
    /// As text; a number or switch as it is written.
    pub(super) fn text(&self) -> Option<String> {
        let text = match self.value() {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(switch) => switch.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                self.wrong("text");
                return None;
            }
        };
        self.mark();
        Some(text)
    }

    /// As text that is not blank.
    pub(super) fn word(&self) -> Option<String> {
        self.text().filter(|text| !text.trim().is_empty())
    }

    /// As text that means what it says: an expression is noted, and `instead` happens.
    pub(super) fn literal(&self, instead: &str) -> Option<String> {
        let text = self.text()?;
        if EXPRESSIONS.iter().any(|mark| text.contains(mark)) {
            let reason = "is an expression or template, which is not worked out here";
            self.note(NoteKind::Unsupported, reason, instead);
            return None;
        }
        Some(text)
    }

    /// As a switch.
    pub(super) fn flag(&self) -> Option<bool> {
        let flag = match self.value() {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Some(true),
                "false" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        };
        match flag {
            Some(_) => self.mark(),
            None => self.wrong("true or false"),
        }
        flag
    }

    /// As a whole number that is not negative.
    pub(super) fn whole(&self) -> Option<u64> {
        let number = match self.value() {
            Value::Number(number) => number
                .as_f64()
                .and_then(|float| number.as_u64().or_else(|| whole_of(float))),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(_) => self.mark(),
            None => self.wrong("a whole number"),
        }
        number
    }

    /// As a number.
    pub(super) fn number(&self) -> Option<f64> {
        let number = match self.value() {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        match number {
            Some(_) => self.mark(),
            None => self.wrong("a number"),
        }
        number
    }

    /// As a duration in this unit. With a unit of its own (`3s`, `PT3S`, `500 ms`) it is
    /// converted.
    pub(super) fn duration(&self, unit: Unit) -> Option<u64> {
        let Value::String(text) = self.value() else {
            return self.whole();
        };
        let Some(duration) = text.trim().parse::<jiff::SignedDuration>().ok() else {
            return self.whole();
        };
        let Ok(millis) = u64::try_from(duration.as_millis()) else {
            self.wrong("a duration that is not negative");
            return None;
        };
        self.mark();
        if unit == Unit::Milliseconds {
            return Some(millis);
        }
        if !millis.is_multiple_of(1_000) {
            let reason = "is not a whole number of seconds";
            self.remark(NoteKind::Changed, reason, "taken as the next whole second");
        }
        Some(millis.div_ceil(1_000))
    }

    /// As a duration within bounds; one outside is noted and taken as the nearest within.
    pub(super) fn bounded(&self, unit: Unit, least: u64, most: u64) -> Option<u64> {
        let value = self.duration(unit)?;
        Some(self.clamped(value, least, most))
    }

    /// The nearest number within bounds, noted when it is another one.
    pub(super) fn clamped(&self, value: u64, least: u64, most: u64) -> u64 {
        let nearest = value.clamp(least, most);
        if nearest != value {
            let reason = format!("is {value}, which is outside {least} to {most}");
            self.remark(NoteKind::Changed, reason, format!("taken as {nearest}"));
        }
        nearest
    }

    /// As one of these choices, whatever its case and dashes; anything else is noted, and
    /// `instead` happens.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)], instead: &str) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| same(name, &text));
        if let Some((_, choice)) = found {
            return Some(*choice);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let reason = format!("is {}, expected one of {}", quoted(&text), names.join(", "));
        self.note(NoteKind::Unsupported, reason, instead);
        None
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole and within 53 bits"
)]
fn whole_of(float: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (float.fract() == 0.0 && (0.0..=EXACT).contains(&float)).then_some(float as u64)
}

/// Whether two names differ in case and punctuation alone.
pub(super) fn same(a: &str, b: &str) -> bool {
    let letters = |text: &str| -> Vec<u8> {
        let letters = text.bytes().filter(u8::is_ascii_alphanumeric);
        letters.map(|b| b.to_ascii_lowercase()).collect()
    };
    let (a, b) = (letters(a), letters(b));
    a == b && !a.is_empty()
}

/// A short form of a value that is no secret.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::ledger::Ledger, *};

    fn read<T>(value: Value, read: impl FnOnce(&Node<'_>) -> T) -> (T, usize) {
        let document = json!({ "v": value });
        let ledger = Ledger::new("f", 1);
        let result = read(&ledger.root(&document).get("v").unwrap());
        (result, ledger.close(&document).len())
    }

    #[test]
    fn durations_with_a_unit_are_converted() {
        for (value, millis) in [
            (json!(3_000), 3_000),
            (json!("3000"), 3_000),
            (json!(3_000.0), 3_000),
            (json!("3s"), 3_000),
            (json!("500 ms"), 500),
            (json!("PT1M"), 60_000),
            (json!("1m 30s"), 90_000),
        ] {
            let result = read(value.clone(), |node| node.duration(Unit::Milliseconds));
            assert_eq!(result, (Some(millis), 0), "{value}");
        }
        let seconds = |value| read(value, |node| node.duration(Unit::Seconds));
        assert_eq!(seconds(json!("2m")), (Some(120), 0));
        assert_eq!(seconds(json!("1500ms")), (Some(2), 1));
        assert_eq!(seconds(json!("-1s")), (None, 1));
        assert_eq!(seconds(json!("soon")), (None, 1));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_noted_and_taken_as_absent() {
        let (odd, none) = (json!({"a": 1}), (None::<()>, 1));
        let drop = |node: &Node<'_>| node.text().map(drop);
        assert_eq!(read(odd.clone(), drop), none);
        assert_eq!(read(odd.clone(), |node| node.flag().map(|_| ())), none);
        assert_eq!(read(odd.clone(), |node| node.whole().map(|_| ())), none);
        assert_eq!(read(json!(-1), |node| node.whole().map(|_| ())), none);
        assert_eq!(read(json!(1.5), |node| node.whole().map(|_| ())), none);
        assert_eq!(read(odd, |node| node.number().map(|_| ())), none);
    }

    #[test]
    fn choices_are_told_apart_by_their_letters_alone() {
        let choices = [("No Retry", 1), ("AT_LEAST_ONCE", 2)];
        for (text, choice) in [("no-retry", 1), ("NO_RETRY", 1), ("atLeastOnce", 2)] {
            let result = read(json!(text), |node| node.choice(&choices, ""));
            assert_eq!(result, (Some(choice), 0));
        }
        assert_eq!(
            read(json!("?"), |node| node.choice(&choices, "")),
            (None, 1)
        );
    }

    #[test]
    fn an_expression_is_no_literal() {
        for text in ["https://{#context.host}/", "[[ secret `a/b` ]]"] {
            assert_eq!(read(json!(text), |node| node.literal("")), (None, 1));
        }
        let plain = read(json!("{x}"), |node| node.literal(""));
        assert_eq!(plain, (Some("{x}".to_owned()), 0));
    }
}
