//! Stories: what happened, and the rows that come of it, as an analyst would write both down.
//!
//! ```text
//! # what the story shows
//! 11-27 14:00:05  customer 1 places 7: book 2x500, food 900
//! 11-27 14:10     now
//! orders_by_hour: day | hour | orders | revenue
//! | 11-27 | 14 | 1 | 1900
//! ```
//!
//! A line that begins with a digit is an event, or says how far `now` has come. Then the name of a
//! table (what follows its colon is for the reader) and all of its rows, each behind a bar; a table
//! without rows is empty. Events after that are told later, in an epoch of their own, so a story shows
//! which rows come and go. Instead of a name there may be a query, `SELECT ...`, for the database alone.
//!
//! | event, behind its time | tells |
//! |---|---|
//! | `customer 1 places 7: book 2x500, food:3 900` | order 7: two pieces of product 1 in category `book`, one of product 3 in `food` |
//! | `customer 1 places 1 to 30 every 7.5s: book 10` | orders 1 to 30; without `every` all at once |
//! | `customer 1 cancels 7` | all of the order, as told before; else `cancels 7 of TIME: LINES` |
//! | `customer 1 refunds 7: book 500` | likewise |
//! | `customer 1 is 하나 F 1996-02-29` | their record; they signed up with the first one, or `since TIME` |
//! | `product 3 is 연필 book 500` | likewise, with category and price; it was listed |
//! | `scenario sale fall starts` | name and occurrence; `changes`, `stops` |
//! | `now` | all partitions have reached this time |
//!
//! Clocks are Seoul's, years are 2026 where none is written, and a time may end with its minute, its
//! second or its millisecond. Rows are written likewise; a cell without a value is empty.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveDateTime};
use dataflows::analytics::{Begin, Closed, Handles, Tables, analytics, commit};
use dataflows::ledger::Origin;
use dataflows::model::time::{ZONE, date_of, wall_clock};
use dataflows::model::{
    Choice, Day, Event, Krw, Line, Millis, Order, OrderEvent, OrderId, OrderKind, Product,
    ProductEvent, ProductId, ScenarioAction, ScenarioEvent, Sex, Status, Strength, User, UserEvent,
    UserId,
};
use dataflows::row::{Fate, Fields, Row, RowBatch};
use dataflows::views::Hub;
use dataflows::{Epoch, QUERIES};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;
use timely::worker::Worker;

/// The year of times and dates that are written without one.
const YEAR: &str = "2026-";

/// What happens at once, and what is expected then.
#[derive(Default)]
pub(crate) struct Step {
    /// In the order in which they are told.
    pub(crate) events: Vec<Event>,
    /// Up to where all partitions have been read.
    pub(crate) now: Option<Millis>,
    /// The name of a table, or a query for the database; and the rows.
    pub(crate) tables: Vec<(String, Vec<String>)>,
}

/// The steps of a story.
pub(crate) fn steps(text: &str) -> Vec<Step> {
    let mut story = Story::default();
    for line in text.lines().map(str::trim) {
        match line.chars().next() {
            None | Some('#') => {}
            Some('|') => story.row(&line[1..]),
            Some('0'..='9') => story.event(line),
            Some(_) => story.table(line),
        }
    }
    let expects = story.steps.last().is_some_and(|step| !step.tables.is_empty());
    assert!(expects, "nothing is expected at the end of this story:\n{text}");
    story.steps
}

/// Tells the queries a story; whatever they say otherwise fails the test.
pub(crate) fn told(text: &str) {
    let steps = steps(text);
    let wrong = timely::execute_directly(move |worker| {
        let tables: Rc<RefCell<Kept>> = Rc::default();
        let (probe, all) = (ProbeHandle::new(), Rc::clone(&tables));
        let mut handles = graph(worker, &probe, move |changes| all.borrow_mut().take(&changes));
        let mut origin = Origin::default();
        let mut wrong = Vec::new();
        for (step, epoch) in steps.into_iter().zip(1..) {
            handles.advance_to(epoch);
            for event in step.events {
                handles.send(origin, event);
                origin.offset += 1;
            }
            if let Some(now) = step.now {
                handles.reached.send((origin.partition, now));
            }
            handles.cut();
            handles.advance_to(epoch + 1);
            worker.step_while(|| probe.less_than(&(epoch + 1)));
            for (table, expected) in step.tables.iter().filter(|(table, _)| !is_sql(table)) {
                wrong.extend(difference(table, expected, &tables.borrow().rows_of(table)));
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "the queries differ\n{}{text}", wrong.concat());
}

/// Builds the graph of all queries at a worker; whatever rows change are given to `deliver`, at the
/// first of the workers.
pub(crate) fn graph(
    worker: &mut Worker,
    probe: &ProbeHandle<Epoch>,
    mut deliver: impl FnMut(Vec<(Row, Fate)>) + 'static,
) -> Handles {
    worker.dataflow(|scope| {
        let (handles, _views, outputs) =
            analytics(scope, &Begin::default(), &Tables::of(QUERIES), &Hub::default());
        let deliver = move |_epoch, closed: Option<Closed>| {
            let rows = closed.unwrap_or_default().rows;
            deliver(
                rows.iter().flat_map(RowBatch::iter).map(|it| (it.to_row(), it.fate)).collect(),
            );
        };
        let (done, _activator) = commit(outputs, deliver, || Epoch::MAX);
        done.probe_with(probe);
        handles
    })
}

/// Whether it is a query for the database and not the name of a table.
pub(crate) fn is_sql(table: &str) -> bool {
    table.starts_with("SELECT ")
}

/// What differs in a table: all rows, one a line, with a sign before those that are missing (`-`) or
/// not expected (`+`).
pub(crate) fn difference(table: &str, expected: &[String], found: &[String]) -> Option<String> {
    let sorted = |rows: &[String]| {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        rows
    };
    if sorted(expected) == sorted(found) {
        return None;
    }
    let mut all = sorted(&[expected, found].concat());
    all.dedup();
    let mut text = format!("{table}:\n");
    for row in &all {
        let sign = match (expected.contains(row), found.contains(row)) {
            (true, false) => '-',
            (false, true) => '+',
            _ => ' ',
        };
        writeln!(text, "{sign} | {row}").expect("a string takes all");
    }
    Some(text)
}

/// An instant as stories write it.
pub(crate) fn instant_as_told(at: Millis) -> String {
    let clock = wall_clock(at).to_string();
    let clock = clock.strip_suffix(":00").unwrap_or(&clock);
    clock.strip_prefix(YEAR).unwrap_or(clock).to_owned()
}

/// A day as stories write it.
pub(crate) fn day_as_told(day: Day) -> String {
    let date = date_of(day).to_string();
    date.strip_prefix(YEAR).unwrap_or(&date).to_owned()
}

/// Tables as their changes leave them.
#[derive(Default)]
pub(crate) struct Kept(pub(crate) BTreeMap<(u16, Box<[u8]>), Row>);

impl Kept {
    /// Takes in the changes of a cut.
    pub(crate) fn take(&mut self, changes: &[(Row, Fate)]) {
        let mut keys = BTreeSet::new();
        for (row, fate) in changes.iter().filter(|(row, _)| !row.key().is_empty()) {
            assert!(keys.insert((row.table, row.key())), "a key twice in a cut: {row:?}");
            self.apply(row, *fate).for_each(drop);
        }
    }

    /// Takes in a change, which has to be true of its key; gives the rows that go (-1) and come (1).
    pub(crate) fn apply(
        &mut self,
        row: &Row,
        fate: Fate,
    ) -> impl Iterator<Item = (Row, isize)> + use<> {
        let key = (row.table, row.key().into());
        let before = self.0.remove(&key);
        assert_eq!(before.is_some(), fate != Fate::New, "{fate:?}: {row:?}");
        let after = (fate != Fate::Gone).then(|| row.clone());
        self.0.extend(after.clone().map(|row| (key, row)));
        before.map(|row| (row, -1)).into_iter().chain(after.map(|row| (row, 1)))
    }

    /// The rows of a table, as stories write them.
    fn rows_of(&self, table: &str) -> Vec<String> {
        let all = Tables::of(QUERIES);
        let rows = self.0.values().filter(|row| all.name(row.table) == table);
        rows.map(|row| cells(&[row.key(), row.value()].concat()).join(" | ")).collect()
    }
}

/// The cells of a row as stories write them. A cell says by itself of what type it is: no text begins
/// with the byte 0, 1 or 255, and in a story no number but an instant's microseconds is beyond 10^13.
fn cells(row: &[u8]) -> Vec<String> {
    let mut fields = Fields(row);
    let mut cells = Vec::new();
    while !fields.0.is_empty() {
        let here = fields.0;
        let kind = fields.bytes().map(|bytes| (bytes.first().copied(), bytes.len()));
        cells.push(match kind {
            None => String::new(),
            Some((Some(0 | 1), 1)) => Fields(here).flag().to_string(),
            Some((Some(0 | 255), 4)) => day_as_told(Fields(here).date()),
            Some((Some(0 | 255), 8)) => match Fields(here).int() {
                int @ -10_000_000_000_000..=10_000_000_000_000 => int.to_string(),
                _ => instant_as_told(Fields(here).instant()),
            },
            Some(_) => Fields(here).text().to_owned(),
        });
    }
    cells
}

/// When an order was placed, and its lines.
type Placed = (Millis, Arc<[Line]>);

/// A story while it is read.
#[derive(Default)]
struct Story {
    steps: Vec<Step>,
    /// How many events there are; their numbers are their ids.
    events: u64,
    /// Since when customers and products are there.
    since: BTreeMap<(&'static str, i64), Millis>,
    /// By customer and number.
    orders: BTreeMap<(i64, i64), Placed>,
}

impl Story {
    fn table(&mut self, line: &str) {
        let step = self.steps.last_mut().expect("something happens before rows are expected");
        let table = if is_sql(line) { line } else { line.split(':').next().unwrap_or(line) };
        let known = is_sql(table) || QUERIES.iter().any(|query| query.name == table);
        assert!(known, "there is no table `{table}`");
        step.tables.push((table.to_owned(), Vec::new()));
    }

    fn row(&mut self, cells: &str) {
        let table = self.steps.last_mut().and_then(|step| step.tables.last_mut());
        let (_table, rows) = table.expect("a row stands below the name of its table");
        rows.push(cells.split('|').map(str::trim).collect::<Vec<_>>().join(" | "));
    }

    /// The step that goes on.
    fn step(&mut self) -> &mut Step {
        if self.steps.last().is_none_or(|step| !step.tables.is_empty()) {
            self.steps.push(Step::default());
        }
        self.steps.last_mut().expect("there is one now")
    }

    fn event(&mut self, line: &str) {
        let (what, lines) = line.split_once(": ").unwrap_or((line, ""));
        let words: Vec<&str> = what.split_whitespace().collect();
        let [day, clock, what @ ..] = &words[..] else { panic!("what happens? `{line}`") };
        let at = instant(day, clock);
        match what {
            ["now"] => self.step().now = Some(at),
            ["customer", user, "places", first, more @ ..] => {
                let (last, every) = match more {
                    [] => (first, "0s"),
                    ["to", last] => (last, "0s"),
                    ["to", last, "every", span] => (last, *span),
                    _ => panic!("how many orders? `{line}`"),
                };
                let seconds: f64 = number(every.trim_end_matches('s'));
                let every = (seconds * 1_000.0) as Millis;
                let lines = lines_of(lines);
                for (order_id, n) in (number(first)..=number::<i64>(last)).zip(0..) {
                    let at = at + n * every;
                    let order: (i64, i64) = (number(user), order_id);
                    self.orders.insert(order, (at, Arc::clone(&lines)));
                    self.order(OrderKind::Placed, order, [at, at], Arc::clone(&lines));
                }
            }
            ["customer", user, verb @ ("cancels" | "refunds"), order, of @ ..] => {
                let order: (i64, i64) = (number(user), number(order));
                let placed = || {
                    let placed = self.orders.get(&order).cloned();
                    placed.unwrap_or_else(|| panic!("which order? `{line}`"))
                };
                let ordered_at = match of {
                    [] => placed().0,
                    ["of", day, clock] => instant(day, clock),
                    _ => panic!("of when? `{line}`"),
                };
                let lines = if lines.is_empty() { placed().1 } else { lines_of(lines) };
                let cancels = *verb == "cancels";
                let event = if cancels { OrderKind::Cancelled } else { OrderKind::Refunded };
                self.order(event, order, [at, ordered_at], lines);
            }
            ["customer", user, "is", name, sex, birth_date, since @ ..] => {
                let user_id = number(user);
                let user = User {
                    user_id: UserId(user_id),
                    name: (*name).into(),
                    birth_date: number::<NaiveDate>(birth_date).to_epoch_days(),
                    sex: Sex::of_word(sex).expect("a sex is F or M"),
                    region: "서울".into(),
                    status: Status::Active,
                    marketing_consent: true,
                    signed_up_at: self.since(("customer", user_id), at, since),
                };
                self.tell(|event_id| Event::User(UserEvent { event_id, at, user }));
            }
            ["product", product, "is", name, category, price, since @ ..] => {
                let product_id = number(product);
                let product = Product {
                    product_id: ProductId(product_id),
                    name: (*name).into(),
                    category: (*category).into(),
                    price: Krw(number(price)),
                    stock: 5,
                    listed_at: self.since(("product", product_id), at, since),
                };
                self.tell(|event_id| Event::Product(ProductEvent { event_id, at, product }));
            }
            ["scenario", name, occurrence, verb] => {
                let (name, occurrence) = ((*name).into(), (*occurrence).into());
                let action = ScenarioAction::of_word(verb.trim_end_matches('s'));
                let action = action.expect("a scenario starts, changes or stops");
                let strength = Strength::new(2.0).expect("two is positive");
                let categories = Vec::new();
                self.tell(|event_id| {
                    Event::Scenario(ScenarioEvent {
                        event_id,
                        at,
                        occurrence,
                        name,
                        action,
                        strength,
                        categories,
                    })
                });
            }
            _ => panic!("what happens? `{line}`"),
        }
    }

    fn order(
        &mut self,
        event: OrderKind,
        (user_id, order_id): (i64, i64),
        [at, ordered_at]: [Millis; 2],
        lines: Arc<[Line]>,
    ) {
        let (order_id, user_id) = (OrderId(order_id), UserId(user_id));
        let order = Order { at, event, order_id, user_id, ordered_at, lines };
        self.tell(|event_id| Event::Order(OrderEvent { event_id, order }));
    }

    fn tell(&mut self, event: impl FnOnce(u64) -> Event) {
        self.events += 1;
        let event = event(self.events);
        self.step().events.push(event);
    }

    /// Since when somebody is there: as `words` say, else since their first record.
    fn since(&mut self, who: (&'static str, i64), at: Millis, words: &[&str]) -> Millis {
        match words {
            [] => *self.since.entry(who).or_insert(at),
            ["since", day, clock] => {
                self.since.insert(who, instant(day, clock));
                self.since[&who]
            }
            _ => panic!("since when? {words:?}"),
        }
    }
}

/// An instant as stories write it.
fn instant(day: &str, clock: &str) -> Millis {
    let year = if day.len() == "11-27".len() { YEAR } else { "" };
    let seconds = if clock.len() == "14:00".len() { ":00" } else { "" };
    let text = format!("{year}{day} {clock}{seconds}");
    let clock = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f");
    clock.unwrap_or_else(|_| panic!("no time: `{text}`")).and_utc().timestamp_millis() - ZONE
}

/// The lines of an order event.
fn lines_of(text: &str) -> Arc<[Line]> {
    let line = |text: &str| {
        let (what, price) =
            text.trim().split_once(' ').unwrap_or_else(|| panic!("no line of an order: `{text}`"));
        let (category, product_id) = what.split_once(':').unwrap_or((what, "1"));
        let (quantity, unit_price) = price.split_once('x').unwrap_or(("1", price));
        Line {
            product_id: ProductId(number(product_id)),
            category: category.into(),
            quantity: number(quantity),
            unit_price: Krw(number(unit_price)),
        }
    };
    text.split(", ").map(line).collect()
}

/// A number, or a date; there may be `_` in it.
fn number<N: FromStr>(word: &str) -> N {
    word.replace('_', "").parse().unwrap_or_else(|_| panic!("no number or date: `{word}`"))
}
