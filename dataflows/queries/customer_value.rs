//! What every customer is worth so far: first and last order that stands, orders, net revenue, and
//! the days from the first order to the last.
//!
//! Work: an event changes one row. State: two sums a customer.

use serde::{Deserialize, Serialize};

use super::Table;
use crate::model::Krw;
use crate::model::time::day_of;
use crate::passes::{Contributions, Customer, Entry, Facts, Part, plus_amount};
use crate::row::{Cell, Row};

pub(super) struct Query;

/// The sums over a customer's events.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Value {
    events: i64,
    orders: i64,
    revenue: Krw,
}

impl Part for Query {
    const ROW: Facts = Facts::EVENTS;
    type State = Value;

    fn event(_: &Customer, value: &mut Value, event: &Entry, d: i64, _: &mut Contributions) {
        value.events += d;
        value.orders += event.event.orders() * d;
        let revenue = event.amount() * event.event.sign() * d;
        plus_amount(&mut value.revenue, revenue, "the revenue of a customer");
    }

    fn row(who: &Customer, value: &Value, table: Table) -> Option<Row> {
        let [first, last, days] = match who.stands() {
            Some((first, last)) => {
                let days = day_of(last) - day_of(first);
                [Cell::Instant(first), Cell::Instant(last), Cell::Int(i64::from(days))]
            }
            None => [Cell::Null; 3],
        };
        let key = [Cell::Int(who.user_id.0)];
        let value = [first, last, Cell::Int(value.orders), Cell::Int(value.revenue.0), days];
        Some(table.row(&key, &value))
    }
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn only_orders_that_stand_say_when_a_customer_was_there() {
        told(
            "
            11-01 23:59  customer 1 places 1: book 500
            11-03 00:01  customer 1 places 2: book 300
            11-05 00:30  customer 1 places 3: book 2x50
            customer_value: user_id | first_order_at | last_order_at | orders | revenue | days_active
            | 1 | 11-01 23:59 | 11-05 00:30 | 3 | 900 | 4

            11-20 10:00  customer 1 cancels 1
            11-20 10:00  customer 1 refunds 3: book 100
            customer_value:
            | 1 | 11-03 00:01 | 11-05 00:30 | 2 | 300 | 2

            11-21 10:00  customer 1 cancels 2
            11-21 10:00  customer 1 cancels 3
            customer_value:
            | 1 |  |  | 0 | -100 |
            ",
        );
    }

    #[test]
    fn a_cancellation_may_come_first_and_is_of_its_own_customers_order() {
        told(
            "
            11-02 10:00  customer 1 cancels 7 of 11-01 10:00: book 500
            11-01 10:00  customer 2 places 7: book 300
            11-02 10:00  customer 3 refunds 9 of 11-01 10:00: book 50
            customer_value:
            | 1 |  |  | -1 | -500 |
            | 2 | 11-01 10:00 | 11-01 10:00 | 1 | 300 | 0
            | 3 |  |  | 0 | -50 |

            11-01 10:00  customer 1 places 7: book 500
            customer_value:
            | 1 |  |  | 0 | 0 |
            | 2 | 11-01 10:00 | 11-01 10:00 | 1 | 300 | 0
            | 3 |  |  | 0 | -50 |
            ",
        );
    }
}
