//! How the customers of each grade come back: how many bought, how many again, and the calendar days
//! from one standing order of a customer to the next; four rows, always.
//!
//! Work: an order changes two gaps of its customer, a change of grade moves all of theirs; where a
//! grade's gaps change in an epoch, its lengths of gaps are walked for the median, a few hundred.
//! State: the gaps of each customer by length, for ever.

use super::{Inputs, Table};
use crate::operators::{Grade, Habit, enriched, totals};
use crate::row::{Cell, Rows};

pub(super) fn query<'s>(inputs: &Inputs<'s>, table: Table) -> Rows<'s> {
    let (habits, grades) = (inputs.habits.clone(), inputs.grades.clone());
    let habits = enriched(habits, grades, "habits by grade", |grade, habit| Some((*grade, *habit)));
    let habits = totals(habits, "totals of habits")
        .map(|((grade, habit), count)| (grade, Some((habit, count as i64))));
    let rows = inputs.always.clone().flat_map(|()| Grade::ALL).map(|grade| (grade, None));

    let repurchase = habits.concat(rows).reduce_named("repurchase", |_grade, habits, result| {
        let (mut buyers, mut repeat_buyers, mut gaps, mut days) = (0, 0, 0, 0);
        let mut lengths = Vec::new();
        for (habit, count) in habits.iter().filter_map(|(habit, _)| **habit) {
            match habit {
                Habit::Buys => buyers = count,
                Habit::BuysAgain => repeat_buyers = count,
                Habit::Gap(length) => {
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
