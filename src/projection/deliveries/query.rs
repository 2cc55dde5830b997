//! Questions to the webhook log: any combination of filters, newest first, page by page.

use std::{ops::Bound, str::FromStr, time::Duration};

use roaring::RoaringBitmap;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Cursor, Deliveries, DeliveryOutcome, DeliveryRow, blocks,
    cursor::RowPlace,
    index::{self, Term},
    plans,
    project::ApiSettings,
    stored,
};
use crate::{
    model::{
        ApiId, ApplicationId, CallbackUrl, DeliveryId, ErrorClass, Invalid, MessageId,
        SubscriptionId, Timestamp,
    },
    projection::{
        ReadRows, RowError, View, ViewError,
        codec::{id_key, malformed},
        store::Direction,
    },
};

/// Most rows on one page.
pub const PAGE_MAX: usize = 1_000;

/// Most rows that are looked at for one page. The projection waits meanwhile, so a filter that the
/// index can hardly narrow gives a short page, and a cursor to go on with.
pub(in crate::projection) const EXAMINED_MAX: usize = 10 * PAGE_MAX;

/// Which statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFilter {
    /// This one; 0 is "no response".
    Exact(u16),
    /// All of a class by its first digit: 2 is 200 to 299; 0 is "no response".
    Class(u16),
}

impl StatusFilter {
    const fn holds(self, status: u16) -> bool {
        match self {
            Self::Exact(wanted) => status == wanted,
            Self::Class(hundreds) => status / 100 == hundreds,
        }
    }
}

impl FromStr for StatusFilter {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(hundreds) = text.strip_suffix("xx") {
            if let Ok(hundreds @ 1..=5) = hundreds.parse() {
                return Ok(Self::Class(hundreds));
            }
        } else if let Ok(status @ (0 | 100..=999)) = text.parse() {
            return Ok(Self::Exact(status));
        }
        let reason = "expected a status such as 503, a class such as 5xx, or 0 for no response";
        Err(Invalid::one("", reason))
    }
}

/// Which deliveries; each field that is set narrows the answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeliveryFilter {
    /// The last status is one of these; empty takes every one.
    pub status: Vec<StatusFilter>,
    /// The last call went here. Deliveries are kept with their URL redacted, and so it is matched:
    /// URLs that differ in a secret alone are not told apart.
    pub callback_url: Option<CallbackUrl>,
    /// Of this application.
    pub application: Option<ApplicationId>,
    /// Of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// The first call began at or after this time.
    pub from: Option<Timestamp>,
    /// The first call began before this time.
    pub to: Option<Timestamp>,
    /// Whether it went to the dead letter queue.
    pub sent_to_dlq: Option<bool>,
    /// How it stands.
    pub outcome: Option<DeliveryOutcome>,
    /// Why the last call got no response.
    pub error_class: Option<ErrorClass>,
    /// The last call took at least this long.
    pub min_duration: Option<Duration>,
    /// Of this message.
    pub message: Option<MessageId>,
}

impl DeliveryFilter {
    /// Whether a row is one of them.
    pub fn holds(&self, row: &DeliveryRow) -> bool {
        fn wants<T: PartialEq>(wanted: Option<&T>, is: Option<&T>) -> bool {
            wanted.is_none() || wanted == is
        }
        (self.status.is_empty() || self.status.iter().any(|status| status.holds(row.status)))
            && wants(self.redacted_url().as_ref(), row.callback_url.as_ref())
            && wants(self.application.as_ref(), Some(&row.application))
            && wants(self.subscription.as_ref(), Some(&row.subscription))
            && self.from.is_none_or(|from| row.started_at >= from)
            && self.to.is_none_or(|to| row.started_at < to)
            && wants(self.sent_to_dlq.as_ref(), Some(&row.is_sent_to_dlq()))
            && wants(self.outcome.as_ref(), Some(&row.outcome))
            && wants(self.error_class.as_ref(), row.error_class().as_ref())
            && self
                .min_duration
                .is_none_or(|min| row.last_duration() >= min)
            && wants(self.message.as_ref(), Some(&row.message.id))
    }

    fn redacted_url(&self) -> Option<CallbackUrl> {
        self.callback_url.as_ref().map(CallbackUrl::redacted)
    }

    /// What the index can tell: a row must have one term of each group.
    fn groups(&self) -> Vec<Vec<Term>> {
        let status = self.status.iter().map(|status| match status {
            StatusFilter::Exact(status) => Term::status(*status),
            StatusFilter::Class(hundreds) => Term::status_class(*hundreds),
        });
        let one = |term: Term| vec![term];
        let mut groups: Vec<Vec<Term>> = vec![status.collect()];
        let url = self.redacted_url();
        groups.extend(url.as_ref().map(|url| one(Term::url(url.as_str()))));
        groups.extend(self.application.map(Term::application).map(one));
        groups.extend(self.subscription.map(Term::subscription).map(one));
        groups.extend(self.sent_to_dlq.map(Term::dlq).map(one));
        groups.extend(self.outcome.map(Term::outcome).map(one));
        groups.extend(self.error_class.map(Term::error_class).map(one));
        groups.extend(self.min_duration.map(|min| {
            let us = u32::try_from(min.as_micros()).unwrap_or(u32::MAX);
            Term::durations_from(us)
        }));
        groups.retain(|group| !group.is_empty());
        groups
    }
}

/// A question to the webhook log of one API.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryQuery {
    /// The API.
    pub api: ApiId,
    /// Which deliveries.
    pub filter: DeliveryFilter,
    /// Where the page begins; the newest delivery when absent.
    pub cursor: Option<Cursor>,
    /// Most rows on the page, 1 to [`PAGE_MAX`].
    pub limit: usize,
}

impl DeliveryQuery {
    /// The newest deliveries of an API.
    pub fn newest(api: ApiId, limit: usize) -> Self {
        Self {
            api,
            filter: DeliveryFilter::default(),
            cursor: None,
            limit,
        }
    }
}

/// One page, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct DeliveryPage {
    /// The deliveries. There may be fewer than asked for, even none, where many had to be looked
    /// at: only a missing `next` says that no more match.
    pub deliveries: Vec<DeliveryRow>,
    /// Where the next page begins; absent on the last.
    pub next: Option<Cursor>,
}

/// What the pickers of the list offer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PickerValues {
    /// Every callback URL that a delivery went to, redacted.
    pub callback_urls: Vec<CallbackUrl>,
    /// Every application that has a delivery.
    pub applications: Vec<ApplicationId>,
}

impl View<Deliveries> {
    /// A page of an API's deliveries.
    ///
    /// # Errors
    /// [`ViewError::Query`] when the limit or the cursor cannot be used.
    pub fn list(&self, query: &DeliveryQuery) -> Result<DeliveryPage, ViewError> {
        self.read(|rows| list(rows, query))
    }

    /// The row of one delivery; `None` when it has no entry in the log.
    pub fn delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRow>, ViewError> {
        self.read(|rows| {
            let row = blocks::find(rows, id)?;
            Ok(row.map(|row| plans::to_show(rows, row)).transpose()?)
        })
    }

    /// How many deliveries of an API have an entry.
    pub fn count(&self, api: ApiId) -> Result<u64, ViewError> {
        self.read(|rows| Ok(ApiSettings::read(rows, api)?.deliveries))
    }

    /// What the pickers of the list offer, each at most `limit` values.
    pub fn picker_values(&self, api: ApiId, limit: usize) -> Result<PickerValues, ViewError> {
        self.read(|rows| Ok(picker_values(rows, api, limit)?))
    }
}

/// Answers a question from rows.
pub(in crate::projection) fn list(
    rows: &dyn ReadRows,
    query: &DeliveryQuery,
) -> Result<DeliveryPage, ViewError> {
    if !(1..=PAGE_MAX).contains(&query.limit) {
        return Err(Invalid::one(
            "/limit",
            format!("is {}, must be 1 to {PAGE_MAX}", query.limit),
        )
        .into());
    }
    let given = ApiSettings::read(rows, query.api)?.deliveries;
    let below = match &query.cursor {
        Some(cursor) => {
            let place = cursor.resolve_delivery(query.api)?;
            ordinal_now(rows, query.api, place, given)?
        }
        None => given,
    };
    let mut page = Page {
        rows,
        query,
        found: Vec::with_capacity(query.limit.min(64)),
        examined: 0,
        lowest: None,
    };
    match query.filter.message {
        Some(message) => page.of_message(message, below)?,
        None => page.of_chunks(given, below)?,
    }
    Ok(page.finish())
}

/// The ordinal that a delivery has now, or the first one behind it has if it is gone. A look at the
/// ordinal that it had is enough, but where rows were built again on a cut log, which counts anew.
fn ordinal_now(
    rows: &dyn ReadRows,
    api: ApiId,
    place: RowPlace,
    given: u64,
) -> Result<u64, RowError> {
    let opened = |ordinal: u64| {
        let row = blocks::row_at(rows, api, ordinal)?;
        Ok::<_, RowError>(row.map(|row| place_of(&row).opened))
    };
    if opened(place.ordinal)? == Some(place.opened) {
        return Ok(place.ordinal);
    }
    let (mut low, mut high) = (0, given);
    while low < high {
        let middle = low + (high - low) / 2;
        if opened(middle)? < Some(place.opened) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn place_of(row: &DeliveryRow) -> RowPlace {
    RowPlace {
        opened: row.events.first().unwrap_or_default(),
        ordinal: row.ordinal,
    }
}

struct Page<'a> {
    rows: &'a dyn ReadRows,
    query: &'a DeliveryQuery,
    found: Vec<DeliveryRow>,
    /// How many rows were looked at, and where the last of them stands.
    examined: usize,
    lowest: Option<RowPlace>,
}

impl Page<'_> {
    /// One more than asked for tells whether there is another page.
    fn is_full(&self) -> bool {
        self.found.len() > self.query.limit
    }

    fn is_done(&self) -> bool {
        self.is_full() || self.examined >= EXAMINED_MAX
    }

    fn take(&mut self, row: DeliveryRow) -> Result<(), RowError> {
        self.examined += 1;
        self.lowest = Some(place_of(&row));
        if self.query.filter.holds(&row) {
            self.found.push(plans::to_show(self.rows, row)?);
        }
        Ok(())
    }

    fn finish(mut self) -> DeliveryPage {
        let below = if self.is_full() {
            self.found.truncate(self.query.limit);
            self.found.last().map(place_of)
        } else {
            self.lowest.filter(|_| self.is_done())
        };
        DeliveryPage {
            next: below.map(|below| Cursor::below_delivery(self.query.api, below)),
            deliveries: self.found,
        }
    }

    fn of_message(&mut self, message: MessageId, below: u64) -> Result<(), RowError> {
        let api = self.query.api;
        let mut ordinals = blocks::ordinals_of_message(self.rows, message, api)?;
        ordinals.retain(|ordinal| *ordinal < below);
        ordinals.sort_unstable_by(|a, b| b.cmp(a));
        for ordinal in ordinals {
            if self.is_done() {
                break;
            }
            self.take_ordinal(ordinal)?;
        }
        Ok(())
    }

    /// The open chunk, then the sealed ones that the index does not rule out, newest first.
    fn of_chunks(&mut self, given: u64, below: u64) -> Result<(), RowError> {
        if below == 0 {
            return Ok(());
        }
        // The chunk of the newest row is open even when it is full: the row after it seals it.
        let open = index::chunk_of(given - 1);
        let first_open = *index::ordinals(open).start();
        if below > first_open {
            self.scan(first_open, below)?;
        }
        let groups = self.query.filter.groups();
        let mut chunks = self.candidates(&groups, open)?;
        let top = index::chunk_of(below - 1).min(open.saturating_sub(1));
        chunks.remove_range((Bound::Excluded(top), Bound::Unbounded));
        for chunk in chunks.iter().rev() {
            if self.is_done() {
                break;
            }
            self.sealed(chunk, &groups, below)?;
        }
        Ok(())
    }

    fn candidates(&self, groups: &[Vec<Term>], open: u32) -> Result<RoaringBitmap, RowError> {
        let (rows, api, filter) = (self.rows, self.query.api, &self.query.filter);
        let mut chunks = RoaringBitmap::new();
        chunks.insert_range(0..open);
        if filter.from.is_some() || filter.to.is_some() {
            let from = filter.from.unwrap_or(Timestamp::from_millis(i64::MIN));
            let to = filter.to.unwrap_or(Timestamp::MAX);
            chunks &= index::chunks_between(rows, api, from, to)?;
        }
        for group in groups {
            chunks &= index::chunks_with(rows, api, group)?;
        }
        Ok(chunks)
    }

    fn sealed(&mut self, chunk: u32, groups: &[Vec<Term>], below: u64) -> Result<(), RowError> {
        let ordinals = index::ordinals(chunk);
        let Some((first, others)) = groups.split_first() else {
            return self.scan(*ordinals.start(), below.min(ordinals.end() + 1));
        };
        let mut places = index::rows_with(self.rows, self.query.api, chunk, first)?;
        for group in others {
            if places.is_empty() {
                return Ok(());
            }
            places &= index::rows_with(self.rows, self.query.api, chunk, group)?;
        }
        for place in places.iter().rev() {
            let ordinal = ordinals.start() + u64::from(place);
            if ordinal < below && !self.is_done() {
                self.take_ordinal(ordinal)?;
            }
        }
        Ok(())
    }

    fn scan(&mut self, from: u64, below: u64) -> Result<(), RowError> {
        let (rows, api) = (self.rows, self.query.api);
        blocks::each_in(rows, api, from..below, Direction::Down, |ordinal, bytes| {
            self.take(stored::from_bytes(api, ordinal, bytes)?)?;
            Ok(!self.is_done())
        })
    }

    fn take_ordinal(&mut self, ordinal: u64) -> Result<(), RowError> {
        if let Some(row) = blocks::row_at(self.rows, self.query.api, ordinal)? {
            self.take(row)?;
        }
        Ok(())
    }
}

fn picker_values(rows: &dyn ReadRows, api: ApiId, limit: usize) -> Result<PickerValues, RowError> {
    let values = |kind: u8| {
        let mut prefix = id_key(b'v', api.as_uuid());
        prefix.push(kind);
        let skip = prefix.len();
        let rows = rows.prefix(&prefix).take(limit);
        rows.map(move |row| row.map(|row| row.key[skip..].to_vec()))
            .collect::<Result<Vec<_>, RowError>>()
    };
    let url = |text: Vec<u8>| {
        let parsed = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| malformed(&text, "not a callback URL"))
    };
    let application = |id: Vec<u8>| {
        let id = Uuid::from_slice(&id).map_err(|error| malformed(&id, error.to_string()))?;
        Ok(ApplicationId::from_uuid(id))
    };
    Ok(PickerValues {
        callback_urls: values(b'u')?
            .into_iter()
            .map(url)
            .collect::<Result<_, _>>()?,
        applications: values(b'p')?
            .into_iter()
            .map(application)
            .collect::<Result<_, RowError>>()?,
    })
}
