//! How many messages wait, at a cost that does not grow with the number of subscriptions: an API
//! knows its latest message, a subscription how far it has settled; the difference waits.
//!
//! A subscription that begins at a later message counts the earlier ones as settled. Deliveries
//! end in any order, so "settled" is a count, not a cursor.

use super::{Scope, oldest};
use crate::{
    model::{ApiId, SubscriptionId, Timestamp, Version},
    projection::{
        ReadRows, RowError, Rows,
        codec::{id_key, u64_at, uuid_at},
    },
};

/// Of an API's row.
pub(super) const API: u8 = b'm';
/// Bytes of an API's row.
pub(super) const API_BYTES: usize = 40;
const SUBSCRIPTION: u8 = b's';

/// What an API's backlog is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApiBacklog {
    /// Its latest message; 0 for none.
    pub(super) latest: u64,
    /// How many subscriptions it has that have not ended.
    pub(super) subscriptions: u64,
    settled: u64,
    /// The latest message whose time is kept, see `oldest.rs`; 0 for none.
    pub(super) timed: u64,
    /// That time.
    pub(super) timed_at: Timestamp,
}

impl Default for ApiBacklog {
    fn default() -> Self {
        Self {
            latest: 0,
            subscriptions: 0,
            settled: 0,
            timed: 0,
            timed_at: Timestamp::EPOCH,
        }
    }
}

impl ApiBacklog {
    pub(super) fn read(rows: &dyn ReadRows, api: ApiId) -> Result<Self, RowError> {
        let row = rows.look(&id_key(API, api.as_uuid()))?;
        row.map_or(Ok(Self::default()), |row| Self::from_row(&row))
    }

    fn from_row(row: &[u8]) -> Result<Self, RowError> {
        Ok(Self {
            latest: u64_at(row, 0)?,
            subscriptions: u64_at(row, 8)?,
            settled: u64_at(row, 16)?,
            timed: u64_at(row, 24)?,
            timed_at: Timestamp::from_millis(u64_at(row, 32)?.cast_signed()),
        })
    }

    fn write(self, rows: &mut Rows<'_>, api: ApiId) {
        let timed_at = self.timed_at.as_millis().cast_unsigned();
        let numbers = [
            self.latest,
            self.subscriptions,
            self.settled,
            self.timed,
            timed_at,
        ];
        let row: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
        rows.put(id_key(API, api.as_uuid()), row);
    }

    /// How many messages wait.
    pub(super) const fn waiting(self) -> u64 {
        let all = self.latest.saturating_mul(self.subscriptions);
        all.saturating_sub(self.settled)
    }
}

/// How far a subscription has settled its API's messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    pub(super) api: ApiId,
    count: u64,
    pub(super) ended: bool,
}

impl Settled {
    pub(super) fn read(
        rows: &dyn ReadRows,
        subscription: SubscriptionId,
    ) -> Result<Option<Self>, RowError> {
        let Some(row) = rows.look(&id_key(SUBSCRIPTION, subscription.as_uuid()))? else {
            return Ok(None);
        };
        Ok(Some(Self {
            api: ApiId::from_uuid(uuid_at(&row, 0)?),
            count: u64_at(&row, 16)?,
            ended: row.get(24) == Some(&1),
        }))
    }

    fn write(self, rows: &mut Rows<'_>, subscription: SubscriptionId) {
        let mut row = self.api.as_uuid().as_bytes().to_vec();
        row.extend_from_slice(&self.count.to_be_bytes());
        row.push(u8::from(self.ended));
        rows.put(id_key(SUBSCRIPTION, subscription.as_uuid()), row);
    }

    /// A new subscription, whose first message is the one after `cursor`.
    pub(super) fn begin(
        rows: &mut Rows<'_>,
        subscription: SubscriptionId,
        api: ApiId,
        cursor: Version,
    ) -> Result<(), RowError> {
        let settled = Self {
            api,
            count: cursor.get(),
            ended: false,
        };
        settled.write(rows, subscription);
        let mut backlog = ApiBacklog::read(rows, api)?;
        if backlog.subscriptions == 0 {
            // Nobody waited, so no time was kept.
            backlog.timed = 0;
        }
        backlog.subscriptions += 1;
        backlog.settled += cursor.get();
        backlog.write(rows, api);
        Ok(())
    }

    /// So many more deliveries came to an end, or (negative) were opened again.
    pub(super) fn shift(
        mut self,
        rows: &mut Rows<'_>,
        subscription: SubscriptionId,
        by: i64,
    ) -> Result<(), RowError> {
        if self.ended {
            return Ok(());
        }
        self.count = self.count.saturating_add_signed(by);
        self.write(rows, subscription);
        let mut backlog = ApiBacklog::read(rows, self.api)?;
        backlog.settled = backlog.settled.saturating_add_signed(by);
        backlog.write(rows, self.api);
        Ok(())
    }

    /// Nothing waits for a subscription that has ended.
    pub(super) fn end(
        mut self,
        rows: &mut Rows<'_>,
        subscription: SubscriptionId,
    ) -> Result<(), RowError> {
        if self.ended {
            return Ok(());
        }
        let mut backlog = ApiBacklog::read(rows, self.api)?;
        backlog.subscriptions = backlog.subscriptions.saturating_sub(1);
        backlog.settled = backlog.settled.saturating_sub(self.count);
        backlog.write(rows, self.api);
        self.ended = true;
        self.write(rows, subscription);
        Ok(())
    }
}

/// An API accepted the message with this version at this time.
pub(super) fn accepted(
    rows: &mut Rows<'_>,
    api: ApiId,
    latest: Version,
    at: Timestamp,
) -> Result<(), RowError> {
    let mut backlog = ApiBacklog::read(rows, api)?;
    backlog.latest = latest.get();
    oldest::accepted(rows, api, &mut backlog, at)?;
    backlog.write(rows, api);
    Ok(())
}

/// Every API that has accepted a message or has a subscription.
pub(super) fn apis(rows: &dyn ReadRows) -> Result<Vec<ApiId>, RowError> {
    let apis = rows.prefix(&[API]);
    apis.map(|row| Ok(ApiId::from_uuid(uuid_at(&row?.key, 1)?)))
        .collect()
}

/// How many messages wait in a scope.
pub(super) fn waiting(rows: &dyn ReadRows, scope: Scope) -> Result<u64, RowError> {
    match scope {
        Scope::All => rows.prefix(&[API]).try_fold(0_u64, |sum, row| {
            Ok(sum.saturating_add(ApiBacklog::from_row(&row?.value)?.waiting()))
        }),
        Scope::Api(api) => Ok(ApiBacklog::read(rows, api)?.waiting()),
        Scope::Subscription(subscription) => match Settled::read(rows, subscription)? {
            Some(settled) if !settled.ended => {
                let latest = ApiBacklog::read(rows, settled.api)?.latest;
                Ok(latest.saturating_sub(settled.count))
            }
            _ => Ok(0),
        },
    }
}

/// How many subscriptions of a scope have not ended.
pub(super) fn subscriptions(rows: &dyn ReadRows, scope: Scope) -> Result<u64, RowError> {
    match scope {
        Scope::All => rows.prefix(&[API]).try_fold(0, |sum, row| {
            Ok(sum + ApiBacklog::from_row(&row?.value)?.subscriptions)
        }),
        Scope::Api(api) => Ok(ApiBacklog::read(rows, api)?.subscriptions),
        Scope::Subscription(subscription) => {
            let settled = Settled::read(rows, subscription)?;
            Ok(settled.map_or(0, |settled| u64::from(!settled.ended)))
        }
    }
}
