//! Operators that the queries share, each tested against a naive oracle.
//!
//! A custom operator takes collections and gives collections; its doc says why no differential
//! operator does the job.

mod first;
mod grade_timeline;
mod grades;
mod now;
mod sums;
#[cfg(test)]
mod tests;
mod totals;

pub use first::{Firsts, first};
pub(crate) use grade_timeline::tick_until;
pub use grade_timeline::{Change, Grade, GradeTimeline, Standing};
pub use grades::{Entry, Graded, grades};
pub use now::now;
pub use sums::{Sums, sums_by};
pub use totals::totals;

use std::collections::BTreeMap;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;

use crate::Epoch;

/// How a custom operator builds its output.
pub(crate) type Vecs<D> = CapacityContainerBuilder<Vec<D>>;

/// What an operator holds back until its epoch is closed.
pub(crate) struct Held<S>(BTreeMap<Epoch, (Capability<Epoch>, S)>);

impl<S: Default> Held<S> {
    pub(crate) fn new() -> Held<S> {
        Held(BTreeMap::new())
    }

    /// What is held for an epoch; `capability` is asked for once an epoch.
    pub(crate) fn at(
        &mut self,
        epoch: Epoch,
        capability: impl FnOnce() -> Capability<Epoch>,
    ) -> &mut S {
        &mut self.0.entry(epoch).or_insert_with(|| (capability(), S::default())).1
    }

    /// The earliest epoch that is closed: one that `open` says may not come again.
    pub(crate) fn pop_closed(
        &mut self,
        open: impl Fn(&Epoch) -> bool,
    ) -> Option<(Capability<Epoch>, S)> {
        let first = self.0.first_entry()?;
        if open(first.key()) { None } else { Some(first.remove()) }
    }
}
