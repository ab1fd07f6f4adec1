//! The earliest instant of each key.

use differential_dataflow::AsCollection;
use differential_dataflow::consolidation::consolidate;
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
use timely::dataflow::operators::Operator;

use super::{HashMap, Key, Stash, StateSize, Vecs, delta};
use crate::model::Millis;
use crate::{Collection, Epoch};

type Update<K> = ((K, Millis), Epoch, isize);

/// The earliest instant of each key.
///
/// A `reduce` says the same at several times the cost: it keeps each instant with its time and
/// difference, and walks all of a key's when one comes (measured: 1.5 CPU seconds a million). Most
/// instants are not the earliest at the worker where they are, which therefore sends few on; so one
/// must be taken back at the worker where it came, as all of an order is at its customer's.
///
/// Work: an insertion near the end of a list for each instant. State: 8 bytes an instant where it is
/// read, for ever, since the earliest may be taken back; and one a key and worker where the key is.
pub fn earliest<'s, K: Key>(
    instants: Collection<'s, (K, Millis)>,
    name: &str,
) -> Collection<'s, (K, Millis)> {
    let here = earliest_by(instants, Pipeline, name);
    earliest_by(here, Exchange::new(|((key, _), _, _): &Update<K>| key.hashed()), name)
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

fn earliest_by<'s, K: Key>(
    instants: Collection<'s, (K, Millis)>,
    pact: impl ParallelizationContract<Epoch, Vec<Update<K>>> + 'static,
    name: &str,
) -> Collection<'s, (K, Millis)> {
    let scope = instants.inner.scope();
    instants
        .inner
        .unary_frontier::<Vecs<Update<K>>, _, _, _>(pact, name, |_capability, info| {
            let mut kept = StateSize::by(scope, &info);
            let mut keys: HashMap<K, Vec<Millis>> = HashMap::default();
            let mut number = 0;
            let mut held: Stash<HashMap<K, Vec<(Millis, isize)>>> = Stash::new();
            move |(input, frontier), output| {
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
                        let instants = keys.entry(key).or_default();
                        number -= instants.len();
                        let before = instants.first().copied();
                        apply(instants, changes);
                        for (first, diff) in delta(before, instants.first().copied()) {
                            session.give(((key, first), epoch, diff));
                        }
                        number += instants.len();
                        if instants.is_empty() {
                            keys.remove(&key);
                        }
                    }
                }
                kept.tell(|| number);
            }
        })
        .as_collection()
}
