//! `hooklog replay`: the views as they were.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use serde_json::json;

use super::{
    CliError, Output,
    data::{AtRestArgs, Data},
    dead_letters, logs,
    output::Rows,
};
use crate::{
    model::{ApiId, Position, Timestamp},
    projection::{
        Projection, ReplayUntil, SharedHistory, View,
        dead_letters::{DeadLetter, DeadLetterFilter, DeadLetters},
        deliveries::{Deliveries, DeliveryQuery, DeliveryRow},
        history_until,
        metrics::{Counter, Metrics, Scope, Tally},
        subscriptions::{SubscriptionRow, Subscriptions},
    },
};

/// Rows asked of a view at a time.
const PAGE: usize = 1_000;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    data: AtRestArgs,
    /// Up to and with this position, or the last event at or before this time (RFC 3339).
    /// Default: the end of the log.
    #[arg(long, value_name = "POSITION|TIME", value_parser = parse_until)]
    until: Option<Until>,
}

#[derive(Debug, Clone, Copy)]
enum Until {
    Position(Position),
    Time(Timestamp),
}

fn parse_until(text: &str) -> Result<Until, String> {
    if let Ok(position) = text.parse() {
        return Ok(Until::Position(position));
    }
    text.parse().map(Until::Time).map_err(|_| {
        "expected a position such as 1284, or a time such as 2026-03-04T05:06:07Z".to_owned()
    })
}

pub(super) fn run(args: &ReplayArgs, output: &mut Output) -> Result<(), CliError> {
    let data = args.data.open()?;
    let until = match args.until {
        None => ReplayUntil::Now,
        Some(Until::Position(position)) => ReplayUntil::Position(position),
        Some(Until::Time(time)) => ReplayUntil::Time(time),
    };
    let history = history_until(data.history(), until)?;
    let views = Views {
        position: history.tip(),
        deliveries: past(&data, &history, Deliveries)?,
        metrics: past(&data, &history, Metrics)?,
        dead_letters: past(&data, &history, DeadLetters)?,
        subscriptions: past(&data, &history, Subscriptions)?,
    };
    if output.is_json() {
        views.write(output)?;
    } else {
        views.describe(output)?;
    }
    Ok(output.flush()?)
}

fn past<P: Projection>(
    data: &Data,
    history: &SharedHistory,
    projection: P,
) -> Result<View<P>, CliError> {
    let directory = data.scratch()?.join("as-it-was");
    data.fold(projection, Arc::clone(history), &directory)
}

/// All views at one position, page by page: no more is in memory than a page.
struct Views {
    position: Position,
    deliveries: View<Deliveries>,
    metrics: View<Metrics>,
    dead_letters: View<DeadLetters>,
    subscriptions: View<Subscriptions>,
}

impl Views {
    /// A value a line, each under the name of what it is, an API's after the API.
    fn write(&self, output: &mut Output) -> Result<(), CliError> {
        output.json(&json!({ "position": self.position }))?;
        for application in self.subscriptions.applications()? {
            output.json(&json!({ "application": application }))?;
        }
        for api in self.subscriptions.apis()? {
            let id = api.api.id;
            let counters = counters(&self.metrics.totals(Scope::Api(id))?);
            output.json(&json!({ "api": api, "counters": counters }))?;
            self.subscriptions(id, |page| {
                let mut rows = page.iter();
                Ok(rows.try_for_each(|row| output.json(&json!({ "subscription": row })))?)
            })?;
            self.deliveries(id, |page| {
                let mut rows = page.iter();
                Ok(rows.try_for_each(|row| output.json(&json!({ "delivery": row })))?)
            })?;
            self.dead_letters(id, |page| {
                let mut rows = page.iter();
                Ok(rows.try_for_each(|row| output.json(&json!({ "deadLetter": row })))?)
            })?;
        }
        Ok(())
    }

    fn describe(&self, output: &mut Output) -> Result<(), CliError> {
        output.line(format!("As of position {}", self.position))?;
        let name_of = |id| {
            let found = self.subscriptions.application(id)?;
            Ok(found.map_or_else(|| id.to_string(), |row| row.application.name))
        };
        for row in self.subscriptions.apis()? {
            let id = row.api.id;
            output.line(format!("\nAPI {} ({id})", row.api.name))?;
            self.subscriptions(id, |page| {
                Ok(output.table(&subscription_table(page), "No subscription.")?)
            })?;
            let count = self.deliveries.count(id)?;
            output.line(format!("{count} deliveries, newest first"))?;
            self.deliveries(id, |page| {
                Ok(output.table(&logs::table_of(page, name_of)?, "None.")?)
            })?;
            let count = self.dead_letters.count(id)?;
            output.line(format!("{count} dead letters, newest first"))?;
            self.dead_letters(id, |page| {
                Ok(output.table(&dead_letters::table_of(page), "None.")?)
            })?;
        }
        Ok(())
    }

    fn subscriptions(
        &self,
        api: ApiId,
        mut show: impl FnMut(&[SubscriptionRow]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut after = None;
        loop {
            let page = self.subscriptions.of_api(api, after, PAGE)?;
            if !page.is_empty() || after.is_none() {
                show(&page)?;
            }
            match page.last() {
                Some(last) => after = Some(last.state.definition.id),
                None => return Ok(()),
            }
        }
    }

    fn deliveries(
        &self,
        api: ApiId,
        mut show: impl FnMut(&[DeliveryRow]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut query = DeliveryQuery::newest(api, PAGE);
        loop {
            let page = self.deliveries.list(&query)?;
            show(&page.deliveries)?;
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn dead_letters(
        &self,
        api: ApiId,
        mut show: impl FnMut(&[DeadLetter]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let filter = DeadLetterFilter::default();
        let mut cursor = None;
        loop {
            let view = &self.dead_letters;
            let page = view.list(api, &filter, cursor.as_ref(), PAGE)?;
            show(&page.dead_letters)?;
            match page.next {
                Some(next) => cursor = Some(next),
                None => return Ok(()),
            }
        }
    }
}

fn counters(tally: &Tally) -> BTreeMap<String, u64> {
    let value = |counter: Counter| (format!("{counter:?}"), tally.get(counter));
    Counter::ALL.into_iter().map(value).collect()
}

fn subscription_table(rows: &[SubscriptionRow]) -> Rows {
    let head = [
        "Subscription",
        "Application",
        "Status",
        "Attempts",
        "Delivered",
        "Dead letters",
        "Last error",
    ];
    let mut table = Rows::new(head).numbers([3, 4, 5]);
    for row in rows {
        let error = row.health.last_error.as_ref().map(ToString::to_string);
        let status = row
            .health
            .last_failure_status
            .map(|status| format!("status {status}"));
        table.push([
            row.state.definition.id.to_string(),
            row.application_name.clone().unwrap_or_default(),
            format!("{:?}/{:?}", row.state.status, row.state.consumer_status).to_uppercase(),
            row.health.attempts.to_string(),
            row.health.delivered.to_string(),
            row.health.dead_lettered.to_string(),
            error.or(status).unwrap_or_default(),
        ]);
    }
    table
}
