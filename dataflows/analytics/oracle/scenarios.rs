//! What a scenario brings, and where orders are missing.

use std::collections::BTreeMap;

use chrono::{NaiveDateTime, TimeDelta, Timelike};

use super::{END, Put, clock, count, net, only};
use crate::model::{Event, Millis, Order, ScenarioAction, ScenarioEvent};
use crate::row::Cell;

pub(super) fn impact(story: &[Event], placed: &[&Order], row: Put<'_>) {
    const WEEK: Millis = 7 * 24 * 3_600_000;
    let events = story.iter().filter_map(|event| match event {
        Event::Scenario(event) => Some(event),
        _ => None,
    });
    let events: Vec<&ScenarioEvent> = events.collect();
    let starts = events.iter().filter(|event| event.action == ScenarioAction::Start);
    for start in starts.clone() {
        let order = |event: &ScenarioEvent| (event.at, event.event_id);
        let same = |event: &ScenarioEvent| {
            event.name == start.name && event.occurrence == start.occurrence
        };
        if start.at > END {
            continue;
        }
        if starts.clone().any(|other| same(other) && order(other) < order(start)) {
            continue;
        }
        let stops = events.iter().filter(|event| event.action == ScenarioAction::Stop);
        let stop = stops
            .filter(|stop| same(stop) && order(start) < order(stop))
            .min_by_key(|it| order(it));
        let active = |at| start.at <= at && at <= END && stop.is_none_or(|stop| at < stop.at);
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

pub(super) fn alerts(placed: &[&Order], row: Put<'_>) {
    let hour_of = |clock: NaiveDateTime| {
        clock.with_minute(0).unwrap().with_second(0).unwrap().with_nanosecond(0).unwrap()
    };
    let mut by_hour: BTreeMap<NaiveDateTime, i64> = BTreeMap::new();
    for order in placed {
        *by_hour.entry(hour_of(clock(order.at))).or_default() += 1;
    }
    let Some((first, _)) = by_hour.first_key_value() else { return };
    // What one of the weeks before says of the ten minutes that end with a minute.
    let before = |minute: NaiveDateTime, week: i64| -> i64 {
        let minutes = (0..10).map(|back| minute - TimeDelta::minutes(back));
        let hours = minutes.map(|minute| hour_of(minute) - TimeDelta::weeks(week));
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
        let weeks: Vec<i64> = (1..=4).map(|week| before(minute, week)).collect();
        let outer = weeks.iter().min().unwrap() + weeks.iter().max().unwrap();
        let before = 2 * (weeks.iter().sum::<i64>() - outer);
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
