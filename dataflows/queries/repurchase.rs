//! How the customers of each grade come back: how many bought, how many again, and the calendar days
//! from one standing order of a customer to the next; four rows, always.
//!
//! Work: an order changes two gaps of its customer, a change of grade moves all of theirs; where a
//! grade's gaps change in an epoch, its lengths of gaps are walked for the median, a few hundred.
//! State: the gaps of each customer by length, for ever.

use super::{Inputs, Table};
use crate::operators::{Grade, Repurchase, lookup_join, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let (habits, grades) = (inputs.habits.clone(), inputs.grades.clone());
    let habits =
        lookup_join(habits, grades, "habits by grade", |grade, habit| Some((*grade, *habit)));
    let habits = totals(habits, "totals of habits")
        .map(|((grade, habit), count)| (grade, Some((habit, count as i64))));
    let rows = inputs.always.clone().flat_map(|()| Grade::ALL).map(|grade| (grade, None));

    let repurchase = habits.concat(rows).reduce_named("repurchase", |_grade, habits, result| {
        let (mut buyers, mut repeat_buyers, mut gaps, mut days) = (0, 0, 0, 0);
        let mut lengths = Vec::new();
        for (habit, count) in habits.iter().filter_map(|(habit, _)| **habit) {
            match habit {
                Repurchase::Buys => buyers = count,
                Repurchase::BuysAgain => repeat_buyers = count,
                Repurchase::Gap(length) => {
                    gaps += count;
                    days += count * i64::from(length);
                    lengths.push((i64::from(length), gaps));
                }
            }
        }
        // Of an even number the lower one, as `percentile_disc` has it.
        let median = lengths.iter().find(|(_length, up_to)| 2 * up_to >= gaps);
        let median = median.map(|(length, _up_to)| *length);
        result.push(((buyers, repeat_buyers, gaps, days, median), 1));
    });

    repurchase.map(move |(grade, (buyers, repeat_buyers, gaps, days, median))| {
        table.row(
            &[Cell::Text(grade.word())],
            &[
                Cell::Int(buyers),
                Cell::Int(repeat_buyers),
                Cell::Int(gaps),
                Cell::Int(days),
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
