//! The dead letters that are kept: given up, and neither redelivered with success nor discarded.
//!
//! | key | value |
//! |---|---|
//! | `s` subscription | API, application (32 bytes) |
//! | `d` API, position of its event | [`DeadLetter`] |
//! | `x` subscription, position of its event | empty |
//! | `k` subscription, message version | API, position of its event |
//! | `c` API | how many (u64) |

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ProjectError, Projection, ReadRows, RowError, Rows, View, ViewError,
    codec::{decode, encode, id_key, key_of, u64_at, uuid_at},
    deliveries::{Cursor, EXAMINED_MAX, PAGE_MAX},
};
use crate::{
    log::RecordedEvent,
    model::{
        ApiId, ApplicationId, AttemptError, DeadLetterQueue, DeadLetterReason,
        DeliveryDeadLettered, DeliveryId, DiscardReason, Fault, Invalid, MessageRef, Position,
        SubscriptionEvent, SubscriptionId, Timestamp,
    },
};

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

/// Which dead letters; each field that is set narrows the answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DeadLetterFilter {
    /// Given up for this reason.
    pub reason: Option<DeadLetterReason>,
    /// By the fault of this side.
    pub fault: Option<Fault>,
    /// Of this subscription.
    pub subscription: Option<SubscriptionId>,
    /// Of this application.
    pub application: Option<ApplicationId>,
    /// Given up at or after this time.
    pub from: Option<Timestamp>,
    /// Given up before this time.
    pub to: Option<Timestamp>,
}

impl DeadLetterFilter {
    /// Whether a dead letter is one of them.
    pub fn holds(&self, letter: &DeadLetter) -> bool {
        self.reason.is_none_or(|reason| letter.reason == reason)
            && self.fault.is_none_or(|fault| letter.fault == fault)
            && self.subscription.is_none_or(|id| letter.subscription == id)
            && self.application.is_none_or(|id| letter.application == id)
            && self.from.is_none_or(|from| letter.at >= from)
            && self.to.is_none_or(|to| letter.at < to)
    }
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
            let count = rows.get(&id_key(b'c', api.as_uuid()))?;
            Ok(count.map_or(Ok(0), |count| u64_at(&count, 0))?)
        })
    }

    /// The dead letter of a delivery, if it is kept.
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
        if self.filter.holds(&letter) {
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
    const VERSION: u32 = 1;

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
            SubscriptionEvent::AttemptSucceeded(ok) => remove(rows, id, &ok.attempt.message)?,
            SubscriptionEvent::Discarded(gone) if gone.reason == DiscardReason::Operator => {
                remove(rows, id, &gone.message)?;
            }
            SubscriptionEvent::Redelivered(again) => {
                change(rows, id, &again.message, |letter| {
                    letter.redelivering = true;
                })?;
            }
            SubscriptionEvent::Discarded(gone) => {
                change(rows, id, &gone.message, |letter| {
                    letter.redelivering = false;
                })?;
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
    remove(rows, subscription, &dead.message)?;
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
    let position = letter.position.get();
    rows.put(
        key_of(b'd', letter.api.as_uuid(), position),
        encode(&letter),
    );
    rows.put(key_of(b'x', subscription.as_uuid(), position), Vec::new());
    let mut place = letter.api.as_uuid().as_bytes().to_vec();
    place.extend_from_slice(&position.to_be_bytes());
    rows.put(message_key(subscription, &dead.message), place);
    count(rows, letter.api, 1)
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
    rows.delete(key);
    rows.delete(key_of(b'd', api.as_uuid(), position));
    rows.delete(key_of(b'x', subscription.as_uuid(), position));
    count(rows, api, -1)
}

fn change(
    rows: &mut Rows<'_>,
    subscription: SubscriptionId,
    message: &MessageRef,
    change: impl FnOnce(&mut DeadLetter),
) -> Result<(), RowError> {
    if let Some(mut letter) = find(rows, subscription, message)? {
        change(&mut letter);
        let key = key_of(b'd', letter.api.as_uuid(), letter.position.get());
        rows.put(key, encode(&letter));
    }
    Ok(())
}

fn find(
    rows: &dyn ReadRows,
    subscription: SubscriptionId,
    message: &MessageRef,
) -> Result<Option<DeadLetter>, RowError> {
    let Some(place) = rows.get(&message_key(subscription, message))? else {
        return Ok(None);
    };
    let letter = rows.get(&key_of(b'd', &uuid_at(&place, 0)?, u64_at(&place, 16)?))?;
    letter.map(|row| decode(&row)).transpose()
}

fn message_key(subscription: SubscriptionId, message: &MessageRef) -> Vec<u8> {
    key_of(b'k', subscription.as_uuid(), message.version.get())
}

fn count(rows: &mut Rows<'_>, api: ApiId, by: i64) -> Result<(), RowError> {
    let value = rows.edit(&id_key(b'c', api.as_uuid()), || vec![0; 8])?;
    let moved = u64_at(value, 0)?.saturating_add_signed(by);
    value.copy_from_slice(&moved.to_be_bytes());
    Ok(())
}
