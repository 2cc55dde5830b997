//! What forms and queries carry: names and values, kept as they were typed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::model::Invalid;

/// Most pairs of a form; what comes after them is not read.
const PAIRS_MAX: usize = 2_000;

/// Names and values in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `name=value&…`.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(bytes).take(PAIRS_MAX);
        // Browsers send line ends as they stand in no text here.
        let pairs = pairs.map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n")));
        Self(pairs.collect())
    }

    /// The value of a name; `None` when it is not there or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|value| !value.trim().is_empty())
    }

    /// The value of a name as it was typed.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of a name that is not empty.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.0.iter().filter(move |(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Whether a box was ticked.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The same with this value too.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_owned(), value.into()));
        self
    }

    /// The same with a box that is ticked or not.
    pub(super) fn tick(self, name: &str, on: bool) -> Self {
        if on { self.with(name, "on") } else { self }
    }

    /// The same without a name.
    pub(super) fn without(&self, name: &str) -> Self {
        let rest = self.0.iter().filter(|(known, _)| known != name);
        Self(rest.cloned().collect())
    }

    /// The same as a query, without these names, with these values in their places.
    pub(super) fn changed(&self, without: &[&str], with: &[(&str, &str)]) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let kept = self.0.iter().filter(|(name, value)| {
            !value.is_empty()
                && !without.contains(&name.as_str())
                && with.iter().all(|(other, _)| other != name)
        });
        query.extend_pairs(kept);
        query.extend_pairs(with);
        let query = query.finish();
        if query.is_empty() {
            query
        } else {
            format!("?{query}")
        }
    }

    /// Reads a value; what is wrong with it is noted under its name.
    pub(super) fn read<T>(
        &self,
        name: &str,
        invalid: &mut Invalid,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.get(name)?;
        match read(text.trim()) {
            Ok(value) => Some(value),
            Err(reason) => {
                invalid.check(false, name, reason);
                None
            }
        }
    }

    /// Reads a whole number.
    pub(super) fn number<T: std::str::FromStr>(
        &self,
        name: &str,
        invalid: &mut Invalid,
    ) -> Option<T> {
        self.read(name, invalid, |text| {
            let wrong = || format!("{text:?} is not a whole number in range");
            text.parse().map_err(|_| wrong())
        })
    }

    /// Reads what has a text form.
    pub(super) fn parsed<T>(&self, name: &str, invalid: &mut Invalid) -> Option<T>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
    {
        self.read(name, invalid, |text| {
            text.parse().map_err(|error: T::Err| error.to_string())
        })
    }
}

/// These bytes in base64 that may stand in an address.
pub(super) fn url_safe(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_changed_and_the_rest_of_it_kept() {
        let query = Form::parse(b"status=5xx&cursor=9&empty=&a=1%262");
        assert_eq!(
            query.changed(&["cursor"], &[("status", "0")]),
            "?a=1%262&status=0"
        );
        assert_eq!(query.changed(&["cursor", "status", "a"], &[]), "");
    }

    #[test]
    fn what_cannot_be_read_is_told_under_its_name() {
        let form = Form::parse(b"/retry/maxAttempts=many&b=7");
        let mut invalid = Invalid::none();
        assert_eq!(form.number::<u32>("b", &mut invalid), Some(7));
        assert_eq!(form.number::<u32>("/retry/maxAttempts", &mut invalid), None);
        assert_eq!(invalid.problems[0].pointer, "/retry/maxAttempts");
    }
}
