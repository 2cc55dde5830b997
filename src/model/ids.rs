//! Identities. Each is a UUID under a name of its own, so that one cannot be passed for another.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Moment;

/// Text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}: expected a UUID such as 0192f0c1-2a3b-7c4d-8e5f-60718293a4b5")]
pub struct ForeignId {
    kind: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
            JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: its first bits are the moment's time, so ids sort by age; the rest is
            /// the moment's entropy.
            pub fn from_moment(moment: &Moment) -> Self {
                Self(moment.uuid())
            }

            /// The id with these sixteen bytes.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id of nothing: a definition that has none yet is given one at creation.
            pub const fn nil() -> Self {
                Self(Uuid::nil())
            }

            /// Whether it is the id of nothing.
            pub const fn is_nil(&self) -> bool {
                self.0.is_nil()
            }

            /// The sixteen bytes as a UUID.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ForeignId;

            fn from_str(text: &str) -> Result<Self, ForeignId> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| ForeignId { kind: $kind, text: text.to_owned() })
            }
        }
    };
}

id!(
    /// The identity of an API.
    ApiId,
    "an API id"
);
id!(
    /// The identity of an application, the consumer.
    ApplicationId,
    "an application id"
);
id!(
    /// The identity of a subscription.
    SubscriptionId,
    "a subscription id"
);
id!(
    /// The identity of a message. It is what receivers see as `webhook-id`, the same on every
    /// attempt and every redelivery.
    MessageId,
    "a message id"
);
id!(
    /// The identity of a delivery: one message on its way to one subscription.
    DeliveryId,
    "a delivery id"
);
id!(
    /// The identity of a token.
    TokenId,
    "a token id"
);
id!(
    /// The identity of a job.
    JobId,
    "a job id"
);
id!(
    /// The identity that an idempotency key gives to what is created under it.
    RequestKeyId,
    "an id made of an idempotency key"
);
id!(
    /// The identity of a secret in the vault. Events hold this, never the secret.
    SecretId,
    "a secret id"
);

impl DeliveryId {
    /// The delivery of this message to this subscription: the same two ids always name the same
    /// delivery. It begins with the first 60 bits of the message's own, but for the version, so
    /// deliveries sort as their messages do and are found beside them; the rest is a hash of both.
    pub fn of(message: MessageId, subscription: SubscriptionId) -> Self {
        let message = message.0.as_bytes();
        let mut hasher = blake3::Hasher::new();
        hasher.update(message);
        hasher.update(subscription.0.as_bytes());
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&message[..8]);
        bytes[8..].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Whether this may be a delivery of a message, as far as the beginning tells.
    pub fn may_be_of(self, message: MessageId) -> bool {
        let (own, message) = (self.0.as_bytes(), message.0.as_bytes());
        own[..6] == message[..6] && own[6] & 0x0f == message[6] & 0x0f && own[7] == message[7]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let early = MessageId::from_moment(&Moment::new(Timestamp::from_millis(1_000), u128::MAX));
        let late = MessageId::from_moment(&Moment::new(Timestamp::from_millis(1_001), 0));
        assert!(early < late);
    }

    #[test]
    fn a_delivery_id_depends_on_message_and_subscription() {
        let message = MessageId::from_uuid(Uuid::from_u128(1));
        let other = MessageId::from_uuid(Uuid::from_u128(2));
        let subscription = SubscriptionId::from_uuid(Uuid::from_u128(1));
        assert_eq!(
            DeliveryId::of(message, subscription),
            DeliveryId::of(message, subscription)
        );
        assert_ne!(
            DeliveryId::of(message, subscription),
            DeliveryId::of(other, subscription)
        );
    }

    #[test]
    fn a_delivery_id_begins_as_that_of_its_message() {
        let moment = Moment::new(Timestamp::from_millis(1_767_225_600_000), u128::MAX / 3);
        let message = MessageId::from_moment(&moment);
        let subscription = SubscriptionId::from_uuid(Uuid::from_u128(1));
        let delivery = DeliveryId::of(message, subscription);
        assert!(delivery.may_be_of(message));
        let other = MessageId::from_uuid(Uuid::from_u128(2));
        assert!(!delivery.may_be_of(other));
        let beginning = |id: &Uuid| id.to_string()[..14].to_owned();
        assert_eq!(beginning(delivery.as_uuid()), beginning(message.as_uuid()));
    }

    #[test]
    fn foreign_text_is_refused_with_its_kind() {
        let error = "hello".parse::<ApiId>().unwrap_err();
        assert!(error.to_string().starts_with("\"hello\" is not an API id"));
    }
}
