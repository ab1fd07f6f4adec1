//! How the customers of each grade come back: how many bought, how many again, and the calendar days
//! from one standing order of a customer to the next; four rows, always.
//!
//! Work: an order changes two gaps of its customer, a change of grade moves all of theirs; where a
//! grade's gaps change, its lengths of gaps are walked for the median, a few hundred. State: four bytes a
//! customer, and one count a grade and length.

use super::{Inputs, Table};
use crate::model::time::day_of;
use crate::model::{Day, Millis};
use crate::operators::{Grade, Sums, changed, totals};
use crate::passes::{
    Build, Contributed, Contributions, Customer, Facts, Part, Rows, buyers, orders, row,
};
use crate::row::Cell;

pub(super) struct Query;

/// The gap of the buckets that count customers.
const CUSTOMERS: Day = -1;

impl Part for Query {
    const READS: Facts = Facts::GRADE;
    const ROWS: Option<Build> = Some(rows);
    /// Gaps of the customer.
    type State = i32;

    fn always(out: &mut Contributions) {
        for grade in Grade::ALL {
            out.add((grade, CUSTOMERS), row(), 1);
        }
    }

    fn standing(
        who: &Customer,
        gaps: &mut i32,
        before: Option<Millis>,
        at: Millis,
        d: i64,
        out: &mut Contributions,
    ) {
        let Some(before) = before else { return out.add((who.grade(), CUSTOMERS), buyers(1), d) };
        out.add((who.grade(), day_of(at) - day_of(before)), orders(1), d);
        let had = *gaps > 0;
        *gaps += d as i32;
        if had != (*gaps > 0) {
            out.add((who.grade(), CUSTOMERS), Sums { units: 1, ..Sums::default() }, d);
        }
    }
}

fn rows<'s>(inputs: &Inputs<'s>, habits: Contributed<'s>, table: Table) -> Rows<'s> {
    let habits =
        totals(habits.sums, "totals of habits", &inputs.keeper.told()).map(|(habit, sums)| {
            let (customers, again, gaps) = (sums.buyers, sums.units, sums.orders);
            (habit.a as usize, (habit.b, customers, again, gaps))
        });
    let repurchase = habits.reduce_named("repurchase", |_grade, habits, result| {
        // They come sorted, that of the customers first.
        let habits = || habits.iter().map(|(habit, _)| *habit);
        let (buyers, again) = habits().fold((0, 0), |sum, it| (sum.0 + it.1, sum.1 + it.2));
        let (mut gaps, mut days) = (0, 0);
        let mut lengths = Vec::new();
        for (length, _, _, count) in habits().filter(|it| it.0 != i64::from(CUSTOMERS)) {
            gaps += count;
            days += count * length;
            lengths.push((*length, gaps));
        }
        // Of an even number the lower one, as `percentile_disc` has it.
        let median = lengths.iter().find(|(_length, up_to)| 2 * up_to >= gaps);
        let median = median.map(|(length, _up_to)| *length);
        result.push(((buyers, again, gaps, days, median), 1));
    });

    changed(repurchase, move |grade, (buyers, repeat_buyers, gaps, days, median)| {
        table.row(
            &[Cell::Text(Grade::ALL[*grade].word())],
            &[
                Cell::Int(*buyers),
                Cell::Int(*repeat_buyers),
                Cell::Int(*gaps),
                Cell::Int(*days),
                median.map_or(Cell::Null, Cell::Int),
            ],
        )
    })
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn a_cancelled_order_makes_one_gap_of_two() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            02-01 23:59  customer 1 places 1: book 500
            02-02 00:01  customer 1 places 2: book 500
            02-10 10:00  customer 1 places 3: book 500
            repurchase: grade | buyers | repeat_buyers | gaps | gap_days | gap_days_median
            | BRONZE | 1 | 1 | 2 | 9 | 1
            | SILVER | 0 | 0 | 0 | 0 |
            | GOLD | 0 | 0 | 0 | 0 |
            | VIP | 0 | 0 | 0 | 0 |

            03-01 10:00  customer 1 cancels 2
            repurchase:
            | BRONZE | 1 | 1 | 1 | 9 | 9
            | SILVER | 0 | 0 | 0 | 0 |
            | GOLD | 0 | 0 | 0 | 0 |
            | VIP | 0 | 0 | 0 | 0 |

            03-01 10:00  customer 1 cancels 1
            03-01 10:00  customer 1 refunds 3: book 500
            repurchase:
            | BRONZE | 1 | 0 | 0 | 0 |
            | SILVER | 0 | 0 | 0 | 0 |
            | GOLD | 0 | 0 | 0 | 0 |
            | VIP | 0 | 0 | 0 | 0 |
            ",
        );
    }

    #[test]
    fn all_gaps_of_a_customer_move_with_their_grade() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            01-05 00:00  customer 2 is 두리 M 1990-01-01
            02-01 10:00  customer 1 places 1 to 4: book 100_000
            02-04 10:00  customer 2 places 1: book 500
            02-11 10:00  customer 1 places 5: book 100_000
            # Customer 2 has no order 4; that of customer 1 stands.
            02-05 10:00  customer 2 cancels 4 of 02-04 10:00: book 500
            02-11 09:59  now
            repurchase:
            | BRONZE | 2 | 1 | 4 | 10 | 0
            | SILVER | 0 | 0 | 0 | 0 |
            | GOLD | 0 | 0 | 0 | 0 |
            | VIP | 0 | 0 | 0 | 0 |

            02-11 10:00  now
            repurchase:
            | BRONZE | 1 | 0 | 0 | 0 |
            | SILVER | 1 | 1 | 4 | 10 | 0
            | GOLD | 0 | 0 | 0 | 0 |
            | VIP | 0 | 0 | 0 | 0 |
            ",
        );
    }
}
