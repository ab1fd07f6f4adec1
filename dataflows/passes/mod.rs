//! The pass over customers: what is kept for a customer is kept together, and each query adds its part.
//!
//! A part is linear. It says what one event, one pair of neighbours in a customer's list, one change of
//! grade or the customer as such adds, each with a sign `d`: 1 where it comes and -1 where it goes. So late
//! events, second ones that are earlier, takings-back, corrected records and changed grades are the
//! frame's (`customers.rs`), and no part has a line for any of them. Rows are made at a cut, once for
//! each key that changed since the cut before.

mod contributions;
mod customers;
mod fold;
mod history;
mod operator;
#[cfg(test)]
mod tests;

pub(crate) use contributions::plus_amount;
pub use contributions::{Bucket, Contributions, Fact, buyers, orders, revenue, row};
pub use customers::Customer;
pub use history::Entry;
#[cfg(test)]
pub(crate) use history::{put, take};
pub(crate) use operator::{buckets, customers};

use std::fmt::Debug;

use derive_more::{BitOr, BitOrAssign};
use differential_dataflow::VecCollection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::dataflow::Stream;

use crate::analytics::Output;
use crate::model::Millis;
use crate::operators::{Change, Sums};
use crate::queries::{Inputs, Table};
use crate::row::Row;
use crate::{Collection, Epoch};

/// What a part's contributions, or a customer's row, depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BitOr, BitOrAssign)]
pub struct Facts(u8);

impl Facts {
    /// Nothing but what happens.
    pub const NONE: Facts = Facts(0);
    /// Birth date, sex and sign-up of the customer's newest record: nothing is counted before there is one.
    pub const RECORD: Facts = Facts(1);
    /// The grade alone.
    const LEVEL: Facts = Facts(2);
    /// The record, and the grade at the last cut.
    pub const GRADE: Facts = Facts(1 | 2);
    /// The grade, the sums that it follows from, and since when a known customer has it.
    pub const STANDING: Facts = Facts(4);
    /// The events.
    pub const EVENTS: Facts = Facts(8);
    /// What a row may depend on, and a contribution may not.
    pub(crate) const FOR_ROWS: Facts = Facts(4 | 8);

    /// Whether some of both are the same.
    pub(crate) const fn meets(self, other: Facts) -> bool {
        self.0 & other.0 != 0
    }
}

/// Rows of a table as a cut leaves them.
pub type Rows<'s> = Stream<'s, Epoch, Vec<Output>>;

/// A query's share of the pass over customers. `d` is 1 where something comes and -1 where it goes.
#[expect(unused_variables, reason = "what a part does not need it leaves out")]
pub trait Part: 'static {
    /// What the contributions depend on, the record or the grade: where that changes the frame takes them
    /// back and has them made anew.
    const READS: Facts = Facts::NONE;
    /// What a customer's row depends on, where the table has one a customer.
    const ROW: Facts = Facts::NONE;
    /// What is kept for a customer.
    type State: Debug + Default + PartialEq + Serialize + DeserializeOwned + 'static;

    /// Rows that are there from the start.
    fn always(out: &mut Contributions) {}
    /// The customer as such, whose record is known.
    fn known(who: &Customer, d: i64, out: &mut Contributions) {}
    /// An event that counts.
    fn event(
        who: &Customer,
        state: &mut Self::State,
        event: &Entry,
        d: i64,
        out: &mut Contributions,
    ) {
    }
    /// A placed order, and the customer's placed order before it.
    fn placed(who: &Customer, before: Option<Millis>, at: Millis, d: i64, out: &mut Contributions) {
    }
    /// A standing order, and the customer's standing order before it.
    fn standing(
        who: &Customer,
        state: &mut Self::State,
        before: Option<Millis>,
        at: Millis,
        d: i64,
        out: &mut Contributions,
    ) {
    }
    /// What holds at `now`, where time itself does something; gives when it does so next. It is asked of
    /// all customers and never taken back, so it reads neither record nor grade.
    fn at(who: &Customer, state: &mut Self::State, now: Millis, out: &mut Contributions) -> Millis {
        Millis::MAX
    }
    /// A change of the grade.
    fn graded(who: &Customer, change: &Change, d: i64, out: &mut Contributions) {}

    /// The customer's row.
    fn row(who: &Customer, state: &Self::State, table: Table) -> Option<Row> {
        None
    }
    /// The row of a bucket.
    fn bucket_row(bucket: &Bucket, sums: &Sums, table: Table) -> Option<Row> {
        None
    }
    /// Builds the rows, where they are made of the contributions by more than adding up.
    const ROWS: Option<Build> = None;
}

/// What a part contributes.
pub struct Contributed<'s> {
    /// What its buckets add up to, as differences.
    pub sums: VecCollection<'s, Epoch, Bucket, Sums>,
    /// What it has told.
    pub facts: Collection<'s, Fact>,
}

/// Builds the dataflow from a part's contributions to its rows.
pub type Build = for<'s> fn(&Inputs<'s>, Contributed<'s>, Table) -> Rows<'s>;

/// What a list of parts is to the frame, which runs them one after the other.
pub(crate) trait Parts: 'static {
    /// The states of all parts for a customer.
    type States: Debug + Default + PartialEq + Serialize + DeserializeOwned + 'static;

    fn always(outs: &mut [Option<Contributions>]);
    fn known(who: &Customer, d: i64, of: Option<Facts>, outs: &mut [Option<Contributions>]);
    fn event(
        who: &Customer,
        states: &mut Self::States,
        event: &Entry,
        d: i64,
        of: Option<Facts>,
        outs: &mut [Option<Contributions>],
    );
    fn placed(
        who: &Customer,
        before: Option<Millis>,
        at: Millis,
        d: i64,
        of: Option<Facts>,
        outs: &mut [Option<Contributions>],
    );
    fn standing(
        who: &Customer,
        states: &mut Self::States,
        before: Option<Millis>,
        at: Millis,
        d: i64,
        of: Option<Facts>,
        outs: &mut [Option<Contributions>],
    );
    fn at(
        who: &Customer,
        states: &mut Self::States,
        now: Millis,
        outs: &mut [Option<Contributions>],
    ) -> Millis;
    fn graded(who: &Customer, change: &Change, d: i64, outs: &mut [Option<Contributions>]);
    /// The customer's rows of the tables that some facts change, by the parts' places.
    fn rows(
        who: &Customer,
        states: &Self::States,
        of: Facts,
        tables: &[Option<Table>],
        give: impl FnMut(usize, Option<Row>),
    );
}

/// Makes a list of parts, by their places.
macro_rules! parts {
    ($list:ident: $($state:ident: $part:ty = $place:expr;)*) => {
        /// All parts.
        pub(crate) struct $list;

        /// What each part keeps for a customer.
        #[derive(Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub(crate) struct States {
            $($state: <$part as $crate::passes::Part>::State,)*
        }

        $(const _: () = assert!(
            !<$part as $crate::passes::Part>::READS.meets($crate::passes::Facts::FOR_ROWS),
            "where these change only rows are made anew"
        );)*

        impl $crate::passes::Parts for $list {
            type States = States;

            fn always(outs: &mut [Option<$crate::passes::Contributions>]) {
                $(if let Some(out) = &mut outs[$place] {
                    <$part>::always(out);
                })*
            }

            #[inline]
            fn known(who: &$crate::passes::Customer, d: i64, of: Option<$crate::passes::Facts>,
                     outs: &mut [Option<$crate::passes::Contributions>]) {
                $(if let Some(out) = &mut outs[$place] && who.counts(<$part>::READS, of) {
                    <$part>::known(who, d, out);
                })*
            }

            #[inline]
            fn event(who: &$crate::passes::Customer, states: &mut States, event: &$crate::passes::Entry, d: i64,
                     of: Option<$crate::passes::Facts>, outs: &mut [Option<$crate::passes::Contributions>]) {
                $(if let Some(out) = &mut outs[$place] && who.counts(<$part>::READS, of) {
                    <$part>::event(who, &mut states.$state, event, d, out);
                })*
            }

            #[inline]
            fn placed(who: &$crate::passes::Customer, before: Option<$crate::model::Millis>, at: $crate::model::Millis, d: i64,
                      of: Option<$crate::passes::Facts>, outs: &mut [Option<$crate::passes::Contributions>]) {
                $(if let Some(out) = &mut outs[$place] && who.counts(<$part>::READS, of) {
                    <$part>::placed(who, before, at, d, out);
                })*
            }

            #[inline]
            fn standing(who: &$crate::passes::Customer, states: &mut States, before: Option<$crate::model::Millis>,
                        at: $crate::model::Millis, d: i64, of: Option<$crate::passes::Facts>,
                        outs: &mut [Option<$crate::passes::Contributions>]) {
                $(if let Some(out) = &mut outs[$place] && who.counts(<$part>::READS, of) {
                    <$part>::standing(who, &mut states.$state, before, at, d, out);
                })*
            }

            fn at(who: &$crate::passes::Customer, states: &mut States, now: $crate::model::Millis,
                  outs: &mut [Option<$crate::passes::Contributions>]) -> $crate::model::Millis {
                let mut due = $crate::model::Millis::MAX;
                $(if let Some(out) = &mut outs[$place] {
                    due = due.min(<$part>::at(who, &mut states.$state, now, out));
                })*
                due
            }

            fn graded(who: &$crate::passes::Customer, change: &$crate::operators::Change, d: i64,
                      outs: &mut [Option<$crate::passes::Contributions>]) {
                $(if let Some(out) = &mut outs[$place] {
                    <$part>::graded(who, change, d, out);
                })*
            }

            #[inline]
            fn rows(who: &$crate::passes::Customer, states: &States, of: $crate::passes::Facts,
                    tables: &[Option<$crate::queries::Table>],
                    mut give: impl FnMut(usize, Option<$crate::row::Row>)) {
                $(if let Some(table) = tables[$place] && <$part>::ROW.meets(of) {
                    give($place, <$part>::row(who, &states.$state, table));
                })*
            }
        }
    };
}
pub(crate) use parts;
