//! The result tables kept by hand: one loop over the events, in plain vectors.
//!
//! It may assume what makes it fast: that events come by their times, each once, behind the records of
//! their customers and products, and that ids are small numbers. So it corrects nothing: what a late or
//! doubled event or a newer record would move stays where it was. Cancellations and refunds come behind
//! their orders and are no such thing.
//!
//! It shares the program's events, calendar and encoding of rows, and none of its operators.

mod customers;
mod goods;
mod time;

use chrono::Datelike;
use dataflows::QUERIES;
use dataflows::analytics::Tables;
use dataflows::model::time::{DAY, date_of, day_of, six_months_after, start_of_day};
use dataflows::model::{Day, Event, Millis, Order, OrderKind};
use dataflows::row::{Cell, Row};

/// Everything that is kept.
#[derive(Default)]
pub(crate) struct Shop {
    today: Today,
    time: time::Time,
    goods: goods::Goods,
    customers: customers::Customers,
}

impl Shop {
    /// A record of a customer or a product, a scenario's event, or an order's.
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::User(event) => self.customers.record(event),
            Event::Product(event) => self.goods.record(event),
            Event::Scenario(event) => self.time.scenarios.push(event),
            Event::Order(event) => self.order(&event.order),
            Event::Heartbeat(now) => self.advance(now),
        }
    }

    fn order(&mut self, order: &Order) {
        let at = order.at;
        if at >= self.today.ends {
            self.today = Today::of(at);
        }
        // What happens at an instant is counted at it.
        self.advance(at - 1);
        let (units, amount) = self.goods.order(order, &self.today);
        let before = self.customers.order(order, amount, &self.today);
        if order.event == OrderKind::Placed {
            self.time.placed(at, units, amount, before, &self.today);
        } else {
            self.time.taken_back(order, amount, &self.today);
        }
    }

    /// Brings up to an instant what moves with time.
    pub(crate) fn advance(&mut self, now: Millis) {
        self.time.advance(now);
        self.goods.advance(now);
        self.customers.advance(now);
    }

    /// The rows of all tables.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let mut out = Out { tables: Tables::of(QUERIES), table: 0, rows: Vec::new() };
        self.time.rows(&mut out);
        self.goods.rows(&mut out);
        self.customers.rows(&mut out);
        out.rows
    }
}

/// The day of the events that come, and what is computed once a day.
#[derive(Default)]
struct Today {
    day: Day,
    starts: Millis,
    ends: Millis,
    month_starts: Millis,
    /// Months since the year 0.
    month: i64,
    date: Date,
    /// How long what is ordered today counts for a grade.
    six_months: Millis,
}

impl Today {
    fn of(at: Millis) -> Today {
        let day = day_of(at);
        let (starts, date) = (start_of_day(day), Date::of(day));
        Today {
            day,
            starts,
            ends: starts + DAY,
            month_starts: starts - Millis::from(date.day - 1) * DAY,
            month: month_number(day),
            date,
            six_months: six_months_after(at) - at,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Date {
    year: i32,
    month: i32,
    day: i32,
}

impl Date {
    fn of(day: Day) -> Date {
        let date = date_of(day);
        Date { year: date.year(), month: date.month() as i32, day: date.day() as i32 }
    }
}

/// Months since the year 0.
fn month_number(day: Day) -> i64 {
    let Date { year, month, .. } = Date::of(day);
    i64::from(year * 12 + month - 1)
}

fn first_of_month(number: i64) -> Day {
    let (year, month) = ((number / 12) as i32, (number % 12) as u32 + 1);
    chrono::NaiveDate::from_ymd_opt(year, month, 1).map_or(0, |date| date.to_epoch_days())
}

/// A cell for each number from the least to the greatest.
#[derive(Default)]
struct Dense<T> {
    first: i64,
    cells: Vec<T>,
}

impl<T: Default> Dense<T> {
    fn at(&mut self, number: i64) -> &mut T {
        if self.cells.is_empty() {
            self.first = number;
        } else if number < self.first {
            let missing = self.first - number;
            self.cells.splice(0..0, (0..missing).map(|_| T::default()));
            self.first = number;
        }
        grown(&mut self.cells, (number - self.first) as usize)
    }

    fn get(&self, number: i64) -> Option<&T> {
        self.cells.get(usize::try_from(number - self.first).ok()?)
    }

    fn take(&mut self, number: i64) -> T {
        let place = usize::try_from(number - self.first).ok();
        place.and_then(|place| self.cells.get_mut(place)).map(std::mem::take).unwrap_or_default()
    }

    fn iter(&self) -> impl Iterator<Item = (i64, &T)> {
        (self.first..).zip(&self.cells)
    }
}

/// The cell at a place, with those before it.
fn grown<T: Default>(cells: &mut Vec<T>, place: usize) -> &mut T {
    if place >= cells.len() {
        cells.resize_with(place + 1, T::default);
    }
    &mut cells[place]
}

/// The rows of one table after the other.
struct Out {
    tables: Tables,
    table: u16,
    rows: Vec<Row>,
}

impl Out {
    fn table(&mut self, name: &str) {
        let number = self.tables.results().find(|(_, table)| *table == name);
        self.table = number.expect("a query's name").0;
    }

    fn row(&mut self, key: &[Cell<'_>], value: &[Cell<'_>]) {
        self.rows.push(Row::new(self.table, key, value));
    }
}
