//! The oracle of the properties: every table by the letter of docs/tables.md, each row from all events, with no
//! regard for speed, by code that the queries do not share.

mod customers;
mod products;
mod scenarios;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};

use crate::model::{Event, Line, Millis, Order, OrderEvent, OrderKind};
use crate::row::{Cell, encode};

/// 2024-02-27 in Seoul: stories cross a leap day and month ends.
pub(super) const START: Millis = 1_708_959_600_000;
/// After every event, 2024-12-31 in Seoul; by then the first orders have expired.
pub(super) const END: Millis = START + 308 * 86_400_000;

/// What the tables hold: rows by table and key.
pub(super) type Contents = BTreeMap<(&'static str, Box<[u8]>), Box<[u8]>>;

/// Puts a row: its table, key and value.
type Put<'p> = &'p mut dyn FnMut(&'static str, &[Cell<'_>], &[Cell<'_>]);

/// Seoul's clock.
fn clock(at: Millis) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at + 9 * 3_600_000).unwrap().naive_utc()
}

fn date(date: NaiveDate) -> Cell<'static> {
    Cell::Date(date.to_epoch_days())
}

fn count(orders: &[&Order]) -> Cell<'static> {
    Cell::Int(orders.len() as i64)
}

fn buyers(placed: &[&Order]) -> Cell<'static> {
    let buyers: BTreeSet<_> = placed.iter().map(|order| order.user_id).collect();
    Cell::Int(buyers.len() as i64)
}

fn net(events: &[&Order]) -> Cell<'static> {
    let sign = |event: &Order| if event.event == OrderKind::Placed { 1 } else { -1 };
    Cell::Int(events.iter().map(|event| sign(event) * event.amount().0).sum())
}

fn only<'o>(events: &[&'o Order], which: impl Fn(&Order) -> bool) -> Vec<&'o Order> {
    events.iter().copied().filter(|event| which(event)).collect()
}

fn by_minute_and_category(events: &[&Order], row: Put<'_>) {
    let minute_of = |event: &Order| event.at / 60_000 * 60_000;
    for minute in events.iter().map(|event| minute_of(event)).collect::<BTreeSet<_>>() {
        let of = |kind| only(events, |it| it.event == kind && minute_of(it) == minute);
        let orders = of(OrderKind::Placed);
        let back = |it: &Order| it.event != OrderKind::Placed && minute_of(it) == minute;
        let value = [
            count(&orders),
            Cell::Int(orders.iter().map(|order| order.units()).sum()),
            net(&orders),
            count(&of(OrderKind::Cancelled)),
            Cell::Int(only(events, back).iter().map(|event| event.amount().0).sum()),
            buyers(&orders),
        ];
        row("orders_by_minute", &[Cell::Instant(minute)], &value);
    }

    let day_of = |event: &Order| clock(event.at).date();
    let cells = events
        .iter()
        .flat_map(|event| event.lines.iter().map(|line| (day_of(event), &*line.category)));
    for (day, word) in cells.collect::<BTreeSet<_>>() {
        let is_in = |line: &&Line| *line.category == *word;
        let of = |placed: bool| {
            only(events, |it| {
                day_of(it) == day
                    && (it.event == OrderKind::Placed) == placed
                    && it.lines.iter().any(|line| is_in(&line))
            })
        };
        let sum = |events: &[&Order], of_line: fn(&Line) -> i64| {
            let lines = events.iter().flat_map(|event| event.lines.iter().filter(is_in));
            Cell::Int(lines.map(of_line).sum())
        };
        let (placed, back) = (of(true), of(false));
        let value = [
            count(&placed),
            sum(&placed, |line| line.quantity),
            sum(&placed, |line| line.amount().0),
            sum(&back, |line| line.amount().0),
        ];
        row("sales_by_category", &[date(day), Cell::Text(word)], &value);
    }
}

/// The order events that count: of several placed, or cancelled, events of one order the earliest.
pub(super) fn events_that_count(story: &[Event]) -> Vec<&OrderEvent> {
    let events = story.iter().filter_map(|event| match event {
        Event::Order(event) => Some(event),
        _ => None,
    });
    let events: Vec<&OrderEvent> = events.collect();
    let name = |event: &OrderEvent| (event.order.user_id, event.order.order_id, event.order.event);
    let time = |event: &OrderEvent| (event.order.at, event.event_id);
    let beaten = |event: &OrderEvent| {
        event.order.event != OrderKind::Refunded
            && events.iter().any(|other| name(other) == name(event) && time(other) < time(event))
    };
    events.iter().copied().filter(|event| !beaten(event)).collect()
}

/// What a story makes of all tables when `now` is [`END`].
pub(super) fn by_oracle(story: &[Event]) -> Contents {
    let events: Vec<&Order> =
        events_that_count(story).into_iter().map(|event| &event.order).collect();
    let placed = only(&events, |event| event.event == OrderKind::Placed);
    let mut tables = Contents::new();
    let mut row = |table, key: &[Cell<'_>], value: &[Cell<'_>]| {
        tables.insert((table, encode(key)), encode(value));
    };

    by_minute_and_category(&events, &mut row);
    scenarios::impact(story, &placed, &mut row);
    scenarios::alerts(&placed, &mut row);
    products::sold(&placed, &mut row);
    products::known(story, &placed, &mut row);
    customers::value(&events, &mut row);
    customers::known(story, &events, &mut row);

    let hour_of = |order: &Order| (clock(order.at).date(), clock(order.at).hour());
    for (day, hour) in placed.iter().map(|order| hour_of(order)).collect::<BTreeSet<_>>() {
        let orders = only(&placed, |order| hour_of(order) == (day, hour));
        let key = [date(day), Cell::Int(hour.into())];
        row("orders_by_hour", &key, &[count(&orders), net(&orders)]);
    }

    let month_of = |event: &Order| clock(event.at).date().with_day(1).unwrap();
    for month in events.iter().map(|event| month_of(event)).collect::<BTreeSet<_>>() {
        let placed = only(&placed, |order| month_of(order) == month);
        let revenue = net(&only(&events, |event| month_of(event) == month));
        row("sales_by_month", &[date(month)], &[count(&placed), revenue, buyers(&placed)]);
    }

    let has = |order: &Order, word: &str| order.lines.iter().any(|line| *line.category == *word);
    let words: BTreeSet<_> =
        placed.iter().flat_map(|order| order.lines.iter().map(|line| &*line.category)).collect();
    for month in 1..=12 {
        for word in &words {
            let orders =
                only(&placed, |order| clock(order.at).month() == month && has(order, word));
            let lines = orders.iter().flat_map(|order| order.lines.iter());
            let revenue =
                lines.filter(|line| *line.category == **word).map(|line| line.amount().0).sum();
            if !orders.is_empty() {
                let key = [Cell::Int(month.into()), Cell::Text(word)];
                row("season_pattern", &key, &[Cell::Int(revenue)]);
            }
        }
    }
    for (a, b) in words.iter().flat_map(|a| words.iter().map(move |b| (a, b))) {
        let orders = only(&placed, |order| a < b && has(order, a) && has(order, b));
        if !orders.is_empty() {
            row("basket_pairs", &[Cell::Text(a), Cell::Text(b)], &[count(&orders)]);
        }
    }
    let phase_of = |order: &Order| match clock(order.at).day() {
        1..=5 => "start",
        10..=12 => "10-12",
        25..=27 => "25-27",
        28..=31 => "end",
        _ => "middle",
    };
    let phases = placed.iter().map(|order| (month_of(order), phase_of(order)));
    for (month, phase) in phases.collect::<BTreeSet<_>>() {
        let orders = only(&placed, |it| (month_of(it), phase_of(it)) == (month, phase));
        let days: BTreeSet<_> = orders.iter().map(|order| clock(order.at).date()).collect();
        let value = [Cell::Int(days.len() as i64), count(&orders)];
        row("month_phase", &[date(month), Cell::Text(phase)], &value);
    }

    for (span, minutes) in [("5 min", 5), ("1 h", 60), ("24 h", 24 * 60), ("30 d", 30 * 24 * 60)] {
        let within = only(&placed, |order| END - minutes * 60_000 < order.at && order.at <= END);
        row("active_customers", &[Cell::Text(span)], &[buyers(&within)]);
    }
    tables
}

/// The newest of a customer's or product's records.
fn newest<'e, E, K: Ord>(
    events: impl Iterator<Item = &'e E>,
    key: impl Fn(&E) -> (K, Millis, u64),
) -> Vec<&'e E> {
    let mut events: Vec<&E> = events.collect();
    events.sort_by_key(|event| key(event));
    let ends = events.chunk_by(|a, b| key(a).0 == key(b).0);
    ends.map(|events| events[events.len() - 1]).collect()
}
