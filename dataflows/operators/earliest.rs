//! The earliest instant of each key.

use differential_dataflow::AsCollection;
use differential_dataflow::consolidation::consolidate;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Key, Stash, StateSize, Vecs, delta};
use crate::keeper::Keeper;
use crate::model::Millis;
use crate::slots::worker_of;
use crate::{Collection, Epoch};

type Update<K> = ((K, Millis), Epoch, isize);

/// The earliest instant of each key.
///
/// A `reduce` says the same at several times the cost: it keeps each instant with its time and
/// difference, and walks all of a key's when one comes (measured: 1.5 CPU seconds a million).
///
/// Work: an insertion near the end of a list for each instant. State: 8 bytes an instant, for ever, since the
/// earliest may be taken back.
pub fn earliest<'s, K: Key>(
    instants: Collection<'s, (K, Millis)>,
    name: &str,
    keeper: &Keeper,
) -> Collection<'s, (K, Millis)> {
    let (scope, peers) = (instants.inner.scope(), instants.inner.scope().peers());
    let by_key = Exchange::new(move |((key, _), _, _): &Update<K>| worker_of(key, peers));
    instants
        .inner
        .unary_frontier::<Vecs<Update<K>>, _, _, _>(by_key, name, |_capability, info| {
            let mut kept = StateSize::by(scope, &info);
            let keys = keeper.hashed::<K, Vec<Millis>>();
            let mut number = 0isize;
            let mut held: Stash<HashMap<K, Vec<(Millis, isize)>>> = Stash::new();
            move |(input, frontier), output| {
                let mut keys = keys.borrow_mut();
                input.for_each_stamp(|capability, batches| {
                    for ((key, at), epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                        let changes = held.at(epoch, || capability.delayed(&epoch, 0));
                        changes.entry(key).or_default().push((at, diff));
                    }
                });
                while let Some((capability, changes)) =
                    held.pop_closed(|epoch| frontier.less_equal(epoch))
                {
                    let epoch = *capability.time();
                    let mut session = output.session(&capability);
                    for (key, changes) in changes {
                        keys.update(key, |of_key| {
                            let instants = of_key.get_or_insert_default();
                            let (were, before) = (instants.len(), instants.first().copied());
                            apply(instants, changes);
                            for (first, diff) in delta(before, instants.first().copied()) {
                                session.give(((key, first), epoch, diff));
                            }
                            number += instants.len() as isize - were as isize;
                            if instants.is_empty() {
                                *of_key = None;
                            }
                        });
                    }
                }
                kept.tell(|| number.max(0) as usize);
            }
        })
        .as_collection()
}

/// Takes changes into a key's instants, which are sorted.
fn apply(instants: &mut Vec<Millis>, mut changes: Vec<(Millis, isize)>) {
    consolidate(&mut changes);
    for (at, diff) in changes {
        // Most belong at or near the end.
        let end = instants.partition_point(|instant| *instant <= at);
        let gone = end - (-diff).max(0) as usize;
        instants.splice(gone..end, std::iter::repeat_n(at, diff.max(0) as usize));
    }
}
