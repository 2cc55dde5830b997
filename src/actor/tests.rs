//! Callbacks that went down together and are back: the core says when each is called, and the slots
//! how many are at a time. And callbacks that begin to hang together, beside others.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;

use super::slots::{CALLS_MAX, Calls, Expected, Reach, Slot, Slots};
use crate::{
    model::{
        Api, AttemptReport, AttemptResult, DeliveryMode, Draws, FilterVerdict, MessageId,
        MessageRef, Moment, Position, Subscription, SubscriptionCreated, Timestamp, Timings,
        Version,
    },
    subscription::{
        Call, Driver, Job, MessageMeta, Now, SubscriptionState, Time, apply,
        circuit::{Circuit, FAILURES_TO_OPEN, PAUSE_FIRST, PAUSE_JITTER_PERCENT},
    },
};

const CALLBACKS: usize = 10_000;
/// Messages that wait for each.
const MESSAGES: u64 = 3;
/// How long a call takes: within it more probes are due than there are slots for.
const CALL_MS: u64 = 400;
/// In what time probes are counted, and the share of all that may be due within it. Spread over six
/// seconds, a sixtieth is.
const WINDOW_MS: u64 = 100;
const WINDOW_PERCENT_MAX: usize = 3;

/// So many milliseconds, by both clocks.
struct At {
    ms: u64,
    entropy: u128,
}

impl Time for At {
    fn now(&self) -> Now {
        Now {
            wall: Timestamp::EPOCH.plus(Duration::from_millis(self.ms)),
            elapsed: Duration::from_millis(self.ms),
        }
    }

    fn moment(&self) -> Moment {
        Moment::new(self.now().wall, self.entropy)
    }
}

/// Which slots a call has: those of doubtful callbacks, or the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Sound,
    Doubtful,
}

enum Happening {
    Wakes(usize),
    Ends(usize, Call),
}

/// What happens when, in virtual time: in order, and in that of its planning within a millisecond.
struct Agenda<T> {
    now_ms: u64,
    planned: BTreeMap<(u64, u64), T>,
    count: u64,
}

impl<T> Agenda<T> {
    const fn new() -> Self {
        Self {
            now_ms: 0,
            planned: BTreeMap::new(),
            count: 0,
        }
    }

    fn after(&mut self, ms: u64, what: T) {
        self.count += 1;
        self.planned.insert((self.now_ms + ms, self.count), what);
    }

    /// What is next, and is now.
    fn next(&mut self) -> Option<T> {
        let ((ms, _), what) = self.planned.pop_first()?;
        self.now_ms = ms;
        Some(what)
    }
}

/// A subscription whose callback was down.
struct Member<'a> {
    driver: Driver<()>,
    /// The one wake-up that counts.
    wakes_ms: Option<u64>,
    slot: Option<(Lane, Slot<'a>)>,
}

type Waiting<'a> = Pin<Box<dyn Future<Output = Option<Slot<'a>>> + 'a>>;

/// Those that are under way in a lane, and those that wait for it in turn.
#[derive(Default)]
struct Traffic<'a> {
    under_way: usize,
    under_way_most: usize,
    waiting: VecDeque<(usize, Call, Waiting<'a>)>,
}

struct Crowd<'a> {
    slots: &'a Slots,
    draws: Draws,
    agenda: Agenda<Happening>,
    members: Vec<Member<'a>>,
    sound: Traffic<'a>,
    doubtful: Traffic<'a>,
    /// When each probe was due.
    probes_ms: Vec<u64>,
}

impl<'a> Crowd<'a> {
    /// One failure before the circuits open.
    fn about_to_go_down(slots: &'a Slots) -> Self {
        let mut subscription = Subscription::to("https://example.com/hook").unwrap();
        subscription.delivery_mode = DeliveryMode::Ordered;
        let mut state = SubscriptionState::new(subscription.id);
        let created = SubscriptionCreated {
            subscription: Box::new(subscription),
            cursor: Version::ZERO,
        };
        apply(&mut state, &created.into());
        state.circuit = Circuit::Closed {
            failures: FAILURES_TO_OPEN - 1,
        };
        let api = Arc::new(Api::named("orders"));
        let member = |_| Member {
            driver: Driver::new(
                state.clone(),
                Version::FIRST,
                Arc::clone(&api),
                &At { ms: 0, entropy: 0 },
            ),
            wakes_ms: None,
            slot: None,
        };
        Self {
            slots,
            draws: Moment::new(Timestamp::EPOCH, 7).draws(),
            agenda: Agenda::new(),
            members: (0..CALLBACKS).map(member).collect(),
            sound: Traffic::default(),
            doubtful: Traffic::default(),
            probes_ms: Vec::new(),
        }
    }

    /// All calls fail in the same millisecond.
    fn go_down(&mut self) {
        for at in 0..self.members.len() {
            let call = self.plan(at).expect("the first message is sent");
            self.end(at, &call, 503);
            assert_eq!(self.plan(at), None, "the circuit is open");
        }
    }

    /// From now on every call is answered, and everything that is due is done.
    fn come_back(&mut self) {
        while let Some(happening) = self.agenda.next() {
            let now_ms = self.agenda.now_ms;
            match happening {
                Happening::Wakes(at) if self.members[at].wakes_ms == Some(now_ms) => self.go_on(at),
                Happening::Wakes(_) => {}
                Happening::Ends(at, call) => {
                    let lane = self.leave(at);
                    self.end(at, &call, 200);
                    self.go_on(at);
                    self.let_in(lane);
                }
            }
        }
    }

    fn time(&mut self) -> At {
        At {
            ms: self.agenda.now_ms,
            entropy: self.draws.next_u64().into(),
        }
    }

    /// Does what a driver says; gives the call that it makes.
    fn plan(&mut self, at: usize) -> Option<Call> {
        let mut made = None;
        loop {
            let time = self.time();
            let member = &mut self.members[at];
            member.wakes_ms = None;
            let mut wake = None;
            let mut again = false;
            for job in member.driver.plan(&time, Version::new(MESSAGES)) {
                match job {
                    Job::Read { after, limit } => {
                        member.driver.offer(messages(after, limit));
                        again = true;
                    }
                    Job::Append {
                        expected, events, ..
                    } => {
                        member.driver.appended(expected.plus(events.len() as u64));
                        again = true;
                    }
                    Job::Send(call) => made = Some(call),
                    Job::Wake { after } => wake = Some(after),
                    Job::Forward { .. } | Job::Answer(()) => {}
                }
            }
            if let Some(after) = wake {
                let ms = u64::try_from(after.as_millis()).unwrap().max(1);
                member.wakes_ms = Some(self.agenda.now_ms + ms);
                self.agenda.after(ms, Happening::Wakes(at));
            }
            if !again {
                return made;
            }
        }
    }

    fn end(&mut self, at: usize, call: &Call, status: u16) {
        let report = AttemptReport {
            started_at: Timestamp::EPOCH,
            timings: Timings::default(),
            result: AttemptResult::Responded {
                status,
                retry_after: None,
            },
            captured: None,
        };
        let time = self.time();
        let driver = &mut self.members[at].driver;
        driver.ended(call, Box::new(report), true, &time).unwrap();
    }

    /// Asks for a slot for what a driver wants to call.
    fn go_on(&mut self, at: usize) {
        let Some(call) = self.plan(at) else { return };
        if call.probe {
            self.probes_ms.push(self.agenda.now_ms);
        }
        let circuit = &self.members[at].driver.state().circuit;
        let expected = Expected::of(circuit, Duration::from_millis(CALL_MS), Reach::Within);
        let lane = match expected {
            Expected::Doubtful => Lane::Doubtful,
            Expected::Quick | Expected::Slow => Lane::Sound,
        };
        let slots = self.slots;
        let mut slot: Waiting<'a> = Box::pin(slots.take(expected));
        match slot.as_mut().now_or_never() {
            Some(slot) => self.enter(at, call, lane, slot.unwrap()),
            None => self.traffic(lane).waiting.push_back((at, call, slot)),
        }
    }

    fn traffic(&mut self, lane: Lane) -> &mut Traffic<'a> {
        match lane {
            Lane::Sound => &mut self.sound,
            Lane::Doubtful => &mut self.doubtful,
        }
    }

    fn enter(&mut self, at: usize, call: Call, lane: Lane, slot: Slot<'a>) {
        self.members[at].slot = Some((lane, slot));
        let traffic = self.traffic(lane);
        traffic.under_way += 1;
        traffic.under_way_most = traffic.under_way_most.max(traffic.under_way);
        self.agenda.after(CALL_MS, Happening::Ends(at, call));
    }

    fn leave(&mut self, at: usize) -> Lane {
        let (lane, slot) = self.members[at].slot.take().unwrap();
        self.traffic(lane).under_way -= 1;
        drop(slot);
        lane
    }

    /// Begins the calls that have their slots by now.
    fn let_in(&mut self, lane: Lane) {
        while let Some((_, _, waiting)) = self.traffic(lane).waiting.front_mut() {
            let Some(slot) = waiting.as_mut().now_or_never() else {
                return;
            };
            if let Some((at, call, _)) = self.traffic(lane).waiting.pop_front() {
                self.enter(at, call, lane, slot.unwrap());
            }
        }
    }
}

fn messages(after: Version, limit: usize) -> Vec<MessageMeta> {
    let versions = after.get() + 1..=MESSAGES;
    let message = |version| MessageMeta {
        message: MessageRef {
            version: Version::new(version),
            position: Position::new(version),
            id: MessageId::from_uuid(uuid::Uuid::from_u128(version.into())),
            accepted_at: Timestamp::EPOCH,
        },
        key: None,
        channel: None,
        verdict: FilterVerdict::Passes,
    };
    versions.take(limit).map(message).collect()
}

#[test]
fn ten_thousand_callbacks_that_are_back_are_called_apart_and_never_above_the_slots() {
    let slots = Slots::new(CALLS_MAX);
    let mut crowd = Crowd::about_to_go_down(&slots);
    crowd.go_down();
    crowd.come_back();

    let mut probes = std::mem::take(&mut crowd.probes_ms);
    probes.sort_unstable();
    assert_eq!(probes.len(), CALLBACKS, "each is probed once");
    let jitter = PAUSE_FIRST * u32::from(PAUSE_JITTER_PERCENT) / 100;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let (first, last) = (ms(PAUSE_FIRST) - ms(jitter), ms(PAUSE_FIRST + jitter));
    let (began, ended) = (probes[0], probes[CALLBACKS - 1]);
    assert!((first..first + WINDOW_MS).contains(&began), "{began}");
    assert!((last - WINDOW_MS..=last).contains(&ended), "{ended}");
    let within = |from: usize| probes.partition_point(|at| *at < probes[from] + WINDOW_MS) - from;
    let most = (0..CALLBACKS).map(within).max().unwrap();
    assert!(most <= CALLBACKS * WINDOW_PERCENT_MAX / 100, "{most}");

    // All the slots of doubtful callbacks are needed, and no more of them are had.
    let doubtful = CALLS_MAX / 8;
    assert_eq!(crowd.doubtful.under_way_most, doubtful);
    let sound = crowd.sound.under_way_most;
    assert!((1..=CALLS_MAX - doubtful).contains(&sound), "{sound}");
    for member in &crowd.members {
        let state = member.driver.state();
        let is_delivered = state.cursor == Version::new(MESSAGES) && state.open.is_empty();
        assert!(is_delivered && !state.circuit.is_open(), "{state:?}");
    }
}

/// In flight, of one subscription: the default.
const IN_FLIGHT_MAX: u32 = 5;
/// Each callback gets a message in so many milliseconds.
const EACH_MS: u64 = 1_000;
const QUICK_MS: u64 = 20;
const HANG_MS: u64 = 10_000;
const HANG_FROM_MS: u64 = 3_000;
const OVER_MS: u64 = HANG_FROM_MS + HANG_MS + 3_000;

/// Ten thousand callbacks, some of which hang from one moment on.
struct Town<'a> {
    slots: &'a Slots,
    hanging: usize,
    agenda: Agenda<Incident<'a>>,
    callbacks: Vec<Called>,
    /// Those that wait for a slot in turn: quick, slow and doubtful ones.
    waiting: [VecDeque<Asked<'a>>; 3],
    /// How long each call to those that never hang waited for its slot.
    waits_ms: Vec<u64>,
}

#[derive(Default)]
struct Called {
    calls: Calls,
    under_way: u32,
    last_took: Duration,
    failures: u32,
    /// Messages that wait until there are fewer calls.
    messages: u32,
}

enum Incident<'a> {
    Published(usize),
    Ended(usize, Slot<'a>, u64),
}

struct Asked<'a> {
    by: usize,
    at_ms: u64,
    slot: Waiting<'a>,
}

impl<'a> Town<'a> {
    fn new(slots: &'a Slots, hanging: usize) -> Self {
        let mut town = Self {
            slots,
            hanging,
            agenda: Agenda::new(),
            callbacks: (0..CALLBACKS).map(|_| Called::default()).collect(),
            waiting: std::array::from_fn(|_| VecDeque::new()),
            waits_ms: Vec::new(),
        };
        let mut draws = Moment::new(Timestamp::EPOCH, 7).draws();
        for at in 0..CALLBACKS {
            let first_ms = draws.below(EACH_MS);
            town.agenda.after(first_ms, Incident::Published(at));
        }
        town
    }

    fn live(&mut self) {
        while let Some(incident) = self.agenda.next() {
            if self.agenda.now_ms > OVER_MS {
                return;
            }
            match incident {
                Incident::Published(at) => {
                    self.agenda.after(EACH_MS, Incident::Published(at));
                    self.callbacks[at].messages += 1;
                    self.call(at);
                }
                Incident::Ended(at, slot, took_ms) => {
                    drop(slot);
                    let called = &mut self.callbacks[at];
                    called.calls.end();
                    called.under_way -= 1;
                    called.last_took = Duration::from_millis(took_ms);
                    called.failures = if took_ms == HANG_MS {
                        called.failures + 1
                    } else {
                        0
                    };
                    self.call(at);
                    self.let_in();
                }
            }
        }
    }

    /// Asks for slots for what may be sent to a callback.
    fn call(&mut self, by: usize) {
        let (slots, at_ms) = (self.slots, self.agenda.now_ms);
        while self.callbacks[by].messages > 0 && self.callbacks[by].under_way < IN_FLIGHT_MAX {
            let called = &mut self.callbacks[by];
            called.messages -= 1;
            called.under_way += 1;
            let failures = called.failures;
            let circuit = Circuit::Closed { failures };
            let expected = Expected::of(&circuit, called.last_took, called.calls.begin());
            let mut slot: Waiting<'a> = Box::pin(slots.take(expected));
            match slot.as_mut().now_or_never() {
                Some(slot) => self.enter(by, at_ms, slot.unwrap()),
                None => self.waiting[expected as usize].push_back(Asked { by, at_ms, slot }),
            }
        }
    }

    fn enter(&mut self, by: usize, asked_ms: u64, slot: Slot<'a>) {
        let is_sound = by >= self.hanging;
        if is_sound {
            self.waits_ms.push(self.agenda.now_ms - asked_ms);
        }
        let answers = is_sound || self.agenda.now_ms < HANG_FROM_MS;
        let took_ms = if answers { QUICK_MS } else { HANG_MS };
        self.agenda
            .after(took_ms, Incident::Ended(by, slot, took_ms));
    }

    /// Begins the calls that have their slots by now.
    fn let_in(&mut self) {
        for kind in 0..self.waiting.len() {
            while let Some(first) = self.waiting[kind].front_mut() {
                let Some(slot) = first.slot.as_mut().now_or_never() else {
                    break;
                };
                if let Some(Asked { by, at_ms, .. }) = self.waiting[kind].pop_front() {
                    self.enter(by, at_ms, slot.unwrap());
                }
            }
        }
    }
}

#[test]
fn g12_a_tenth_of_ten_thousand_callbacks_that_hang_at_once_take_no_time_of_the_others() {
    for hanging in [1, CALLBACKS / 10] {
        let slots = Slots::new(CALLS_MAX);
        let mut town = Town::new(&slots, hanging);
        town.live();
        let mut waits = std::mem::take(&mut town.waits_ms);
        waits.sort_unstable();
        let p99 = waits[waits.len() * 99 / 100];
        assert!(
            p99 <= 20,
            "{hanging} hang: p99 {p99} ms, {:?}",
            waits.last()
        );
        let messages = (CALLBACKS - hanging) * usize::try_from(OVER_MS / EACH_MS).unwrap();
        assert!(waits.len() >= messages, "{} of {messages}", waits.len());
    }
}
