//! The earliest instant of each key.

use differential_dataflow::{AsCollection, Hashable};
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
use timely::dataflow::operators::Operator;

use super::{HashMap, Held, Kept, Vecs, turn};
use crate::model::Millis;
use crate::{Collection, Epoch};

type Update = ((i64, Millis), Epoch, isize);

/// The earliest instant of each key, of those that ever came.
///
/// For what never goes again: the ledger only grows, so the earliest is final but for an earlier
/// one. A `reduce` would keep every instant, and walk them. Most instants are not the earliest at
/// the worker where they are, which therefore sends few on.
///
/// Work: a look-up an instant. State: one instant a key, at its worker and where it is read.
pub fn earliest<'s>(
    instants: Collection<'s, (i64, Millis)>,
    name: &str,
) -> Collection<'s, (i64, Millis)> {
    let here = earliest_by(instants, Pipeline, name);
    earliest_by(here, Exchange::new(|((key, _), _, _): &Update| key.hashed()), name)
}

fn earliest_by<'s>(
    instants: Collection<'s, (i64, Millis)>,
    pact: impl ParallelizationContract<Epoch, Vec<Update>> + 'static,
    name: &str,
) -> Collection<'s, (i64, Millis)> {
    let scope = instants.inner.scope();
    instants
        .inner
        .unary_frontier::<Vecs<Update>, _, _, _>(pact, name, |_capability, info| {
            let mut kept = Kept::by(scope, &info);
            let mut earliest: HashMap<i64, Millis> = HashMap::default();
            let mut held: Held<HashMap<i64, Millis>> = Held::new();
            move |(input, frontier), output| {
                input.for_each_stamp(|capability, batches| {
                    for ((key, at), epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                        if diff > 0 {
                            let firsts = held.at(epoch, || capability.delayed(&epoch, 0));
                            let first = firsts.entry(key).or_insert(at);
                            *first = at.min(*first);
                        }
                    }
                });
                while let Some((capability, firsts)) =
                    held.pop_closed(|epoch| frontier.less_equal(epoch))
                {
                    let epoch = *capability.time();
                    let mut session = output.session(&capability);
                    for (key, at) in firsts {
                        let before = earliest.get(&key).copied();
                        let after = before.map_or(at, |before| before.min(at));
                        earliest.insert(key, after);
                        for (first, diff) in turn(before, Some(after)) {
                            session.give(((key, first), epoch, diff));
                        }
                    }
                }
                kept.tell(|| earliest.len());
            }
        })
        .as_collection()
}
