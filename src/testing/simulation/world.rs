//! The order in which things happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Broken, Summary,
    callback::{Answer, Mood},
    checks::{self, Fate},
    ledger::Ledger,
    node::{Appending, Decided, Node, Reader, Relay, Seat, history, shared},
    others::{Others, made_of_key},
    pace::Paces,
    scenario::{FILTER, Scenario, TYPES, chance, one_of, retry},
    tally::{Kind, Tally},
};
use crate::{
    actor::ClockTime,
    clock::{Clock, SharedClock},
    log::{
        AppendError, Appended, Durability, ExpectedVersion, Health, LogOptions, RecordedEvent,
        SnapshotStore, Storage, StreamId,
    },
    model::{
        Api, ApiCreated, ApiState, DeliveryMode, Draws, Event, FilterExpression, Message,
        MessageId, MessagePublished, MessageRef, Moment, Position, SubscriptionCreated,
        SubscriptionId, Timestamp, Version,
    },
    projection::{
        Projection, SharedHistory, Stepped, View, access::Access, dead_letters::DeadLetters,
        deliveries::Deliveries, fold_all, idempotency_keys::IdempotencyKeys, jobs::Jobs,
        metrics::Metrics, subscriptions::Subscriptions,
    },
    subscription::{
        Call, Command, Driver, Job, MessageMeta, OUTCOMES_NOT_DURABLE_MAX, PastDelivery, Time as _,
    },
    testing::{ManualClock, MemoryStorage, memory_history::MemoryHistory},
};

/// When every life begins: 2026-01-01T00:00:00Z.
const BEGINNING: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// A message interrupts at most twice once callbacks are healthy, and there are not so many.
const RESUMPTIONS_MAX: u32 = 2_000;
/// A healed life that is not at rest after so many happenings never will be.
const HAPPENINGS_MAX: u32 = 400_000;
/// How long a gateway that was told to end waits for what is under way.
const DRAIN_MAX: Duration = Duration::from_secs(8);
/// How often it looks whether anything is.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// Something that is going to happen.
enum Happening {
    /// Fate does something.
    Step,
    /// Something happens beside the steps, with these draws.
    Aside(Draws),
    /// The gateway starts.
    Start,
    /// There is room on the disk again.
    Room,
    /// Of the gateway that runs in this life.
    Within(u32, Inner),
}

enum Inner {
    Commit,
    CallEnds {
        subscription: SubscriptionId,
        call: Call,
        answer: Answer,
        started_at: Timestamp,
    },
    HaveRead {
        subscription: SubscriptionId,
        after: Version,
        limit: usize,
    },
    Forwarded {
        subscription: SubscriptionId,
        message: MessageRef,
        arrived: bool,
    },
    Wake {
        subscription: SubscriptionId,
        wake: u64,
    },
    Append(Appending),
    Restart(SubscriptionId),
    /// It was told to end, and does so when nothing is under way, at the latest then.
    End {
        until: Duration,
    },
    /// An operator sees that the log takes nothing more.
    Operator,
}

/// Everything there is.
pub(super) struct World {
    seed: u64,
    /// The steps that are taken; `None` for all of them.
    kept: Option<BTreeSet<u32>>,
    scenario: Scenario,
    draws: Draws,
    clock: ManualClock,
    storage: MemoryStorage,
    snapshots: SnapshotStore,
    snapshot_storage: MemoryStorage,
    node: Option<Node>,
    /// The head that readers had seen when the gateway last stopped.
    seen: Position,
    life: u32,
    queue: BTreeMap<(Duration, u64), Happening>,
    happenings: u64,
    wakes: u64,
    steps_left: u32,
    healed: bool,
    moods: BTreeMap<SubscriptionId, Mood>,
    keys: BTreeMap<Version, Option<String>>,
    in_flight: BTreeSet<(SubscriptionId, Version)>,
    paces: Paces,
    /// Subscriptions whose order a redelivery or an update has mixed.
    mixed: BTreeSet<SubscriptionId>,
    ledger: Ledger,
    tally: Tally,
    others: Others,
    relay: Arc<Relay>,
    reader: Reader,
    views: Views,
}

struct Views {
    deliveries: Stepped<Deliveries>,
    metrics: Stepped<Metrics>,
    dead_letters: Stepped<DeadLetters>,
    subscriptions: Stepped<Subscriptions>,
    access: Stepped<Access>,
    idempotency_keys: Stepped<IdempotencyKeys>,
    jobs: Stepped<Jobs>,
}

impl Views {
    fn new(relay: &Arc<Relay>, clock: &ManualClock) -> Self {
        let (history, clock) = (history(relay), shared(clock));
        Self {
            deliveries: Stepped::new(Deliveries, &history, &clock),
            metrics: Stepped::new(Metrics, &history, &clock),
            dead_letters: Stepped::new(DeadLetters, &history, &clock),
            subscriptions: Stepped::new(Subscriptions, &history, &clock),
            access: Stepped::new(Access, &history, &clock),
            idempotency_keys: Stepped::new(IdempotencyKeys, &history, &clock),
            jobs: Stepped::new(Jobs, &history, &clock),
        }
    }

    fn step(&mut self, events: usize) -> bool {
        let moved = [
            self.deliveries.step(events),
            self.metrics.step(events),
            self.dead_letters.step(events),
            self.subscriptions.step(events),
            self.access.step(events),
            self.idempotency_keys.step(events),
            self.jobs.step(events),
        ];
        moved.contains(&true)
    }

    /// G6: views that followed along, over every restart, equal views that are built anew.
    fn check(&self, history: &SharedHistory, clock: &SharedClock) -> Result<(), Broken> {
        same(Deliveries, &self.deliveries, history, clock)?;
        same(Metrics, &self.metrics, history, clock)?;
        same(DeadLetters, &self.dead_letters, history, clock)?;
        same(Subscriptions, &self.subscriptions, history, clock)?;
        same(Access, &self.access, history, clock)?;
        same(IdempotencyKeys, &self.idempotency_keys, history, clock)?;
        same(Jobs, &self.jobs, history, clock)
    }
}

fn same<P: Projection>(
    projection: P,
    live: &Stepped<P>,
    history: &SharedHistory,
    clock: &SharedClock,
) -> Result<(), Broken> {
    let rebuilt = fold_all(projection, history, clock).map_err(|error| error.to_string())?;
    let rows = |view: &View<P>| view.range(Vec::new()..vec![0xff; 64], usize::MAX);
    match (rows(live.view()), rows(&rebuilt)) {
        (Ok(live), Ok(rebuilt)) if live == rebuilt => Ok(()),
        _ => Err(format!("G6: {} differs when it is built anew", P::NAME)),
    }
}

impl World {
    pub(super) fn new(seed: u64, kept: Option<BTreeSet<u32>>) -> Result<Self, Broken> {
        let mut draws = Moment::new(BEGINNING, u128::from(seed)).draws();
        let scenario = Scenario::draw(&mut draws);
        let clock = ManualClock::at(BEGINNING, draws.next_u64());
        let snapshot_storage = MemoryStorage::new();
        let snapshots = snapshot_storage.create(Position::FIRST);
        let snapshots = snapshots.map_err(|error| error.to_string())?;
        let relay = Arc::new(Relay::default());
        let moods = scenario.subscriptions.iter();
        let mut world = Self {
            seed,
            kept,
            moods: moods.map(|s| (s.id, Mood::Healthy)).collect(),
            steps_left: scenario.steps,
            storage: MemoryStorage::new(),
            snapshots: SnapshotStore::open_with(snapshots),
            snapshot_storage,
            node: None,
            seen: Position::ZERO,
            life: 0,
            queue: BTreeMap::new(),
            happenings: 0,
            wakes: 0,
            healed: false,
            keys: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            paces: Paces::default(),
            mixed: BTreeSet::new(),
            ledger: Ledger::default(),
            tally: Tally::default(),
            views: Views::new(&relay, &clock),
            others: Others::default(),
            reader: Reader::default(),
            relay,
            scenario,
            draws,
            clock,
        };
        world.define()?;
        Ok(world)
    }

    /// Puts the API and its subscriptions into an empty log.
    fn define(&mut self) -> Result<(), Broken> {
        let (log, mut writer) =
            crate::log::EventLog::open_stepped(Arc::new(self.storage.clone()), self.options())
                .map_err(|error| error.to_string())?;
        let api: Event = ApiCreated {
            api: Box::new(self.scenario.api.clone()),
        }
        .into();
        let mut definitions = vec![(StreamId::api(self.scenario.api.id), api)];
        for subscription in &self.scenario.subscriptions {
            let created = SubscriptionCreated {
                subscription: Box::new(subscription.clone()),
                cursor: Version::ZERO,
            };
            definitions.push((StreamId::subscription(subscription.id), created.into()));
        }
        for (stream, event) in definitions {
            let append = log.enqueue(
                stream,
                ExpectedVersion::NoStream,
                vec![event],
                crate::log::Urgency::Now,
            );
            let append = append.map_err(|error| error.to_string())?;
            writer.step();
            append.wait().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// How many steps this life has, what may happen beside each among them.
    pub(super) const fn steps(&self) -> u32 {
        2 * self.scenario.steps
    }

    fn options(&self) -> LogOptions {
        LogOptions {
            durability: self.scenario.durability,
            clock: shared(&self.clock),
            segment_bytes_max: self.scenario.segment_bytes_max,
            min_free_bytes: 1_000,
            tail_cache_bytes: self.scenario.tail_cache_bytes,
            ..LogOptions::default()
        }
    }

    pub(super) fn live(mut self) -> Result<Summary, Broken> {
        self.after(Duration::ZERO, Happening::Start);
        self.after(Duration::ZERO, Happening::Step);
        self.run()?;
        self.heal()?;
        self.run()?;
        // One interruption follows another where each given-up delivery interrupts, and what was
        // asked of a gateway that a last fault had poisoned is asked again.
        for _ in 0..RESUMPTIONS_MAX {
            if self.is_well() {
                return self.check();
            }
            self.resume_all()?;
            self.run()?;
        }
        Err("G8: interruptions do not end".into())
    }

    /// Whether everything delivers that is not over.
    fn is_well(&self) -> bool {
        self.node.as_ref().is_some_and(|node| {
            let mut states = node.seats.values().map(|seat| seat.driver.state());
            node.api.state == ApiState::Started
                && states.all(|state| state.is_running() || state.is_over())
        })
    }

    fn resume_all(&mut self) -> Result<(), Broken> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        let ids: Vec<_> = node.seats.keys().copied().collect();
        if node.api.state == ApiState::Stopped {
            self.redefine(|api, _| api.state = ApiState::Started)?;
        }
        for id in ids {
            self.drop_filter(id)?;
            self.ask(id, Command::Resume)?;
            self.ask(id, Command::ResumeFailure)?;
        }
        Ok(())
    }

    /// What a filter has interrupted it interrupts again, as long as it stands.
    fn drop_filter(&mut self, id: SubscriptionId) -> Result<(), Broken> {
        let seat = self.node().seats.get(&id);
        let definition = seat.and_then(|seat| seat.driver.state().subscription.clone());
        let Some(mut subscription) = definition.filter(|s| s.filter.is_some()) else {
            return Ok(());
        };
        subscription.filter = None;
        self.ask(id, Command::Update { subscription })
    }

    fn after(&mut self, wait: Duration, happening: Happening) {
        self.happenings += 1;
        let at = self.clock.elapsed() + wait;
        self.queue.insert((at, self.happenings), happening);
    }

    fn within(&mut self, wait: Duration, inner: Inner) {
        let life = self.life;
        self.after(wait, Happening::Within(life, inner));
    }

    fn soon(&mut self, millis: u64) -> Duration {
        Duration::from_millis(self.draws.below(millis))
    }

    /// Lets things happen until nothing is left to.
    fn run(&mut self) -> Result<(), Broken> {
        let mut count = 0;
        while self.healed || self.steps_left > 0 {
            let Some(((at, _), happening)) = self.queue.pop_first() else {
                break;
            };
            count += 1;
            if count > HAPPENINGS_MAX {
                return Err("G8: it never comes to rest".into());
            }
            self.clock.advance(at.saturating_sub(self.clock.elapsed()));
            self.happen(happening)?;
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Broken> {
        match happening {
            Happening::Step => self.step(),
            Happening::Aside(draws) => self.aside(draws),
            Happening::Start => self.start(),
            Happening::Room => {
                self.storage.set_full(false);
                self.storage.set_bytes_free(None);
                Ok(())
            }
            Happening::Within(life, _) if life != self.life || self.node.is_none() => Ok(()),
            Happening::Within(_, inner) => self.happen_within(inner),
        }
    }

    fn happen_within(&mut self, inner: Inner) -> Result<(), Broken> {
        match inner {
            Inner::Commit => self.commit(),
            Inner::CallEnds {
                subscription,
                call,
                answer,
                started_at,
            } => self.call_ends(subscription, &call, answer, started_at),
            Inner::HaveRead {
                subscription,
                after,
                limit,
            } => self.have_read(subscription, after, limit),
            Inner::Forwarded {
                subscription,
                message,
                arrived,
            } => {
                let answer = if arrived {
                    Ok(())
                } else {
                    Err("as the seed has it".into())
                };
                let clock = self.clock.clone();
                if let Some(seat) = self.seat(subscription) {
                    // One that was delivered or discarded meanwhile is refused.
                    let _ = seat
                        .driver
                        .forward_ended(message, answer, &ClockTime(&clock));
                }
                self.plan(subscription)
            }
            Inner::Wake { subscription, wake } => match self.seat(subscription) {
                Some(seat) if seat.wake == wake => self.plan(subscription),
                _ => Ok(()),
            },
            Inner::Append(what) => self.append(what),
            Inner::Restart(subscription) => self.restart(subscription),
            Inner::End { until } => self.end_when_quiet(until),
            Inner::Operator => self.crash(false),
        }
    }

    fn node(&mut self) -> &mut Node {
        self.node
            .as_mut()
            .expect("only a gateway that runs is asked")
    }

    fn seat(&mut self, subscription: SubscriptionId) -> Option<&mut Seat> {
        self.node.as_mut()?.seats.get_mut(&subscription)
    }

    fn start(&mut self) -> Result<(), Broken> {
        if self.node.is_some() {
            return Ok(());
        }
        let options = self.options();
        let node = Node::start(&self.storage, &self.snapshots, options, &self.clock)?;
        let Some(node) = node else {
            self.after(Duration::from_secs(1), Happening::Start);
            return Ok(());
        };
        if node.log.head() < self.seen {
            return Err(format!(
                "G4: readers saw {} and the log ends at {}",
                self.seen,
                node.log.head()
            ));
        }
        self.relay.follow(&node.log);
        let seats: Vec<_> = node.seats.keys().copied().collect();
        self.node = Some(node);
        seats.into_iter().try_for_each(|id| self.plan(id))
    }

    /// The gateway is killed, or its power is lost.
    fn crash(&mut self, power: bool) -> Result<(), Broken> {
        let Some(node) = self.node.take() else {
            return Ok(());
        };
        self.ledger.crashes += 1;
        for id in node.seats.keys() {
            self.ledger.cut_off(*id, OUTCOMES_NOT_DURABLE_MAX + 5)?;
        }
        self.gone(node, power)
    }

    /// The gateway is told to end: it begins nothing more.
    fn end(&mut self) -> Result<(), Broken> {
        self.happened(Kind::End);
        let until = self.clock.elapsed() + DRAIN_MAX;
        self.within(DRAIN_LOOK, Inner::End { until });
        let node = self.node();
        node.draining = true;
        node.seats.values_mut().for_each(|seat| seat.driver.drain());
        let ids: Vec<_> = node.seats.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.plan(id))
    }

    fn end_when_quiet(&mut self, until: Duration) -> Result<(), Broken> {
        let now = self.clock.elapsed();
        let node = self.node();
        let is_quiet = node.on_their_way.is_empty() && node.seats.values().all(Seat::is_quiet);
        if !is_quiet && now < until {
            self.within(DRAIN_LOOK, Inner::End { until });
            return Ok(());
        }
        let Some(mut node) = self.node.take() else {
            return Ok(());
        };
        self.ledger.ends += 1;
        for (id, seat) in &node.seats {
            if seat.is_quiet() {
                self.ledger.ended_in_order(*id);
            } else {
                self.ledger.cut_off(*id, OUTCOMES_NOT_DURABLE_MAX + 5)?;
            }
        }
        let saved = node.save_snapshot(&self.snapshots);
        saved.map_err(|error| format!("no snapshot can be saved: {error}"))?;
        node.writer.drain();
        self.gone(node, false)
    }

    /// Without syncs a loss of power is not promised to be survived: the gateway is killed instead.
    fn loses_what_is_not_synced(&self, power: bool) -> bool {
        power && self.scenario.durability == Durability::Synced
    }

    /// The gateway is gone, and comes again later.
    fn gone(&mut self, node: Node, power: bool) -> Result<(), Broken> {
        self.life += 1;
        self.in_flight.clear();
        self.paces.forget_all();
        self.seen = node.log.head();
        self.relay.cut();
        for storage in [&self.storage, &self.snapshot_storage] {
            if self.loses_what_is_not_synced(power) {
                let kept = usize::try_from(self.draws.below(3)).unwrap_or(0);
                storage.crash_keeping(kept);
            } else {
                storage.kill();
            }
        }
        drop(node);
        let snapshots = self.snapshot_storage.open(Position::FIRST);
        self.snapshots = SnapshotStore::open_with(snapshots.map_err(|e| e.to_string())?);
        let wait = self.soon(60_000);
        self.after(wait, Happening::Start);
        Ok(())
    }

    /// Does the jobs of a subscription.
    fn plan(&mut self, id: SubscriptionId) -> Result<(), Broken> {
        let clock = self.clock.clone();
        let time = ClockTime(&clock);
        let Some(node) = self.node.as_mut() else {
            return Ok(());
        };
        let (head, api) = (node.head, Arc::clone(&node.api));
        let Some(seat) = node.seats.get_mut(&id).filter(|seat| !seat.stuck) else {
            return Ok(());
        };
        if !Arc::ptr_eq(&api, seat.driver.api()) {
            seat.driver.set_api(api, &time);
        }
        let jobs = seat.driver.plan(&time, head);
        self.wakes += 1;
        seat.wake = self.wakes;
        if seat.driver.is_finished() {
            node.seats.remove(&id);
            return Ok(());
        }
        jobs.into_iter().try_for_each(|job| self.begin(id, job))
    }

    fn begin(&mut self, subscription: SubscriptionId, job: Job<()>) -> Result<(), Broken> {
        match job {
            Job::Read { after, limit } => {
                let wait = self.soon(5);
                let read = Inner::HaveRead {
                    subscription,
                    after,
                    limit,
                };
                self.within(wait, read);
            }
            Job::Send(call) => self.send(subscription, call)?,
            Job::Forward { message, .. } => {
                let wait = self.soon(500);
                let arrived = self.healed || chance(&mut self.draws, 60);
                let forwarded = Inner::Forwarded {
                    subscription,
                    message,
                    arrived,
                };
                self.within(wait, forwarded);
            }
            Job::Append {
                expected, events, ..
            } => self.append(Appending::Decided(Decided {
                subscription,
                expected,
                events,
                may_be_written: false,
            }))?,
            Job::Answer(()) => {}
            Job::Wake { after } => {
                let wake = self.wakes;
                self.within(after, Inner::Wake { subscription, wake });
            }
        }
        Ok(())
    }

    fn send(&mut self, subscription: SubscriptionId, call: Call) -> Result<(), Broken> {
        self.check_call(subscription, &call)?;
        let mood = self.moods[&subscription];
        let answer = Answer::draw(mood, &mut self.draws);
        let message = call.message;
        self.in_flight.insert((subscription, message.version));
        let this = (subscription, message.id, call.attempt);
        self.ledger.begun(this, answer.received);
        let ends = Inner::CallEnds {
            subscription,
            call,
            answer,
            started_at: self.clock.now(),
        };
        self.within(answer.after, ends);
        Ok(())
    }

    /// Whether a call may be made now, seen from outside the core.
    fn check_call(&mut self, id: SubscriptionId, call: &Call) -> Result<(), Broken> {
        let version = call.message.version;
        let mixed = self.mixed.contains(&id);
        let node = self.node.as_ref().expect("a gateway runs");
        let driver = &node.seats[&id].driver;
        let state = driver.state();
        let flying = self.in_flight.iter().filter(|(of, _)| *of == id);
        let flying: Vec<Version> = flying.map(|(_, version)| *version).collect();
        let broken = |what: String| Err(format!("a call of {id} with version {version}: {what}"));
        if flying.contains(&version) {
            return broken("it is in flight already".into());
        }
        if flying.len() >= usize::from(driver.policy().max_in_flight) {
            return broken(format!("{} are in flight", flying.len()));
        }
        // One that was taken before a pause or an opened circuit has begun: it would be lost otherwise.
        let taken = state.open.get(&version).is_some_and(|open| open.taken);
        if !taken && (!state.is_running() || node.api.state == ApiState::Stopped) {
            return broken("it does not run".into());
        }
        if state.circuit.is_open() && !call.probe && !taken {
            return broken("the circuit is open".into());
        }
        let now = ClockTime(&self.clock).now();
        let wall_jumps = self.scenario.faults.clock;
        if let Err(what) = self.paces.begins(id, state, call, now, wall_jumps) {
            return broken(what);
        }
        let unsettled = |lower: Version| !state.is_seen(lower) || state.open.contains_key(&lower);
        let after = state.cursor.get().min(version.get());
        let below = state
            .open
            .range(..version)
            .map(|(version, _)| *version)
            .chain((after + 1..version.get()).map(Version::new));
        let mut below = below.filter(|lower| unsettled(*lower));
        let overtaken = match state.mode() {
            _ if mixed => None,
            DeliveryMode::Concurrent => None,
            DeliveryMode::Ordered => below.next(),
            DeliveryMode::Keyed => {
                let key = self.keys.get(&version).cloned().flatten();
                let mut same = below.filter(|lower| {
                    key.is_some() && self.keys.get(lower).cloned().flatten() == key
                });
                same.next()
            }
        };
        match overtaken {
            Some(lower) => broken(format!("version {lower} has no fate yet")),
            None => Ok(()),
        }
    }

    fn call_ends(
        &mut self,
        subscription: SubscriptionId,
        call: &Call,
        answer: Answer,
        started_at: Timestamp,
    ) -> Result<(), Broken> {
        self.in_flight.remove(&(subscription, call.message.version));
        self.take_outcome(subscription, call, answer, started_at)?;
        self.plan(subscription)
    }

    fn take_outcome(
        &mut self,
        id: SubscriptionId,
        call: &Call,
        answer: Answer,
        started_at: Timestamp,
    ) -> Result<(), Broken> {
        let time = ClockTime(&self.clock);
        let node = self.node.as_mut();
        let Some(seat) = node.and_then(|node| node.seats.get_mut(&id)) else {
            return Ok(());
        };
        let version = call.message.version;
        let planned = |driver: &Driver<()>| driver.state().open.get(&version)?.retry;
        let planned_before = planned(&seat.driver);
        let is_former = call.policy.callback_url != seat.driver.policy().callback_url;
        let pause = answer.pause().filter(|_| !is_former);
        let report = Box::new(answer.report(started_at));
        // One whose subscription was closed meanwhile may have its fate already, and so may one
        // that an earlier actor began.
        if seat.driver.ended(call, report, true, &time).is_err() {
            return Ok(());
        }
        let now = time.now();
        // A probe may leave the plan as it was.
        if !call.probe || planned(&seat.driver) != planned_before {
            let planned = self.paces.planned(seat.driver.state(), call, pause, now);
            planned.map_err(|what| format!("a retry of {id} with version {version}: {what}"))?;
        }
        if let Some(pause) = pause {
            self.paces.held(id, now.elapsed + pause);
        }
        if !call.probe {
            self.paces.ended(id, version, now.elapsed);
        }
        Ok(())
    }

    fn have_read(
        &mut self,
        subscription: SubscriptionId,
        after: Version,
        limit: usize,
    ) -> Result<(), Broken> {
        let node = self.node();
        let stream = StreamId::messages(node.api.id);
        let events = node.log.read_stream(stream, after, limit);
        let events = events.map_err(|error| format!("messages cannot be read: {error}"))?;
        let published = |recorded: &RecordedEvent| {
            let published = recorded.event.as_published()?;
            self.keys.insert(recorded.version, published.key.clone());
            let place = (recorded.version, recorded.position, recorded.time);
            let meta = MessageMeta::of(published, place.0, place.1, place.2);
            Some((published.clone(), meta))
        };
        let messages: Vec<_> = events.iter().map(|e| &**e).filter_map(published).collect();
        if let Some(seat) = self.seat(subscription) {
            let definition = seat.driver.state().subscription.as_ref();
            let filter = seat.filter.of(definition.and_then(|s| s.filter.as_ref()));
            let judged = messages.into_iter().map(|(published, mut meta)| {
                if let Some(filter) = &filter {
                    meta.verdict = filter.verdict(&published, meta.message.accepted_at);
                }
                meta
            });
            seat.driver.offer(judged.collect());
        }
        self.plan(subscription)
    }

    fn append(&mut self, what: Appending) -> Result<(), Broken> {
        let appended = self.node().append(what);
        appended.map_err(|error| format!("an append was refused: {error}"))?;
        self.commit_soon();
        Ok(())
    }

    fn commit_soon(&mut self) {
        if !std::mem::replace(&mut self.node().commit_is_due, true) {
            let wait = self.soon(4);
            self.within(wait, Inner::Commit);
        }
    }

    fn commit(&mut self) -> Result<(), Broken> {
        let answered = self.node().commit();
        for (what, answer) in answered {
            if answer.is_ok() && self.node().poisoned {
                return Err("G10: something was acknowledged after a failed sync".into());
            }
            self.answered(what, answer)?;
        }
        let Some(node) = self.node.as_mut() else {
            return Ok(());
        };
        if !node.on_their_way.is_empty() {
            self.commit_soon();
        }
        let node = self.node();
        let head = node.log.stream_version(StreamId::messages(node.api.id));
        if head > node.head {
            node.head = head;
            let seats: Vec<_> = node.seats.keys().copied().collect();
            seats.into_iter().try_for_each(|id| self.plan(id))?;
        }
        Ok(())
    }

    fn answered(
        &mut self,
        what: Appending,
        answer: Result<Appended, AppendError>,
    ) -> Result<(), Broken> {
        match (what, answer) {
            (Appending::Messages(messages), Ok(appended)) => {
                let mut position = appended.first;
                for message in messages {
                    self.ledger.acknowledged(position, message.id)?;
                    position = position.next();
                }
                Ok(())
            }
            (Appending::Other(stream, event), Ok(_)) => {
                self.others.recorded(stream, &event);
                Ok(())
            }
            // Whoever asked was told.
            (Appending::Messages(_) | Appending::Other(..), Err(error)) => {
                self.note(&error);
                Ok(())
            }
            (Appending::Definition(api), Ok(_)) => {
                if let Some(kind) = Kind::of_definition(&self.node().api, &api) {
                    self.happened(kind);
                }
                let node = self.node();
                node.api = api;
                let seats: Vec<_> = node.seats.keys().copied().collect();
                seats.into_iter().try_for_each(|id| self.plan(id))
            }
            (Appending::Definition(_), Err(error)) => {
                self.note(&error);
                Ok(())
            }
            (Appending::Decided(decided), Ok(appended)) => {
                self.recorded(&decided, appended.last_version)
            }
            (Appending::Decided(decided), Err(AppendError::Full { .. })) => {
                self.append_again(decided);
                Ok(())
            }
            (Appending::Decided(mut decided), Err(AppendError::Unknown(_)))
                if self.node().log.health() == Health::Full =>
            {
                decided.may_be_written = true;
                self.append_again(decided);
                Ok(())
            }
            (Appending::Decided(decided), Err(AppendError::Conflict { actual, .. }))
                if decided.may_be_written && actual == decided.last() =>
            {
                self.recorded(&decided, actual)
            }
            (Appending::Decided(_), Err(error @ AppendError::Conflict { .. })) => {
                Err(format!("G3: {error}"))
            }
            (Appending::Decided(decided), Err(error)) => {
                self.note(&error);
                self.append_failed(decided.subscription);
                Ok(())
            }
        }
    }

    fn append_again(&mut self, decided: Decided) {
        let again = Inner::Append(Appending::Decided(decided));
        self.within(Duration::from_secs(1), again);
    }

    /// What a driver decided is on record.
    fn recorded(&mut self, decided: &Decided, last: Version) -> Result<(), Broken> {
        let subscription = decided.subscription;
        for record in decided.events.iter().filter_map(|event| event.attempt()) {
            let this = (subscription, record.message.id, record.number);
            self.ledger.recorded(&this);
        }
        if let Some(seat) = self.seat(subscription) {
            seat.driver.appended(last);
        }
        self.plan(subscription)
    }

    /// Takes note of a failure after which nothing may be acknowledged.
    fn note(&mut self, error: &AppendError) {
        let poisoned = matches!(error, AppendError::Poisoned)
            || (error.is_outcome_unknown() && self.node().log.health() == Health::Poisoned);
        if poisoned && !std::mem::replace(&mut self.node().poisoned, true) {
            let wait = self.soon(30_000);
            self.within(wait, Inner::Operator);
        }
    }

    /// As the actor does: parked where the log takes nothing more, else started again.
    fn append_failed(&mut self, subscription: SubscriptionId) {
        let stuck = self.node().log.health() == Health::Poisoned;
        if let Some(seat) = self.seat(subscription) {
            seat.driver.append_failed();
            seat.stuck = true;
        }
        if !stuck {
            self.within(Duration::from_millis(500), Inner::Restart(subscription));
        }
    }

    fn restart(&mut self, subscription: SubscriptionId) -> Result<(), Broken> {
        if self.node().draining {
            return Ok(());
        }
        self.ledger
            .cut_off(subscription, OUTCOMES_NOT_DURABLE_MAX + 5)?;
        self.in_flight.retain(|(of, _)| *of != subscription);
        self.paces.forget(subscription);
        let (snapshots, clock) = (self.snapshots.clone(), self.clock.clone());
        self.node().restart(subscription, &snapshots, &clock)?;
        self.plan(subscription)
    }

    fn happened(&mut self, kind: Kind) {
        if !self.healed {
            self.tally.count(kind);
        }
    }

    /// Fate does something.
    fn step(&mut self) -> Result<(), Broken> {
        let number = self.scenario.steps - self.steps_left;
        let own = self.draws_of(number);
        let of_all = std::mem::replace(&mut self.draws, own);
        let stepped = self.take_step(number);
        self.draws = of_all;
        self.plan_aside(self.scenario.steps + number);
        stepped
    }

    /// Draws of a step's own, so that one that is left out changes no other.
    fn draws_of(&self, number: u32) -> Draws {
        let own = u128::from(self.seed) << 32 | u128::from(number);
        Moment::new(BEGINNING, own).draws()
    }

    fn is_kept(&self, number: u32) -> bool {
        let kept = self.kept.as_ref();
        kept.is_none_or(|kept| kept.contains(&number))
    }

    /// Now and then something happens beside the steps. It counts as a step of its own, so that lives
    /// of chosen steps go on as they did before there was any.
    fn plan_aside(&mut self, number: u32) {
        let mut draws = self.draws_of(number);
        if self.is_kept(number) && chance(&mut draws, 15) {
            let wait = Duration::from_millis(draws.below(5_000));
            self.after(wait, Happening::Aside(draws));
        }
    }

    fn aside(&mut self, own: Draws) -> Result<(), Broken> {
        let of_all = std::mem::replace(&mut self.draws, own);
        let done = self.take_aside();
        self.draws = of_all;
        done
    }

    fn take_aside(&mut self) -> Result<(), Broken> {
        let runs = |node: &Node| !node.draining && !node.poisoned;
        if self.healed || !self.node.as_ref().is_some_and(runs) {
            return Ok(());
        }
        match self.draws.below(10) {
            0 => self.end(),
            1..4 => self.publish_under_key(),
            4 if self.scenario.faults.callbacks => {
                self.turn_odd();
                Ok(())
            }
            _ => {
                let api = self.scenario.api.id;
                let drawn = self.others.draw(&mut self.draws, api);
                if !drawn.is_empty() {
                    self.happened(Kind::Other);
                }
                drawn
                    .into_iter()
                    .map(|(stream, event)| Appending::Other(stream, Box::new(event)))
                    .try_for_each(|what| self.append(what))
            }
        }
    }

    fn take_step(&mut self, number: u32) -> Result<(), Broken> {
        self.steps_left = self.steps_left.saturating_sub(1);
        if self.steps_left > 0 {
            let wait = match self.draws.below(20) {
                0 => self.soon(600_000),
                1..=5 => self.soon(10_000),
                _ => self.soon(200),
            };
            self.after(wait, Happening::Step);
        }
        if !self.is_kept(number) {
            return Ok(());
        }
        let faults = self.scenario.faults;
        match self.draws.below(100) {
            0..50 => self.publish(),
            50..62 if faults.callbacks => {
                self.change_mood();
                Ok(())
            }
            62..78 if faults.commands => self.command(),
            78..86 if faults.crashes => {
                let power = chance(&mut self.draws, 50);
                if self.node.is_some() {
                    self.happened(if self.loses_what_is_not_synced(power) {
                        Kind::PowerCut
                    } else {
                        Kind::Kill
                    });
                }
                self.crash(power)
            }
            86..92 if faults.disk => {
                self.break_disk();
                Ok(())
            }
            92..94 if faults.clock => {
                self.jump();
                Ok(())
            }
            94..97 => self.save_snapshot(),
            _ => self.look(),
        }
    }

    fn takes_messages(&self) -> bool {
        self.node
            .as_ref()
            .is_some_and(|node| !node.draining && node.api.state == ApiState::Started)
    }

    fn publish(&mut self) -> Result<(), Broken> {
        if !self.takes_messages() {
            return Ok(());
        }
        let count = 1 + self.draws.below(4);
        let mut messages = Vec::new();
        for _ in 0..count {
            let id = MessageId::from_moment(&self.clock.moment());
            messages.push(self.message(id));
        }
        self.append(Appending::Messages(messages))
    }

    fn publish_under_key(&mut self) -> Result<(), Broken> {
        if !self.takes_messages() {
            return Ok(());
        }
        self.happened(Kind::PublishUnderKey);
        let id = MessageId::from_uuid(made_of_key(&mut self.draws));
        let message = self.message(id);
        self.append(Appending::Messages(vec![message]))
    }

    fn message(&mut self, id: MessageId) -> MessagePublished {
        let message = Message::text(format!("{id}"));
        let key = one_of(&mut self.draws, &[None, Some("k"), Some("l")]);
        let channel = one_of(&mut self.draws, &[None, Some("a"), Some("b")]);
        let event_type = one_of(&mut self.draws, &TYPES);
        MessagePublished {
            id,
            content: message.content,
            content_type: message.content_type,
            event_type: event_type.map(str::to_owned),
            channel: channel.map(str::to_owned),
            key: key.map(str::to_owned),
            headers: Vec::new(),
            coordinate: None,
            sampled: true,
        }
    }

    fn change_mood(&mut self) {
        let ids: Vec<_> = self.moods.keys().copied().collect();
        let id = one_of(&mut self.draws, &ids);
        let mood = one_of(&mut self.draws, &Mood::OF_STEPS);
        self.happened(mood.into());
        self.moods.insert(id, mood);
    }

    fn turn_odd(&mut self) {
        let ids: Vec<_> = self.moods.keys().copied().collect();
        let id = one_of(&mut self.draws, &ids);
        self.happened(Kind::TurnOdd);
        self.moods.insert(id, Mood::Odd);
    }

    fn break_disk(&mut self) {
        match self.draws.below(4) {
            // Of what is only flushed, a disk that drops it is no fault that is promised to be
            // survived.
            0 if self.scenario.durability == Durability::Flushed => {}
            0 => {
                self.happened(Kind::FailedSync);
                self.storage.fail_syncs(1);
            }
            1 => {
                self.happened(Kind::FailedApply);
                self.storage.fail_applies(1);
            }
            2 => {
                self.happened(Kind::FullDisk);
                self.storage.set_full(true);
                let wait = self.soon(60_000);
                self.after(wait, Happening::Room);
            }
            _ => {
                self.happened(Kind::LittleRoom);
                let free = self.draws.below(1_500);
                self.storage.set_bytes_free(Some(free));
                let wait = self.soon(60_000);
                self.after(wait, Happening::Room);
            }
        }
    }

    fn jump(&mut self) {
        let by = Duration::from_secs(one_of(&mut self.draws, &[60, 3_600, 86_400]));
        let now = self.clock.now();
        let back = chance(&mut self.draws, 50);
        self.happened(if back {
            Kind::ClockSetBack
        } else {
            Kind::ClockSetForward
        });
        let millis = i64::try_from(by.as_millis()).unwrap_or(0);
        let wall = now.as_millis() + if back { -millis } else { millis };
        self.clock.set_wall(Timestamp::from_millis(wall));
    }

    fn save_snapshot(&mut self) -> Result<(), Broken> {
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let saved = node.save_snapshot(&self.snapshots);
        saved.map_err(|error| format!("no snapshot can be saved: {error}"))?;
        self.happened(Kind::Snapshot);
        Ok(())
    }

    /// Readers and views read on.
    fn look(&mut self) -> Result<(), Broken> {
        if let Some(node) = &self.node {
            let limit = usize::try_from(1 + self.draws.below(40)).unwrap_or(1);
            self.reader.read_on(&node.log, limit)?;
            self.views.step(limit);
            self.happened(Kind::Look);
        }
        Ok(())
    }

    fn command(&mut self) -> Result<(), Broken> {
        let Some(node) = self.node.as_ref().filter(|node| !node.draining) else {
            return Ok(());
        };
        let ids: Vec<_> = node.seats.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = one_of(&mut self.draws, &ids);
        match self.draws.below(12) {
            0..3 => self.ask(id, Command::Pause),
            3..6 => self.ask(id, Command::Resume),
            6..8 => self.ask(id, Command::ResumeFailure),
            8 => self.update(id),
            9 => self.redeliver_or_discard(id),
            10 if chance(&mut self.draws, 20) => {
                let in_flight = Vec::new();
                self.ask(id, Command::Close { in_flight })
            }
            _ => self.redefine(|api, draws| {
                if chance(draws, 50) {
                    api.entrypoint.retry = retry(draws);
                } else {
                    api.state = match api.state {
                        ApiState::Started => ApiState::Stopped,
                        ApiState::Stopped => ApiState::Started,
                    };
                }
            }),
        }
    }

    /// What it refuses it refuses.
    fn ask(&mut self, id: SubscriptionId, command: Command) -> Result<(), Broken> {
        let clock = self.clock.clone();
        if let Some(seat) = self.seat(id).filter(|seat| !seat.stuck) {
            let before = seat.driver.state().subscription.as_deref();
            let kind = Kind::of_command(&command, before);
            let done = seat.driver.execute(command, (), &ClockTime(&clock));
            if let Some(kind) = kind.filter(|_| done.is_ok()) {
                self.happened(kind);
                if matches!(kind, Kind::ResumeFailure | Kind::UpdateCallback) {
                    self.paces.let_go(id);
                }
            }
        }
        self.plan(id)
    }

    fn update(&mut self, id: SubscriptionId) -> Result<(), Broken> {
        let known = self
            .seat(id)
            .and_then(|s| s.driver.state().subscription.clone());
        let Some(mut subscription) = known else {
            return Ok(());
        };
        match self.draws.below(4) {
            0 => subscription.configuration.retry = Some(retry(&mut self.draws)),
            1 => {
                let url = format!("https://example.com/{}", self.draws.below(100));
                subscription.configuration.callback_url = url.parse().ok();
            }
            2 => {
                let filter = subscription.filter.take();
                if filter.is_none() {
                    subscription.filter = Some(FilterExpression::new(FILTER));
                }
            }
            _ => {
                self.mixed.insert(id);
                subscription.delivery_mode = one_of(
                    &mut self.draws,
                    &[
                        DeliveryMode::Concurrent,
                        DeliveryMode::Ordered,
                        DeliveryMode::Keyed,
                    ],
                );
                subscription.channel = None;
            }
        }
        self.ask(id, Command::Update { subscription })
    }

    fn redeliver_or_discard(&mut self, id: SubscriptionId) -> Result<(), Broken> {
        let log = self.node().log.clone();
        let events = self.reader.read_up(&log)?;
        let mut fates = checks::fates(&events)?;
        let fates = fates.remove(&id).unwrap_or_default();
        let discard = chance(&mut self.draws, 30);
        let wanted: &[Fate] = if discard {
            &[Fate::DeadLettered]
        } else {
            &[Fate::Delivered, Fate::DeadLettered, Fate::Discarded]
        };
        let ended = fates.ended(wanted);
        if ended.is_empty() {
            return Ok(());
        }
        let message = one_of(&mut self.draws, &ended);
        let past = PastDelivery {
            attempts: self.ledger.attempts(id, message.id),
            ..PastDelivery::default()
        };
        self.mixed.insert(id);
        let command = if discard {
            Command::Discard {
                message,
                past,
                in_flight: false,
            }
        } else {
            Command::Redeliver { message, past }
        };
        self.ask(id, command)
    }

    fn redefine(&mut self, change: impl FnOnce(&mut Api, &mut Draws)) -> Result<(), Broken> {
        let mut api = Api::clone(&self.node().api);
        change(&mut api, &mut self.draws);
        self.append(Appending::Definition(Arc::new(api)))
    }

    /// Everything is well again, and everybody wants deliveries.
    fn heal(&mut self) -> Result<(), Broken> {
        self.healed = true;
        self.storage.fail_syncs(0);
        self.storage.fail_applies(0);
        self.storage.set_full(false);
        self.storage.set_bytes_free(None);
        self.moods
            .values_mut()
            .for_each(|mood| *mood = Mood::Healthy);
        if self.node.as_ref().is_some_and(|node| node.poisoned) {
            self.crash(false)?;
        }
        self.start()?;
        self.run_for(Duration::from_secs(120))?;
        self.resume_all()
    }

    fn run_for(&mut self, time: Duration) -> Result<(), Broken> {
        let end = self.clock.elapsed() + time;
        while let Some(next) = self.queue.first_entry().filter(|next| next.key().0 <= end) {
            let ((at, _), happening) = next.remove_entry();
            self.clock.advance(at.saturating_sub(self.clock.elapsed()));
            self.happen(happening)?;
        }
        Ok(())
    }

    fn check(mut self) -> Result<Summary, Broken> {
        let node = self
            .node
            .take()
            .ok_or("the gateway is not there at the end")?;
        let events = checks::events(&node.log)?;
        let wall_jumps = self.scenario.faults.clock;
        checks::log(&node.log, &events, &self.ledger, wall_jumps)?;
        self.ledger
            .check(self.scenario.api.entrypoint.qos.takes_first())?;
        self.reader.check(&events)?;
        while self.views.step(1_000) {}
        checks::views(
            &events,
            self.views.deliveries.view(),
            self.views.metrics.view(),
        )?;
        // They are read once, for all that is built anew.
        let history: SharedHistory = Arc::new(MemoryHistory::new(events.clone()));
        self.views.check(&history, &shared(&self.clock))?;
        Ok(Summary {
            events: events.len() as u64,
            messages: self.ledger.messages().count() as u64,
            calls: self.ledger.calls,
            repeated: self.ledger.repeated(),
            crashes: self.ledger.crashes,
            ends: self.ledger.ends,
            tally: self.tally,
            digest: digest(&events),
        })
    }
}

fn digest(events: &[Arc<crate::log::RecordedEvent>]) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    let told = |event: &Arc<crate::log::RecordedEvent>| {
        (
            event.position,
            event.stream,
            event.version,
            event.time,
            event.event.event_type(),
        )
    };
    let told: Vec<_> = events.iter().map(told).collect();
    BuildHasherDefault::<DefaultHasher>::default().hash_one(told)
}
