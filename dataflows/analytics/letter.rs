//! Tables by the letter of SPEC: every row from all events, with no regard for speed, by code that
//! the queries do not share.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};

use super::laws::{END, Event, Tables};
use crate::model::{Line, Millis, Order, OrderKind, ScenarioAction, ScenarioEvent};
use crate::row::{Cell, encode};

/// The tables that are written down here.
pub(super) const LETTER: [&str; 9] = [
    "orders_by_hour",
    "sales_by_month",
    "season_pattern",
    "month_phase",
    "basket_pairs",
    "scenario_impact",
    "order_alerts",
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

    let scenarios = story.iter().filter_map(|event| match event {
        Event::Scenario(event) => Some(event),
        _ => None,
    });
    scenario_impact(&scenarios.collect::<Vec<_>>(), &placed, &mut row);
    order_alerts(&placed, &mut row);

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

/// Puts a row: its table, key and value.
type Put<'p> = &'p mut dyn FnMut(&'static str, &[Cell<'_>], &[Cell<'_>]);

fn scenario_impact(events: &[&ScenarioEvent], placed: &[&Order], row: Put<'_>) {
    const WEEK: Millis = 7 * 24 * 3_600_000;
    let starts = events.iter().filter(|event| event.action == ScenarioAction::Start);
    for start in starts.clone() {
        let order = |event: &ScenarioEvent| (event.at, event.event_id);
        let same = |event: &ScenarioEvent| event.occurrence == start.occurrence;
        if starts.clone().any(|other| same(other) && order(other) < order(start)) {
            continue;
        }
        let stops = events.iter().filter(|event| event.action == ScenarioAction::Stop);
        let stop = stops
            .filter(|stop| same(stop) && order(start) < order(stop))
            .min_by_key(|it| order(it));
        let active = |at| start.at <= at && stop.map_or(at <= END, |stop| at < stop.at);
        let during = only(placed, |order| active(order.at));
        // As often as there is an active instant in whose four weeks before the order is.
        let before = placed.iter().flat_map(|order| {
            (1..=60).filter_map(|weeks| {
                let instant = order.at + weeks * WEEK;
                let week = (instant - start.at).div_euclid(WEEK);
                (active(instant) && week < weeks && weeks <= week + 4).then_some(*order)
            })
        });
        let before: Vec<&Order> = before.collect();
        let key = [Cell::Text(&start.name), Cell::Text(&start.occurrence)];
        let value = [count(&during), net(&during), count(&before), net(&before)];
        row("scenario_impact", &key, &value);
    }
}

fn order_alerts(placed: &[&Order], row: Put<'_>) {
    let hour_of = |clock: NaiveDateTime| {
        clock.with_minute(0).unwrap().with_second(0).unwrap().with_nanosecond(0).unwrap()
    };
    let mut by_hour: BTreeMap<NaiveDateTime, i64> = BTreeMap::new();
    for order in placed {
        *by_hour.entry(hour_of(clock(order.at))).or_default() += 1;
    }
    let Some((first, _)) = by_hour.first_key_value() else { return };
    let before = |clock: NaiveDateTime| -> i64 {
        let hours = (1..=4).map(|week| hour_of(clock) - TimeDelta::weeks(week));
        hours.filter_map(|hour| by_hour.get(&hour)).sum()
    };
    // Nothing is expected elsewhere than in the hours of four weeks and the minutes after.
    let hours = by_hour.keys().flat_map(|hour| (1..=4).map(|week| *hour + TimeDelta::weeks(week)));
    let minutes =
        hours.flat_map(|hour| (0..70).map(move |minute| hour + TimeDelta::minutes(minute)));
    let mut minutes: Vec<NaiveDateTime> = minutes.collect();
    minutes.sort_unstable();
    minutes.dedup();
    for minute in minutes {
        let end = minute + TimeDelta::minutes(1);
        let begin = end - TimeDelta::minutes(10);
        let before: i64 = (0..10).map(|back| before(minute - TimeDelta::minutes(back))).sum();
        if minute < *first + TimeDelta::weeks(4) || end > clock(END) || before < 16 * 240 {
            continue; // with less than 16 expected, four roots are more than all of it
        }
        let orders = only(placed, |order| begin <= clock(order.at) && clock(order.at) < end);
        let (n, expected) = (orders.len() as f64, before as f64 / 240.0);
        if n <= expected / 2.0 && expected - n >= 4.0 * expected.sqrt() {
            let severity = if n <= expected / 4.0 { "alarm" } else { "warning" };
            let at = (minute.and_utc().timestamp() - 9 * 3_600) * 1_000;
            let value = [count(&orders), Cell::Int(before), Cell::Text(severity)];
            row("order_alerts", &[Cell::Instant(at)], &value);
        }
    }
}
