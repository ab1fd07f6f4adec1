//! The graph of the analytics: inputs, ledger, queries, and the one stream that is committed.

mod commit;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod story;

pub use commit::{Closed, Output, commit};

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use differential_dataflow::AsCollection;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::vec::input::Handle as InputHandle;
use timely::dataflow::operators::vec::{Input, Map};
use timely::dataflow::operators::{Concatenate, Operator, ToStream};
use timely::dataflow::{Scope, Stream};

use crate::ledger::{Origin, Sourced, Tally, conflict_row, ledger_row};
use crate::model::time::{day_of, minute_of, month_of};
use crate::model::{
    Event, Millis, Order, OrderEvent, OrderKind, ProductEvent, Record, ScenarioEvent, Topic,
    UserEvent,
};
use crate::operators::{
    CustomerFact, Entry, Graded, Sums, counted, deduplicate, distinct, grades, latest_by_key,
    lifetimes, live_orders, now, preaggregate,
};
use crate::queries::{Inputs, Query, Table};
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

/// The tables that a graph keeps: [`BASE_TABLES`], and behind them one for each of its queries.
#[derive(Clone, Debug)]
pub struct Tables(Arc<[Query]>);

impl Tables {
    /// With those of some queries.
    pub fn of(queries: &[Query]) -> Tables {
        Tables(queries.into())
    }

    /// The queries.
    pub fn queries(&self) -> &[Query] {
        &self.0
    }

    /// The queries' tables, each with its number.
    pub fn results(&self) -> impl Iterator<Item = (u16, &'static str)> {
        (BASE_TABLES.len() as u16..).zip(self.0.iter().map(|query| query.name))
    }

    /// The name of the table of a number.
    pub fn name(&self, table: u16) -> &'static str {
        let table = usize::from(table);
        let base = BASE_TABLES.get(table).copied();
        base.unwrap_or_else(|| self.0[table - BASE_TABLES.len()].name)
    }
}

type Handle<D> = InputHandle<Epoch, D>;

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
    /// In which of timely's identifiers the operators of each query are; all others are shared.
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

    /// Closes all epochs before `epoch`.
    pub fn advance_to(&mut self, epoch: Epoch) {
        self.users.advance_to(epoch);
        self.products.advance_to(epoch);
        self.orders.advance_to(epoch);
        self.scenarios.advance_to(epoch);
        self.reached.advance_to(epoch);
        self.outputs.advance_to(epoch);
    }

    /// The open epoch.
    pub fn epoch(&self) -> Epoch {
        *self.reached.time()
    }
}

/// Where the analytics begin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Begin {
    /// Up to this epoch what comes in is already in the base tables.
    pub hydrated: Epoch,
    /// `now` as committed last.
    pub now: Option<Millis>,
}

/// Builds the graph that keeps some tables; returns its writing ends and everything that is to be
/// committed.
pub fn analytics<'s>(
    scope: Scope<'s, Epoch>,
    begin: Begin,
    tables: &Tables,
) -> (Handles, Stream<'s, Epoch, Vec<Output>>) {
    let (users_in, users) = scope.new_input();
    let (products_in, products) = scope.new_input();
    let (orders_in, orders) = scope.new_input();
    let (scenarios_in, scenarios) = scope.new_input();
    let (reached_in, reached) = scope.new_input();
    let (outputs_in, direct) = scope.new_input();
    let mut outputs = vec![direct];

    let users = ledger(users, begin, &mut outputs);
    let products = ledger(products, begin, &mut outputs);
    let scenarios = ledger(scenarios, begin, &mut outputs);
    let orders = counted(ledger(orders, begin, &mut outputs), begin.hydrated);

    let now = now(reached, begin.now.unwrap_or(Millis::MIN));
    outputs.push(now.clone().map(Output::Now));

    let inputs = inputs(scope, begin, orders, users, products, scenarios, now);
    let mut queries = Vec::new();
    for ((table, _), query) in tables.results().zip(tables.queries()) {
        let first = scope.worker().peek_identifier();
        let rows = (query.build)(&inputs, Table(table));
        outputs.push(rows.inner.map(|(row, epoch, diff)| Output::Row { row, epoch, diff }));
        queries.push((query.name, first..scope.worker().peek_identifier()));
    }

    let handles = Handles {
        users: users_in,
        products: products_in,
        orders: orders_in,
        scenarios: scenarios_in,
        reached: reached_in,
        outputs: outputs_in,
        queries,
    };
    (handles, scope.concatenate(outputs))
}

/// What the queries read, from the accepted events and `now`.
fn inputs<'s>(
    scope: Scope<'s, Epoch>,
    begin: Begin,
    orders: Collection<'s, Order>,
    users: Collection<'s, UserEvent>,
    products: Collection<'s, ProductEvent>,
    scenarios: Collection<'s, ScenarioEvent>,
    now: Stream<'s, Epoch, Vec<Millis>>,
) -> Inputs<'s> {
    let users = latest_by_key(users, "newest of a customer", |event| event.user.user_id);
    let products = latest_by_key(products, "newest of a product", |event| event.product.product_id);

    let known = users.clone().map(|(user_id, _event)| Entry::known(user_id));
    let graded = grades(orders.clone().map(|order| Entry::of(&order)).concat(known), now.clone());
    let standing = live_orders(orders.clone());
    let lived = lifetimes(orders.clone(), standing);

    Inputs {
        by_minute: preaggregate(orders.clone(), "sums by minute", |order, add| {
            add(minute_of(order.at), Sums::of(order.event, order.units(), order.amount()));
        }),
        by_category: preaggregate(orders.clone(), "sums by category", |order, add| {
            let day = day_of(order.at);
            for (place, line) in order.lines.iter().enumerate() {
                let sums = Sums::of(order.event, line.quantity, line.amount());
                let again = order.lines[..place].iter().any(|it| it.category == line.category);
                add((day, line.category.clone()), if again { sums.of_same_event() } else { sums });
            }
        }),
        buyers_by_month: distinct(
            orders
                .clone()
                .filter(|order| order.event == OrderKind::Placed)
                .map(|order| (month_of(day_of(order.at)), order.user_id)),
            "buyers by month",
        ),
        lifetimes: lived.clone().flat_map(|(user_id, lived)| match lived {
            CustomerFact::Lifetime(lifetime) => Some((user_id, lifetime)),
            CustomerFact::Repurchase(_) => None,
        }),
        habits: lived.flat_map(|(user_id, lived)| match lived {
            CustomerFact::Repurchase(habit) => Some((user_id, habit)),
            CustomerFact::Lifetime(_) => None,
        }),
        orders,
        users,
        products,
        scenarios,
        standings: graded.clone().flat_map(|(user_id, graded)| match graded {
            Graded::Standing(standing) => Some((user_id, standing)),
            _ => None,
        }),
        grades: graded.clone().flat_map(|(user_id, graded)| match graded {
            Graded::Grade(grade) => Some((user_id, grade)),
            _ => None,
        }),
        grade_changes: graded.flat_map(|(user_id, graded)| match graded {
            Graded::Change(change) => Some((user_id, change)),
            _ => None,
        }),
        now,
        always: (scope.index() == 0)
            .then_some(((), begin.hydrated, 1))
            .to_stream(scope)
            .as_collection(),
    }
}

type Events<'s, E> = Stream<'s, Epoch, Vec<Sourced<E>>>;

/// Books the first event of each id: a row of the base table and a tally, unless they are there
/// already, and the event for the queries. Of the others it tells.
fn ledger<'s, E: Record>(
    events: Events<'s, E>,
    begin: Begin,
    outputs: &mut Vec<Stream<'s, Epoch, Vec<Output>>>,
) -> Collection<'s, E> {
    let deduplicated = deduplicate(events, E::TOPIC.name(), begin.hydrated, E::event_id);
    outputs.push(not_counted(deduplicated.copies, deduplicated.conflicts));
    outputs.push(
        deduplicated.accepted.clone().unary::<CapacityContainerBuilder<Vec<Output>>, _, _, _>(
            Pipeline,
            "ledger rows",
            move |_capability, _info| {
                move |input, output| {
                    input.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        if epoch <= begin.hydrated {
                            return;
                        }
                        let mut session = output.session(&capability);
                        let mut tallies = Tallies::default();
                        for sourced in batches.flat_map(|batch| batch.drain(..)) {
                            let row = ledger_row(ledger_table(E::TOPIC), &sourced);
                            session.give(Output::Row { row, epoch, diff: 1 });
                            let tally = tallies.of(sourced.origin.partition);
                            tally.counted += 1;
                            tally.amount = tally.amount.wrapping_add(sourced.event.amount().0);
                            tally.hash = tally.hash.wrapping_add(sourced.origin.hash);
                        }
                        tallies.give(E::TOPIC, |output| session.give(output));
                    });
                }
            },
        ),
    );
    deduplicated
        .accepted
        .unary::<CapacityContainerBuilder<Vec<(E, Epoch, isize)>>, _, _, _>(
            Pipeline,
            "ledger",
            |_capability, _info| {
                |input, output| {
                    input.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        let mut session = output.session(&capability);
                        for sourced in batches.flat_map(|batch| batch.drain(..)) {
                            session.give((sourced.event, epoch, 1));
                        }
                    });
                }
            },
        )
        .as_collection()
}

/// Tallies copies, and tells of conflicts as of dead letters.
fn not_counted<'s, E: Record>(
    copies: Events<'s, E>,
    conflicts: Events<'s, E>,
) -> Stream<'s, Epoch, Vec<Output>> {
    copies.binary::<_, CapacityContainerBuilder<Vec<Output>>, _, _, _, _>(
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
                    let mut session = output.session(&capability);
                    tallies.give(E::TOPIC, |output| session.give(output));
                });
                conflicts.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let mut tallies = Tallies::default();
                    let mut session = output.session(&capability);
                    for sourced in batches.flat_map(|batch| batch.drain(..)) {
                        tallies.of(sourced.origin.partition).dead += 1;
                        let row = conflict_row(DEAD_LETTERS, &sourced);
                        session.give(Output::Row { row, epoch, diff: 1 });
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
