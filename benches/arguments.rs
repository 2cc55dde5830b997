//! What stands on the command line after `--`: a number of rounds, and flags.

use std::env;

/// Flags that stand alone. Cargo passes the first.
const BARE_FLAGS: [&str; 2] = ["--bench", "--json"];

pub(super) struct Arguments(Vec<String>);

impl Arguments {
    pub(super) fn read() -> Self {
        Self(env::args().skip(1).collect())
    }

    /// All of them, for a process that is told what to be.
    pub(super) fn all(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// The number that belongs to no flag, at least 1.
    pub(super) fn rounds(&self, default: usize) -> usize {
        let is_value = |at: usize| {
            at.checked_sub(1).is_some_and(|before| {
                let before = self.0[before].as_str();
                before.starts_with("--") && !BARE_FLAGS.contains(&before)
            })
        };
        let free = self.0.iter().enumerate().filter(|(at, _)| !is_value(*at));
        let mut numbers = free.filter_map(|(_, argument)| argument.parse().ok());
        numbers.next().unwrap_or(default).max(1)
    }

    /// The number after this flag.
    pub(super) fn number(&self, flag: &str, default: usize) -> usize {
        self.after(flag)
            .map_or(default, |number| number.parse().unwrap())
    }

    /// Whether something of this name is to be measured: `--only` names a part of what is.
    pub(super) fn ask_for(&self, name: &str) -> bool {
        self.after("--only").is_none_or(|part| name.contains(part))
    }

    pub(super) fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|argument| argument == flag)
    }

    /// The text after this flag.
    pub(super) fn after(&self, flag: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == flag)?;
        self.0.get(at + 1).map(String::as_str)
    }
}
