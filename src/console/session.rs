//! Who is signed in.
//!
//! A session is known by 128 random bits in a cookie, of which the hash alone is kept. It ends after
//! half an hour without a request, and after twelve hours in any case; with the process, too. It is
//! worth no more than the token it was opened with: one that is revoked opens nothing any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::form::url_safe;
use crate::model::{Moment, Timestamp, TokenId};

/// Longest time between two requests of a session.
const IDLE_MAX: Duration = Duration::from_mins(30);
/// Longest life of a session.
const LIFE_MAX: Duration = Duration::from_hours(12);
/// How long a link signs in.
const TICKET_LIFE: Duration = Duration::from_hours(1);
/// Most sessions of a token at a time; of those, the one that was longest without a request goes
/// first. So nobody who may sign in can sign out others.
const SESSIONS_MAX: usize = 20;
/// Most streams that a session has open at a time.
pub(super) const STREAMS_MAX: usize = 16;
/// Most links that were made and not used.
const TICKETS_MAX: usize = 100;
/// Most messages that wait for the next page.
const NOTICES_MAX: usize = 4;

/// A hash of a secret.
type Key = [u8; 32];

/// The secret of a link that signs in once.
pub(super) struct Ticket(String);

impl Ticket {
    /// The text that the link carries.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

/// A message about what was just done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// What it says.
    pub(super) text: String,
    /// Whether it could not be done.
    pub(super) is_fault: bool,
}

/// Whether a request of a session is one of the person's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It keeps the session open.
    Seen,
    /// A script or the gateway looks: that is no use of it.
    Unseen,
}

/// One that is open.
#[derive(Debug, Clone)]
struct Session {
    token: TokenId,
    /// Room for its streams.
    streams: Arc<Semaphore>,
    /// Every form of the session carries it.
    form_key: String,
    opened_at: Timestamp,
    used_at: Timestamp,
    notices: Vec<Notice>,
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.used_at) > IDLE_MAX || now.since(self.opened_at) > LIFE_MAX
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct SignedIn {
    pub(super) token: TokenId,
    pub(super) form_key: String,
    key: Key,
}

#[derive(Default)]
struct State {
    sessions: HashMap<Key, Session>,
    tickets: HashMap<Key, (TokenId, Timestamp)>,
}

impl State {
    /// Ends a session of this token when it has as many as it may.
    fn make_room(&mut self, token: TokenId) {
        let own = self.sessions.iter().filter(|(_, open)| open.token == token);
        if own.clone().count() < SESSIONS_MAX {
            return;
        }
        let oldest = own.min_by_key(|(_, open)| open.used_at);
        let oldest = oldest.map(|(key, _)| *key);
        oldest.map(|key| self.sessions.remove(&key));
    }
}

/// Every session.
#[derive(Default)]
pub(super) struct Sessions(Mutex<State>);

impl Sessions {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A link that signs in once as the bearer of this token.
    pub(super) fn ticket(&self, token: TokenId, moment: &Moment) -> Ticket {
        let text = url_safe(&moment.entropy.to_be_bytes());
        let mut state = self.state();
        state
            .tickets
            .retain(|_, (_, made_at)| moment.now.since(*made_at) <= TICKET_LIFE);
        if state.tickets.len() < TICKETS_MAX {
            state.tickets.insert(key(&text), (token, moment.now));
        }
        Ticket(text)
    }

    /// Whose link this is, if it was not used yet. It is used up by this.
    pub(super) fn use_ticket(&self, text: &str, now: Timestamp) -> Option<TokenId> {
        let (token, made_at) = self.state().tickets.remove(&key(text))?;
        (now.since(made_at) <= TICKET_LIFE).then_some(token)
    }

    /// Opens a session, and gives what its cookie holds.
    pub(super) fn open(&self, token: TokenId, moment: &Moment, other: &Moment) -> String {
        let text = url_safe(&moment.entropy.to_be_bytes());
        let session = Session {
            token,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            form_key: url_safe(&other.entropy.to_be_bytes()),
            opened_at: moment.now,
            used_at: moment.now,
            notices: Vec::new(),
        };
        let mut state = self.state();
        state.sessions.retain(|_, open| !open.is_over(moment.now));
        state.make_room(token);
        state.sessions.insert(key(&text), session);
        text
    }

    /// Whose session this cookie is.
    pub(super) fn find(&self, cookie: &str, now: Timestamp, usage: Use) -> Option<SignedIn> {
        let key = key(cookie);
        let mut state = self.state();
        let session = state.sessions.get_mut(&key)?;
        if session.is_over(now) {
            state.sessions.remove(&key);
            return None;
        }
        if usage == Use::Seen {
            session.used_at = now;
        }
        Some(SignedIn {
            token: session.token,
            form_key: session.form_key.clone(),
            key,
        })
    }

    /// Room for one more stream of a session; `None` when it has as many as it may.
    pub(super) fn stream(&self, signed_in: &SignedIn) -> Option<OwnedSemaphorePermit> {
        let state = self.state();
        let session = state.sessions.get(&signed_in.key)?;
        Arc::clone(&session.streams).try_acquire_owned().ok()
    }

    /// Whether a session is still open.
    pub(super) fn is_open(&self, signed_in: &SignedIn, now: Timestamp) -> bool {
        let state = self.state();
        let session = state.sessions.get(&signed_in.key);
        session.is_some_and(|session| !session.is_over(now))
    }

    /// Ends a session.
    pub(super) fn close(&self, signed_in: &SignedIn) {
        self.state().sessions.remove(&signed_in.key);
    }

    /// Keeps a message for the next page of a session.
    pub(super) fn notice(&self, signed_in: &SignedIn, notice: Notice) {
        if let Some(session) = self.state().sessions.get_mut(&signed_in.key)
            && session.notices.len() < NOTICES_MAX
        {
            session.notices.push(notice);
        }
    }

    /// The messages for the page that is shown now.
    pub(super) fn take_notices(&self, signed_in: &SignedIn) -> Vec<Notice> {
        let mut state = self.state();
        let session = state.sessions.get_mut(&signed_in.key);
        session.map_or_else(Vec::new, |session| std::mem::take(&mut session.notices))
    }
}

fn key(text: &str) -> Key {
    *blake3::hash(text.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64, entropy: u128) -> Moment {
        Moment::new(Timestamp::from_millis(minutes * 60_000), entropy)
    }

    fn token() -> TokenId {
        TokenId::from_uuid(uuid::Uuid::from_u128(1))
    }

    #[test]
    fn a_session_ends_when_it_rests_and_when_it_is_old() {
        let sessions = Sessions::default();
        let cookie = sessions.open(token(), &at(0, 7), &at(0, 8));
        let now = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        assert!(sessions.find("other", now(0), Use::Seen).is_none());
        for minutes in (0..=720).step_by(30) {
            assert!(
                sessions.find(&cookie, now(minutes), Use::Seen).is_some(),
                "{minutes}"
            );
        }
        assert!(
            sessions.find(&cookie, now(721), Use::Seen).is_none(),
            "it is old"
        );
        let cookie = sessions.open(token(), &at(0, 9), &at(0, 10));
        assert!(
            sessions.find(&cookie, now(31), Use::Seen).is_none(),
            "it rested"
        );
        let cookie = sessions.open(token(), &at(0, 11), &at(0, 12));
        let signed_in = sessions.find(&cookie, now(1), Use::Seen).unwrap();
        sessions.close(&signed_in);
        assert!(sessions.find(&cookie, now(1), Use::Seen).is_none());
    }

    #[test]
    fn a_token_that_signs_in_without_end_ends_its_own_oldest_sessions_and_nobody_elses() {
        let sessions = Sessions::default();
        let viewer = TokenId::from_uuid(uuid::Uuid::from_u128(2));
        let admins = sessions.open(token(), &at(0, 0), &at(0, 0));
        let open = |number: u128| sessions.open(viewer, &at(1, number), &at(1, number));
        let cookies: Vec<_> = (1..=1_001).map(open).collect();
        let now = at(2, 0).now;
        let is_open = |cookie: &String| sessions.find(cookie, now, Use::Unseen).is_some();
        assert!(is_open(&admins));
        assert_eq!(cookies.iter().filter(|cookie| is_open(cookie)).count(), 20);
    }

    #[test]
    fn of_a_tokens_sessions_the_one_that_rested_longest_makes_room() {
        let sessions = Sessions::default();
        let open = |number: u32| {
            let moment = at(number.into(), number.into());
            sessions.open(token(), &moment, &moment)
        };
        let cookies: Vec<_> = (0..20).map(open).collect();
        let now = at(20, 0).now;
        assert!(sessions.find(&cookies[0], now, Use::Seen).is_some());
        let newest = open(20);
        let is_open = |cookie: &String| sessions.find(cookie, now, Use::Unseen).is_some();
        assert!(is_open(&newest));
        assert!(!is_open(&cookies[1]));
        assert_eq!(cookies.iter().filter(|cookie| is_open(cookie)).count(), 19);
    }

    #[test]
    fn a_link_signs_in_once_and_for_an_hour() {
        let sessions = Sessions::default();
        let ticket = sessions.ticket(token(), &at(0, 1));
        let now = Timestamp::from_millis(1);
        assert_eq!(sessions.use_ticket("other", now), None);
        assert_eq!(sessions.use_ticket(ticket.reveal(), now), Some(token()));
        assert_eq!(sessions.use_ticket(ticket.reveal(), now), None);
        let late = sessions.ticket(token(), &at(0, 2));
        assert_eq!(sessions.use_ticket(late.reveal(), at(61, 0).now), None);
    }
}
