//! At which hours of the day customers of each age and sex place their orders, by their age on the
//! day of the order.
//!
//! Work: a placed order changes one row; a corrected customer moves all of theirs. State: one count a
//! row.

use super::Table;
use crate::model::time::{age_on, day_of, hour_of};
use crate::model::{OrderKind, Sex};
use crate::operators::Sums;
use crate::passes::{Bucket, Contributions, Customer, Entry, Facts, Part, orders};
use crate::row::{Cell, Row};

pub(super) struct Query;

impl Part for Query {
    const READS: Facts = Facts::RECORD;
    type State = ();

    fn event(who: &Customer, (): &mut (), event: &Entry, d: i64, out: &mut Contributions) {
        if event.event == OrderKind::Placed {
            let user = &who.known().user;
            let band = age_band(age_on(day_of(event.at), user.birth_date));
            let segment = band * Sex::ALL.len() + user.sex as usize;
            out.add((segment, hour_of(event.at)), orders(1), d);
        }
    }

    fn bucket_row(cell: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        let (band, sex) = (cell.a as usize / Sex::ALL.len(), cell.a as usize % Sex::ALL.len());
        Some(table.row(
            &[Cell::Text(AGE_BANDS[band]), Cell::Text(Sex::ALL[sex].word()), Cell::Int(cell.b)],
            &[Cell::Int(sums.orders)],
        ))
    }
}

const AGE_BANDS: [&str; 6] = ["10s", "20s", "30s", "40s", "50s", "60+"];

/// The place in [`AGE_BANDS`] of an age.
fn age_band(age: u32) -> usize {
    (age / 10).clamp(1, AGE_BANDS.len() as u32) as usize - 1
}

#[cfg(test)]
mod tests {
    use crate::analytics::story::told;

    #[test]
    fn on_the_birthday_itself_a_customer_is_a_year_older() {
        told(
            "
            01-05 00:00         customer 1 is 하나 F 1996-11-28
            11-27 23:59:59.999  customer 1 places 1: book 500
            11-28 00:00         customer 1 places 2 to 3: book 500
            11-28 00:30         customer 1 cancels 2
            segment_hours: age_band | sex | hour | orders
            | 20s | F | 23 | 1
            | 30s | F | 0 | 2
            ",
        );
    }

    #[test]
    fn born_on_a_leap_day_they_are_older_on_1_march_of_other_years() {
        told(
            "
            01-05 00:00  customer 1 is 하나 F 1996-02-29
            01-05 00:00  customer 2 is 두리 M 2004-02-29
            2024-02-28 21:00  customer 2 places 1: book 500
            2024-02-29 21:00  customer 2 places 2: book 500
            02-28 10:00  customer 1 places 1: book 500
            03-01 10:00  customer 1 places 2: book 500
            segment_hours:
            | 10s | M | 21 | 1
            | 20s | M | 21 | 1
            | 20s | F | 10 | 1
            | 30s | F | 10 | 1
            ",
        );
    }

    #[test]
    fn orders_wait_for_their_customers_record_and_move_with_its_correction() {
        told(
            "
            11-27 10:00  customer 1 places 1 to 2: book 500
            11-27 11:00  customer 2 places 1: book 500
            segment_hours:

            01-05 00:00  customer 1 is 하나 F 1960-01-01
            segment_hours:
            | 60+ | F | 10 | 2

            01-06 00:00  customer 1 is 하나 M 2010-01-01
            segment_hours:
            | 10s | M | 10 | 2
            ",
        );
    }
}
