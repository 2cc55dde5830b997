//! Patterns of `matches()`: read once, searched in time that follows the text and their size.

use regex::{Error, Regex, RegexBuilder};

/// Sizes that a pattern is compiled within, in KiB: the least that it fits, none above the last.
const SIZES_KIB: [usize; 5] = [1, 2, 4, 8, 16];
/// Steps for a byte of the text and a KiB of the pattern. The worst of these sizes take 220 ns
/// (`(a|b)*a(a|b){100}c` on random letters, release build), and a step some 25.
const BYTE_STEPS: usize = 8;
/// What a search may keep for going faster, in bytes.
const CACHE_BYTES: usize = 128 * 1024;
/// Most groups inside each other.
const NESTED_MAX: u32 = 20;

/// A pattern, ready to be searched for.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    size_kib: usize,
}

impl Pattern {
    /// Reads a pattern as RE2 writes it, or says what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, &'static str> {
        let text = ascii_classes(text);
        for size_kib in SIZES_KIB {
            let built = RegexBuilder::new(&text)
                .size_limit(size_kib * 1024)
                .dfa_size_limit(CACHE_BYTES)
                .nest_limit(NESTED_MAX)
                .build();
            match built {
                Ok(regex) => return Ok(Self { regex, size_kib }),
                Err(Error::CompiledTooBig(_)) => {}
                Err(_) => return Err("a pattern that cannot be read; write it as in RE2"),
            }
        }
        Err("a pattern that is too large; repeat less in it")
    }

    /// What searching so many bytes costs.
    pub(super) const fn steps(&self, bytes: usize) -> usize {
        bytes.saturating_mul(BYTE_STEPS * self.size_kib)
    }

    /// Whether it is found anywhere in this text.
    pub(super) fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

/// `\d`, `\s` and `\w` mean what RE2 means by them, letters and digits of ASCII; the library means
/// those of all scripts, which makes them a hundred times larger.
fn ascii_classes(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            written.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => written.push_str("[0-9]"),
            Some('D') => written.push_str("[^0-9]"),
            Some('s') => written.push_str(r"[\t\n\f\r ]"),
            Some('S') => written.push_str(r"[^\t\n\f\r ]"),
            Some('w') => written.push_str("[0-9A-Za-z_]"),
            Some('W') => written.push_str("[^0-9A-Za-z_]"),
            Some(other) => written.extend([c, other]),
            None => written.push(c),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_ascii_also_inside_others() {
        for (pattern, text, found) in [
            (r"^\d+$", "017", true),
            (r"^\d+$", "٣", false),
            (r"^[\w-]+$", "a_b-9", true),
            (r"^\w+$", "é", false),
            (r"^[^\W\d]+$", "ab", true),
            (r"^[^\W\d]+$", "a1", false),
            (r"\\d", r"a\d", true),
            (r"^a\sb$", "a\tb", true),
            ("^.$", "é", true),
            ("(?i)^ÀB$", "àb", true),
        ] {
            let read = Pattern::read(pattern).unwrap();
            assert_eq!(read.is_in(text), found, "{pattern} {text}");
        }
    }

    #[test]
    fn a_larger_pattern_costs_more_and_one_too_large_is_refused() {
        let steps = |pattern| Pattern::read(pattern).map(|read| read.steps(1));
        assert_eq!(steps("^order[.]"), Ok(8));
        assert_eq!(steps("(a|b)*a(a|b){100}c"), Ok(128));
        for refused in ["a{1000}{10}", "(", r"\pL", "a{1,20}{1,20}{1,20}", "["] {
            assert!(steps(refused).is_err(), "{refused}");
        }
    }
}
