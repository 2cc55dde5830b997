//! What events of a log make of subscriptions.

use std::{collections::BTreeMap, sync::Arc};

use hooklog::{
    log::RecordedEvent,
    model::SubscriptionId,
    subscription::{SubscriptionState, apply},
};

/// Each subscription as its own events make it.
pub(crate) fn states(events: &[Arc<RecordedEvent>]) -> BTreeMap<SubscriptionId, SubscriptionState> {
    let mut states = BTreeMap::new();
    for event in events {
        let subscription = event.stream.as_subscription();
        if let (Some(id), Some(happened)) = (subscription, event.event.as_subscription()) {
            let new = || SubscriptionState::new(id);
            apply(states.entry(id).or_insert_with(new), happened);
        }
    }
    states
}
