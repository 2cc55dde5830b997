//! Lists that come in pages.

use clap::Args;
use serde_json::json;

use super::{CliError, Output};
use crate::projection::deliveries::Cursor;

/// Which part of a list.
#[derive(Debug, Clone, Args)]
pub(super) struct PageArgs {
    /// How many at most, 1 to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// Go on where the page before ended: with what it gave as `More`, or with `--output json`
    /// as a last line `{"nextCursor": …}`, which the last page lacks.
    #[arg(long)]
    cursor: Option<Cursor>,
    /// Every page, one after the other.
    #[arg(long, conflicts_with = "cursor")]
    all: bool,
}

/// A page of a list.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    pub(super) next: Option<Cursor>,
}

impl PageArgs {
    /// Shows one page, or all. `ask` gives the page that begins at a cursor, with so many rows at
    /// most; a page without rows that is not the last is passed over.
    pub(super) fn show<T>(
        &self,
        output: &mut Output,
        ask: impl Fn(Option<&Cursor>, u16) -> Result<Page<T>, CliError>,
        mut show: impl FnMut(&[T], &mut Output) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut cursor = self.cursor.clone();
        loop {
            let page = ask(cursor.as_ref(), self.limit)?;
            if let (true, Some(_)) = (page.rows.is_empty(), &page.next) {
                cursor = page.next;
                continue;
            }
            show(&page.rows, output)?;
            match page.next {
                Some(next) if self.all => cursor = Some(next),
                Some(next) if output.is_json() => {
                    output.json(&json!({ "nextCursor": next }))?;
                    break;
                }
                Some(next) => {
                    output.line(format!("More: --cursor {next}"))?;
                    break;
                }
                None => break,
            }
        }
        Ok(output.flush()?)
    }
}
