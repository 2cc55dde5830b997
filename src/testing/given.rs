//! Given these events, when this is asked, then these events follow.
//!
//! ```
//! use hooklog::{
//!     model::{ConsumerConfiguration, Subscription, SubscriptionClosed,
//!         SubscriptionCreated, Version},
//!     subscription::Command,
//!     testing::given::given,
//! };
//! let subscription = Subscription::with(ConsumerConfiguration::default());
//! let created = SubscriptionCreated {
//!     subscription: Box::new(subscription),
//!     cursor: Version::ZERO,
//! };
//! given([created.into()])
//!     .when(Command::Close { in_flight: vec![] })
//!     .then([SubscriptionClosed {}.into()]);
//! ```

use crate::{
    model::{
        ConsumerConfiguration, Moment, Policy, SubscriptionEvent, SubscriptionId, Timestamp,
        WebhookEntrypoint,
    },
    subscription::{Command, Rejection, SubscriptionState, apply, decide},
};

/// A subscription that these events have made, at the start of 1970, with no jitter drawn beyond
/// entropy 0, under the policy of a bare entrypoint.
pub fn given(events: impl IntoIterator<Item = SubscriptionEvent>) -> Given {
    let nil = uuid::Uuid::nil();
    let mut given = Given {
        state: SubscriptionState::new(SubscriptionId::from_uuid(nil)),
        policy: Policy::of(
            &WebhookEntrypoint::at("/given"),
            &ConsumerConfiguration::default(),
        ),
        moment: Moment::new(Timestamp::EPOCH, 0),
    };
    for event in events {
        if let SubscriptionEvent::Created(created) = &event {
            given.state.id = created.subscription.id;
        }
        apply(&mut given.state, &event);
    }
    given
}

/// A subscription, before it is asked.
#[derive(Debug, Clone)]
pub struct Given {
    /// What its events have made of it.
    pub state: SubscriptionState,
    /// The policy it delivers under.
    pub policy: Policy,
    /// When it is asked.
    pub moment: Moment,
}

impl Given {
    /// The same under this policy.
    #[must_use]
    pub fn under(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// The same at this moment.
    #[must_use]
    pub fn at(mut self, moment: Moment) -> Self {
        self.moment = moment;
        self
    }

    /// Asks this of it.
    #[must_use = "say what follows"]
    pub fn when(self, command: Command) -> When {
        let answer = decide(&self.state, command, &self.policy, &self.moment);
        When {
            given: self,
            answer,
        }
    }
}

/// A subscription with its answer.
#[derive(Debug, Clone)]
pub struct When {
    given: Given,
    /// Its answer.
    pub answer: Result<Vec<SubscriptionEvent>, Rejection>,
}

impl When {
    /// Checks that exactly these events follow, and gives the subscription with them applied.
    ///
    /// # Panics
    /// When others follow, or it is refused.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = SubscriptionEvent>) -> Given {
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(self.answer, Ok(expected));
        self.applied()
    }

    /// Checks that events of exactly these types follow, and gives the subscription with them
    /// applied.
    ///
    /// # Panics
    /// When others follow, or it is refused.
    #[track_caller]
    pub fn then_types(self, expected: &[&str]) -> Given {
        let types: Vec<_> = self
            .events()
            .iter()
            .map(SubscriptionEvent::event_type)
            .collect();
        let types: Vec<_> = types.iter().map(crate::model::EventType::as_str).collect();
        assert_eq!(types, expected);
        self.applied()
    }

    /// Checks that it is refused for this reason, and gives the subscription as it was.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn then_rejected(self, expected: &Rejection) -> Given {
        assert_eq!(self.answer.as_ref(), Err(expected));
        self.given
    }

    /// The events that follow.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn events(&self) -> &[SubscriptionEvent] {
        match &self.answer {
            Ok(events) => events,
            Err(rejection) => panic!("it was refused: {rejection}"),
        }
    }

    #[track_caller]
    fn applied(mut self) -> Given {
        for event in self.events().to_vec() {
            apply(&mut self.given.state, &event);
        }
        self.given
    }
}
