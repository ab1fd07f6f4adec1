//! What a view reads, inside its dataflow: the past out of the store, and from then on what the hub tells.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::AsCollection;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{CapabilitySet, Operator};
use timely::dataflow::{Scope, Stream};

use super::flow::{Marks, Rows, hash};
use super::hub::{Ear, News};
use super::value::{Row, Type, Value, decode};
use crate::Epoch;
use crate::ledger::{Origin, Sourced, ledger_row, place};
use crate::model::{Event, Line, Millis, Order, OrderEvent, Topic, UserId};
use crate::operators::{HashMap, Stash, StateSize, Vecs};
use crate::passes::Entry;
use crate::row::{self, Cell, Fate, Fields, RowBatch, RowRef};

/// A relation that a view reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// The number of its rows.
    pub table: u16,
    /// The types of its columns.
    pub types: Vec<Type>,
    /// Columns, by their places, that a view has no values of.
    pub hidden: Vec<usize>,
    /// So many of its first columns are its key, by which a row takes the place of another; none where rows
    /// are only added and taken away.
    pub key: usize,
}

/// The numbers of what is a relation for views only: the events of orders that count, and their lines; and one
/// row with the time of the market.
pub const COUNTED_ORDER_EVENTS: u16 = u16::MAX;
/// See [`COUNTED_ORDER_EVENTS`].
pub const ORDER_LINES: u16 = u16::MAX - 1;
/// See [`COUNTED_ORDER_EVENTS`].
pub const MARKET: u16 = u16::MAX - 2;

/// Changes of relations: the place of the relation among those that the view reads, a row, and what becomes
/// of it.
pub(super) type Changes = Vec<(usize, Row, Fate)>;

/// Changes of one relation.
pub(super) type Change = Vec<(Row, Fate)>;

/// Rows of the store as values.
#[derive(Default)]
pub(super) struct Reader {
    /// Most words come again and again.
    words: HashMap<Box<[u8]>, Value>,
}

/// So many words are kept, of so many bytes at most.
const WORDS: (usize, usize) = (4_096, 24);

impl Reader {
    /// A row of a relation.
    pub(super) fn read(&mut self, relation: &Source, row: RowRef<'_>) -> Option<Row> {
        if [Topic::Orders as u16, COUNTED_ORDER_EVENTS].contains(&relation.table) {
            return order_event(row.value());
        }
        let mut fields = Fields(row.fields());
        let value = |(place, of): (usize, &Type)| match (of, fields.bytes()) {
            _ if relation.hidden.contains(&place) => Some(Value::Null),
            (Type::Text, Some(word)) if word.len() <= WORDS.1 => self.word(word),
            (of, field) => decode(field, of),
        };
        relation.types.iter().enumerate().map(value).collect()
    }

    fn word(&mut self, word: &[u8]) -> Option<Value> {
        if let Some(known) = self.words.get(word) {
            return Some(known.clone());
        }
        let value = decode(Some(word), &Type::Text)?;
        if self.words.len() < WORDS.0 {
            self.words.insert(word.into(), value.clone());
        }
        Some(value)
    }

    /// The rows of a batch that are of relations which the view reads.
    pub(super) fn changes<'r>(
        &'r mut self,
        relations: &'r [Source],
        rows: &'r RowBatch,
    ) -> impl Iterator<Item = (usize, Row, Fate)> + 'r {
        rows.iter().filter_map(|row| {
            if row.fate == Fate::Stored {
                return None;
            }
            let place = relations.iter().position(|it| it.table == row.table)?;
            // What the engine wrote it can read.
            let values = self.read(&relations[place], row).expect("a row has its types");
            Some((place, values, row.fate))
        })
    }
}

/// The columns of `order_events`, of a row of the narrow ledger.
fn order_event(row: &[u8]) -> Option<Row> {
    let mut fields = Fields(row);
    let (event_id, partition, offset) = place(Topic::Orders, &mut fields);
    let Ok(Event::Order(OrderEvent { order, .. })) =
        Event::take(Topic::Orders, event_id, &mut fields)
    else {
        return None;
    };
    let list = |of: &dyn Fn(&Line) -> Value| {
        Value::Array(order.lines.iter().map(of).collect::<Arc<[Value]>>())
    };
    Some(Arc::new([
        Value::Numeric(Box::new(event_id.into())),
        Value::Int(partition.into()),
        Value::Int(offset as i64),
        instant(order.at),
        Value::Text(order.event.word().into()),
        Value::Int(order.order_id.0),
        Value::Int(order.user_id.0),
        instant(order.ordered_at),
        list(&|line| Value::Int(line.product_id.0)),
        list(&|line| Value::Text((&*line.category).into())),
        list(&|line| Value::Int(line.quantity)),
        list(&|line| Value::Int(line.unit_price.0)),
    ]))
}

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL's clock starts.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// An instant in PostgreSQL's microseconds.
pub fn micros(at: Millis) -> i64 {
    at * 1_000 - POSTGRES_EPOCH
}

fn instant(at: Millis) -> Value {
    Value::Instant(micros(at))
}

/// Reads what an ear hears of epochs behind `after`; ends when `held` is emptied. The second stream is that
/// of the cuts, with `now` in PostgreSQL's microseconds.
pub(super) fn hear<'s>(
    scope: Scope<'s, Epoch>,
    ear: &Rc<Ear>,
    relations: Rc<[Source]>,
    (after, now): (Epoch, Option<i64>),
    held: &Held,
) -> (Stream<'s, Epoch, Changes>, Marks<'s>) {
    let mut builder = OperatorBuilder::new("hears".into(), scope);
    let (rows_out, rows) = builder.new_output::<Changes>();
    let (cuts_out, cuts) = builder.new_output::<Vec<Option<i64>>>();
    let mut rows_out = OutputBuilder::<_, Vecs<(usize, Row, Fate)>>::from(rows_out);
    let mut cuts_out = OutputBuilder::<_, Vecs<Option<i64>>>::from(cuts_out);
    let activator = scope.activator_for(builder.operator_info().address);
    activator.activate();
    *ear.wake.borrow_mut() = Some(activator);
    let (held, ear) = (Rc::clone(held), Rc::clone(ear));
    builder.build(move |capabilities| {
        *held.borrow_mut() = Some(capabilities.into_iter().map(CapabilitySet::from_elem).collect());
        let mut reader = Reader::default();
        let market = relations.iter().position(|it| it.table == MARKET);
        let mut now = market_row(now);
        move |_frontiers| {
            let mut held = held.borrow_mut();
            let Some(held) = held.as_mut() else { return };
            let mut rows_out = rows_out.activate();
            let mut cuts_out = cuts_out.activate();
            for news in ear.news.borrow_mut().drain(..) {
                match news {
                    News::Rows(epoch, rows) if epoch > after => {
                        let capability = held[0].delayed(&epoch);
                        let mut session = rows_out.session_with_builder(&capability);
                        session.give_iterator(reader.changes(&relations, &rows));
                    }
                    News::Cut(epoch, at) if epoch > after => {
                        let capability = held[1].delayed(&epoch);
                        cuts_out.session_with_builder(&capability).give(at.map(micros));
                        if let (Some(place), Some(at)) = (market, at) {
                            let gone = mem::replace(&mut now, market_row(Some(micros(at))));
                            let capability = held[0].delayed(&epoch);
                            let mut session = rows_out.session_with_builder(&capability);
                            session.give((place, gone, Fate::Gone));
                            session.give((place, Row::clone(&now), Fate::New));
                        }
                    }
                    News::Rows(..) | News::Cut(..) => {}
                    News::Frontier(Some(epoch)) => {
                        // What is left out would be told at its own time, which is past.
                        let epoch = epoch.max(after);
                        for it in held.iter_mut() {
                            it.downgrade([epoch]);
                        }
                    }
                    News::Frontier(None) => held.clear(),
                }
            }
        }
    });
    (rows, cuts)
}

/// The row of the relation of the market's time.
pub(super) fn market_row(now: Option<i64>) -> Row {
    Arc::new([now.map_or(Value::Null, Value::Instant)])
}

/// The capabilities of what hears, one an output; to be emptied to end it.
pub(super) type Held = Rc<RefCell<Option<Vec<CapabilitySet<Epoch>>>>>;

/// The rows of one of the relations that a view reads.
pub(super) fn relation(changes: Stream<'_, Epoch, Change>, key: usize) -> Rows<'_> {
    if key > 0 {
        return replaced(changes, key);
    }
    let rows = changes.unary::<Vecs<(Row, Epoch, isize)>, _, _, _>(
        timely::dataflow::channels::pact::Pipeline,
        "added and taken away",
        move |_capability, _info| {
            move |input, output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let changes = batches.flat_map(|batch| batch.drain(..));
                    let rows = changes
                        .map(|(row, fate)| (row, epoch, if fate == Fate::Gone { -1 } else { 1 }));
                    output.session(&capability).give_iterator(rows);
                });
            }
        },
    );
    rows.as_collection()
}

/// The rows of a table in which a row takes the place of the one before it with its key.
///
/// A table tells what a key has, not what it had; so this remembers. State: the table's rows.
fn replaced(changes: Stream<'_, Epoch, Change>, key: usize) -> Rows<'_> {
    let (by_key, scope) =
        (Exchange::new(move |(row, _): &(Row, Fate)| hash(&row[..key])), changes.scope());
    let rows = changes.unary_frontier::<Vecs<(Row, Epoch, isize)>, _, _, _>(
        by_key,
        "replaced",
        move |_capability, info| {
            let mut size = StateSize::by(scope, &info);
            let mut known: HashMap<Row, Row> = HashMap::default();
            let mut held: Stash<Vec<(Row, Fate)>> = Stash::new();
            move |(input, frontier), output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let held = held.at(epoch, || capability.delayed(&epoch, 0));
                    held.extend(batches.flat_map(|batch| batch.drain(..)));
                });
                while let Some((capability, changes)) =
                    held.pop_closed(|epoch| frontier.less_equal(epoch))
                {
                    let epoch = *capability.time();
                    let mut session = output.session(&capability);
                    for (row, fate) in changes {
                        let of: Row = row[..key].into();
                        let before = if fate == Fate::Gone {
                            known.remove(&of)
                        } else {
                            session.give((Row::clone(&row), epoch, 1));
                            known.insert(of, row)
                        };
                        if let Some(before) = before {
                            session.give((before, epoch, -1));
                        }
                    }
                }
                size.tell(|| known.len());
            }
        },
    );
    rows.as_collection()
}

/// The rows that hold while `now` is in a range of instants: from its first up to its second.
///
/// A calendar that `now` moves, as data: retractions in the future as times would be walked at every
/// step. State: the rows, but those that are over.
pub(super) fn active<'s>(
    rows: crate::Collection<'s, (Row, (i64, i64))>,
    cuts: Marks<'s>,
    now: Option<i64>,
) -> Rows<'s> {
    use timely::dataflow::channels::pact::Pipeline;
    type Coming = Vec<((Row, i64), isize)>;
    type Arrived = (Vec<((Row, (i64, i64)), isize)>, Option<i64>);
    let scope = rows.inner.scope();
    let rows = rows.inner.binary_frontier::<_, Vecs<(Row, Epoch, isize)>, _, _, _, _>(
        cuts,
        Pipeline,
        Pipeline,
        "while",
        move |_capability, info| {
            let (mut size, mut number) = (StateSize::by(scope, &info), 0);
            let mut now = now.unwrap_or(i64::MIN);
            // By the instant at which they come, or go.
            let mut coming: BTreeMap<i64, Coming> = BTreeMap::new();
            let mut going: BTreeMap<i64, Vec<(Row, isize)>> = BTreeMap::new();
            let mut held: Stash<Arrived> = Stash::new();
            move |(rows, rows_open), (cuts, cuts_open), output| {
                rows.for_each_stamp(|capability, batches| {
                    for (row, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                        held.at(epoch, || capability.delayed(&epoch, 0)).0.push((row, diff));
                    }
                });
                cuts.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let moved = batches.flat_map(|batch| batch.drain(..)).flatten().max();
                    held.at(epoch, || capability.delayed(&epoch, 0)).1 = moved;
                });
                while let Some((capability, (arrived, moved))) = held
                    .pop_closed(|epoch| rows_open.less_equal(epoch) || cuts_open.less_equal(epoch))
                {
                    let epoch = *capability.time();
                    now = moved.unwrap_or(now).max(now);
                    let mut session = output.session(&capability);
                    // What is over already never comes, nor does it go.
                    while let Some(first) = going.first_entry().filter(|it| *it.key() <= now) {
                        let over = first.remove();
                        number -= over.len();
                        for (row, diff) in over {
                            session.give((row, epoch, -diff));
                        }
                    }
                    let mut come = arrived;
                    while let Some(first) = coming.first_entry().filter(|it| *it.key() <= now) {
                        let from = *first.key();
                        let rows = first.remove();
                        number -= rows.len();
                        let rows = rows.into_iter();
                        come.extend(rows.map(|((row, until), diff)| ((row, (from, until)), diff)));
                    }
                    for ((row, (from, until)), diff) in come {
                        if until <= now || until <= from {
                            continue;
                        }
                        if from > now {
                            number += 1;
                            coming.entry(from).or_default().push(((row, until), diff));
                        } else {
                            session.give((Row::clone(&row), epoch, diff));
                            if until < i64::MAX {
                                number += 1;
                                going.entry(until).or_default().push((row, diff));
                            }
                        }
                    }
                }
                size.tell(|| number);
            }
        },
    );
    rows.as_collection()
}

/// What the pass over customers tells of the events of orders that count, where somebody listens.
#[derive(Debug, Default)]
pub(crate) struct Told {
    lines: bool,
    events: bool,
    rows: RowBatch,
    full: Vec<RowBatch>,
}

impl Told {
    /// Asks to what one listens.
    pub(crate) fn listens(&mut self, wants: impl Fn(u16) -> bool) {
        (self.lines, self.events) = (wants(ORDER_LINES), wants(COUNTED_ORDER_EVENTS));
    }

    /// An event counts (1), or no longer (-1).
    pub(crate) fn tell(&mut self, user_id: UserId, entry: &Entry, d: i64) {
        let fate = if d < 0 { Fate::Gone } else { Fate::New };
        if self.lines {
            entry.lines.iter().for_each(|it| self.rows.push(&line_row(user_id, entry, it), fate));
        }
        if self.events {
            let Entry { event, order_id, event_id, at, ordered_at, ref lines, .. } = *entry;
            let lines = lines.as_slice().into();
            let order = Order { at, event, order_id, user_id, ordered_at, lines };
            // Where it was read is known to the ledger alone.
            let origin = Origin { partition: 0, offset: 0, hash: 0 };
            let event = Sourced { origin, event: OrderEvent { event_id, order } };
            self.rows.push(&ledger_row(COUNTED_ORDER_EVENTS, &event), fate);
        }
        self.full.extend(self.rows.take_full());
    }

    /// What was told since it was asked last.
    pub(crate) fn rows(&mut self) -> Vec<RowBatch> {
        let mut rows = mem::take(&mut self.full);
        rows.push(mem::take(&mut self.rows));
        rows
    }
}

/// A line of an order event, as a row of `order_lines`.
fn line_row(user_id: UserId, entry: &Entry, line: &Line) -> row::Row {
    let cells = [
        Cell::Unsigned(entry.event_id),
        Cell::Instant(entry.at),
        Cell::Text(entry.event.word()),
        Cell::Int(entry.order_id.0),
        Cell::Int(user_id.0),
        Cell::Instant(entry.ordered_at),
        Cell::Int(line.product_id.0),
        Cell::Text(&line.category),
        Cell::Int(line.quantity),
        Cell::Int(line.unit_price.0),
        Cell::Int(line.amount().0),
    ];
    row::Row::new(ORDER_LINES, &[], &cells)
}

/// The rows of `order_lines` of an event that counts.
pub fn order_lines(event: &OrderEvent) -> Vec<row::Row> {
    let entry = Entry::of(event);
    entry.lines.iter().map(|line| line_row(event.order.user_id, &entry, line)).collect()
}
