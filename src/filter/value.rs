//! The values that a filter works with.

use std::{cmp::Ordering, rc::Rc};

use super::json::{Json, Map};

/// 2⁶³, the first whole number that does not fit.
pub(super) const WHOLE_BEYOND: f64 = 9_223_372_036_854_775_808.0;

/// A value. It is cheap to clone: what is large is shared, or borrowed from message and filter.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Text<'a>),
    List(List<'a>),
    Map(&'a Map<'a>),
}

/// A text, found or made.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Found(&'a str),
    Made(Rc<str>),
}

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Found(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// A list, found or made.
#[derive(Debug, Clone)]
pub(super) enum List<'a> {
    Found(&'a [Json<'a>]),
    Made(Rc<[Value<'a>]>),
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Found(list) => list.len(),
            Self::Made(list) => list.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            Self::Found(list) => list.get(index).map(Value::of),
            Self::Made(list) => list.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Value<'a>> {
        (0..self.len()).map_while(|index| self.get(index))
    }
}

impl<'a> Value<'a> {
    pub(super) fn of(json: &'a Json<'a>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Int(value) => Self::Int(*value),
            Json::Double(value) => Self::Double(*value),
            Json::Text(text) => Self::found(text),
            Json::List(list) => Self::List(List::Found(list)),
            Json::Map(map) => Self::Map(map),
        }
    }

    pub(super) const fn found(text: &'a str) -> Self {
        Self::Text(Text::Found(text))
    }

    pub(super) fn made(text: String) -> Self {
        Self::Text(Text::Made(text.into()))
    }

    pub(super) fn list(values: Vec<Self>) -> Self {
        Self::List(List::Made(values.into()))
    }

    /// The name of its type, as CEL has it.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// Which is greater; `None` for values that have no order. Numbers compare as numbers,
    /// whatever their type.
    pub(super) fn order(&self, other: &Self) -> Result<Option<Ordering>, ()> {
        Ok(match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Double(b)) => compare(*a, *b),
            (Self::Double(a), Self::Int(b)) => compare(*b, *a).map(Ordering::reverse),
            (Self::Text(a), Self::Text(b)) => Some(a.as_str().cmp(b.as_str())),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            _ => return Err(()),
        })
    }
}

/// A whole number beside any other, exactly.
fn compare(whole: i64, number: f64) -> Option<Ordering> {
    if number.is_nan() {
        return None;
    }
    if number >= WHOLE_BEYOND {
        return Some(Ordering::Less);
    }
    if number < -WHOLE_BEYOND {
        return Some(Ordering::Greater);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is in range, and cut on purpose"
    )]
    let floor = number.floor() as i64;
    let cut = number > number.floor();
    Some(
        whole
            .cmp(&floor)
            .then(if cut { Ordering::Less } else { Ordering::Equal }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_and_others_compare_exactly() {
        let cases = [
            (1, 1.0, Some(Ordering::Equal)),
            (1, 1.5, Some(Ordering::Less)),
            (-1, -1.5, Some(Ordering::Greater)),
            (i64::MAX, 9_223_372_036_854_775_808.0, Some(Ordering::Less)),
            (
                i64::MIN,
                -9_223_372_036_854_775_808.0,
                Some(Ordering::Equal),
            ),
            (
                9_007_199_254_740_993,
                9_007_199_254_740_992.0,
                Some(Ordering::Greater),
            ),
            (0, f64::NEG_INFINITY, Some(Ordering::Greater)),
            (0, f64::NAN, None),
        ];
        for (whole, number, expected) in cases {
            assert_eq!(compare(whole, number), expected, "{whole} {number}");
        }
    }
}
