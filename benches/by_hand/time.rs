//! The tables by time alone: minutes, hours and months, scenarios and alerts.

use std::collections::BTreeMap;

use dataflows::model::time::{HOUR, MINUTE, WEEK, day_of, hour_of};
use dataflows::model::{Millis, Order, OrderKind, ScenarioAction, ScenarioEvent};
use dataflows::row::Cell::{Date, Instant, Int, Text};

use super::{Dense, Out, Today, first_of_month};

const PHASES: [&str; 5] = ["start", "10-12", "25-27", "end", "middle"];
const WEEK_HOURS: i64 = WEEK / HOUR;

#[derive(Default)]
pub(super) struct Time {
    now: Millis,
    minutes: Dense<Minute>,
    /// Orders and revenue.
    hours: Dense<[i64; 2]>,
    months: Dense<Month>,
    /// When each order was placed, and the revenue up to there.
    placed: Vec<(Millis, i64)>,
    pub(super) scenarios: Vec<ScenarioEvent>,
    alerts: Vec<Alert>,
    /// The next minute that an alert may be of; 0 before the first order.
    watched: i64,
}

#[derive(Default)]
struct Minute {
    events: u32,
    orders: u32,
    cancelled: u32,
    buyers: u32,
    units: i64,
    revenue: i64,
    refunded: i64,
}

#[derive(Default)]
struct Month {
    events: i64,
    orders: i64,
    net: i64,
    buyers: i64,
    /// Days with an order, and orders.
    phases: [[i64; 2]; 5],
}

struct Alert {
    minute: Millis,
    orders: i64,
    before: i64,
}

impl Time {
    /// Counts a placed order; its customer placed the one before that at `before`.
    pub(super) fn placed(
        &mut self,
        at: Millis,
        units: i64,
        amount: i64,
        before: Millis,
        today: &Today,
    ) {
        let minute = self.minutes.at(at / MINUTE);
        minute.events += 1;
        minute.orders += 1;
        minute.units += units;
        minute.revenue += amount;
        minute.buyers += u32::from(before < at - at % MINUTE);

        let hour = self.hours.at(at / HOUR);
        *hour = [hour[0] + 1, hour[1] + amount];

        let month = self.months.at(today.month);
        month.events += 1;
        month.orders += 1;
        month.net += amount;
        month.buyers += i64::from(before < today.month_starts);
        let (last, revenue) = self.placed.last().copied().unwrap_or((Millis::MIN, 0));
        let phase = match today.date.day {
            1..=5 => 0,
            10..=12 => 1,
            25..=27 => 2,
            28.. => 3,
            _ => 4,
        };
        let [days, orders] = &mut month.phases[phase];
        *days += i64::from(last < today.starts);
        *orders += 1;

        self.placed.push((at, revenue + amount));
        if self.watched == 0 {
            self.watched = (at / HOUR + 4 * WEEK_HOURS) * 60;
        }
    }

    pub(super) fn taken_back(&mut self, order: &Order, amount: i64, today: &Today) {
        let minute = self.minutes.at(order.at / MINUTE);
        minute.events += 1;
        minute.cancelled += u32::from(order.event == OrderKind::Cancelled);
        minute.refunded += amount;
        let month = self.months.at(today.month);
        month.events += 1;
        month.net -= amount;
    }

    /// Judges the minutes that are over.
    pub(super) fn advance(&mut self, now: Millis) {
        self.now = now;
        while self.watched > 0 && (self.watched + 1) * MINUTE <= now {
            self.alerts.extend(self.alert(self.watched));
            self.watched += 1;
        }
    }

    /// The ten minutes up to that one against the same hours of the four weeks before.
    fn alert(&self, minute: i64) -> Option<Alert> {
        let of_hour = |hour| self.hours.get(hour).map_or(0, |it| it[0]);
        let (hour, own) = (minute / 60, (minute % 60 + 1).min(10));
        let mut weeks = [1, 2, 3, 4].map(|week| {
            let before = hour - week * WEEK_HOURS;
            own * of_hour(before) + (10 - own) * of_hour(before - 1)
        });
        weeks.sort_unstable();
        let before = 2 * (weeks[1] + weeks[2]);
        let of_minute = |minute| self.minutes.get(minute).map_or(0, |it| i64::from(it.orders));
        let orders = (minute - 9..=minute).map(of_minute).sum();
        let missing = before - 240 * orders;
        let fires = before > 0 && 480 * orders <= before && missing * missing >= 3_840 * before;
        fires.then_some(Alert { minute: minute * MINUTE, orders, before })
    }

    pub(super) fn rows(&self, out: &mut Out) {
        out.table("orders_by_minute");
        for (minute, it) in self.minutes.iter().filter(|(_, it)| it.events > 0) {
            let [orders, cancelled, buyers] =
                [it.orders, it.cancelled, it.buyers].map(|it| Int(it.into()));
            let [units, revenue, refunded] = [it.units, it.revenue, it.refunded].map(Int);
            let value = [orders, units, revenue, cancelled, refunded, buyers];
            out.row(&[Instant(minute * MINUTE)], &value);
        }
        out.table("orders_by_hour");
        for (hour, sums) in self.hours.iter().filter(|(_, sums)| sums[0] > 0) {
            let at = hour * HOUR;
            out.row(&[Date(day_of(at)), Int(hour_of(at))], &sums.map(Int));
        }
        for (number, month) in self.months.iter().filter(|(_, month)| month.events > 0) {
            let first = Date(first_of_month(number));
            out.table("sales_by_month");
            out.row(&[first], &[month.orders, month.net, month.buyers].map(Int));
            out.table("month_phase");
            for (phase, sums) in PHASES.iter().zip(month.phases).filter(|(_, sums)| sums[0] > 0) {
                out.row(&[first, Text(phase)], &sums.map(Int));
            }
        }
        out.table("order_alerts");
        for it in &self.alerts {
            let severity = if 960 * it.orders <= it.before { "alarm" } else { "warning" };
            out.row(&[Instant(it.minute)], &[Int(it.orders), Int(it.before), Text(severity)]);
        }
        self.rows_of_scenarios(out);
    }

    fn rows_of_scenarios(&self, out: &mut Out) {
        out.table("scenario_impact");
        let mut occurrences: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for it in &self.scenarios {
            let of_it = occurrences.entry((&it.name, &it.occurrence)).or_default();
            of_it.push((it.at, it.event_id, it.action));
        }
        for ((name, occurrence), mut events) in occurrences {
            events.sort_unstable_by_key(|(at, event_id, _)| (*at, *event_id));
            let mut events = events.into_iter();
            let mut next = |what| events.find(|(_, _, action)| *action == what).map(|it| it.0);
            let (start, stop) = (next(ScenarioAction::Start), next(ScenarioAction::Stop));
            let Some(start) = start.filter(|start| *start <= self.now) else { continue };
            let end = stop.unwrap_or(Millis::MAX).min(self.now + 1);
            // The four weeks once for each whole week, and the beginning of each once for the rest.
            let (weeks, rest) = ((end - start) / WEEK, (end - start) % WEEK);
            let [orders, revenue] = self.placed_within(start, end);
            let mut before = self.placed_within(start - 4 * WEEK, start).map(|sum| sum * weeks);
            for from in [1, 2, 3, 4].map(|week| start - week * WEEK) {
                let [orders, revenue] = self.placed_within(from, from + rest);
                before = [before[0] + orders, before[1] + revenue];
            }
            let value = [orders, revenue, before[0], before[1]];
            out.row(&[Text(name), Text(occurrence)], &value.map(Int));
        }
    }

    /// What was placed from one instant to before another: orders and revenue.
    fn placed_within(&self, from: Millis, until: Millis) -> [i64; 2] {
        let before = |end| {
            let orders = self.placed.partition_point(|(at, _)| *at < end);
            [orders as i64, orders.checked_sub(1).map_or(0, |last| self.placed[last].1)]
        };
        let (from, until) = (before(from), before(until));
        [until[0] - from[0], until[1] - from[1]]
    }
}
