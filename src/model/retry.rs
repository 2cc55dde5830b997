//! The retry policy of a subscription, as data. How it is followed is `subscription::schedule`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Invalid;

/// Delays before each attempt after the first that Standard Webhooks recommends, in seconds:
/// 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
pub const STANDARD_WEBHOOKS_SCHEDULE_SECONDS: [u64; 9] =
    [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// Longest delay and deadline, in seconds: thirty days.
const SECONDS_MAX: u64 = 30 * 86_400;
/// Most retries of one delivery.
const ATTEMPTS_MAX: u32 = 1_000;

/// Whether a failed call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum RetryOption {
    /// The first failure is final.
    #[serde(rename = "No Retry")]
    NoRetry,
    /// Retryable failures are tried again.
    #[default]
    #[serde(rename = "Retry On Fail")]
    RetryOnFail,
}

/// How the delay grows from retry to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RetryStrategy {
    /// By the initial delay each time.
    Linear,
    /// Twice as long each time.
    #[default]
    Exponential,
}

/// When a failed delivery is tried again, and when it is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// Whether at all.
    pub retry_option: RetryOption,
    /// How the delay grows. Default exponential.
    pub retry_strategy: RetryStrategy,
    /// Retries after the first try. Default 3, at most 1,000.
    pub max_attempts: u32,
    /// Delay before the first retry. Default 10.
    pub initial_delay_seconds: u64,
    /// No delay is longer, jitter apart. Default 30.
    pub max_delay_seconds: u64,
    /// A delay is lengthened or shortened by up to this share of itself, so that callbacks that
    /// failed together are not called together. Default 20, at most 100.
    pub jitter_percent: u8,
    /// Explicit delays before each retry, in seconds. When given, it replaces strategy, delays
    /// and `maxAttempts`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<u64>,
    /// A delivery is given up this long after its message was accepted, whatever attempts are
    /// left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u64>,
    /// Statuses that are retried beside 408, 425, 429 and 5xx.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry_on_status: Vec<u16>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retry_option: RetryOption::RetryOnFail,
            retry_strategy: RetryStrategy::default(),
            max_attempts: 3,
            initial_delay_seconds: 10,
            max_delay_seconds: 30,
            jitter_percent: 20,
            schedule: Vec::new(),
            deadline_seconds: None,
            retry_on_status: Vec::new(),
        }
    }
}

impl Retry {
    /// The first failure is final.
    pub fn none() -> Self {
        Self {
            retry_option: RetryOption::NoRetry,
            ..Self::default()
        }
    }

    /// Exactly these delays, in seconds.
    pub fn schedule(delays_seconds: impl Into<Vec<u64>>) -> Self {
        Self {
            schedule: delays_seconds.into(),
            ..Self::default()
        }
    }

    /// The schedule that Standard Webhooks recommends.
    pub fn standard_webhooks() -> Self {
        Self::schedule(STANDARD_WEBHOOKS_SCHEDULE_SECONDS)
    }

    /// Checks that the policy can be followed.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::none();
        invalid.check(
            self.initial_delay_seconds > 0,
            "/initialDelaySeconds",
            "must be at least 1",
        );
        invalid.check(
            self.initial_delay_seconds <= self.max_delay_seconds,
            "/initialDelaySeconds",
            format!(
                "is {} and so above maxDelaySeconds, which is {}",
                self.initial_delay_seconds, self.max_delay_seconds
            ),
        );
        invalid.check(
            self.max_delay_seconds <= SECONDS_MAX,
            "/maxDelaySeconds",
            format!("must be at most {SECONDS_MAX}, thirty days"),
        );
        invalid.check(
            self.max_attempts <= ATTEMPTS_MAX && self.schedule.len() <= ATTEMPTS_MAX as usize,
            if self.schedule.is_empty() {
                "/maxAttempts"
            } else {
                "/schedule"
            },
            format!("must be at most {ATTEMPTS_MAX} retries"),
        );
        invalid.check(
            self.jitter_percent <= 100,
            "/jitterPercent",
            "must be 0 to 100",
        );
        for (index, delay) in self.schedule.iter().enumerate() {
            invalid.check(
                (1..=SECONDS_MAX).contains(delay),
                &format!("/schedule/{index}"),
                format!("must be 1 to {SECONDS_MAX} seconds"),
            );
        }
        if let Some(deadline) = self.deadline_seconds {
            invalid.check(
                (1..=SECONDS_MAX).contains(&deadline),
                "/deadlineSeconds",
                format!("must be 1 to {SECONDS_MAX}"),
            );
        }
        for (index, status) in self.retry_on_status.iter().enumerate() {
            invalid.check(
                (300..=599).contains(status) && *status != 410,
                &format!("/retryOnStatus/{index}"),
                "must be 300 to 599 and not 410, which ends the subscription",
            );
        }
        invalid.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initial_delay_above_the_maximum_is_refused_by_name() {
        let retry = Retry {
            initial_delay_seconds: 40,
            ..Retry::default()
        };
        let error = retry.validate().unwrap_err();
        assert_eq!(error.problems[0].pointer, "/initialDelaySeconds");
        assert!(error.to_string().contains("maxDelaySeconds, which is 30"));
    }

    #[test]
    fn defaults_and_presets_are_valid() {
        Retry::default().validate().unwrap();
        Retry::standard_webhooks().validate().unwrap();
        Retry::none().validate().unwrap();
    }

    #[test]
    fn names_in_json_are_the_gravitee_ones() {
        let retry: Retry = serde_json::from_str(
            r#"{"retryOption":"No Retry","retryStrategy":"LINEAR","maxAttempts":7}"#,
        )
        .unwrap();
        assert_eq!(retry.retry_option, RetryOption::NoRetry);
        assert_eq!(retry.retry_strategy, RetryStrategy::Linear);
        assert_eq!((retry.max_attempts, retry.initial_delay_seconds), (7, 10));
    }
}
