//! The text of a filter, cut into tokens.

use super::{parse::Refused, tree::Place};

/// A piece of the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'t> {
    Name(&'t str),
    Int(&'t str),
    Double(&'t str),
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// Longer ones first: each is looked for in this order.
const SIGNS: [&str; 26] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", "(", ")",
    "[", "]", "{", "}", ",", ".", "=", "|",
];

/// Cuts a text into tokens.
pub(super) struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(super) const fn of(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The next token and where it begins.
    pub(super) fn next(&mut self) -> Result<(Token<'t>, Place), Refused> {
        self.skip_blank();
        let place = Place(self.at);
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, place));
        };
        let token = if let Some(raw) = raw_text(rest) {
            self.at += 1;
            self.text(raw, true)?
        } else if matches!(first, '"' | '\'') {
            self.text(first, false)?
        } else if first.is_ascii_digit() {
            self.number()?
        } else if first == '_' || first.is_ascii_alphabetic() {
            Token::Name(self.take(|c| c == '_' || c.is_ascii_alphanumeric()))
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            self.at += sign.len();
            Token::Sign(sign)
        } else {
            let what = format!("{first:?} has no meaning here; write texts in quotes");
            return Err(Refused::new(place, what));
        };
        Ok((token, place))
    }

    fn skip_blank(&mut self) {
        loop {
            self.take(char::is_whitespace);
            if !self.rest().starts_with("//") {
                return;
            }
            self.take(|c| c != '\n');
        }
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn number(&mut self) -> Result<Token<'t>, Refused> {
        let (start, whole) = (self.at, self.rest());
        if whole.starts_with("0x") || whole.starts_with("0X") {
            self.at += 2;
        }
        let hexadecimal = self.at > start;
        self.take(|c| c.is_ascii_digit() || (hexadecimal && c.is_ascii_hexdigit()));
        let mut double = false;
        let fraction = self.rest().strip_prefix('.');
        if !hexadecimal && fraction.is_some_and(|f| f.starts_with(|c: char| c.is_ascii_digit())) {
            double = true;
            self.at += 1;
            self.take(|c| c.is_ascii_digit());
        }
        if !hexadecimal && self.rest().starts_with(['e', 'E']) {
            double = true;
            self.at += 1;
            if self.rest().starts_with(['+', '-']) {
                self.at += 1;
            }
            self.take(|c| c.is_ascii_digit());
        }
        let number = &self.text[start..self.at];
        if self
            .rest()
            .starts_with(|c: char| c == '_' || c.is_ascii_alphanumeric())
        {
            let what = "a number ends in a letter; numbers are written like 12, 0x1F and 1.5e3";
            return Err(Refused::new(Place(start), what));
        }
        Ok(if double {
            Token::Double(number)
        } else {
            Token::Int(number)
        })
    }

    fn text(&mut self, quote: char, raw: bool) -> Result<Token<'t>, Refused> {
        let start = Place(self.at);
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                let what = format!("a text has no end; close it with {quote}");
                return Err(Refused::new(start, what));
            };
            let place = Place(self.at);
            self.at += c.len_utf8();
            match c {
                c if c == quote => return Ok(Token::Text(text)),
                '\\' if !raw => text.push(self.escape(place)?),
                c => text.push(c),
            }
        }
    }

    fn escape(&mut self, place: Place) -> Result<char, Refused> {
        let unknown = || {
            let what = "an escape that does not exist; write \\\\ for one backslash, or r'…'";
            Refused::new(place, what)
        };
        let c = self.rest().chars().next().ok_or_else(unknown)?;
        self.at += c.len_utf8();
        let (digits, radix) = match c {
            '\\' | '"' | '\'' | '`' | '?' => return Ok(c),
            'a' => return Ok('\u{7}'),
            'b' => return Ok('\u{8}'),
            'f' => return Ok('\u{c}'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\u{b}'),
            'x' | 'X' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => return Err(unknown()),
        };
        let written = self.rest().get(..digits).ok_or_else(unknown)?;
        let code = written
            .bytes()
            .all(|b| char::from(b).is_digit(radix))
            .then(|| u32::from_str_radix(written, radix).ok());
        self.at += digits;
        let code = code.flatten().ok_or_else(unknown)?;
        char::from_u32(code).ok_or_else(unknown)
    }
}

/// The quote of a text whose backslashes mean nothing.
fn raw_text(rest: &str) -> Option<char> {
    let quoted = rest.strip_prefix(['r', 'R'])?;
    quoted.chars().next().filter(|c| matches!(c, '"' | '\''))
}
