//! APIs, applications and subscriptions as they are now, with how each subscription does.
//!
//! | key | value |
//! |---|---|
//! | `a` API | [`ApiRow`], without its counts |
//! | `m` API | messages accepted (u64) |
//! | `p` application | [`ApplicationRow`] |
//! | `s` subscription | [`SubscriptionState`] |
//! | `h` subscription | [`SubscriptionHealth`], apart because it changes with each attempt |
//! | `x` API, subscription; `y` application, subscription | empty |

mod project;
mod query;
mod row;

pub use self::row::{
    ApiRow, ApplicationRow, CircuitRow, HoldRow, SubscriptionHealth, SubscriptionRow,
    SubscriptionState,
};

/// The projection behind the lists of APIs, applications and subscriptions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subscriptions;
