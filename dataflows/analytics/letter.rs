//! Tables by the letter of SPEC: every row from all events, with no regard for speed, by code that
//! the queries do not share.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike};

use super::laws::{END, Event, Tables};
use crate::model::{Line, Millis, Order, OrderKind};
use crate::row::{Cell, encode};

/// The tables that are written down here.
pub(super) const LETTER: [&str; 7] = [
    "orders_by_hour",
    "sales_by_month",
    "season_pattern",
    "month_phase",
    "basket_pairs",
    "active_customers",
    "customer_value",
];

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
    let sign = |event: &Order| if event.kind == OrderKind::Placed { 1 } else { -1 };
    Cell::Int(events.iter().map(|event| sign(event) * event.amount()).sum())
}

fn only<'o>(events: &[&'o Order], which: impl Fn(&Order) -> bool) -> Vec<&'o Order> {
    events.iter().copied().filter(|event| which(event)).collect()
}

/// What a story makes of [`LETTER`] when `now` is [`END`].
pub(super) fn by_the_letter(story: &[Event]) -> Tables {
    let events = story.iter().filter_map(|event| match event {
        Event::Order(event) => Some(&event.order),
        _ => None,
    });
    let events: Vec<&Order> = events.collect();
    let placed = only(&events, |event| event.kind == OrderKind::Placed);
    let cancelled = only(&events, |event| event.kind == OrderKind::Cancelled);
    let mut tables = Tables::new();
    let mut row = |table, key: &[Cell<'_>], value: &[Cell<'_>]| {
        tables.insert((table, encode(key)), encode(value));
    };

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
            let revenue = lines.filter(|line| *line.category == **word).map(Line::amount).sum();
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

    for user_id in events.iter().map(|event| event.user_id).collect::<BTreeSet<_>>() {
        let of_user =
            |events: &[&'_ Order]| events.iter().filter(|it| it.user_id == user_id).count();
        let stands = only(&placed, |order| {
            order.user_id == user_id && cancelled.iter().all(|it| it.order_id != order.order_id)
        });
        let first = stands.iter().map(|order| order.ordered_at).min();
        let last = stands.iter().map(|order| order.ordered_at).max();
        let days = first.zip(last).map(|(first, last)| clock(last).date() - clock(first).date());
        let value = [
            first.map_or(Cell::Null, Cell::Instant),
            last.map_or(Cell::Null, Cell::Instant),
            Cell::Int(of_user(&placed) as i64 - of_user(&cancelled) as i64),
            net(&only(&events, |event| event.user_id == user_id)),
            days.map_or(Cell::Null, |days| Cell::Int((days).num_days())),
        ];
        row("customer_value", &[Cell::Int(user_id)], &value);
    }
    tables
}
