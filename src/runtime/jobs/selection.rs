//! What a job is about, delivery by delivery, in the order of their messages.

use std::sync::Arc;

use tokio::task::{spawn_blocking, yield_now};

use super::super::{ControlError, Handle};
use crate::{
    filter::Filter,
    log::{ReadError, RecordedEvent, StreamId},
    model::{
        ApiId, DeadLetterFilter, DeliveryId, Event, FilterVerdict, Job, JobCursor, JobKind,
        JobSelection, MessageRef, Position, StartFrom, SubscriptionEvent, SubscriptionId, Version,
    },
    projection::{
        View,
        dead_letters::{DeadLetter, DeadLetters},
        deliveries::DeliveryRow,
    },
    subscription::PastDelivery,
};

/// Messages read at a time: each may hold a mebibyte.
const MESSAGES_READ: usize = 64;
/// Deliveries counted at a time.
const COUNT_PAGE: usize = 1_000;

/// One delivery of a selection.
pub(super) struct Item {
    pub(super) subscription: SubscriptionId,
    pub(super) message: MessageRef,
    origin: Origin,
}

/// Why a delivery is in a selection.
enum Origin {
    /// It is the dead letter of this position.
    Letter(Position),
    /// Its message is for the subscription. The filter may fail on it; why, then.
    Message(Option<String>),
}

/// What is to be done with a delivery when its turn has come.
pub(super) enum Ruling {
    /// What the job is for; this is known of it.
    Deal(PastDelivery),
    /// Nothing: somebody else did it since, or this job before a crash.
    Skip,
    /// Nothing, and this is why.
    Refuse(String),
}

impl Item {
    pub(super) const fn cursor(&self) -> JobCursor {
        JobCursor {
            message: self.message.version,
            subscription: self.subscription,
        }
    }

    fn of_letter(letter: &DeadLetter) -> Self {
        Self {
            subscription: letter.subscription,
            message: letter.message,
            origin: Origin::Letter(letter.position),
        }
    }
}

/// Some deliveries of a selection.
#[derive(Default)]
pub(super) struct Page {
    /// The deliveries. There may be none, where much had to be looked at.
    pub(super) items: Vec<Item>,
    /// Where to go on; `None` when no more follow.
    pub(super) next: Option<JobCursor>,
}

/// Goes through the selection of a job.
pub(super) struct Walk {
    handle: Handle,
    as_of: Position,
    over: Over,
}

/// What is gone through.
enum Over {
    Letters(ApiId, DeadLetterFilter),
    Named(ApiId, Vec<DeliveryId>),
    Messages(Box<Messages>),
}

/// Messages of a subscription: those after `first`, up to `last`.
struct Messages {
    api: ApiId,
    subscription: SubscriptionId,
    channel: Option<String>,
    filter: Option<Filter>,
    first: Version,
    last: Version,
}

impl Walk {
    /// A walk through what this job's selection was at its position.
    pub(super) async fn of(handle: &Handle, job: &Job) -> Result<Self, ControlError> {
        let over = match &job.selection {
            JobSelection::DeadLetters { api, filter } => Over::Letters(*api, filter.clone()),
            JobSelection::Deliveries { api, deliveries } => Over::Named(*api, deliveries.clone()),
            JobSelection::Messages {
                api,
                subscription,
                since,
                until,
            } => {
                let definition = handle.subscription(*subscription).await?;
                let first = handle.first_cursor(*api, StartFrom::Time(*since)).await?;
                let after = StartFrom::Position(job.as_of.next());
                let mut last = handle.first_cursor(*api, after).await?;
                if let Some(until) = until {
                    let before = handle.first_cursor(*api, StartFrom::Time(*until)).await?;
                    last = last.min(before);
                }
                let filter = definition.filter.as_ref().map(Filter::compile);
                Over::Messages(Box::new(Messages {
                    api: *api,
                    subscription: *subscription,
                    channel: definition.channel,
                    filter: filter.transpose()?,
                    first,
                    last,
                }))
            }
        };
        Ok(Self {
            handle: handle.clone(),
            as_of: job.as_of,
            over,
        })
    }

    /// How many deliveries there are in all.
    pub(super) async fn count(&self) -> Result<u64, ControlError> {
        if let Over::Messages(messages) = &self.over
            && messages.channel.is_none()
            && messages.filter.is_none()
        {
            return Ok(messages.last.distance_from(messages.first));
        }
        let (mut count, mut after) = (0, None);
        loop {
            let page = self.next(after, COUNT_PAGE).await?;
            count += page.items.len() as u64;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// The next deliveries after a place, at most `limit`.
    pub(super) async fn next(
        &self,
        after: Option<JobCursor>,
        limit: usize,
    ) -> Result<Page, ControlError> {
        match &self.over {
            Over::Letters(api, filter) => self.letters(*api, filter, after, limit).await,
            Over::Named(api, deliveries) => self.named(*api, deliveries, after).await,
            Over::Messages(messages) => self.messages(messages, after, limit).await,
        }
    }

    /// What is to be done with a delivery now. Much may have happened since its page was read.
    pub(super) async fn ruling(&self, kind: JobKind, item: &Item) -> Result<Ruling, ControlError> {
        match &item.origin {
            Origin::Letter(position) => self.of_letter(kind, item, *position).await,
            Origin::Message(None) => self.of_message(item).await,
            Origin::Message(Some(why)) => Ok(Ruling::Refuse(why.clone())),
        }
    }

    /// The dead letters, everything that is in the log by now included.
    async fn dead_letters(&self) -> Result<View<DeadLetters>, ControlError> {
        let view = self.handle.dead_letters();
        Ok(self.handle.caught_up(view).await?)
    }

    async fn letters(
        &self,
        api: ApiId,
        filter: &DeadLetterFilter,
        after: Option<JobCursor>,
        limit: usize,
    ) -> Result<Page, ControlError> {
        let (view, filter, as_of) = (self.dead_letters().await?, filter.clone(), self.as_of);
        let read = spawn_blocking(move || view.oldest(api, &filter, as_of, after, limit));
        let run = read.await.map_err(|_| ControlError::Stopped)??;
        Ok(Page {
            items: run.dead_letters.iter().map(Item::of_letter).collect(),
            next: run.next,
        })
    }

    /// All that were named and are dead letters still: there are never many.
    async fn named(
        &self,
        api: ApiId,
        deliveries: &[DeliveryId],
        after: Option<JobCursor>,
    ) -> Result<Page, ControlError> {
        let view = self.dead_letters().await?;
        let mut letters = Vec::with_capacity(deliveries.len());
        for id in deliveries {
            letters.extend(view.letter(*id)?);
        }
        letters.retain(|letter| {
            letter.api == api && letter.position <= self.as_of && Some(letter.cursor()) > after
        });
        letters.sort_by_key(DeadLetter::cursor);
        Ok(Page {
            items: letters.iter().map(Item::of_letter).collect(),
            next: None,
        })
    }

    async fn messages(
        &self,
        messages: &Messages,
        after: Option<JobCursor>,
        limit: usize,
    ) -> Result<Page, ControlError> {
        let after = after.map_or(messages.first, |after| after.message.max(messages.first));
        let mut page = Page::default();
        let seen = match self.read(messages, after, limit).await {
            Ok(events) => {
                for recorded in &events {
                    page.items.extend(messages.select(recorded));
                    // A filter may take its time; others have their turn in between.
                    yield_now().await;
                }
                events.last().map_or(messages.last, |last| last.version)
            }
            // What is gone or damaged can be sent no more.
            Err(error) => error.stream_goes_on_after().ok_or(error)?,
        };
        page.next = (seen < messages.last).then_some(JobCursor {
            message: seen,
            subscription: messages.subscription,
        });
        Ok(page)
    }

    async fn read(
        &self,
        messages: &Messages,
        after: Version,
        limit: usize,
    ) -> Result<Vec<Arc<RecordedEvent>>, ReadError> {
        let left = usize::try_from(messages.last.distance_from(after)).unwrap_or(usize::MAX);
        let count = limit.min(MESSAGES_READ).min(left);
        if count == 0 {
            return Ok(Vec::new());
        }
        let stream = StreamId::messages(messages.api);
        let log = self.handle.log();
        log.read_stream_async(stream, after, count).await
    }

    async fn of_letter(
        &self,
        kind: JobKind,
        item: &Item,
        position: Position,
    ) -> Result<Ruling, ControlError> {
        let view = self.dead_letters().await?;
        let letter = view.of(item.subscription, &item.message)?;
        Ok(match letter.filter(|letter| letter.position == position) {
            None => Ruling::Skip,
            // It may have been delivered already, without that being in the log yet.
            Some(letter) if letter.redelivering && kind == JobKind::Redeliver => Ruling::Skip,
            Some(letter) => Ruling::Deal(PastDelivery {
                attempts: letter.attempts,
                status: letter.status,
                error: letter.error,
            }),
        })
    }

    /// One that has no entry in the webhook log begins anew.
    async fn of_message(&self, item: &Item) -> Result<Ruling, ControlError> {
        let view = self.handle.caught_up(self.handle.deliveries()).await?;
        let id = DeliveryId::of(item.message.id, item.subscription);
        let Some(row) = view.delivery(id)? else {
            return Ok(Ruling::Deal(PastDelivery::default()));
        };
        if self.is_redelivered_since(&row).await? {
            return Ok(Ruling::Skip);
        }
        Ok(Ruling::Deal(PastDelivery {
            attempts: row.attempts,
            status: row.status,
            error: row.error,
        }))
    }

    /// Whether a delivery was asked for again since the job was created, by it or by another.
    async fn is_redelivered_since(&self, row: &DeliveryRow) -> Result<bool, ControlError> {
        for position in row.events.iter().filter(|position| *position > self.as_of) {
            let recorded = self.handle.log().get_async(position).await?;
            let redelivered = recorded.is_some_and(|recorded| {
                let again = &recorded.event;
                matches!(
                    again,
                    Event::Subscription(SubscriptionEvent::Redelivered(_))
                )
            });
            if redelivered {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Messages {
    /// The delivery of this message, if it is for the subscription.
    fn select(&self, recorded: &RecordedEvent) -> Option<Item> {
        let message = recorded.event.as_published()?;
        if self.channel.is_some() && self.channel != message.channel {
            return None;
        }
        let verdict = self
            .filter
            .as_ref()
            .map_or(FilterVerdict::Passes, |filter| {
                filter.verdict(message, recorded.time)
            });
        let failure = match verdict {
            FilterVerdict::Passes => None,
            FilterVerdict::Filtered => return None,
            FilterVerdict::Failed(why) => Some(why),
        };
        Some(Item {
            subscription: self.subscription,
            message: MessageRef {
                version: recorded.version,
                position: recorded.position,
                id: message.id,
                accepted_at: recorded.time,
            },
            origin: Origin::Message(failure),
        })
    }
}
