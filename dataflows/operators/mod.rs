//! Operators that the queries share, each tested against a naive oracle.
//!
//! A custom operator takes collections and gives collections; its doc says why no differential
//! operator does the job.

mod alerts;
mod counted;
mod earliest;
mod enriched;
mod first;
mod grade_timeline;
mod grades;
mod impacts;
mod kept;
mod leaders;
mod lifetimes;
mod newest;
mod now;
mod side_by_side;
mod standing_orders;
mod sums;
#[cfg(test)]
mod tests;
mod totals;
mod within;

pub use alerts::{Alert, alerts};
pub use counted::counted;
pub use earliest::earliest;
pub use enriched::enriched;
pub use first::{Firsts, first};
pub(crate) use grade_timeline::tick_until;
pub use grade_timeline::{Change, Grade, GradeTimeline, Standing};
pub use grades::{Entry, Graded, grades};
pub use impacts::{Active, Impact, actives, impacts};
pub(crate) use kept::Kept;
pub use leaders::{LEADERS, Ranked, Sold, leaders};
pub use lifetimes::{Habit, Lifetime, Lived, lifetimes};
pub use newest::newest;
pub use now::{month_of_now, now};
pub use side_by_side::side_by_side;
pub use standing_orders::standing_orders;
pub use sums::{Sums, regrouped, sums_by};
pub use totals::{Sum, distinct, totals};
pub use within::within;

use std::collections::BTreeMap;
use std::hash::Hash;

use differential_dataflow::Hashable;
use differential_dataflow::consolidation::consolidate_slice;
use smallvec::SmallVec;
use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;

use crate::Epoch;

/// What events are gathered by.
pub trait Key: ExchangeData + Hashable<Output = u64> + Hash + Eq + Copy {}

impl<K: ExchangeData + Hashable<Output = u64> + Hash + Eq + Copy> Key for K {}

/// A hash map as operators keep it; std's own hashing took 6 % of all the time.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

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

/// Puts the record that holds after an epoch's changes in the place of the one before.
pub(crate) fn replace<D: Ord>(record: &mut Option<D>, mut changes: RecordChanges<D>) {
    if !changes.is_empty() {
        changes.extend(record.take().map(|record| (record, 1)));
        let left = consolidate_slice(&mut changes);
        changes.truncate(left);
        *record = changes.pop().map(|(record, _)| record);
    }
}

/// What an epoch changes of one record: mostly, that it goes and another comes.
pub(crate) type RecordChanges<D> = SmallVec<[(D, isize); 3]>;
