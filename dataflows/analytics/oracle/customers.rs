//! What customers bring, their grades, how they come back, and at which hours.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Datelike, Months, NaiveDate, Timelike};

use super::{END, Put, clock, date, net, newest, only};
use crate::model::{Event, Millis, Order, OrderKind, UserEvent};
use crate::row::Cell;

const GRADES: [&str; 4] = ["BRONZE", "SILVER", "GOLD", "VIP"];

/// Of one customer's events the orders that no cancellation names.
fn standing<'o>(events: &[&'o Order]) -> Vec<&'o Order> {
    let cancelled = only(events, |event| event.event == OrderKind::Cancelled);
    only(events, |order| {
        let cancels = |it: &&Order| it.order_id == order.order_id;
        order.event == OrderKind::Placed && !cancelled.iter().any(cancels)
    })
}

/// Of every customer with an order event.
pub(super) fn value(events: &[&Order], row: Put<'_>) {
    for user_id in events.iter().map(|event| event.user_id).collect::<BTreeSet<_>>() {
        let events = only(events, |event| event.user_id == user_id);
        let number = |kind| only(&events, |event| event.event == kind).len() as i64;
        let stands = standing(&events);
        let first = stands.iter().map(|order| order.ordered_at).min();
        let last = stands.iter().map(|order| order.ordered_at).max();
        let days = first.zip(last).map(|(first, last)| clock(last).date() - clock(first).date());
        let value = [
            first.map_or(Cell::Null, Cell::Instant),
            last.map_or(Cell::Null, Cell::Instant),
            Cell::Int(number(OrderKind::Placed) - number(OrderKind::Cancelled)),
            net(&events),
            days.map_or(Cell::Null, |days| Cell::Int(days.num_days())),
        ];
        row("customer_value", &[Cell::Int(user_id.0)], &value);
    }
}

/// A customer with a record: the newest, their order events and their grades.
struct Customer<'e> {
    record: &'e UserEvent,
    events: Vec<&'e Order>,
    graded: Graded,
}

/// Of every customer with a record.
pub(super) fn known(story: &[Event], events: &[&Order], row: Put<'_>) {
    let users = story.iter().filter_map(|event| match event {
        Event::User(event) => Some(event),
        _ => None,
    });
    let users = newest(users, |event| (event.user.user_id, event.at, event.event_id));
    let customers = users.into_iter().map(|record| {
        let events = only(events, |event| event.user_id == record.user.user_id);
        Customer { record, graded: graded(&events), events }
    });
    let customers: Vec<Customer<'_>> = customers.collect();
    grades(&customers, row);
    repurchase(&customers, row);
    segments(&customers, row);
    cohorts(&customers, row);
}

/// What the ticks up to [`END`] make of a customer.
#[derive(Default)]
struct Graded {
    /// The ticks at which the grade changes, with its places in [`GRADES`] before and after.
    changes: Vec<(Millis, usize, usize)>,
    level: usize,
    orders: i64,
    amount: i64,
}

/// A customer's grades, tick by tick.
fn graded(events: &[&Order]) -> Graded {
    const TICK: Millis = 600_000;
    let end = |event: &Order| {
        let clock = clock(event.ordered_at).checked_add_months(Months::new(6)).unwrap();
        clock.and_utc().timestamp_millis() - 9 * 3_600_000
    };
    let orders = |event: &Order| match event.event {
        OrderKind::Placed => 1,
        OrderKind::Cancelled => -1,
        OrderKind::Refunded => 0,
    };
    let amount = |event: &Order| match event.event {
        OrderKind::Placed => event.amount().0,
        OrderKind::Cancelled | OrderKind::Refunded => -event.amount().0,
    };
    let mut begin = only(events, |event| event.at < end(event));
    let mut stop = begin.clone();
    begin.sort_by_key(|event| event.at);
    stop.sort_by_key(|event| end(event));
    let (mut begin, mut stop) = (begin.into_iter().peekable(), stop.into_iter().peekable());
    let mut graded = Graded::default();
    let first = events.iter().map(|event| event.at).min().unwrap_or(END);
    let mut tick = first / TICK * TICK;
    while tick <= END {
        while let Some(event) = begin.next_if(|event| event.at <= tick) {
            graded.orders += orders(event);
            graded.amount += amount(event);
        }
        while let Some(event) = stop.next_if(|event| end(event) <= tick) {
            graded.orders -= orders(event);
            graded.amount -= amount(event);
        }
        let worth = match (graded.amount, graded.orders) {
            (5_000_000.., 30..) => 3,
            (2_000_000.., 15..) => 2,
            (500_000.., 5..) => 1,
            _ => 0,
        };
        let level = if worth < graded.level { graded.level - 1 } else { worth };
        if level != graded.level {
            graded.changes.push((tick, graded.level, level));
        }
        graded.level = level;
        tick += TICK;
    }
    graded
}

fn grades(customers: &[Customer<'_>], row: Put<'_>) {
    for Customer { record, graded, .. } in customers {
        let user = &record.user;
        let key = Cell::Int(user.user_id.0);
        for (tick, from, to) in &graded.changes {
            let value = [Cell::Text(GRADES[*from]), Cell::Text(GRADES[*to])];
            row("grade_changes", &[key, Cell::Instant(*tick)], &value);
        }
        let grade = Cell::Text(GRADES[graded.level]);
        let since = graded.changes.last().map_or(user.signed_up_at, |(tick, ..)| *tick);
        let (amount, orders) = (Cell::Int(graded.amount), Cell::Int(graded.orders));
        row("customer_grade", &[key], &[grade, Cell::Instant(since), amount, orders]);
        let value = [
            Cell::Text(&user.name),
            Cell::Date(user.birth_date),
            Cell::Text(user.sex.word()),
            Cell::Text(&user.region),
            Cell::Text(user.status.word()),
            Cell::Flag(user.marketing_consent),
            Cell::Instant(user.signed_up_at),
            Cell::Instant(record.at),
            grade,
        ];
        row("users", &[key], &value);
    }
    for (level, grade) in GRADES.into_iter().enumerate() {
        let customers = customers.iter().filter(|customer| customer.graded.level == level).count();
        row("grade_distribution", &[Cell::Text(grade)], &[Cell::Int(customers as i64)]);
    }
}

fn repurchase(customers: &[Customer<'_>], row: Put<'_>) {
    for (level, grade) in GRADES.into_iter().enumerate() {
        let (mut buyers, mut repeat_buyers) = (0, 0);
        let mut gaps: Vec<i64> = Vec::new();
        for customer in customers.iter().filter(|customer| customer.graded.level == level) {
            let stands = standing(&customer.events);
            let days = stands.iter().map(|order| clock(order.ordered_at).date());
            let mut days: Vec<NaiveDate> = days.collect();
            days.sort_unstable();
            buyers += i64::from(!days.is_empty());
            repeat_buyers += i64::from(days.len() >= 2);
            gaps.extend(days.windows(2).map(|pair| (pair[1] - pair[0]).num_days()));
        }
        gaps.sort_unstable();
        let median = gaps.get(gaps.len().saturating_sub(1) / 2);
        let value = [
            Cell::Int(buyers),
            Cell::Int(repeat_buyers),
            Cell::Int(gaps.len() as i64),
            Cell::Int(gaps.iter().sum()),
            median.map_or(Cell::Null, |days| Cell::Int(*days)),
        ];
        row("repurchase", &[Cell::Text(grade)], &value);
    }
}

fn segments(customers: &[Customer<'_>], row: Put<'_>) {
    let mut segments: BTreeMap<_, i64> = BTreeMap::new();
    for Customer { record, events, .. } in customers {
        let birth_date = NaiveDate::from_epoch_days(record.user.birth_date).unwrap();
        for order in only(events, |event| event.event == OrderKind::Placed) {
            let age = clock(order.at).date().years_since(birth_date).unwrap_or(0);
            let band = match age {
                0..20 => "10s",
                20..30 => "20s",
                30..40 => "30s",
                40..50 => "40s",
                50..60 => "50s",
                _ => "60+",
            };
            let segment = (band, record.user.sex.word(), clock(order.at).hour());
            *segments.entry(segment).or_default() += 1;
        }
    }
    for ((band, sex, hour), orders) in segments {
        let key = [Cell::Text(band), Cell::Text(sex), Cell::Int(hour.into())];
        row("segment_hours", &key, &[Cell::Int(orders)]);
    }
}

fn cohorts(customers: &[Customer<'_>], row: Put<'_>) {
    let month_of = |at: Millis| clock(at).date().with_day(1).unwrap();
    let signup_of = |customer: &Customer<'_>| month_of(customer.record.user.signed_up_at);
    for signup in customers.iter().map(signup_of).collect::<BTreeSet<_>>() {
        let cohort = customers.iter().filter(|customer| signup_of(customer) == signup);
        let cohort: Vec<&Customer<'_>> = cohort.collect();
        let months = (0..).map(|since| (since, signup + Months::new(since)));
        for (since, month) in months.take_while(|(_, month)| *month <= month_of(END)) {
            let in_month: Vec<Vec<&Order>> = cohort
                .iter()
                .map(|customer| only(&customer.events, |event| month_of(event.at) == month))
                .collect();
            let places = |event: &&Order| event.event == OrderKind::Placed;
            let active = in_month.iter().filter(|events| events.iter().any(places)).count();
            let revenue = net(&in_month.concat());
            let value = [Cell::Int(cohort.len() as i64), Cell::Int(active as i64), revenue];
            row("value_by_cohort", &[date(signup), Cell::Int(since.into())], &value);
        }
    }
}
