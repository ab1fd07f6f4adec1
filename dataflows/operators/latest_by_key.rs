//! The newest record of each customer or product.

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::{AsCollection, ExchangeData};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Key, Stash, StateSize, Vecs, delta};
use crate::keeper::Keeper;
use crate::model::Record;
use crate::slots::worker_of;
use crate::{Collection, Epoch};

/// The newest event of each key, by its time and then its id.
///
/// A `reduce` says the same; it would index the events twice over.
///
/// Work: a look at all records of a key when one comes. State: all records, for ever.
pub fn latest_by_key<'s, K, E>(
    events: Collection<'s, E>,
    name: &str,
    keeper: &Keeper,
    key: fn(&E) -> K,
) -> Collection<'s, (K, E)>
where
    K: Key,
    E: Record + ExchangeData,
{
    let (scope, peers) = (events.inner.scope(), events.inner.scope().peers());
    let by_key =
        Exchange::new(move |(event, _, _): &(E, Epoch, isize)| worker_of(&key(event), peers));
    events
        .inner
        .unary_frontier::<Vecs<((K, E), Epoch, isize)>, _, _, _>(
            by_key,
            name,
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let records = keeper.hashed::<K, Vec<(E, isize)>>();
                let mut number = 0isize;
                let mut held: Stash<HashMap<K, Vec<(E, isize)>>> = Stash::new();
                move |(input, frontier), output| {
                    let mut records = records.borrow_mut();
                    input.for_each_stamp(|capability, batches| {
                        for (event, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                            let changes = held.at(epoch, || capability.delayed(&epoch, 0));
                            changes.entry(key(&event)).or_default().push((event, diff));
                        }
                    });
                    while let Some((capability, changes)) =
                        held.pop_closed(|epoch| frontier.less_equal(epoch))
                    {
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        for (key, changes) in changes {
                            records.update(key, |of_key| {
                                let mut all = of_key.take().unwrap_or_default();
                                let (were, before) = (all.len(), newest_of(&all));
                                all.extend(changes);
                                consolidate(&mut all);
                                number += all.len() as isize - were as isize;
                                for (event, diff) in delta(before, newest_of(&all)) {
                                    session.give(((key, event), epoch, diff));
                                }
                                *of_key = Some(all).filter(|all| !all.is_empty());
                            });
                        }
                    }
                    kept.tell(|| number.max(0) as usize);
                }
            },
        )
        .as_collection()
}

fn newest_of<E: Record>(records: &[(E, isize)]) -> Option<E> {
    let newest = records.iter().max_by_key(|(event, _)| (event.at(), event.event_id()));
    newest.map(|(event, _)| event.clone())
}
