//! What stands in the log beside deliveries: tokens, jobs, and what was asked for under idempotency
//! keys. Nothing runs it here; the log, recovery and the views take it.

use super::scenario::{chance, one_of, uuid};
use crate::{
    log::StreamId,
    model::{
        AccessEvent, ApiId, Application, ApplicationCreated, ApplicationId, DeadLetterFilter,
        Draws, Event, Job, JobCancelled, JobCounts, JobCreated, JobCursor, JobEvent, JobFinished,
        JobId, JobKind, JobPaused, JobProgressed, JobResumed, JobSelection, RequestAccepted,
        RequestKey, RequestKeyId, Role, SubscriptionId, Token, TokenCreated, TokenHash, TokenId,
        TokenRevoked, Version,
    },
};

/// What there is of it.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Tokens that are in force, and that nobody is about to revoke.
    tokens: Vec<TokenId>,
    /// Jobs that are not over, and that nobody is about to change.
    jobs: Vec<JobId>,
    /// Keys, and whether something was created under each.
    keys: Vec<(RequestKeyId, bool)>,
}

impl Others {
    /// Something that happens to them: events in order, each for its stream.
    pub(super) fn draw(&mut self, draws: &mut Draws, api: ApiId) -> Vec<(StreamId, Event)> {
        match draws.below(8) {
            0..2 => vec![create_token(draws)],
            2 => revoke_one(draws, &mut self.tokens).into_iter().collect(),
            3..5 => self.ask_under_key(draws),
            5 => vec![create_job(draws, api)],
            _ => change_one(draws, &mut self.jobs).into_iter().collect(),
        }
    }

    /// One of these events is on record.
    pub(super) fn recorded(&mut self, stream: StreamId, event: &Event) {
        match event {
            Event::Access(AccessEvent::Created(_)) => self.tokens.extend(stream.as_token()),
            Event::Job(event) if !ends(event) => self.jobs.extend(stream.as_job()),
            _ => {}
        }
    }

    /// Under a new key or one that came before; with it something is created, at most once.
    fn ask_under_key(&mut self, draws: &mut Draws) -> Vec<(StreamId, Event)> {
        if self.keys.is_empty() || chance(draws, 50) {
            let id = RequestKeyId::from_uuid(made_of_key(draws));
            self.keys.push((id, false));
        }
        let at = index(draws, self.keys.len());
        let (id, is_created) = &mut self.keys[at];
        let asked = RequestAccepted {
            operation: "createApplication".to_owned(),
            path: "/v1/applications".to_owned(),
            key: Some(RequestKey {
                id: *id,
                body: draws.below(3).to_string(),
            }),
        };
        let by = match self.tokens.as_slice() {
            [] => TokenId::from_uuid(uuid(draws)),
            tokens => one_of(draws, tokens),
        };
        let mut events = vec![(StreamId::token(by), asked.into())];
        if !*is_created && chance(draws, 50) {
            *is_created = true;
            let id = ApplicationId::from_uuid(*id.as_uuid());
            let application = Application {
                id,
                ..Application::named("simulated")
            };
            let created = ApplicationCreated { application };
            events.push((StreamId::application(id), created.into()));
        }
        events
    }
}

/// An id as it is made of an idempotency key.
pub(super) fn made_of_key(draws: &mut Draws) -> uuid::Uuid {
    uuid::Builder::from_custom_bytes(uuid(draws).into_bytes()).into_uuid()
}

fn index(draws: &mut Draws, length: usize) -> usize {
    usize::try_from(draws.below(length as u64)).unwrap_or(0)
}

fn create_token(draws: &mut Draws) -> (StreamId, Event) {
    let id = TokenId::from_uuid(uuid(draws));
    let role = one_of(draws, &[Role::Admin, Role::Viewer]);
    let created = TokenCreated {
        token: Token {
            id,
            ..Token::named("simulated", role)
        },
        hash: TokenHash::from_hex(format!("{:016x}", draws.next_u64())),
    };
    (StreamId::token(id), created.into())
}

fn revoke_one(draws: &mut Draws, tokens: &mut Vec<TokenId>) -> Option<(StreamId, Event)> {
    let id = take_one(draws, tokens)?;
    Some((StreamId::token(id), TokenRevoked {}.into()))
}

fn create_job(draws: &mut Draws, api: ApiId) -> (StreamId, Event) {
    let id = JobId::from_uuid(uuid(draws));
    let selection = JobSelection::DeadLetters {
        api,
        filter: DeadLetterFilter::default(),
    };
    let kind = one_of(draws, &[JobKind::Redeliver, JobKind::Discard]);
    let job = Job {
        id,
        total: draws.below(20),
        ..Job::new(kind, selection)
    };
    let created = JobCreated { job: Box::new(job) };
    (StreamId::job(id), created.into())
}

fn change_one(draws: &mut Draws, jobs: &mut Vec<JobId>) -> Option<(StreamId, Event)> {
    let id = take_one(draws, jobs)?;
    let counts = JobCounts {
        done: draws.below(20),
        ..JobCounts::default()
    };
    let event = match draws.below(6) {
        0 => JobPaused {}.into(),
        1 => JobResumed {}.into(),
        2 => JobFinished { counts }.into(),
        3 => JobCancelled {}.into(),
        _ => {
            let progressed = JobProgressed {
                cursor: JobCursor {
                    message: Version::new(draws.below(50)),
                    subscription: SubscriptionId::from_uuid(uuid(draws)),
                },
                counts,
                failures: Vec::new(),
            };
            progressed.into()
        }
    };
    Some((StreamId::job(id), event))
}

/// One of them, which is nobody else's until what happens to it is on record.
fn take_one<T>(draws: &mut Draws, of: &mut Vec<T>) -> Option<T> {
    if of.is_empty() {
        return None;
    }
    let at = index(draws, of.len());
    Some(of.swap_remove(at))
}

const fn ends(event: &JobEvent) -> bool {
    matches!(
        event,
        JobEvent::Cancelled(_) | JobEvent::Finished(_) | JobEvent::Failed(_)
    )
}
