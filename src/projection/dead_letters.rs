//! The dead letters that are kept: given up, and neither redelivered with success nor discarded.
//!
//! | key | value |
//! |---|---|
//! | `s` subscription | API, application (32 bytes) |
//! | `d` API, position of its event | [`DeadLetter`] |
//! | `x` subscription, position of its event | empty |
//! | `k` subscription, message version | API, position of its event |
//! | `m` API, message version, subscription | API, position of its event |
//! | `l` delivery | API, position of its event |
//! | `c` API | how many (u64) |
//! | `r` API | how many of them are being delivered again (u64) |
//! | `f` | where the log was cut, see `forgotten.rs` |

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ProjectError, Projection, ReadRows, Row, RowError, Rows, View, ViewError, after_prefix,
    codec::{decode, encode, id_key, key_of, u64_at, uuid_at},
    deliveries::{Cursor, EXAMINED_MAX, PAGE_MAX},
    forgotten::{self, is_forgotten},
    not_adopted,
};
use crate::{
    log::RecordedEvent,
    model::{
        ApiId, ApplicationId, AttemptError, DeadLetterQueue, DeadLetterReason,
        DeliveryDeadLettered, DeliveryId, DiscardReason, Fault, Invalid, JobCursor, MessageRef,
        Position, SubscriptionEvent, SubscriptionId, Timestamp, Version,
    },
};

pub use crate::model::DeadLetterFilter;

/// The kinds of rows that count.
const KEPT: u8 = b'c';
const REDELIVERING: u8 = b'r';

/// The projection behind the dead letter list.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadLetters;

/// How the forwarding of a dead letter stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Forwarding {
    /// It stays in the log.
    NotAsked,
    /// It has not been tried yet.
    Waiting,
    /// It arrived at this time.
    Done(Timestamp),
    /// The last try failed.
    Failed {
        /// Why.
        reason: String,
        /// How often it was tried.
        attempts: u32,
        /// When it is tried again, if it is.
        due_at: Option<Timestamp>,
    },
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Its event.
    pub position: Position,
    /// When it was given up.
    pub at: Timestamp,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The API.
    pub api: ApiId,
    /// The application.
    pub application: ApplicationId,
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The message.
    pub message: MessageRef,
    /// Why it was given up.
    pub reason: DeadLetterReason,
    /// Whose fault it was.
    pub fault: Fault,
    /// How many calls were made.
    pub attempts: u32,
    /// The last status, 0 when there was no response or no call.
    pub status: u16,
    /// The last error.
    pub error: Option<AttemptError>,
    /// Where it goes.
    pub target: DeadLetterQueue,
    /// Whether it got there.
    pub forwarding: Forwarding,
    /// Whether it is being delivered again.
    pub redelivering: bool,
}

/// One page of dead letters, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterPage {
    /// The dead letters. There may be fewer than asked for, even none, where many had to be looked
    /// at: only a missing `next` says that no more match.
    pub dead_letters: Vec<DeadLetter>,
    /// Where the next page begins; absent on the last.
    pub next: Option<Cursor>,
}

impl DeadLetter {
    /// Whether it is one of those that a filter asks for.
    pub fn is_among(&self, filter: &DeadLetterFilter) -> bool {
        filter.reason.is_none_or(|reason| self.reason == reason)
            && filter.fault.is_none_or(|fault| self.fault == fault)
            && filter.subscription.is_none_or(|id| self.subscription == id)
            && filter.application.is_none_or(|id| self.application == id)
            && filter.from.is_none_or(|from| self.at >= from)
            && filter.to.is_none_or(|to| self.at < to)
    }

    /// Where it stands among the dead letters of its API, by their messages.
    pub const fn cursor(&self) -> JobCursor {
        JobCursor {
            message: self.message.version,
            subscription: self.subscription,
        }
    }
}

/// Some dead letters of an API in the order of their messages, the oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeadLetterRun {
    /// The dead letters. There may be none, where many had to be looked at.
    pub dead_letters: Vec<DeadLetter>,
    /// Where to go on; `None` when no more follow.
    pub next: Option<JobCursor>,
}

impl View<DeadLetters> {
    /// A page of an API's dead letters, at most `limit` (1 to [`PAGE_MAX`]).
    ///
    /// # Errors
    /// [`ViewError::Query`] when the limit or the cursor cannot be used.
    pub fn list(
        &self,
        api: ApiId,
        filter: &DeadLetterFilter,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<DeadLetterPage, ViewError> {
        if !(1..=PAGE_MAX).contains(&limit) {
            let reason = format!("is {limit}, must be 1 to {PAGE_MAX}");
            return Err(Invalid::one("/limit", reason).into());
        }
        let below = cursor.map_or(Ok(u64::MAX), |cursor| cursor.resolve(api))?;
        let mut page = Page {
            filter,
            limit,
            found: Vec::new(),
            examined: 0,
            lowest: below,
        };
        self.read(|rows| {
            Ok(match filter.subscription {
                Some(id) => page.of_subscription(rows, id, api, below),
                None => page.of_api(rows, api, below),
            }?)
        })?;
        Ok(page.finish(api))
    }

    /// How many an API has.
    pub fn count(&self, api: ApiId) -> Result<u64, ViewError> {
        self.read(|rows| {
            let count = rows.get(&id_key(KEPT, api.as_uuid()))?;
            Ok(count.map_or(Ok(0), |count| u64_at(&count, 0))?)
        })
    }

    /// The dead letters of an API after a place in the order of their messages, of those that were
    /// given up at or before `as_of`; at most `limit`.
    pub fn oldest(
        &self,
        api: ApiId,
        filter: &DeadLetterFilter,
        as_of: Position,
        after: Option<JobCursor>,
        limit: usize,
    ) -> Result<DeadLetterRun, ViewError> {
        self.read(|rows| {
            let mut run = DeadLetterRun::default();
            let range = in_message_order(api, filter.subscription, after);
            for (examined, row) in rows.range(range).enumerate() {
                if run.dead_letters.len() >= limit || examined >= EXAMINED_MAX {
                    return Ok(run);
                }
                let place = row?.value;
                let (owner, position) =
                    (ApiId::from_uuid(uuid_at(&place, 0)?), u64_at(&place, 16)?);
                let Some(letter) = rows.get(&key_of(b'd', owner.as_uuid(), position))? else {
                    continue;
                };
                let letter: DeadLetter = decode(&letter)?;
                run.next = Some(letter.cursor());
                if owner == api && letter.position <= as_of && letter.is_among(filter) {
                    run.dead_letters.push(letter);
                }
            }
            run.next = None;
            Ok(run)
        })
    }

    /// The dead letter of a delivery, if it is kept.
    pub fn letter(&self, delivery: DeliveryId) -> Result<Option<DeadLetter>, ViewError> {
        self.read(|rows| {
            let place = rows.get(&id_key(b'l', delivery.as_uuid()))?;
            let letter = place.map(|place| at_place(rows, &place)).transpose()?;
            Ok(letter.flatten())
        })
    }

    /// The dead letter of a message to a subscription, if it is kept.
    pub fn of(
        &self,
        subscription: SubscriptionId,
        message: &MessageRef,
    ) -> Result<Option<DeadLetter>, ViewError> {
        self.read(|rows| Ok(find(rows, subscription, message)?))
    }
}

/// A page being filled.
struct Page<'a> {
    filter: &'a DeadLetterFilter,
    limit: usize,
    found: Vec<DeadLetter>,
    /// How many dead letters were looked at, and the position of the last of them.
    examined: usize,
    lowest: u64,
}

impl Page<'_> {
    /// One more than asked for tells whether there is another page.
    fn is_full(&self) -> bool {
        self.found.len() > self.limit
    }

    /// The projection waits while rows are looked at, so their number is bounded.
    fn is_done(&self) -> bool {
        self.is_full() || self.examined >= EXAMINED_MAX
    }

    fn take(&mut self, letter: DeadLetter) {
        self.examined += 1;
        self.lowest = letter.position.get();
        if letter.is_among(self.filter) {
            self.found.push(letter);
        }
    }

    fn of_api(&mut self, rows: &dyn ReadRows, api: ApiId, below: u64) -> Result<(), RowError> {
        let range = id_key(b'd', api.as_uuid())..key_of(b'd', api.as_uuid(), below);
        for row in rows.range_rev(range) {
            if self.is_done() {
                break;
            }
            self.take(decode(&row?.value)?);
        }
        Ok(())
    }

    fn of_subscription(
        &mut self,
        rows: &dyn ReadRows,
        subscription: SubscriptionId,
        api: ApiId,
        below: u64,
    ) -> Result<(), RowError> {
        let id = subscription.as_uuid();
        for row in rows.range_rev(id_key(b'x', id)..key_of(b'x', id, below)) {
            if self.is_done() {
                break;
            }
            let position = u64_at(&row?.key, 17)?;
            if let Some(letter) = rows.get(&key_of(b'd', api.as_uuid(), position))? {
                self.take(decode(&letter)?);
            }
        }
        Ok(())
    }

    fn finish(mut self, api: ApiId) -> DeadLetterPage {
        let below = if self.is_full() {
            self.found.truncate(self.limit);
            self.found.last().map(|letter| letter.position.get())
        } else {
            self.is_done().then_some(self.lowest)
        };
        DeadLetterPage {
            next: below.map(|below| Cursor::below(api, below)),
            dead_letters: self.found,
        }
    }
}

impl Projection for DeadLetters {
    const NAME: &'static str = "dead_letters";
    const VERSION: u32 = 4;
    const FORGETS: bool = true;

    fn project(&self, rows: &mut Rows<'_>, recorded: &RecordedEvent) -> Result<(), ProjectError> {
        let (Some(id), Some(event)) = (
            recorded.stream.as_subscription(),
            recorded.event.as_subscription(),
        ) else {
            return Ok(());
        };
        match event {
            SubscriptionEvent::Created(created) => {
                let definition = &created.subscription;
                let mut owners = definition.api.as_uuid().as_bytes().to_vec();
                owners.extend_from_slice(definition.application.as_uuid().as_bytes());
                rows.put(id_key(b's', id.as_uuid()), owners);
            }
            SubscriptionEvent::DeadLettered(dead) => keep(rows, recorded, id, dead)?,
            SubscriptionEvent::AttemptSucceeded(ok)
                if may_be_again(rows, id, ok.attempt.number.get())? =>
            {
                remove(rows, id, &ok.attempt.message)?;
            }
            SubscriptionEvent::Discarded(gone) if gone.reason == DiscardReason::Operator => {
                remove(rows, id, &gone.message)?;
            }
            SubscriptionEvent::Redelivered(again) => {
                set_redelivering(rows, id, &again.message, true)?;
            }
            SubscriptionEvent::Discarded(gone) => {
                set_redelivering(rows, id, &gone.message, false)?;
            }
            SubscriptionEvent::DeadLetterForwarded(sent) => {
                let done = Forwarding::Done(recorded.time);
                change(rows, id, &sent.message, |letter| {
                    letter.forwarding = done;
                })?;
            }
            SubscriptionEvent::DeadLetterForwardFailed(failed) => {
                let failure = Forwarding::Failed {
                    reason: failed.reason.clone(),
                    attempts: failed.attempts,
                    due_at: failed.due_at,
                };
                change(rows, id, &failed.message, |letter| {
                    letter.forwarding = failure;
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Whose a subscription is.
    fn carry(&self, row: Row) -> Option<Row> {
        row.key.starts_with(b"s").then_some(row)
    }

    /// What versions 2 and 3 carried is the same.
    fn adopt(&self, version: u32, row: Row) -> Result<Option<Row>, ProjectError> {
        if matches!(version, 2 | 3) {
            return Ok(Some(row));
        }
        Err(not_adopted::<Self>(version))
    }

    fn begin(&self, rows: &mut Rows<'_>, first: Position) -> Result<(), ProjectError> {
        forgotten::below(rows, first);
        Ok(())
    }
}

/// Whether a delivery that came to an end with so many calls may have been given up before. Most were
/// not, and to look for each takes longer than all the rest. One that was is redelivered, and called
/// again; where it was never called before, or the event of its redelivery is damaged, one of both
/// shows.
fn may_be_again(
    rows: &dyn ReadRows,
    subscription: SubscriptionId,
    calls: u32,
) -> Result<bool, RowError> {
    Ok(calls > 1 || redelivers(rows, subscription)?)
}

/// Whether the API of a subscription has any that are being delivered again.
fn redelivers(rows: &dyn ReadRows, subscription: SubscriptionId) -> Result<bool, RowError> {
    let Some(owners) = rows.look(&id_key(b's', subscription.as_uuid()))? else {
        return Ok(false);
    };
    let count = rows.look(&id_key(REDELIVERING, &uuid_at(&owners, 0)?))?;
    count.map_or(Ok(false), |count| Ok(u64_at(&count, 0)? > 0))
}

/// A delivery that is given up again is one dead letter, the newer.
fn keep(
    rows: &mut Rows<'_>,
    recorded: &RecordedEvent,
    subscription: SubscriptionId,
    dead: &DeliveryDeadLettered,
) -> Result<(), RowError> {
    let Some(owners) = rows.get(&id_key(b's', subscription.as_uuid()))? else {
        return Ok(());
    };
    if is_forgotten(rows, &dead.message)? {
        return Ok(());
    }
    if may_be_again(rows, subscription, dead.attempts)? {
        remove(rows, subscription, &dead.message)?;
    }
    let letter = DeadLetter {
        position: recorded.position,
        at: recorded.time,
        delivery: DeliveryId::of(dead.message.id, subscription),
        api: ApiId::from_uuid(uuid_at(&owners, 0)?),
        application: ApplicationId::from_uuid(uuid_at(&owners, 16)?),
        subscription,
        message: dead.message,
        reason: dead.reason,
        fault: dead.fault,
        attempts: dead.attempts,
        status: dead.status,
        error: dead.error.clone(),
        target: dead.target.clone(),
        forwarding: match dead.target {
            DeadLetterQueue::Embedded | DeadLetterQueue::None => Forwarding::NotAsked,
            DeadLetterQueue::Api { .. } | DeadLetterQueue::Http { .. } => Forwarding::Waiting,
        },
        redelivering: false,
    };
    put(rows, &letter);
    let position = letter.position.get();
    rows.put(key_of(b'x', subscription.as_uuid(), position), Vec::new());
    let mut place = letter.api.as_uuid().as_bytes().to_vec();
    place.extend_from_slice(&position.to_be_bytes());
    let order = order_key(letter.api, dead.message.version, subscription);
    rows.put(order, place.clone());
    rows.put(id_key(b'l', letter.delivery.as_uuid()), place.clone());
    rows.put(message_key(subscription, &dead.message), place);
    count(rows, KEPT, letter.api, 1)
}

fn remove(
    rows: &mut Rows<'_>,
    subscription: SubscriptionId,
    message: &MessageRef,
) -> Result<(), RowError> {
    let key = message_key(subscription, message);
    let Some(place) = rows.get(&key)? else {
        return Ok(());
    };
    let (api, position) = (ApiId::from_uuid(uuid_at(&place, 0)?), u64_at(&place, 16)?);
    if at_place(rows, &place)?.is_some_and(|letter| letter.redelivering) {
        count(rows, REDELIVERING, api, -1)?;
    }
    rows.delete(key);
    rows.delete(key_of(b'd', api.as_uuid(), position));
    rows.delete(key_of(b'x', subscription.as_uuid(), position));
    rows.delete(order_key(api, message.version, subscription));
    let delivery = DeliveryId::of(message.id, subscription);
    rows.delete(id_key(b'l', delivery.as_uuid()));
    count(rows, KEPT, api, -1)
}

fn set_redelivering(
    rows: &mut Rows<'_>,
    subscription: SubscriptionId,
    message: &MessageRef,
    redelivering: bool,
) -> Result<(), RowError> {
    let found = find(rows, subscription, message)?;
    let Some(mut letter) = found.filter(|letter| letter.redelivering != redelivering) else {
        return Ok(());
    };
    letter.redelivering = redelivering;
    put(rows, &letter);
    let by = if redelivering { 1 } else { -1 };
    count(rows, REDELIVERING, letter.api, by)
}

fn change(
    rows: &mut Rows<'_>,
    subscription: SubscriptionId,
    message: &MessageRef,
    change: impl FnOnce(&mut DeadLetter),
) -> Result<(), RowError> {
    if let Some(mut letter) = find(rows, subscription, message)? {
        change(&mut letter);
        put(rows, &letter);
    }
    Ok(())
}

fn put(rows: &mut Rows<'_>, letter: &DeadLetter) {
    let key = key_of(b'd', letter.api.as_uuid(), letter.position.get());
    rows.put(key, encode(letter));
}

fn find(
    rows: &dyn ReadRows,
    subscription: SubscriptionId,
    message: &MessageRef,
) -> Result<Option<DeadLetter>, RowError> {
    let place = rows.get(&message_key(subscription, message))?;
    let letter = place.map(|place| at_place(rows, &place)).transpose()?;
    Ok(letter.flatten())
}

fn at_place(rows: &dyn ReadRows, place: &[u8]) -> Result<Option<DeadLetter>, RowError> {
    let letter = rows.get(&key_of(b'd', &uuid_at(place, 0)?, u64_at(place, 16)?))?;
    letter.map(|row| decode(&row)).transpose()
}

/// The rows that hold dead letters after a place in the order of their messages, of an API or of
/// one subscription.
fn in_message_order(
    api: ApiId,
    subscription: Option<SubscriptionId>,
    after: Option<JobCursor>,
) -> Range<Vec<u8>> {
    let Some(subscription) = subscription else {
        let prefix = id_key(b'm', api.as_uuid());
        let from = after.map_or_else(
            || prefix.clone(),
            |after| {
                let mut key = order_key(api, after.message, after.subscription);
                key.push(0);
                key
            },
        );
        return from..after_prefix(&prefix);
    };
    let id = subscription.as_uuid();
    let from = after.map_or(0, |after| after.message.get() + 1);
    key_of(b'k', id, from)..after_prefix(&id_key(b'k', id))
}

fn order_key(api: ApiId, message: Version, subscription: SubscriptionId) -> Vec<u8> {
    let mut key = key_of(b'm', api.as_uuid(), message.get());
    key.extend_from_slice(subscription.as_uuid().as_bytes());
    key
}

fn message_key(subscription: SubscriptionId, message: &MessageRef) -> Vec<u8> {
    key_of(b'k', subscription.as_uuid(), message.version.get())
}

/// Counts those of an API that are kept, or are being delivered again.
fn count(rows: &mut Rows<'_>, what: u8, api: ApiId, by: i64) -> Result<(), RowError> {
    let value = rows.edit(&id_key(what, api.as_uuid()), || vec![0; 8])?;
    let moved = u64_at(value, 0)?.saturating_add_signed(by);
    value.copy_from_slice(&moved.to_be_bytes());
    Ok(())
}
