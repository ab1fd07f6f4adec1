//! Tables by the letter of SPEC: every row from all events, with no regard for speed, by code that
//! the queries do not share.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};

use super::laws::{END, Tables};
use crate::model::{
    Event, Line, Millis, Order, OrderEvent, OrderKind, ScenarioAction, ScenarioEvent,
};
use crate::row::{Cell, encode};

/// The tables that are written down here.
pub(super) const LETTER: [&str; 17] = [
    "orders_by_minute",
    "sales_by_category",
    "orders_by_hour",
    "sales_by_month",
    "season_pattern",
    "month_phase",
    "basket_pairs",
    "scenario_impact",
    "order_alerts",
    "active_customers",
    "customer_value",
    "best_sellers",
    "products",
    "first_sale_lag",
    "repurchase",
    "value_by_cohort",
    "segment_hours",
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
    let sign = |event: &Order| if event.event == OrderKind::Placed { 1 } else { -1 };
    Cell::Int(events.iter().map(|event| sign(event) * event.amount()).sum())
}

fn only<'o>(events: &[&'o Order], which: impl Fn(&Order) -> bool) -> Vec<&'o Order> {
    events.iter().copied().filter(|event| which(event)).collect()
}

fn by_minute_and_category(
    events: &[&Order],
    row: &mut impl FnMut(&'static str, &[Cell<'_>], &[Cell<'_>]),
) {
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
            Cell::Int(only(events, back).iter().map(|event| event.amount()).sum()),
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
            sum(&placed, Line::amount),
            sum(&back, Line::amount),
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

/// What a story makes of [`LETTER`] when `now` is [`END`].
pub(super) fn by_the_letter(story: &[Event]) -> Tables {
    let events: Vec<&Order> =
        events_that_count(story).into_iter().map(|event| &event.order).collect();
    let placed = only(&events, |event| event.event == OrderKind::Placed);
    let cancelled = only(&events, |event| event.event == OrderKind::Cancelled);
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

    by_minute_and_category(&events, &mut row);

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
            let cancels = |it: &&Order| (it.user_id, it.order_id) == (user_id, order.order_id);
            order.user_id == user_id && !cancelled.iter().any(cancels)
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
    of_products(story, &placed, &mut row);
    of_customers(story, &events, &mut row);
    tables
}

/// The newest of a customer's or product's records.
fn newest<'e, E>(
    events: impl Iterator<Item = &'e E>,
    key: impl Fn(&E) -> (i64, Millis, u64),
) -> Vec<&'e E> {
    let mut events: Vec<&E> = events.collect();
    events.sort_by_key(|event| key(event));
    let ends = events.chunk_by(|a, b| key(a).0 == key(b).0);
    ends.map(|events| events[events.len() - 1]).collect()
}

fn of_products(
    story: &[Event],
    placed: &[&Order],
    row: &mut impl FnMut(&'static str, &[Cell<'_>], &[Cell<'_>]),
) {
    for (span, hours) in [("1 h", 1), ("24 h", 24), ("7 d", 7 * 24)] {
        let within = only(placed, |order| END - hours * 3_600_000 < order.at && order.at <= END);
        let mut sold: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
        for line in within.iter().flat_map(|order| order.lines.iter()) {
            let (units, revenue) = sold.entry(line.product_id).or_default();
            *units += line.quantity;
            *revenue += line.quantity * line.unit_price;
        }
        let mut sold: Vec<_> = sold.into_iter().collect();
        // Stable: of equals the lower product_id comes first.
        sold.sort_by_key(|(_product_id, (units, revenue))| (-units, -revenue));
        for ((product_id, (units, revenue)), rank) in sold.into_iter().take(100).zip(1..) {
            let value = [Cell::Int(product_id), Cell::Int(units), Cell::Int(revenue)];
            row("best_sellers", &[Cell::Text(span), Cell::Int(rank)], &value);
        }
    }

    let products = story.iter().filter_map(|event| match event {
        Event::Product(event) => Some(event),
        _ => None,
    });
    let mut lags: BTreeMap<_, i64> = BTreeMap::new();
    for event in newest(products, |event| (event.product.product_id, event.at, event.event_id)) {
        let product = &event.product;
        let with = only(placed, |order| {
            order.lines.iter().any(|line| line.product_id == product.product_id)
        });
        let value = [
            Cell::Text(&product.name),
            Cell::Text(&product.category),
            Cell::Int(product.price),
            Cell::Int(product.stock),
            Cell::Instant(product.listed_at),
            Cell::Instant(event.at),
            count(&with),
        ];
        row("products", &[Cell::Int(product.product_id)], &value);
        let lag = match with.iter().map(|order| order.at).min() {
            None => "none yet",
            Some(first) => match (first - product.listed_at).max(0) / 86_400_000 {
                0 => "0",
                1 => "1",
                2 => "2",
                3 => "3",
                4..=7 => "4-7",
                _ => "8+",
            },
        };
        let week = clock(product.listed_at).date().week(chrono::Weekday::Mon).first_day();
        *lags.entry((week, lag)).or_default() += 1;
    }
    for ((week, lag), products) in lags {
        row("first_sale_lag", &[date(week), Cell::Text(lag)], &[Cell::Int(products)]);
    }
}

/// The level of a customer's grade, 0 to 3, at the last tick up to [`END`]: tick by tick.
fn level(events: &[&Order]) -> usize {
    const TICK: Millis = 600_000;
    let end = |event: &Order| {
        let months = clock(event.ordered_at).checked_add_months(chrono::Months::new(6));
        months.unwrap().and_utc().timestamp_millis() - 9 * 3_600_000
    };
    // The totals change with an event and when it expires; a demotion takes up to three ticks.
    let changes = events.iter().flat_map(|event| [event.at, end(event)]);
    let ticks: BTreeSet<Millis> = changes
        .flat_map(|at| (0..4).map(move |later| ((at - 1) / TICK + 1 + later) * TICK))
        .filter(|tick| *tick <= END)
        .collect();
    ticks.into_iter().fold(0, |level: usize, tick| {
        let counted = only(events, |event| event.at <= tick && tick < end(event));
        let orders: i64 = counted.iter().map(|event| event.event.orders()).sum();
        let amount: i64 = counted.iter().map(|it| it.event.sign() * it.amount()).sum();
        let target = [(500_000, 5), (2_000_000, 15), (5_000_000, 30)]
            .iter()
            .filter(|(least_amount, least_orders)| {
                amount >= *least_amount && orders >= *least_orders
            })
            .count();
        target.max(level.saturating_sub(1))
    })
}

fn of_customers(
    story: &[Event],
    events: &[&Order],
    row: &mut impl FnMut(&'static str, &[Cell<'_>], &[Cell<'_>]),
) {
    let month_of = |at: Millis| clock(at).date().with_day(1).unwrap();
    let users = story.iter().filter_map(|event| match event {
        Event::User(event) => Some(event),
        _ => None,
    });
    let users = newest(users, |event| (event.user.user_id, event.at, event.event_id));
    let of_user = |user_id| only(events, |event| event.user_id == user_id);
    let placed = |events: &[&'_ Order]| -> Vec<(Millis, i64)> {
        let placed = events.iter().filter(|event| event.event == OrderKind::Placed);
        placed.map(|event| (event.at, event.order_id)).collect()
    };

    let mut gaps: [Vec<i64>; 4] = Default::default();
    let mut buyers = [[0, 0]; 4];
    let mut segments: BTreeMap<_, i64> = BTreeMap::new();
    for event in &users {
        let of_user = of_user(event.user.user_id);
        let level = level(&of_user);
        let mut stands: Vec<Millis> = placed(&of_user)
            .into_iter()
            .filter(|(_, order_id)| {
                let cancels =
                    |it: &&Order| it.event == OrderKind::Cancelled && it.order_id == *order_id;
                !of_user.iter().any(cancels)
            })
            .map(|(at, _order_id)| at)
            .collect();
        stands.sort_unstable();
        let days = |pair: &[Millis]| (clock(pair[1]).date() - clock(pair[0]).date()).num_days();
        gaps[level].extend(stands.windows(2).map(days));
        buyers[level][0] += i64::from(!stands.is_empty());
        buyers[level][1] += i64::from(stands.len() >= 2);
        for (at, _order_id) in placed(&of_user) {
            let birth_date = NaiveDate::from_epoch_days(event.user.birth_date).unwrap();
            let age = clock(at).date().years_since(birth_date).unwrap_or(0);
            let band = match age {
                0..20 => "10s",
                20..30 => "20s",
                30..40 => "30s",
                40..50 => "40s",
                50..60 => "50s",
                _ => "60+",
            };
            let segment = (band, event.user.sex.word(), clock(at).hour());
            *segments.entry(segment).or_default() += 1;
        }
    }
    for (level, grade) in ["BRONZE", "SILVER", "GOLD", "VIP"].into_iter().enumerate() {
        let gaps = &mut gaps[level];
        gaps.sort_unstable();
        let median = gaps.get(gaps.len().saturating_sub(1) / 2);
        let value = [
            Cell::Int(buyers[level][0]),
            Cell::Int(buyers[level][1]),
            Cell::Int(gaps.len() as i64),
            Cell::Int(gaps.iter().sum()),
            median.map_or(Cell::Null, |days| Cell::Int(*days)),
        ];
        row("repurchase", &[Cell::Text(grade)], &value);
    }
    for ((band, sex, hour), orders) in segments {
        let key = [Cell::Text(band), Cell::Text(sex), Cell::Int(hour.into())];
        row("segment_hours", &key, &[Cell::Int(orders)]);
    }

    for signup in users.iter().map(|it| month_of(it.user.signed_up_at)).collect::<BTreeSet<_>>() {
        let cohort: Vec<Vec<&Order>> = users
            .iter()
            .filter(|event| month_of(event.user.signed_up_at) == signup)
            .map(|event| of_user(event.user.user_id))
            .collect();
        let months = (0..).map(|since| (since, signup + chrono::Months::new(since)));
        for (since, month) in months.take_while(|(_, month)| *month <= month_of(END)) {
            let in_month: Vec<Vec<&Order>> = cohort
                .iter()
                .map(|events| only(events, |event| month_of(event.at) == month))
                .collect();
            let active = in_month.iter().filter(|events| !placed(events).is_empty()).count();
            let value =
                [Cell::Int(cohort.len() as i64), Cell::Int(active as i64), net(&in_month.concat())];
            row("value_by_cohort", &[date(signup), Cell::Int(since.into())], &value);
        }
    }
}

/// Puts a row: its table, key and value.
type Put<'p> = &'p mut dyn FnMut(&'static str, &[Cell<'_>], &[Cell<'_>]);

fn scenario_impact(events: &[&ScenarioEvent], placed: &[&Order], row: Put<'_>) {
    const WEEK: Millis = 7 * 24 * 3_600_000;
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

fn order_alerts(placed: &[&Order], row: Put<'_>) {
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
