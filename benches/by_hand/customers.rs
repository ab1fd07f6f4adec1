//! The tables about customers: value, grades, habits, cohorts and segments.

use std::collections::VecDeque;

use dataflows::model::time::{DAY, HOUR, MINUTE, TICK, day_of, six_months_after};
use dataflows::model::{Day, Millis, Order, OrderId, OrderKind, Sex, UserEvent};
use dataflows::row::Cell::{Date as DateCell, Flag, Instant, Int, Null, Text};

use super::{Date, Dense, Out, Today, first_of_month, grown, month_number};

const GRADES: [&str; 4] = ["BRONZE", "SILVER", "GOLD", "VIP"];
const AGES: [&str; 6] = ["10s", "20s", "30s", "40s", "50s", "60+"];
const SPANS: [(&str, Millis); 4] =
    [("5 min", 5 * MINUTE), ("1 h", HOUR), ("24 h", DAY), ("30 d", 30 * DAY)];

#[derive(Default)]
pub(super) struct Customers {
    now: Millis,
    all: Vec<Customer>,
    records: Vec<Option<UserEvent>>,
    active: Active,
    grades: Grades,
    habits: [Habits; 4],
    /// By the month of the sign-up.
    cohorts: Dense<Cohort>,
    /// Orders by age, sex and hour of the day.
    segments: [[[i64; 24]; 2]; 6],
}

#[derive(Default)]
struct Customer {
    has_events: bool,
    is_known: bool,
    sex: u8,
    grade: u8,
    /// The ticks of the last change of grade and of the last look at it; 0 for none.
    since: u32,
    judged: u32,
    /// Orders and amount of six months, at the last tick.
    orders_6m: i32,
    amount_6m: i64,
    born: Date,
    signed_up: i64,
    orders: i64,
    revenue: i64,
    /// Of the last placed order, its number and when.
    last: Option<(usize, Millis)>,
    /// The orders that stand.
    standing: Vec<(Millis, OrderId)>,
}

/// Customers with an order within each span.
#[derive(Default)]
struct Active {
    /// Orders of the longest span, and whether their customer has placed another since.
    placed: VecDeque<(Millis, bool)>,
    /// Orders before those.
    gone: usize,
    /// The number of the first order within each span.
    first: [usize; 4],
    buyers: [i64; 4],
}

#[derive(Default)]
struct Grades {
    /// The next tick; 0 before the first event.
    next: u32,
    entering: Vec<Effect>,
    /// By tick.
    leaving: Dense<Vec<Effect>>,
    /// Who has a grade above what the totals are worth.
    sinking: Vec<u32>,
    /// Customer, tick, from and to.
    changes: Vec<(u32, u32, u8, u8)>,
    /// Known customers.
    customers: [i64; 4],
}

/// What an event counts for its customer's grade.
struct Effect {
    customer: u32,
    orders: i32,
    amount: i64,
}

/// How the customers of a grade come back.
#[derive(Default)]
struct Habits {
    buyers: i64,
    again: i64,
    /// Orders that follow another, by the days in between.
    gaps: Vec<i64>,
}

#[derive(Default)]
struct Cohort {
    customers: i64,
    /// Customers with an order, and net revenue, by months since.
    months: Vec<[i64; 2]>,
}

impl Customers {
    pub(super) fn record(&mut self, event: UserEvent) {
        let place = event.user.user_id.0 as usize;
        let customer = grown(&mut self.all, place);
        if !customer.is_known {
            customer.is_known = true;
            customer.sex = event.user.sex as u8;
            customer.born = Date::of(event.user.birth_date);
            customer.signed_up = month_number(day_of(event.user.signed_up_at));
            self.cohorts.at(customer.signed_up).customers += 1;
            let grade = usize::from(customer.grade);
            self.grades.customers[grade] += 1;
            self.habits[grade].customer(&customer.standing, 1);
        }
        *grown(&mut self.records, place) = Some(event);
    }

    /// Counts an order's event; says when its customer had placed an order last.
    pub(super) fn order(&mut self, order: &Order, amount: i64, today: &Today) -> Millis {
        let (at, number) = (order.at, order.user_id.0 as usize);
        let customer = grown(&mut self.all, number);
        let before = customer.last.map_or(Millis::MIN, |(_, last)| last);
        let (orders, net, leaves) = match order.event {
            OrderKind::Placed => (1, amount, at + today.six_months),
            OrderKind::Cancelled => (-1, -amount, six_months_after(order.ordered_at)),
            OrderKind::Refunded => (0, -amount, six_months_after(order.ordered_at)),
        };
        customer.has_events = true;
        customer.orders += i64::from(orders);
        customer.revenue += net;
        self.grades.enter(number as u32, [at, leaves], orders, net);

        let habits = &mut self.habits[usize::from(customer.grade)];
        let standing = &mut customer.standing;
        if order.event == OrderKind::Placed {
            standing.push((at, order.order_id));
            if customer.is_known {
                habits.order(standing, standing.len() - 1, 1);
                let hour = ((at - today.starts) / HOUR) as usize;
                let age = age_band(today.date, customer.born);
                self.segments[age][usize::from(customer.sex)][hour] += 1;
            }
            customer.last = Some((self.active.placed(at, customer.last), at));
        } else if order.event == OrderKind::Cancelled
            && let Ok(place) = standing.binary_search(&(order.ordered_at, order.order_id))
        {
            if customer.is_known {
                habits.order(standing, place, -1);
            }
            standing.remove(place);
        }

        // What lies before the sign-up is left out.
        if customer.is_known
            && let Ok(since) = usize::try_from(today.month - customer.signed_up)
        {
            let is_first = order.event == OrderKind::Placed && before < today.month_starts;
            let month = grown(&mut self.cohorts.at(customer.signed_up).months, since);
            *month = [month[0] + i64::from(is_first), month[1] + net];
        }
        before
    }

    pub(super) fn advance(&mut self, now: Millis) {
        self.now = now;
        self.active.advance(now);
        let tick = (now / TICK) as u32;
        if self.grades.next == 0 {
            self.grades.next = tick + 1;
        }
        while self.grades.next <= tick {
            self.grade(self.grades.next);
            self.grades.next += 1;
        }
    }

    /// The grades of a tick.
    fn grade(&mut self, tick: u32) {
        let grades = &mut self.grades;
        let mut moved = std::mem::take(&mut grades.sinking);
        for effect in grades.entering.drain(..) {
            let customer = &mut self.all[effect.customer as usize];
            customer.orders_6m += effect.orders;
            customer.amount_6m += effect.amount;
            moved.push(effect.customer);
        }
        for effect in grades.leaving.take(tick.into()) {
            let customer = &mut self.all[effect.customer as usize];
            customer.orders_6m -= effect.orders;
            customer.amount_6m -= effect.amount;
            moved.push(effect.customer);
        }
        for number in moved {
            let customer = &mut self.all[number as usize];
            // One level a tick, however many events there are.
            if std::mem::replace(&mut customer.judged, tick) == tick {
                continue;
            }
            let worth = match (customer.amount_6m, customer.orders_6m) {
                (5_000_000.., 30..) => 3,
                (2_000_000.., 15..) => 2,
                (500_000.., 5..) => 1,
                _ => 0,
            };
            let from = customer.grade;
            let to = if worth < from { from - 1 } else { worth };
            if to > worth {
                grades.sinking.push(number);
            }
            if to == from {
                continue;
            }
            (customer.grade, customer.since) = (to, tick);
            grades.changes.push((number, tick, from, to));
            if customer.is_known {
                for (grade, times) in [(usize::from(from), -1), (usize::from(to), 1)] {
                    grades.customers[grade] += times;
                    self.habits[grade].customer(&customer.standing, times);
                }
            }
        }
    }

    pub(super) fn rows(&self, out: &mut Out) {
        out.table("active_customers");
        for ((span, _), buyers) in SPANS.iter().zip(self.active.buyers) {
            out.row(&[Text(span)], &[Int(buyers)]);
        }
        out.table("customer_value");
        for (number, it) in (0..).zip(&self.all).filter(|(_, it)| it.has_events) {
            let stands = it.standing.first().zip(it.standing.last());
            let [first, last, days] = stands.map_or([Null; 3], |((first, _), (last, _))| {
                let days = day_of(*last) - day_of(*first);
                [Instant(*first), Instant(*last), Int(days.into())]
            });
            out.row(&[Int(number)], &[first, last, Int(it.orders), Int(it.revenue), days]);
        }
        out.table("grade_changes");
        for (number, tick, from, to) in &self.grades.changes {
            if self.all[*number as usize].is_known {
                let key = [Int((*number).into()), Instant(Millis::from(*tick) * TICK)];
                out.row(&key, &[from, to].map(|grade| Text(GRADES[usize::from(*grade)])));
            }
        }
        for (customer, record) in self.all.iter().zip(&self.records) {
            let Some(UserEvent { at, user: it, .. }) = record else { continue };
            let (key, grade) = ([Int(it.user_id.0)], Text(GRADES[usize::from(customer.grade)]));
            let since = match customer.since {
                0 => it.signed_up_at,
                tick => Millis::from(tick) * TICK,
            };
            let [amount, orders] = [customer.amount_6m, customer.orders_6m.into()].map(Int);
            out.table("customer_grade");
            out.row(&key, &[grade, Instant(since), amount, orders]);
            let [name, sex, region, status] =
                [&*it.name, it.sex.word(), &*it.region, it.status.word()].map(Text);
            let (born, consent) = (DateCell(it.birth_date), Flag(it.marketing_consent));
            let [signed_up, updated] = [it.signed_up_at, *at].map(Instant);
            let value = [name, born, sex, region, status, consent, signed_up, updated, grade];
            out.table("users");
            out.row(&key, &value);
        }
        self.rows_of_groups(out);
    }

    fn rows_of_groups(&self, out: &mut Out) {
        for (grade, habits) in self.habits.iter().enumerate() {
            let key = [Text(GRADES[grade])];
            out.table("grade_distribution");
            out.row(&key, &[Int(self.grades.customers[grade])]);
            let all: i64 = habits.gaps.iter().sum();
            let (mut gaps, mut days, mut median) = (0, 0, Null);
            for (length, orders) in (0..).zip(&habits.gaps) {
                // Of an even number the lower one.
                if 2 * gaps < all && 2 * (gaps + orders) >= all {
                    median = Int(length);
                }
                gaps += orders;
                days += length * orders;
            }
            let [buyers, again, gaps, days] = [habits.buyers, habits.again, gaps, days].map(Int);
            out.table("repurchase");
            out.row(&key, &[buyers, again, gaps, days, median]);
        }
        out.table("value_by_cohort");
        let month = month_number(day_of(self.now));
        for (signed_up, cohort) in self.cohorts.iter().filter(|(_, it)| it.customers > 0) {
            for since in 0..=month - signed_up {
                let months = cohort.months.get(since as usize);
                let [active, revenue] = months.copied().unwrap_or_default();
                let key = [DateCell(first_of_month(signed_up)), Int(since)];
                out.row(&key, &[cohort.customers, active, revenue].map(Int));
            }
        }
        out.table("segment_hours");
        for (age, of_age) in AGES.iter().zip(&self.segments) {
            for (sex, hours) in Sex::ALL.iter().zip(of_age) {
                for (hour, orders) in (0..).zip(hours).filter(|(_, orders)| **orders > 0) {
                    out.row(&[Text(age), Text(sex.word()), Int(hour)], &[Int(*orders)]);
                }
            }
        }
    }
}

/// The place in [`AGES`] of a customer's age.
fn age_band(today: Date, born: Date) -> usize {
    let before_birthday = (today.month, today.day) < (born.month, born.day);
    let age = today.year - born.year - i32::from(before_birthday);
    (age / 10).clamp(1, AGES.len() as i32) as usize - 1
}

impl Active {
    /// Counts an order of who placed another before; gives its number.
    fn placed(&mut self, at: Millis, before: Option<(usize, Millis)>) -> usize {
        for (first, buyers) in self.first.iter().zip(&mut self.buyers) {
            *buyers += i64::from(before.is_none_or(|(number, _)| number < *first));
        }
        let earlier = before.and_then(|(number, _)| number.checked_sub(self.gone));
        if let Some((_, again)) = earlier.and_then(|place| self.placed.get_mut(place)) {
            *again = true;
        }
        self.placed.push_back((at, false));
        self.gone + self.placed.len() - 1
    }

    fn advance(&mut self, now: Millis) {
        for (span, (_, length)) in SPANS.iter().enumerate() {
            let first = &mut self.first[span];
            while let Some((at, again)) = self.placed.get(*first - self.gone)
                && *at <= now - length
            {
                self.buyers[span] -= i64::from(!again);
                *first += 1;
            }
        }
        let [.., first] = self.first;
        self.placed.drain(..first - self.gone);
        self.gone = first;
    }
}

impl Grades {
    /// Has an event count from its first tick on, until another.
    fn enter(&mut self, customer: u32, from_to: [Millis; 2], orders: i32, amount: i64) {
        let [enters, leaves] = from_to.map(|at| (at + TICK - 1) / TICK);
        if enters < leaves {
            self.entering.push(Effect { customer, orders, amount });
            self.leaving.at(leaves).push(Effect { customer, orders, amount });
        }
    }
}

impl Habits {
    /// Counts an order of a customer's list in, or out.
    fn order(&mut self, standing: &[(Millis, OrderId)], place: usize, times: i64) {
        let day = |place: usize| standing.get(place).map(|(at, _)| day_of(*at));
        let [before, here, after] =
            [place.checked_sub(1).and_then(day), day(place), day(place + 1)];
        self.gap(before, here, times);
        self.gap(here, after, times);
        self.gap(before, after, -times);
        match standing.len() {
            1 => self.buyers += times,
            2 => self.again += times,
            _ => {}
        }
    }

    /// Counts a customer in, or out.
    fn customer(&mut self, standing: &[(Millis, OrderId)], times: i64) {
        self.buyers += times * i64::from(!standing.is_empty());
        self.again += times * i64::from(standing.len() > 1);
        for pair in standing.windows(2) {
            self.gap(Some(day_of(pair[0].0)), Some(day_of(pair[1].0)), times);
        }
    }

    fn gap(&mut self, from: Option<Day>, to: Option<Day>, times: i64) {
        if let (Some(from), Some(to)) = (from, to) {
            *grown(&mut self.gaps, (to - from) as usize) += times;
        }
    }
}
