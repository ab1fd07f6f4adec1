//! Operators that the queries share, each tested against a naive oracle.
//!
//! A custom operator takes collections and gives collections; its doc says why no differential
//! operator does the job.

mod alerts;
mod cuts;
mod deduplicate;
mod earliest;
mod grade_timeline;
mod impacts;
mod latest_by_key;
mod left_join;
mod lookup_join;
mod now;
mod sliding_windows;
mod state_size;
mod sums;
#[cfg(test)]
mod tests;
mod top_k;
mod totals;

pub use alerts::{Alert, alerts};
pub use cuts::{at_cuts, changed};
pub use deduplicate::{Deduplicated, deduplicate};
pub use earliest::earliest;
pub(crate) use grade_timeline::tick_until;
pub use grade_timeline::{Change, Grade, GradeTimeline, Standing};
pub use impacts::{Active, Impact, actives, impacts};
pub use latest_by_key::latest_by_key;
pub use left_join::left_join;
pub use lookup_join::lookup_join;
pub use now::{cuts, month_of_now};
pub use sliding_windows::sliding_windows;
pub(crate) use state_size::StateSize;
pub use sums::{Sums, regrouped};
pub use top_k::{Ranked, Sold, TOP_K, top_k};
pub use totals::{Sum, totals};

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
pub(crate) struct Stash<S>(BTreeMap<Epoch, (Capability<Epoch>, S)>);

impl<S: Default> Stash<S> {
    pub(crate) fn new() -> Stash<S> {
        Stash(BTreeMap::new())
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
pub(crate) fn delta<V: PartialEq>(
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
