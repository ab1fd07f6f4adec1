//! The newest record of each customer or product.

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::{AsCollection, ExchangeData};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Key, Stash, StateSize, Vecs, delta};
use crate::model::Record;
use crate::{Collection, Epoch};

/// The newest event of each key, by its time and then its id.
///
/// A `reduce` says the same; it would index the events twice over.
///
/// Work: a look at all records of a key when one comes. State: all records, for ever.
pub fn latest_by_key<'s, K, E>(
    events: Collection<'s, E>,
    name: &str,
    key: fn(&E) -> K,
) -> Collection<'s, (K, E)>
where
    K: Key,
    E: Record + ExchangeData,
{
    let scope = events.inner.scope();
    let by_key = Exchange::new(move |(event, _, _): &(E, Epoch, isize)| key(event).hashed());
    events
        .inner
        .unary_frontier::<Vecs<((K, E), Epoch, isize)>, _, _, _>(
            by_key,
            name,
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut records: HashMap<K, Vec<(E, isize)>> = HashMap::default();
                let mut number = 0;
                let mut held: Stash<HashMap<K, Vec<(E, isize)>>> = Stash::new();
                move |(input, frontier), output| {
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
                            let of_key = records.entry(key).or_default();
                            number -= of_key.len();
                            let before = newest_of(of_key);
                            of_key.extend(changes);
                            consolidate(of_key);
                            number += of_key.len();
                            for (event, diff) in delta(before, newest_of(of_key)) {
                                session.give(((key, event), epoch, diff));
                            }
                            if of_key.is_empty() {
                                records.remove(&key);
                            }
                        }
                    }
                    kept.tell(|| number);
                }
            },
        )
        .as_collection()
}

fn newest_of<E: Record>(records: &[(E, isize)]) -> Option<E> {
    let newest = records.iter().max_by_key(|(event, _)| (event.at(), event.event_id()));
    newest.map(|(event, _)| event.clone())
}
