//! Questions about APIs, applications and subscriptions.

use uuid::Uuid;

use super::{ApiRow, ApplicationRow, SubscriptionRow, Subscriptions};
use crate::{
    model::{ApiId, ApplicationId, SubscriptionId},
    projection::{
        ReadRows, RowError, View, ViewError,
        codec::{decode, id_key, u64_at, uuid_at},
    },
};

impl View<Subscriptions> {
    /// Every API, oldest first.
    pub fn apis(&self) -> Result<Vec<ApiRow>, ViewError> {
        self.read(|rows| {
            let apis = rows.prefix(b"a").map(|row| api_row(rows, &row?.value));
            Ok(apis.collect::<Result<_, _>>()?)
        })
    }

    /// One API; `None` when there is none, or it was deleted.
    pub fn api(&self, id: ApiId) -> Result<Option<ApiRow>, ViewError> {
        self.read(|rows| {
            let row = rows.get(&id_key(b'a', id.as_uuid()))?;
            Ok(row.map(|row| api_row(rows, &row)).transpose()?)
        })
    }

    /// Every application, oldest first.
    pub fn applications(&self) -> Result<Vec<ApplicationRow>, ViewError> {
        self.read(|rows| {
            let applications = rows.prefix(b"p").map(|row| decode(&row?.value));
            Ok(applications.collect::<Result<_, _>>()?)
        })
    }

    /// One application; `None` when there is none, or it was deleted.
    pub fn application(&self, id: ApplicationId) -> Result<Option<ApplicationRow>, ViewError> {
        self.read(|rows| {
            let row = rows.get(&id_key(b'p', id.as_uuid()))?;
            Ok(row.map(|row| decode(&row)).transpose()?)
        })
    }

    /// One subscription.
    pub fn subscription(&self, id: SubscriptionId) -> Result<Option<SubscriptionRow>, ViewError> {
        self.read(|rows| Ok(subscription_row(rows, id)?))
    }

    /// The subscriptions of an API after `after`, oldest first, at most `limit`.
    pub fn of_api(
        &self,
        api: ApiId,
        after: Option<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<SubscriptionRow>, ViewError> {
        self.read(|rows| Ok(listed(rows, b'x', api.as_uuid(), after, limit)?))
    }

    /// The subscriptions of an application after `after`, oldest first, at most `limit`.
    pub fn of_application(
        &self,
        application: ApplicationId,
        after: Option<SubscriptionId>,
        limit: usize,
    ) -> Result<Vec<SubscriptionRow>, ViewError> {
        self.read(|rows| Ok(listed(rows, b'y', application.as_uuid(), after, limit)?))
    }
}

fn listed(
    rows: &dyn ReadRows,
    tag: u8,
    owner: &Uuid,
    after: Option<SubscriptionId>,
    limit: usize,
) -> Result<Vec<SubscriptionRow>, RowError> {
    let prefix = id_key(tag, owner);
    let mut start = prefix.clone();
    if let Some(after) = after {
        start.extend_from_slice(after.as_uuid().as_bytes());
        start.push(0);
    }
    let mut found = Vec::new();
    for row in rows
        .range(start..super::super::after_prefix(&prefix))
        .take(limit)
    {
        let id = SubscriptionId::from_uuid(uuid_at(&row?.key, 17)?);
        found.extend(subscription_row(rows, id)?);
    }
    Ok(found)
}

fn api_row(rows: &dyn ReadRows, row: &[u8]) -> Result<ApiRow, RowError> {
    let mut row: ApiRow = decode(row)?;
    let messages = rows.get(&id_key(b'm', row.api.id.as_uuid()))?;
    row.messages = messages.map_or(Ok(0), |count| u64_at(&count, 0))?;
    Ok(row)
}

fn subscription_row(
    rows: &dyn ReadRows,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, RowError> {
    let Some(state) = rows.get(&id_key(b's', id.as_uuid()))? else {
        return Ok(None);
    };
    let state: super::SubscriptionState = decode(&state)?;
    let health = rows.get(&id_key(b'h', id.as_uuid()))?;
    let api = rows.get(&id_key(b'a', state.definition.api.as_uuid()))?;
    let api: Option<ApiRow> = api.map(|row| decode(&row)).transpose()?;
    let application = rows.get(&id_key(b'p', state.definition.application.as_uuid()))?;
    let application: Option<ApplicationRow> = application.map(|row| decode(&row)).transpose()?;
    Ok(Some(SubscriptionRow {
        health: health.map_or(Ok(super::SubscriptionHealth::default()), |row| decode(&row))?,
        api_name: api.map(|row| row.api.name),
        application_name: application.map(|row| row.application.name),
        state,
    }))
}
