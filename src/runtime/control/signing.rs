//! Giving a subscription a new signing key.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{ControlError, Handle};
use crate::model::{Secret, SubscriptionId, Timestamp};

/// What every HMAC key of Standard Webhooks begins with.
const PREFIX: &str = "whsec_";

/// A new signing key, for the one moment in which it is shown.
pub struct SigningSecret(Zeroizing<String>);

impl SigningSecret {
    /// The key in its Standard Webhooks text form: `whsec_` and base64.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

impl Handle {
    /// Gives a subscription a new key that signs from now on, before all others. The keys it had
    /// sign beside it for `overlap`, so that receivers can change over, and not at all when that is
    /// zero. Tells the key, here and never again, and until when the old ones sign.
    pub async fn rotate_secret(
        &self,
        id: SubscriptionId,
        overlap: Duration,
    ) -> Result<(SigningSecret, Timestamp), ControlError> {
        self.whole(move |handle| async move {
            let _change = handle.0.directory.change().await;
            let mut subscription = handle.subscription(id).await?;
            let secret = handle.fresh_signing_secret();
            let now = handle.0.clock.now();
            let until = now.plus(overlap);
            let signing = &mut subscription.configuration.signing;
            let before = signing.take().unwrap_or_default();
            *signing = Some(before.rotated(Secret::new(secret.reveal()), now, until));
            handle.replace_subscription(subscription).await?;
            Ok((secret, until))
        })
        .await
    }

    fn fresh_signing_secret(&self) -> SigningSecret {
        let bits = self.fresh_bits();
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + 44));
        text.push_str(PREFIX);
        STANDARD.encode_string(bits.as_slice(), &mut text);
        SigningSecret(text)
    }
}
