//! The graph of the analytics: inputs, ledger, queries, and the one stream that is committed.

mod commit;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod restarts;
#[cfg(test)]
pub(crate) mod story;

pub(crate) use commit::Outputs;
pub use commit::{Closed, Output, commit};

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use differential_dataflow::AsCollection;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::input::Handle as InputHandle;
use timely::dataflow::operators::vec::{Filter, Input, Map};
use timely::dataflow::operators::{Concat, Concatenate, Operator};
use timely::dataflow::{Scope, Stream};

use crate::keeper::Keeper;
use crate::ledger::{Origin, Sourced, Tally, conflict_row, ledger_row};
use crate::model::{
    Event, Millis, OrderEvent, ProductEvent, Record, ScenarioEvent, Topic, UserEvent,
};
use crate::operators::{at_cuts, cuts, deduplicate, latest_by_key};
use crate::passes::{buckets, customers};
use crate::queries::{All, Inputs, QUERIES, Query, Table};
use crate::row::{Fate, RowBatch};
use crate::views::Hub;
use crate::{Collection, Epoch};

/// Tables that are only appended to: a ledger for each topic, in [`Topic::ALL`]'s order, and the
/// dead letters. They come first in the numbering of tables; the queries' tables follow.
pub const BASE_TABLES: [&str; 5] = [
    Topic::Users.ledger(),
    Topic::Products.ledger(),
    Topic::Orders.ledger(),
    Topic::Scenarios.ledger(),
    "dead_letters",
];

/// The number of the table of dead letters.
pub const DEAD_LETTERS: u16 = 4;

/// The number of the ledger of a topic.
pub fn ledger_table(topic: Topic) -> u16 {
    topic as u16
}

/// The tables that a graph keeps: [`BASE_TABLES`], behind them one for each of its queries, and those of
/// standing views, which come and go.
#[derive(Clone, Debug)]
pub struct Tables {
    queries: Arc<[Query]>,
    others: Arc<RwLock<BTreeMap<u16, String>>>,
}

impl Tables {
    /// With those of some queries.
    pub fn of(queries: &[Query]) -> Tables {
        Tables { queries: queries.into(), others: Arc::default() }
    }

    /// The queries.
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// Gives a number to the table of a standing view; whoever has these tables knows it then.
    pub fn number(&self, name: &str) -> u16 {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        let last = others.last_key_value().map_or(FIRST_OF_VIEWS - 1, |(last, _)| *last);
        others.insert(last + 1, name.to_owned());
        last + 1
    }

    /// The queries' tables, each with its number.
    pub fn results(&self) -> impl Iterator<Item = (u16, &'static str)> {
        (BASE_TABLES.len() as u16..).zip(self.queries.iter().map(|query| query.name))
    }

    /// The tables of standing views, each with its number.
    pub fn others(&self) -> Vec<(u16, String)> {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.iter().map(|(number, name)| (*number, name.clone())).collect()
    }

    /// Whether a number is that of a query's table.
    pub fn is_result(table: u16) -> bool {
        (BASE_TABLES.len() as u16..FIRST_OF_VIEWS).contains(&table)
    }

    /// The name of the table of a number.
    pub fn name(&self, table: u16) -> Cow<'static, str> {
        let known = |number: &u16| usize::from(*number) - BASE_TABLES.len();
        if let Some(base) = BASE_TABLES.get(usize::from(table)) {
            return Cow::Borrowed(base);
        }
        if let Some(query) = self.queries.get(known(&table)) {
            return Cow::Borrowed(query.name);
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        Cow::Owned(others.get(&table).cloned().unwrap_or_default())
    }
}

/// The number of the first table of a standing view; those before are the program's own.
const FIRST_OF_VIEWS: u16 = 1_000;

/// A writing end.
pub type Handle<D> = InputHandle<Epoch, D>;

/// The graph at one worker, from outside: its writing ends, and which operators are whose.
pub struct Handles {
    /// Records of topic `users`.
    pub users: Handle<Sourced<UserEvent>>,
    /// Records of topic `products`.
    pub products: Handle<Sourced<ProductEvent>>,
    /// Records of topic `orders`, without heartbeats.
    pub orders: Handle<Sourced<OrderEvent>>,
    /// Records of topic `scenarios`.
    pub scenarios: Handle<Sourced<ScenarioEvent>>,
    /// Partitions of `orders` and the time reached in each.
    pub reached: Handle<(u32, Millis)>,
    /// What goes to the commit as it is: tallies of reading, dead letters, stored rows.
    pub outputs: Handle<Output>,
    /// The cuts.
    cuts: Handle<()>,
    /// In which of timely's identifiers the operators of each query's own are; all others are shared.
    pub queries: Vec<(&'static str, Range<usize>)>,
}

impl Handles {
    /// Sends an event to its input; of a heartbeat there is nothing to be counted.
    pub fn send(&mut self, origin: Origin, event: Event) {
        match event {
            Event::User(event) => self.users.send(Sourced { origin, event }),
            Event::Product(event) => self.products.send(Sourced { origin, event }),
            Event::Order(event) => self.orders.send(Sourced { origin, event }),
            Event::Scenario(event) => self.scenarios.send(Sourced { origin, event }),
            Event::Heartbeat(_) => {}
        }
    }

    /// Has the rows made of all that every worker reads up to the end of the open epoch, and handed to the
    /// commit. One worker asks for it.
    pub fn cut(&mut self) {
        self.cuts.send(());
        self.outputs.send(Output::Cut);
    }

    /// Closes all epochs before `epoch`.
    pub fn advance_to(&mut self, epoch: Epoch) {
        self.users.advance_to(epoch);
        self.products.advance_to(epoch);
        self.orders.advance_to(epoch);
        self.scenarios.advance_to(epoch);
        self.reached.advance_to(epoch);
        self.outputs.advance_to(epoch);
        self.cuts.advance_to(epoch);
    }

    /// The open epoch.
    pub fn epoch(&self) -> Epoch {
        *self.reached.time()
    }
}

/// Where the analytics begin.
#[derive(Clone, Default)]
pub struct Begin {
    /// Up to this epoch what comes in is already in the base tables.
    pub hydrated: Epoch,
    /// `now` as committed last.
    pub now: Option<Millis>,
    /// Where the graph's state lasts. If it is one of an earlier epoch, what comes in up to `hydrated` is what
    /// was counted since.
    pub keeper: Keeper,
}

/// Builds the graph that keeps some tables. Returns its writing ends; that for what standing views have to be
/// committed, which is moved on by itself, and which a cut has to pass; and everything that is to be
/// committed. The hub hears of it all but the views'.
pub fn analytics<'s>(
    scope: Scope<'s, Epoch>,
    begin: &Begin,
    tables: &Tables,
    hub: &Hub,
) -> (Handles, Handle<Output>, Stream<'s, Epoch, Vec<Output>>) {
    let (users_in, users) = scope.new_input();
    let (products_in, products) = scope.new_input();
    let (orders_in, orders) = scope.new_input();
    let (scenarios_in, scenarios) = scope.new_input();
    let (reached_in, reached) = scope.new_input();
    let (outputs_in, direct) = scope.new_input();
    let mut outputs = vec![direct];

    let (cuts_in, asked) = scope.new_input();

    let users = ledger(users, begin, hub, &mut outputs);
    let products = ledger(products, begin, hub, &mut outputs);
    let scenarios = ledger(scenarios, begin, hub, &mut outputs);
    let orders = ledger(orders, begin, hub, &mut outputs);

    let now = cuts(reached, asked, begin.now.unwrap_or(Millis::MIN));
    let told_here = scope.index() == 0;
    let known = now.clone().filter(move |now| told_here && *now > Millis::MIN);
    outputs.push(known.map(Output::Now));

    let mut parts = vec![None; QUERIES.len()];
    for ((table, _), query) in tables.results().zip(tables.queries()) {
        parts[query.part] = Some(Table(table));
    }
    // Those that make more of their sums than rows have them to themselves.
    let joined = tables.queries().iter().filter_map(|query| Some((query, query.rows?)));
    let apart: Vec<usize> = joined.clone().map(|(query, _build)| query.part).collect();
    let (rows, sums) =
        customers::<All>(orders, users, now.clone(), parts.clone(), &apart, hub, begin);
    outputs.push(rows);
    let mut sums = sums.into_iter();
    let shared = sums.next().expect("there is one more than queries");

    let products = as_collection(products);
    let products =
        latest_by_key(products, "newest of a product", &begin.keeper, |event: &ProductEvent| {
            event.product.product_id
        });
    let inputs = Inputs {
        products: at_cuts(products, now.clone()),
        scenarios: at_cuts(as_collection(scenarios), now.clone()),
        now,
        keeper: begin.keeper.clone(),
    };
    let kept = parts.clone();
    outputs.push(buckets(shared.sums, &begin.keeper, move |bucket, sums| {
        let part = usize::from(bucket.part);
        let table = kept[part].expect("only kept tables are contributed to");
        (QUERIES[part].bucket_row)(bucket, sums, table)
            .expect("who adds to buckets has a row of them")
    }));
    let mut queries = Vec::new();
    for ((query, build), sums) in joined.zip(sums) {
        let first = scope.worker().peek_identifier();
        let table = parts[query.part].expect("it is kept");
        outputs.push(build(&inputs, sums, table));
        queries.push((query.name, first..scope.worker().peek_identifier()));
    }

    let (views_in, views) = scope.new_input();
    let told = heard(scope.concatenate(outputs), hub);

    let handles = Handles {
        users: users_in,
        products: products_in,
        orders: orders_in,
        scenarios: scenarios_in,
        reached: reached_in,
        outputs: outputs_in,
        cuts: cuts_in,
        queries,
    };
    (handles, views_in, told.concat(views))
}

/// Tells the hub what changes, and up to where all of it is told.
fn heard<'s>(outputs: Stream<'s, Epoch, Vec<Output>>, hub: &Hub) -> Stream<'s, Epoch, Vec<Output>> {
    let hub = hub.clone();
    outputs.unary_frontier::<CapacityContainerBuilder<Vec<Output>>, _, _, _>(
        Pipeline,
        "heard",
        |_capability, _info| {
            move |(input, frontier), output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let mut session = output.session(&capability);
                    for batch in batches {
                        for output in &*batch {
                            match output {
                                Output::Rows(rows) => hub.rows(epoch, rows),
                                Output::Now(now) => hub.cut(epoch, Some(*now)),
                                Output::Cut => hub.cut(epoch, None),
                                Output::Tally(..) => {}
                            }
                        }
                        session.give_container(batch);
                    }
                });
                hub.goes_on(frontier.frontier().first().copied());
            }
        },
    )
}

/// Events that come, as a collection.
fn as_collection<E: Record>(events: Stream<'_, Epoch, Vec<E>>) -> Collection<'_, E> {
    let each = events.unary::<CapacityContainerBuilder<Vec<(E, Epoch, isize)>>, _, _, _>(
        Pipeline,
        "as a collection",
        |_capability, _info| {
            |input, output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let events = batches.flat_map(|batch| batch.drain(..));
                    output
                        .session(&capability)
                        .give_iterator(events.map(|event| (event, epoch, 1)));
                });
            }
        },
    );
    each.as_collection()
}

type Events<'s, E> = Stream<'s, Epoch, Vec<Sourced<E>>>;

/// Books the first event of each id: a row of the base table and a tally, unless they are there
/// already, and the event for the queries. Of the others it tells.
fn ledger<'s, E: Record>(
    events: Events<'s, E>,
    begin: &Begin,
    hub: &Hub,
    outputs: &mut Vec<Stream<'s, Epoch, Vec<Output>>>,
) -> Stream<'s, Epoch, Vec<E>> {
    let deduplicated =
        deduplicate(events, E::TOPIC.name(), begin.hydrated, &begin.keeper, E::event_id);
    let hydrated = begin.hydrated;
    outputs.push(not_counted(deduplicated.copies, deduplicated.conflicts));
    let hub = hub.clone();
    outputs.push(deduplicated.accepted.clone().unary::<Outputs, _, _, _>(
        Pipeline,
        "ledger rows",
        move |_capability, _info| {
            move |input, output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    if epoch <= hydrated {
                        // They are in the store, and views hear of them as of others.
                        if hub.wants(epoch, ledger_table(E::TOPIC)) {
                            hub.rows(epoch, &rows_of(batches.flat_map(|batch| batch.drain(..))));
                        }
                        return;
                    }
                    let mut session = output.session_with_builder(&capability);
                    let mut tallies = Tallies::default();
                    for sourced in batches.flat_map(|batch| batch.drain(..)) {
                        let row = ledger_row(ledger_table(E::TOPIC), &sourced);
                        session.give((row, Fate::New));
                        let tally = tallies.of(sourced.origin.partition);
                        tally.counted += 1;
                        tally.amount = tally.amount.wrapping_add(sourced.event.amount().0);
                        tally.hash = tally.hash.wrapping_add(sourced.origin.hash);
                    }
                    tallies.give(E::TOPIC, |output| session.give(output));
                });
            }
        },
    ));
    deduplicated.accepted.map(|sourced| sourced.event)
}

/// The ledger's rows of events.
fn rows_of<E: Record>(events: impl Iterator<Item = Sourced<E>>) -> RowBatch {
    let mut rows = RowBatch::default();
    for sourced in events {
        rows.push(&ledger_row(ledger_table(E::TOPIC), &sourced), Fate::New);
    }
    rows
}

/// Tallies copies, and tells of conflicts as of dead letters.
fn not_counted<'s, E: Record>(
    copies: Events<'s, E>,
    conflicts: Events<'s, E>,
) -> Stream<'s, Epoch, Vec<Output>> {
    copies.binary::<_, Outputs, _, _, _, _>(
        conflicts,
        Pipeline,
        Pipeline,
        "not counted",
        |_capability, _info| {
            |copies, conflicts, output| {
                copies.for_each_stamp(|capability, batches| {
                    let mut tallies = Tallies::default();
                    for sourced in batches.flat_map(|batch| batch.drain(..)) {
                        tallies.of(sourced.origin.partition).duplicate += 1;
                    }
                    let mut session = output.session_with_builder(&capability);
                    tallies.give(E::TOPIC, |output| session.give(output));
                });
                conflicts.for_each_stamp(|capability, batches| {
                    let mut tallies = Tallies::default();
                    let mut session = output.session_with_builder(&capability);
                    for sourced in batches.flat_map(|batch| batch.drain(..)) {
                        tallies.of(sourced.origin.partition).dead += 1;
                        let row = conflict_row(DEAD_LETTERS, &sourced);
                        session.give((row, Fate::New));
                    }
                    tallies.give(E::TOPIC, |output| session.give(output));
                });
            }
        },
    )
}

/// Tallies of one topic's partitions.
#[derive(Default)]
struct Tallies(BTreeMap<u32, Tally>);

impl Tallies {
    fn of(&mut self, partition: u32) -> &mut Tally {
        self.0.entry(partition).or_default()
    }

    fn give(self, topic: Topic, mut give: impl FnMut(Output)) {
        for (partition, tally) in self.0 {
            give(Output::Tally(topic, partition, tally));
        }
    }
}
