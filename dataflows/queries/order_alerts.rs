//! Minutes in which orders are missing: the ten minutes up to there had at most half of what the
//! same hours of the four weeks before let expect, by more than chance would have it.
//!
//! Work: a minute is judged once when it is over, and again when a late order touches it. State:
//! that of the operator `alerts`: one count a minute of each hour with orders, for ever.

use super::{Inputs, Table};
use crate::model::OrderKind;
use crate::model::time::minute_of;
use crate::operators::{alerts, changed, regrouped};
use crate::passes::{Build, Contributed, Contributions, Customer, Entry, Part, Rows, orders};
use crate::row::Cell;

pub(super) struct Query;

impl Part for Query {
    type State = ();
    const ROWS: Option<Build> = Some(rows);

    fn event(_: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            out.add(minute_of(event.at), orders(1), d);
        }
    }
}

fn rows<'s>(inputs: &Inputs<'s>, placed: Contributed<'s>, table: Table) -> Rows<'s> {
    let placed = regrouped(placed.sums, |minute, sums| (minute.a, sums));
    let alerts =
        alerts(placed, inputs.now.clone(), &inputs.keeper).map(|alert| (alert.minute, alert));

    changed(alerts, move |minute, alert| {
        table.row(
            &[Cell::Instant(*minute)],
            &[
                Cell::Int(alert.orders),
                Cell::Int(alert.orders_before),
                Cell::Text(alert.severity()),
            ],
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn missing_orders_alarm_when_the_minute_is_over_and_late_ones_take_it_back() {
        told(
            "
            11-27 14:00  customer 1 places 1 to 360 every 10s: book 500
            12-04 14:00  customer 1 places 1001 to 1360 every 10s: book 500
            12-11 14:00  customer 1 places 2001 to 2360 every 10s: book 500
            12-18 14:00  customer 1 places 3001 to 3360 every 10s: book 500
            12-25 14:02:59.999  now
            order_alerts: minute | orders | orders_before | severity
            # In the ten minutes up to 14:03 three were of this hour: 18 orders were expected.
            12-25 14:03  now
            order_alerts:
            | 12-25 14:02 | 0 | 4320 | alarm

            12-25 14:01  customer 1 places 4001 to 4004: book 500
            order_alerts:

            12-25 14:05  now
            order_alerts:
            | 12-25 14:03 | 4 | 5760 | alarm
            | 12-25 14:04 | 4 | 7200 | alarm

            12-25 14:04  customer 1 places 4005 to 4007: book 500
            order_alerts:
            | 12-25 14:03 | 4 | 5760 | alarm
            | 12-25 14:04 | 7 | 7200 | alarm
            ",
        );
    }

    #[test]
    fn half_of_what_was_expected_is_a_warning_and_a_quarter_an_alarm() {
        told(
            "
            11-27 14:00  customer 1 places 1 to 480 every 7.5s: book 500
            12-04 14:00  customer 1 places 1001 to 1480 every 7.5s: book 500
            12-11 14:00  customer 1 places 2001 to 2480 every 7.5s: book 500
            12-18 14:00  customer 1 places 3001 to 3480 every 7.5s: book 500
            # Eight a minute were expected; in nine minutes there were two each, then 22 at once.
            12-25 14:00  customer 1 places 4001 to 4018 every 30s: book 500
            12-25 14:09  customer 1 places 4019 to 4040: book 500
            12-25 14:10  now
            order_alerts:
            | 12-25 14:03 | 8 | 7680 | alarm
            | 12-25 14:04 | 10 | 9600 | alarm
            | 12-25 14:05 | 12 | 11520 | alarm
            | 12-25 14:06 | 14 | 13440 | alarm
            | 12-25 14:07 | 16 | 15360 | alarm
            | 12-25 14:08 | 18 | 17280 | alarm
            | 12-25 14:09 | 40 | 19200 | warning
            # One more than half is enough, one more than a quarter no alarm.
            12-25 14:08:59.999  customer 1 places 4041: book 500
            order_alerts:
            | 12-25 14:03 | 8 | 7680 | alarm
            | 12-25 14:04 | 10 | 9600 | alarm
            | 12-25 14:05 | 12 | 11520 | alarm
            | 12-25 14:06 | 14 | 13440 | alarm
            | 12-25 14:07 | 16 | 15360 | alarm
            | 12-25 14:08 | 19 | 17280 | warning
            ",
        );
    }

    #[test]
    fn alerts_begin_four_weeks_after_the_first_order() {
        told(
            "
            12-04 14:00  customer 1 places 1001 to 1360 every 10s: book 500
            12-11 14:00  customer 1 places 2001 to 2360 every 10s: book 500
            12-18 14:00  customer 1 places 3001 to 3360 every 10s: book 500
            12-25 14:04  now
            order_alerts:

            11-27 14:59  customer 1 places 1: book 500
            order_alerts:
            | 12-25 14:02 | 0 | 4320 | alarm
            | 12-25 14:03 | 0 | 5760 | alarm
            ",
        );
    }

    #[test]
    fn one_week_of_a_sale_lets_expect_nothing() {
        told(
            "
            11-27 14:00  customer 1 places 1: book 500
            12-11 14:00  customer 1 places 2001 to 2360 every 10s: book 500
            12-25 14:06  now
            order_alerts:
            # A second one does, even when it is told late.
            12-18 14:00  customer 1 places 3001 to 3360 every 10s: book 500
            order_alerts:
            | 12-25 14:05 | 0 | 4332 | alarm
            ",
        );
    }
}
