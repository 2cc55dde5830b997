//! The access tokens of one worker's subscriptions: kept while they hold, renewed before they end,
//! got once for all calls that wait.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderValue;
use tokio::sync::watch;

use super::{
    AttemptRequest, auth,
    exchange::{Limits, Wire},
    http::Shared,
    token_endpoint::{self, Issued},
};
use crate::model::{AttemptError, Policy, SubscriptionId};

/// Most subscriptions whose tokens a worker keeps: with tokens of 8 KB, 32 MB.
const SUBSCRIPTIONS_MAX: usize = 4_096;

/// How long before its end a token is renewed: enough for the calls that have just begun with it.
/// Of a token with a short life it is a quarter.
const RENEW_BEFORE: Duration = Duration::from_mins(1);

/// A token to call with.
#[derive(Clone)]
pub(super) struct Token {
    header: HeaderValue,
    /// Which of all tokens it is.
    number: u64,
    /// From when on it is renewed, by the monotonic clock.
    renew_at: Duration,
}

impl Token {
    fn of(issued: Issued, number: u64, asked: Duration) -> Self {
        let Issued { header, lifetime } = issued;
        Self {
            header,
            number,
            renew_at: asked + lifetime.saturating_sub(RENEW_BEFORE.min(lifetime / 4)),
        }
    }

    /// What a call carries as `Authorization`.
    pub(super) const fn header(&self) -> &HeaderValue {
        &self.header
    }
}

type Got = Result<Token, AttemptError>;

/// The tokens of one worker.
pub(super) struct Tokens {
    wire: Arc<Wire>,
    shared: Arc<Shared>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    by_subscription: HashMap<SubscriptionId, Kept>,
    /// Tokens asked for so far.
    asked: u64,
}

/// What is kept of one subscription.
struct Kept {
    /// The settings that its token is for.
    policy: Arc<Policy>,
    token: Option<Token>,
    /// The request for a token that runs.
    asking: Option<Asking>,
    /// When a token was asked for last, by the monotonic clock.
    used: Duration,
}

struct Asking {
    /// The number that its token will have.
    number: u64,
    answer: watch::Receiver<Option<Got>>,
}

/// What there is for a call.
enum Found {
    Token(Token),
    Asking(watch::Receiver<Option<Got>>),
}

impl Kept {
    fn new(policy: &Arc<Policy>) -> Self {
        Self {
            policy: Arc::clone(policy),
            token: None,
            asking: None,
            used: Duration::ZERO,
        }
    }

    fn is_for(&self, policy: &Arc<Policy>) -> bool {
        Arc::ptr_eq(&self.policy, policy) || self.policy.auth == policy.auth
    }

    /// Whether it is worth its room.
    fn is_live(&self, now: Duration) -> bool {
        let holds = |token: &Token| now < token.renew_at;
        self.asking.is_some() || self.token.as_ref().is_some_and(holds)
    }
}

impl Book {
    /// What is kept of a subscription under these settings; what was got under others is dropped.
    fn of(&mut self, id: SubscriptionId, policy: &Arc<Policy>, now: Duration) -> &mut Kept {
        if !self.by_subscription.contains_key(&id)
            && self.by_subscription.len() >= SUBSCRIPTIONS_MAX
        {
            self.make_room(now);
        }
        let kept = self.by_subscription.entry(id);
        let kept = kept.or_insert_with(|| Kept::new(policy));
        if !kept.is_for(policy) {
            *kept = Kept::new(policy);
        }
        kept.used = now;
        kept
    }

    /// Drops the tokens that have ended, and of the others the quarter that is unused for longest.
    fn make_room(&mut self, now: Duration) {
        let kept = &mut self.by_subscription;
        kept.retain(|_, kept| kept.is_live(now));
        if kept.len() < SUBSCRIPTIONS_MAX {
            return;
        }
        let mut used: Vec<_> = kept.iter().map(|(id, kept)| (kept.used, *id)).collect();
        used.sort_unstable();
        for (_, id) in &used[..SUBSCRIPTIONS_MAX / 4] {
            kept.remove(id);
        }
    }

    /// The request with this number, if it is still the one that this subscription waits for.
    fn asking(&mut self, id: SubscriptionId, number: u64) -> Option<&mut Kept> {
        let kept = self.by_subscription.get_mut(&id)?;
        let asking = kept.asking.as_ref()?;
        (asking.number == number).then_some(kept)
    }
}

impl Tokens {
    pub(super) fn new(wire: Arc<Wire>, shared: Arc<Shared>) -> Arc<Self> {
        Arc::new(Self {
            wire,
            shared,
            book: Mutex::default(),
        })
    }

    /// A token for this call: the one that is kept, or a new one.
    pub(super) async fn get(self: &Arc<Self>, request: &AttemptRequest, limits: Limits) -> Got {
        self.other_than(None, request, limits).await
    }

    /// A token in place of one that the callback did not accept. Of all calls that it was not
    /// accepted of, the first gets a new one and the others take that.
    pub(super) async fn renewed(
        self: &Arc<Self>,
        request: &AttemptRequest,
        old: &Token,
        limits: Limits,
    ) -> Got {
        self.other_than(Some(old.number), request, limits).await
    }

    /// Giving up, as an attempt does whose total is up, leaves the request to others that wait for
    /// it; it ends by its own time limits.
    async fn other_than(
        self: &Arc<Self>,
        refused: Option<u64>,
        request: &AttemptRequest,
        limits: Limits,
    ) -> Got {
        let mut answer = match self.find(refused, request) {
            Found::Token(token) => return Ok(token),
            Found::Asking(answer) => answer,
        };
        match limits.wait(answer.wait_for(Option::is_some)).await {
            Some(Ok(got)) => got.clone().unwrap_or_else(|| Err(lost())),
            Some(Err(_)) => Err(lost()),
            None => Err(token_endpoint::of_endpoint(limits.spent())),
        }
    }

    /// The token that is kept, or the request for one: that which runs, or a new one.
    fn find(self: &Arc<Self>, refused: Option<u64>, request: &AttemptRequest) -> Found {
        let now = self.shared.clock.elapsed();
        let mut book = self.book();
        let number = book.asked + 1;
        let kept = book.of(request.subscription, &request.policy, now);
        // A token that was refused once is of no use to anybody.
        kept.token
            .take_if(|token| refused == Some(token.number) || now >= token.renew_at);
        if let Some(token) = &kept.token {
            return Found::Token(token.clone());
        }
        if let Some(asking) = &kept.asking {
            return Found::Asking(asking.answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        kept.asking = Some(Asking {
            number,
            answer: answer.clone(),
        });
        book.asked = number;
        drop(book);
        let running = Running {
            tokens: Arc::clone(self),
            subscription: request.subscription,
            number,
        };
        tokio::spawn(running.ask(Arc::clone(&request.policy), tell));
        Found::Asking(answer)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request for a token; it runs no longer when this is dropped.
struct Running {
    tokens: Arc<Tokens>,
    subscription: SubscriptionId,
    number: u64,
}

impl Running {
    async fn ask(self, policy: Arc<Policy>, tell: watch::Sender<Option<Got>>) {
        let Tokens { wire, shared, .. } = &*self.tokens;
        // Counted from before it was asked for, it ends a little early rather than late.
        let asked = shared.clock.elapsed();
        let issued = token_endpoint::ask(wire, shared, self.subscription, &policy).await;
        let got = issued.map(|issued| Token::of(issued, self.number, asked));
        // Who comes from now on takes the token, or asks anew: a failure is told to those who
        // waited.
        self.ended(got.as_ref().ok());
        tell.send_replace(Some(got));
    }

    fn ended(&self, token: Option<&Token>) {
        let mut book = self.tokens.book();
        if let Some(kept) = book.asking(self.subscription, self.number) {
            kept.asking = None;
            kept.token = token.cloned();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a task that was given up has not come to its end.
        self.ended(None);
    }
}

fn lost() -> AttemptError {
    auth::error("token endpoint: the request was given up")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConsumerConfiguration, WebhookEntrypoint};

    const AN_HOUR: Duration = Duration::from_hours(1);

    fn id(number: usize) -> SubscriptionId {
        SubscriptionId::from_uuid(uuid::Uuid::from_u128(number as u128))
    }

    fn token(renew_at: Duration) -> Token {
        Token {
            header: HeaderValue::from_static("Bearer t"),
            number: 1,
            renew_at,
        }
    }

    #[test]
    fn tokens_of_no_more_than_so_many_subscriptions_are_kept_the_newest_among_them() {
        let policy = Policy::of(
            &WebhookEntrypoint::at("/a"),
            &ConsumerConfiguration::default(),
        );
        let policy = Arc::new(policy);
        let mut book = Book::default();
        for number in 0..3 * SUBSCRIPTIONS_MAX {
            let now = Duration::from_millis(number as u64);
            book.of(id(number), &policy, now).token = Some(token(AN_HOUR));
            assert!(book.by_subscription.len() <= SUBSCRIPTIONS_MAX);
        }
        let newest = 3 * SUBSCRIPTIONS_MAX - SUBSCRIPTIONS_MAX / 2..3 * SUBSCRIPTIONS_MAX;
        assert!(
            newest
                .into_iter()
                .all(|number| book.by_subscription.contains_key(&id(number)))
        );
    }

    #[test]
    fn tokens_that_have_ended_make_room_first() {
        let policy = Policy::of(
            &WebhookEntrypoint::at("/a"),
            &ConsumerConfiguration::default(),
        );
        let policy = Arc::new(policy);
        let mut book = Book::default();
        for number in 0..SUBSCRIPTIONS_MAX {
            let ends = Duration::from_secs(if number == 0 { 2 } else { 1 });
            book.of(id(number), &policy, Duration::ZERO).token = Some(token(ends));
        }
        book.of(id(SUBSCRIPTIONS_MAX), &policy, Duration::from_secs(1));
        assert_eq!(book.by_subscription.len(), 2);
        assert!(book.by_subscription.contains_key(&id(0)));
    }
}
