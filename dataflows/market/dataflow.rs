//! The market as a timely dataflow: one round of proposals a refresh, then events to their
//! partitions.
//!
//! A timestamp is a refresh and an order tick in it. When a worker's ticks have passed, its stamp
//! moves on, and a partition's worker hands out what the frontier has passed, in order of time: so
//! each partition has one writer and one total order.

use std::{collections::BTreeMap, rc::Rc, sync::Arc};

use serde::{Deserialize, Serialize};
use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Scope, Stream,
        channels::pact::{Exchange, Pipeline},
        operators::{
            ConnectLoop, Feedback,
            generic::{Operator, OutputBuilder, builder_rc::OperatorBuilder},
        },
    },
};

use super::{
    ById, Cache, Command, Event, Figures, Market, Part, Proposal, SILENCE, Settings, Snapshot,
    Truth,
};
use crate::model::{Millis, OrderEvent, Topic, partition_of, time::SECOND};

/// A worker that is alone lives through so many refreshes of history under one stamp.
const TOGETHER: u64 = 64;

/// Stamps of a refresh: more than it has ticks, as no tick is shorter than a second and no refresh
/// longer than an hour.
const STAMPS: u64 = 4_096;

/// What the shell tells every worker, all of them the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Control {
    /// Live on to this market time.
    Run(Millis),
    /// Put a command into effect; it comes before the leave to run past its time.
    Command(Command),
    /// Give a snapshot at the start of this refresh; it comes before the leave to run to it.
    Snapshot(u64),
    /// End.
    Stop,
}

/// What comes out of a worker.
pub enum Output {
    /// Records, complete up to a market time.
    Release(Release),
    /// Figures, from one of the workers.
    Figures(Figures),
    /// The worker's part of the snapshot at the start of this refresh.
    Part(u64, Part),
    /// What no shop knows of a refresh.
    Truth(Vec<Truth>),
}

/// Records of a worker's partitions: in each partition, in order.
pub struct Release {
    /// Whose.
    pub worker: usize,
    /// All records of these partitions up to here are out.
    pub until: Millis,
    /// Partition and event, in the order (at, topic, `event_id`).
    pub records: Vec<(u32, Event)>,
}

/// An event with its partition.
type Routed = (u32, Event);

/// The refresh that an event is of, and the event.
type OfRefresh = (u64, Routed);

/// Builds the market in a dataflow. `out` takes what comes out, on the worker that it comes from,
/// with what no shop knows where `truth` asks for it; the working set goes through `cache`, which
/// all workers share.
#[expect(clippy::too_many_arguments, reason = "each is another thing, and there are two callers")]
pub fn market<'scope>(
    scope: Scope<'scope, u64>,
    settings: &Settings,
    snapshot: Option<&Snapshot>,
    commands: &[Command],
    control: Stream<'scope, u64, Vec<Control>>,
    out: Rc<dyn Fn(Output)>,
    cache: Arc<dyn Cache>,
    truth: bool,
) {
    let (handle, news) = scope.feedback(1);
    let mut live = Market::new(settings.clone(), scope.index(), scope.peers(), snapshot, commands);
    if truth {
        live.tell_truth();
    }
    let (told, events) = generate(scope, live, control, news, out.clone(), cache);
    told.connect_loop(handle);
    let orders_at = snapshot.map_or_else(
        || vec![settings.origin; settings.partitions[Topic::Orders as usize] as usize],
        |snapshot| snapshot.orders_at.clone(),
    );
    release(events, settings.clone(), orders_at, out);
}

/// What workers say to each other.
#[derive(Clone, Serialize, Deserialize)]
enum News {
    /// What a worker's customers would have the next refresh be.
    Proposal(Arc<Proposal>),
    /// The set of this refresh can be read from the cache, if at all.
    Cached(u64),
}

/// News and the worker they go to.
type Told = (usize, News);

/// What a worker has heard, and not acted on yet.
#[derive(Default)]
struct Heard {
    /// It may live on to here.
    leave: Millis,
    /// Refreshes at whose start a snapshot is asked for.
    snapshots: Vec<u64>,
    proposals: BTreeMap<u64, Vec<Arc<Proposal>>>,
    /// The newest refresh whose set went to the cache.
    cached: Option<u64>,
    stopped: bool,
}

impl Heard {
    fn control(&mut self, control: Control, market: &mut Market) {
        match control {
            Control::Run(until) => self.leave = self.leave.max(until),
            Control::Command(command) => market.common.scenarios.commands.push(command),
            Control::Snapshot(refresh) => self.snapshots.push(refresh),
            Control::Stop => self.stopped = true,
        }
    }

    fn news(&mut self, news: News) {
        match news {
            News::Proposal(proposal) => {
                self.proposals.entry(proposal.refresh).or_default().push(proposal);
            }
            News::Cached(refresh) => self.cached = Some(refresh),
        }
    }

    /// The proposals for a refresh, once so many are there.
    fn all_proposals(&mut self, refresh: u64, peers: usize) -> Option<Vec<Arc<Proposal>>> {
        let are_all = self.proposals.get(&refresh).is_some_and(|heard| heard.len() == peers);
        are_all.then(|| self.proposals.remove(&refresh))?
    }
}

/// Runs the market as far as it has leave to, refresh by refresh.
fn generate<'scope>(
    scope: Scope<'scope, u64>,
    mut market: Market,
    control: Stream<'scope, u64, Vec<Control>>,
    news: Stream<'scope, u64, Vec<Told>>,
    out: Rc<dyn Fn(Output)>,
    cache: Arc<dyn Cache>,
) -> (Stream<'scope, u64, Vec<Told>>, Stream<'scope, u64, Vec<OfRefresh>>) {
    let peers = scope.peers();
    let leader = scope.index();
    let leads = leader == 0;
    let mut builder = OperatorBuilder::new("Market".to_owned(), scope);
    // What goes out has the stamps of the market's own progress, not those of what comes in.
    let mut control = builder.new_input_connection(control, Pipeline, []);
    let pact = Exchange::new(|told: &Told| told.0 as u64);
    let mut news = builder.new_input_connection(news, pact, []);
    let (told, told_stream) = builder.new_output_connection([]);
    let (events, events_stream) = builder.new_output_connection([]);
    let mut told = OutputBuilder::<_, CapacityContainerBuilder<Vec<Told>>>::from(told);
    let mut events = OutputBuilder::<_, CapacityContainerBuilder<Vec<OfRefresh>>>::from(events);

    let activator = scope.activator_for(builder.operator_info().address);
    builder.build(move |mut capabilities| {
        let (mut of_events, mut of_told) = (capabilities.pop(), capabilities.pop());
        let mut heard = Heard { leave: Millis::MIN, ..Heard::default() };
        // The refresh whose proposal is out.
        let mut proposed = None;
        // The refresh at which a worker that is alone has let the others of the graph run.
        let mut rested = None;
        move |_frontiers| {
            control.for_each(|_, messages| {
                messages.drain(..).for_each(|control| heard.control(control, &mut market));
            });
            news.for_each(|_, messages| messages.drain(..).for_each(|(_, news)| heard.news(news)));
            if heard.stopped {
                (of_events, of_told) = (None, None);
            }
            let (Some(of_events), Some(of_told)) = (&mut of_events, &mut of_told) else { return };
            let mut told = told.activate();
            let mut events = events.activate();
            loop {
                let refresh = market.common.refresh;
                if market.next_tick().is_none() {
                    if proposed != Some(refresh) {
                        // Who hears nobody else need not stop at each refresh, only now and then, and
                        // where it has no leave to go on: what follows belongs to this refresh.
                        let stops = market.settings.border(refresh) >= heard.leave;
                        if peers > 1 || stops || refresh.is_multiple_of(TOGETHER) {
                            of_events.downgrade(&(refresh * STAMPS));
                            of_told.downgrade(&(refresh * STAMPS));
                            if peers == 1 && rested != Some(refresh) {
                                rested = Some(refresh);
                                activator.activate();
                                return;
                            }
                        }
                        if leads {
                            out(Output::Figures(market.figures()));
                        }
                        if heard.snapshots.contains(&refresh) {
                            heard.snapshots.retain(|other| *other > refresh);
                            out(Output::Part(refresh, market.part()));
                        }
                        let proposal = Arc::new(market.propose());
                        if peers > 1 {
                            let others = (1..peers).map(|it| (leader + it) % peers);
                            let tell = |peer| (peer, News::Proposal(proposal.clone()));
                            told.session(&*of_told).give_iterator(others.map(tell));
                        }
                        heard.news(News::Proposal(proposal));
                        proposed = Some(refresh);
                    }
                    let Some(proposals) = heard.all_proposals(refresh, peers) else { return };
                    let mut session = events.session(&*of_events);
                    let partitions = market.settings.partitions;
                    market.begin(&proposals, &mut |event| {
                        session.give((refresh, route(event, &partitions)));
                    });
                    if leads {
                        let by_id = |set: &_| ById::new(&market, set);
                        cache.put(market.is_live(), &|| market.cached_set(), &by_id);
                        heard.cached = Some(refresh);
                        if market.is_live() {
                            let tell = |peer| (peer, News::Cached(refresh));
                            told.session(&*of_told).give_iterator((1..peers).map(tell));
                        }
                    }
                }
                let mut session = events.session(&*of_events);
                let partitions = market.settings.partitions;
                while let Some(at) = market.next_tick() {
                    if at > heard.leave {
                        drop(session);
                        // What has happened so far can go out.
                        of_events.downgrade(&(refresh * STAMPS + market.tick as u64));
                        return;
                    }
                    if market.tick == 0 && market.is_live() {
                        if heard.cached < Some(refresh) {
                            return;
                        }
                        cache.count(market.read(cache.get(refresh).as_ref()));
                    }
                    market.run_tick(&mut |event| {
                        session.give((refresh, route(event, &partitions)));
                    });
                }
                if let Some(truth) = &mut market.truth {
                    out(Output::Truth(std::mem::take(truth)));
                }
            }
        }
    });
    (told_stream, events_stream)
}

/// Finds an event's partition.
fn route(event: Event, partitions: &[u32; 4]) -> Routed {
    let key = event.key().unwrap_or_default();
    (partition_of(key.as_bytes(), partitions[event.topic() as usize]), event)
}

/// Hands out what is complete, in order, and fills silence in orders with heartbeats.
fn release(
    events: Stream<'_, u64, Vec<OfRefresh>>,
    settings: Settings,
    mut orders_at: Vec<Millis>,
    out: Rc<dyn Fn(Output)>,
) {
    let (worker, peers) = (events.scope().index(), events.scope().peers());
    let mut pending: Vec<(u64, OfRefresh)> = Vec::new();
    let mut released = 0;
    let pact = Exchange::new(|(_, (partition, _)): &OfRefresh| u64::from(*partition));
    events.sink(pact, "Release", move |(input, frontier)| {
        input.for_each(|stamp, events| {
            let stamp = *stamp.least().expect("events have a time");
            pending.extend(events.drain(..).map(|event| (stamp, event)));
        });
        // An empty frontier is the end: what is not complete then will be made again.
        let Some(stamp) = frontier.frontier().first().copied() else { return };
        if stamp <= released {
            return;
        }
        released = stamp;
        let until = match (stamp / STAMPS, stamp % STAMPS) {
            (refresh, 0) => settings.border(refresh),
            (refresh, tick) => settings.ticks(refresh)[tick as usize - 1],
        };
        // A worker that heard of its leave later than others has run on under its old stamp: what it
        // did after `until` waits for what the others do then.
        let complete =
            |(of, (_, (_, event))): &mut (u64, OfRefresh)| *of < stamp && event.at() <= until;
        let mut records: Vec<OfRefresh> =
            pending.extract_if(.., complete).map(|(_, event)| event).collect();
        // What a refresh ends with comes before what the next one begins with, at the same instant.
        records.sort_by_key(|(refresh, (_, event))| {
            (*refresh, event.at(), event.topic(), event.event_id())
        });
        let records = records.into_iter().map(|(_, record)| record);
        let records = settings.with_heartbeats(records, &mut orders_at, until, |partition| {
            partition as usize % peers == worker
        });
        out(Output::Release(Release { worker, until, records }));
    });
}

impl Settings {
    /// Adds a heartbeat wherever a partition of orders was silent too long: [`SILENCE`] of market
    /// time in history, 10 s live.
    fn with_heartbeats(
        &self,
        events: impl ExactSizeIterator<Item = Routed>,
        orders_at: &mut [Millis],
        until: Millis,
        mine: impl Fn(u32) -> bool,
    ) -> Vec<Routed> {
        let mut records = Vec::with_capacity(events.len());
        let beat = |records: &mut Vec<Routed>, partition: u32, last: &mut Millis, until: Millis| {
            while self.silent_until(*last) <= until {
                *last = self.silent_until(*last);
                records.push((partition, Event::Heartbeat(*last)));
            }
        };
        for (partition, event) in events {
            if let Event::Order(OrderEvent { order, .. }) = &event {
                let last = &mut orders_at[partition as usize];
                beat(&mut records, partition, last, order.at);
                *last = order.at;
            }
            records.push((partition, event));
        }
        for partition in (0..orders_at.len() as u32).filter(|partition| mine(*partition)) {
            beat(&mut records, partition, &mut orders_at[partition as usize], until);
        }
        records
    }

    fn silent_until(&self, last: Millis) -> Millis {
        if last >= self.start {
            last + 10 * SECOND
        } else {
            (last + SILENCE).min(self.start + 10 * SECOND)
        }
    }
}
