//! The incremental queries, one file each, beside its batch twin in SQL.
//!
//! To add one: `x.rs` with a part named `Query` and a story, `x.sql` with the same answer as a batch, a
//! migration with table `x`, key columns first, `mod x;` and a line in `queries!`; and its rows in the
//! oracle of the tests.

use timely::dataflow::Stream;

use crate::keeper::Keeper;
use crate::model::{Millis, ProductEvent, ProductId, ScenarioEvent};
use crate::operators::Sums;
use crate::passes::{Bucket, Build, Part, parts};
use crate::row::{Cell, Row};
use crate::{Collection, Epoch};

/// What a query may read beside its part's contributions. All of it changes at the cuts.
#[derive(Clone)]
pub struct Inputs<'s> {
    /// The newest record of each product.
    pub products: Collection<'s, (ProductId, ProductEvent)>,
    /// What the scenario producer decided: every accepted event.
    pub scenarios: Collection<'s, ScenarioEvent>,
    /// The market time of the results at each cut; [`Millis::MIN`] while there is none.
    pub now: Stream<'s, Epoch, Vec<Millis>>,
    /// For what operators keep from one start to the next.
    pub keeper: Keeper,
}

/// A query as the engine sees it.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its name and its table's.
    pub name: &'static str,
    /// The batch twin: SQL over the ledgers that gives the whole table.
    pub twin: &'static str,
    /// Its place in the list of parts.
    pub(crate) part: usize,
    /// Builds the dataflow that makes its rows, where it has one of its own.
    pub(crate) rows: Option<Build>,
    /// The row of a bucket.
    pub(crate) bucket_row: fn(&Bucket, &Sums, Table) -> Option<Row>,
}

/// Makes a query's rows.
#[derive(Clone, Copy, Debug)]
pub struct Table(pub u16);

impl Table {
    /// A row; the fields in the order of the table's columns.
    pub fn row(self, key: &[Cell<'_>], value: &[Cell<'_>]) -> Row {
        Row::new(self.0, key, value)
    }
}

macro_rules! queries {
    ($($name:ident)*) => {
        /// The places of the parts.
        #[expect(non_camel_case_types, reason = "they are names of tables")]
        enum Place {
            $($name),*
        }

        /// Every query, in the order in which a newcomer should read them; a twin may read those
        /// of the tables before its own.
        pub const QUERIES: &[Query] = &[$(Query {
            name: stringify!($name),
            twin: include_str!(concat!(stringify!($name), ".sql")),
            part: Place::$name as usize,
            rows: <$name::Query as Part>::ROWS,
            bucket_row: <$name::Query as Part>::bucket_row,
        }),*];

        const _: () = assert!(QUERIES.len() <= 64, "a customer's rows are told by 64 bits");

        parts! { All: $($name: $name::Query = Place::$name as usize;)* }
    };
}

// Outside the macro, where rustfmt sees the files.
mod active_customers;
mod basket_pairs;
mod best_sellers;
mod customer_grade;
mod customer_value;
mod first_sale_lag;
mod grade_changes;
mod grade_distribution;
mod month_phase;
mod order_alerts;
mod orders_by_hour;
mod orders_by_minute;
mod products;
mod repurchase;
mod sales_by_category;
mod sales_by_month;
mod scenario_impact;
mod season_pattern;
mod segment_hours;
mod users;
mod value_by_cohort;

queries! {
    orders_by_minute
    orders_by_hour
    sales_by_category
    sales_by_month
    season_pattern
    month_phase
    basket_pairs
    scenario_impact
    order_alerts
    active_customers
    best_sellers
    products
    first_sale_lag
    customer_value
    grade_changes
    customer_grade
    grade_distribution
    users
    repurchase
    value_by_cohort
    segment_hours
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::analytics::story::told;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("queries")
    }

    /// A query that is not in the list would silently never run.
    #[test]
    fn every_query_file_is_listed() {
        let mut listed: Vec<String> = QUERIES
            .iter()
            .flat_map(|query| ["rs", "sql"].map(|e| format!("{}.{e}", query.name)))
            .collect();
        let files = folder().read_dir().unwrap();
        let mut files: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.retain(|file| file != "mod.rs");
        listed.sort();
        files.sort();
        assert_eq!(files, listed);
    }

    /// What a query is about is told in its file.
    #[test]
    fn every_query_has_a_story() {
        for name in QUERIES.iter().map(|query| query.name) {
            let text = std::fs::read_to_string(folder().join(name).with_extension("rs")).unwrap();
            let expected = format!("{name}:");
            let told = text.lines().any(|line| line.trim_start().starts_with(&expected));
            assert!(told, "queries/{name}.rs has no story that expects rows of {name}");
        }
    }

    #[test]
    #[should_panic(expected = "- | 11-27 | 14 | 2 | 500\n")]
    fn a_story_of_other_rows_fails() {
        told(
            "
            11-27 14:00  customer 1 places 7: book 500
            orders_by_hour: day | hour | orders | revenue
            | 11-27 | 14 | 2 | 500
            ",
        );
    }

    #[test]
    #[should_panic(expected = "nothing is expected at the end")]
    fn a_story_without_rows_fails() {
        told("11-27 14:00  customer 1 places 7: book 500");
    }

    #[test]
    #[should_panic(expected = "there is no table `orders_by_our`")]
    fn a_story_of_an_unknown_table_fails() {
        told(
            "
            11-27 14:00  customer 1 places 7: book 500
            orders_by_our:
            ",
        );
    }
}
