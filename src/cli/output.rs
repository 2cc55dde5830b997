//! How answers are written: tables for people, JSON for programs.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write, stderr, stdout};

use clap::ValueEnum;
use comfy_table::{
    Cell, CellAlignment, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use super::CliError;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// Tables and sentences.
    #[default]
    Table,
    /// JSON, one value a line.
    Json,
}

/// Where answers go.
pub(super) struct Output {
    format: Format,
    screen: Screen,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            screen: Screen::of_stdout(),
            out: BufWriter::new(stdout()),
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes one value as a line of JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        write_json(&mut self.out, value)?;
        writeln!(self.out)
    }

    /// Writes a line for people.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(self.out, "{}", clean(text.as_ref()))
    }

    /// Says that this was done to the thing with this id.
    pub(super) fn done(&mut self, what: &str, id: &str) -> Result<(), CliError> {
        if self.is_json() {
            self.json(&json!({"id": id, "done": what}))?;
        } else {
            self.line(format!("{id} {what}"))?;
        }
        Ok(self.flush()?)
    }

    /// Writes a table under its heading; `none` instead when it has no rows.
    pub(super) fn table(&mut self, table: &Rows, none: &str) -> io::Result<()> {
        if table.cells.is_empty() {
            self.line(none)
        } else {
            writeln!(self.out, "{}", table.draw(self.screen))
        }
    }

    /// Everything written so far is on its way.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What shows standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screen {
    /// A file or another program: as wide as need be, and plain.
    None,
    /// A terminal whose user wants no colour (see <https://no-color.org>).
    Plain,
    /// A terminal.
    Coloured,
}

impl Screen {
    fn of_stdout() -> Self {
        let wants_none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match stdout().is_terminal() {
            false => Self::None,
            true if wants_none => Self::Plain,
            true => Self::Coloured,
        }
    }
}

/// How good a value is. It is said by the value too: colour is never all that tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Open,
    Bad,
}

impl Tone {
    /// Of an HTTP status, 0 being no response.
    pub(super) fn of_status(status: &str) -> Option<Self> {
        match status.parse() {
            Ok(200..=299) => Some(Self::Good),
            Ok(0_u16 | 300..) => Some(Self::Bad),
            _ => None,
        }
    }

    const fn colour(self) -> Color {
        match self {
            Self::Good => Color::Green,
            Self::Open => Color::Yellow,
            Self::Bad => Color::Red,
        }
    }
}

/// Which tone the text of a cell has.
type ToneOf = fn(&str) -> Option<Tone>;

/// A table being made.
pub(super) struct Rows {
    head: Vec<&'static str>,
    numbers: Vec<usize>,
    tones: Vec<(usize, ToneOf)>,
    cells: Vec<Vec<String>>,
}

impl Rows {
    /// A table with this heading.
    pub(super) fn new(head: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            head: head.into_iter().collect(),
            numbers: Vec::new(),
            tones: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// The same table, these columns being numbers.
    pub(super) fn numbers(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.numbers = columns.into_iter().collect();
        self
    }

    /// The same table, this column being coloured where there is colour.
    pub(super) fn tone(mut self, column: usize, tone_of: ToneOf) -> Self {
        self.tones.push((column, tone_of));
        self
    }

    /// Adds a row. Control characters are taken out of what comes from outside.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.cells
            .push(row.into_iter().map(|cell| clean(&cell)).collect());
    }

    fn draw(&self, screen: Screen) -> Table {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_content_arrangement(match screen {
            Screen::None => ContentArrangement::Disabled,
            Screen::Plain | Screen::Coloured => ContentArrangement::Dynamic,
        });
        if screen == Screen::Coloured {
            table.enforce_styling();
        }
        table.set_header(self.head.clone());
        for row in &self.cells {
            let cells = row.iter().enumerate();
            table.add_row(cells.map(|(column, text)| self.cell(column, text, screen)));
        }
        for column in &self.numbers {
            if let Some(column) = table.column_mut(*column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    fn cell(&self, column: usize, text: &str, screen: Screen) -> Cell {
        let cell = Cell::new(text);
        let mut tones = self.tones.iter().filter(|(at, _)| *at == column);
        match tones.find_map(|(_, tone_of)| tone_of(text)) {
            Some(tone) if screen == Screen::Coloured => cell.fg(tone.colour()),
            _ => cell,
        }
    }
}

/// Text without the characters that steer, so that nothing from outside moves the cursor, colours
/// the screen or reorders what stands beside it.
pub(super) fn clean(text: &str) -> String {
    let plain = |c: char| {
        if steers(c) && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(plain).collect()
}

/// Control characters, and those that are not seen but change how others are: Unicode's format
/// characters (category Cf), and its line and paragraph separators.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

fn write_json(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, Escaping);
    Ok(value.serialize(&mut serializer)?)
}

/// JSON that is the same to programs, and steers no terminal: what it need not escape but a
/// terminal might obey is escaped.
struct Escaping;

impl serde_json::ser::Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        escape(out, fragment, steers)
    }

    /// What is JSON already. Outside its strings it holds ASCII alone, and of that no more that
    /// steers than white space.
    fn write_raw_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        escape(out, fragment, |c| steers(c) && !c.is_ascii_whitespace())
    }
}

fn escape<W: ?Sized + Write>(
    out: &mut W,
    fragment: &str,
    is_escaped: fn(char) -> bool,
) -> io::Result<()> {
    let mut rest = fragment;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_escaped(*c)) {
        out.write_all(&rest.as_bytes()[..at])?;
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}")?;
        }
        rest = &rest[at + c.len_utf8()..];
    }
    out.write_all(rest.as_bytes())
}

/// A bar on standard error, where that is a terminal.
pub(super) fn progress(len: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(len), draw_target());
    let style = ProgressStyle::with_template("{prefix} {bar:30} {human_pos}/{human_len} {msg}");
    bar.with_style(style.expect("the template is well formed"))
        .with_prefix(what)
}

/// Counts on standard error, where that is a terminal and nobody knows how far it will go.
pub(super) fn counter(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, draw_target());
    let style = ProgressStyle::with_template("{prefix} {human_pos}");
    bar.with_style(style.expect("the template is well formed"))
        .with_prefix(what)
}

/// Where progress is drawn.
pub(super) fn draw_target() -> ProgressDrawTarget {
    if stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// A duration in the unit that reads best.
pub(super) fn duration(duration: std::time::Duration) -> String {
    let us = duration.as_micros();
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_comes_from_outside_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\rc\nd"), "a\u{fffd}[31mb\u{fffd}c\nd");
    }

    #[test]
    fn what_cannot_be_seen_cannot_reorder_the_line() {
        let hidden = "\u{202e}\u{2066}\u{200b}\u{feff}\u{ad}\u{9b}\u{7f}\u{2028}\u{e0041}";
        assert_eq!(clean(hidden), "\u{fffd}".repeat(9));
        assert_eq!(clean("größer 漢字 🦀"), "größer 漢字 🦀");
    }

    #[test]
    fn json_is_the_same_to_programs_and_steers_no_terminal() {
        let text = "a\x1b[31m\u{7f}\u{9b}\u{202e}é\u{e0041}\n\"b";
        let mut written = Vec::new();
        write_json(&mut written, &text).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(!written.chars().any(steers), "{written}");
        assert!(written.contains('é'), "{written}");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    #[test]
    fn json_that_came_as_text_steers_no_terminal_either() {
        let came = "{\"b\": \"a\u{7f}\u{202e}\", \"a\": 1.50}";
        let raw: Box<serde_json::value::RawValue> = serde_json::from_str(came).unwrap();
        let mut written = Vec::new();
        write_json(&mut written, &raw).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, r#"{"b": "a\u007f\u202e", "a": 1.50}"#);
    }

    #[test]
    fn colour_is_for_terminals_whose_user_wants_it() {
        let mut table = Rows::new(["Status"]).tone(0, Tone::of_status);
        table.push(["503".to_owned()]);
        table.push(["204".to_owned()]);
        let escapes = |screen| table.draw(screen).to_string().matches("\x1b[38;5;").count();
        // The table's own library refuses colour as well where the variable is set.
        if std::env::var_os("NO_COLOR").is_none() {
            assert_eq!(escapes(Screen::Coloured), 2);
        }
        assert_eq!((escapes(Screen::Plain), escapes(Screen::None)), (0, 0));
        let tones = ["0", "200", "404", "-"].map(Tone::of_status);
        let bad = Some(Tone::Bad);
        assert_eq!(tones, [bad, Some(Tone::Good), bad, None]);
    }

    #[test]
    fn durations_read_well() {
        let texts = [740, 1_250, 45_900, 2_340_000].map(|us| duration(Duration::from_micros(us)));
        assert_eq!(texts, ["740 µs", "1.2 ms", "45 ms", "2.3 s"]);
    }
}
