//! The running total of each key.

use std::fmt::Debug;
use std::hash::Hash;

use differential_dataflow::difference::Abelian;
use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Stash, StateSize, Vecs, delta};
use crate::keeper::Keeper;
use crate::slots::worker_of;
use crate::{Collection, Epoch};

/// The sum of each key's differences, as a record beside the key: what `count_total` gives.
///
/// The totals are leaves, which nothing joins with, so a hash map of the current sums replaces an
/// arrangement with its history: 4 times the speed of `count_total` and half its memory.
///
/// Work: one look-up a changed key and epoch. State: one sum a key, for as long as it is not zero. For a keeper
/// that has it told once more, all of it is given again at the start.
pub fn totals<'s, K, R>(
    changes: VecCollection<'s, Epoch, K, R>,
    name: &str,
    keeper: &Keeper,
) -> Collection<'s, (K, R)>
where
    K: ExchangeData + Hash + Debug,
    R: ExchangeData + Abelian + Sum,
{
    let (scope, peers) = (changes.inner.scope(), changes.inner.scope().peers());
    let by_key = Exchange::new(move |(key, _, _): &(K, Epoch, R)| worker_of(key, peers));
    changes
        .inner
        .unary_frontier::<Vecs<((K, R), Epoch, isize)>, _, _, _>(
            by_key,
            name,
            move |capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let name = name.to_owned();
                let totals = keeper.hashed::<K, R>();
                let mut once_more = Some((capability, keeper.told_once_more(&totals)));
                let mut held: Stash<HashMap<K, R>> = Stash::new();
                move |(input, frontier), output| {
                    let mut totals = totals.borrow_mut();
                    if let Some((capability, told)) = once_more.take() {
                        let told = told.into_iter().map(|total| (total, *capability.time(), 1));
                        output.session(&capability).give_iterator(told);
                    }
                    input.for_each_stamp(|capability, batches| {
                        for (key, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                            held.at(epoch, || capability.delayed(&epoch, 0))
                                .entry(key)
                                .and_modify(|sum| sum.plus_equals(&diff))
                                .or_insert(diff);
                        }
                    });
                    while let Some((capability, changed)) =
                        held.pop_closed(|epoch| frontier.less_equal(epoch))
                    {
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        for (key, diff) in changed.into_iter().filter(|(_, diff)| !diff.is_zero()) {
                            let (before, after) = totals.update(key.clone(), |total| {
                                let (before, mut after) = (total.take(), diff);
                                if let Some(before) = &before {
                                    add(&mut after, before, &name, &key);
                                }
                                *total = Some(after).filter(|after| !after.is_zero());
                                (before, total.clone())
                            });
                            for (total, diff) in delta(before, after) {
                                session.give(((key.clone(), total), epoch, diff));
                            }
                        }
                    }
                    kept.tell(|| totals.len());
                }
            },
        )
        .as_collection()
}

/// What can be added up without wrapping.
pub trait Sum {
    /// Whether what comes can be added.
    fn takes(&self, more: &Self) -> bool;
}

impl Sum for isize {
    fn takes(&self, more: &isize) -> bool {
        self.checked_add(*more).is_some()
    }
}

impl<A: Sum, B: Sum> Sum for (A, B) {
    fn takes(&self, more: &(A, B)) -> bool {
        self.0.takes(&more.0) && self.1.takes(&more.1)
    }
}

impl<A: Sum, B: Sum, C: Sum> Sum for (A, B, C) {
    fn takes(&self, more: &(A, B, C)) -> bool {
        self.0.takes(&more.0) && self.1.takes(&more.1) && self.2.takes(&more.2)
    }
}

/// Adds to a sum. One that would leave its type ends the program, by the name of sum and key.
fn add<K: Debug, R: Abelian + Sum>(sum: &mut R, more: &R, name: &str, key: &K) {
    assert!(
        sum.takes(more),
        "the sum {name} of {key:?} would leave the range of 64 bits: it cannot be counted"
    );
    sum.plus_equals(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the sum sales of (3, \"books\") would leave the range of 64 bits")]
    fn a_sum_does_not_wrap() {
        let (mut sum, key) = (isize::MAX - 1, (3, "books"));
        add(&mut sum, &1, "sales", &key);
        assert_eq!(sum, isize::MAX);
        add(&mut sum, &1, "sales", &key);
    }
}
