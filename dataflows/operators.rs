//! Operators that the queries share, each tested against a naive oracle.
//!
//! A custom operator takes collections and gives collections; its doc says why no differential
//! operator does the job.

mod alerts;
mod first;
mod grade_timeline;
mod grades;
mod impacts;
mod lifetimes;
mod now;
mod sums;
#[cfg(test)]
mod tests;
mod totals;
mod within;

pub use alerts::{Alert, alerts};
pub use first::{Firsts, first};
pub(crate) use grade_timeline::tick_until;
pub use grade_timeline::{Change, Grade, GradeTimeline, Standing};
pub use grades::{Entry, Graded, grades};
pub use impacts::{Active, Impact, actives, impacts};
pub use lifetimes::{Lifetime, lifetimes, standing_orders};
pub use now::now;
pub use sums::{Sums, sums_by};
pub use totals::{distinct, totals};
pub use within::within;

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

/// What has to go and what has to come, for an output that said `before` to say `after`.
pub(crate) fn turn<V: PartialEq>(
    before: Option<V>,
    after: Option<V>,
) -> impl Iterator<Item = (V, isize)> {
    let (before, after) = if before == after { (None, None) } else { (before, after) };
    before.map(|value| (value, -1)).into_iter().chain(after.map(|value| (value, 1)))
}
