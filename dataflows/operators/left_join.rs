//! Two records of one key, side by side in a row.

use differential_dataflow::ExchangeData;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Key, RecordChanges, Stash, StateSize, replace};
use crate::analytics::Outputs;
use crate::passes::Rows;
use crate::row::{Fate, Row};
use crate::{Collection, Epoch};

/// What an epoch changes of one key.
type Changes<A, B> = (RecordChanges<A>, RecordChanges<B>);

/// The row that `row` makes of each key's left record, and of its right one if there is one. Of both
/// collections a key has at most one record at an epoch's end.
///
/// A `join` says the same for pairs, and without the right record nothing; it would index both
/// sides with their history, and walk it.
///
/// Work: a look-up a change. State: the two records of a key.
pub fn left_join<'s, K, A, B>(
    left: Collection<'s, (K, A)>,
    right: Collection<'s, (K, B)>,
    name: &str,
    row: impl Fn(K, &A, Option<&B>) -> Row + 'static,
) -> Rows<'s>
where
    K: Key,
    A: ExchangeData,
    B: ExchangeData,
{
    let scope = left.inner.scope();
    let left_by_key = Exchange::new(|((key, _), _, _): &((K, A), Epoch, isize)| key.hashed());
    let right_by_key = Exchange::new(|((key, _), _, _): &((K, B), Epoch, isize)| key.hashed());
    left.inner.binary_frontier::<_, Outputs, _, _, _, _>(
        right.inner,
        left_by_key,
        right_by_key,
        name,
        |_capability, info| {
            let mut kept = StateSize::by(scope, &info);
            let mut records: HashMap<K, (Option<A>, Option<B>)> = HashMap::default();
            let mut held: Stash<HashMap<K, Changes<A, B>>> = Stash::new();
            move |(left, left_open), (right, right_open), output| {
                left.for_each_stamp(|capability, batches| {
                    for ((key, record), epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                        let changes = held.at(epoch, || capability.delayed(&epoch, 0));
                        changes.entry(key).or_default().0.push((record, diff));
                    }
                });
                right.for_each_stamp(|capability, batches| {
                    for ((key, record), epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                        let changes = held.at(epoch, || capability.delayed(&epoch, 0));
                        changes.entry(key).or_default().1.push((record, diff));
                    }
                });
                while let Some((capability, changes)) = held
                    .pop_closed(|epoch| left_open.less_equal(epoch) || right_open.less_equal(epoch))
                {
                    let mut session = output.session_with_builder(&capability);
                    for (key, (left, right)) in changes {
                        let of_key = records.entry(key).or_default();
                        let before = of_key.clone();
                        replace(&mut of_key.0, left);
                        replace(&mut of_key.1, right);
                        let (shows, fate) = match (&before.0, &of_key.0) {
                            (Some(_), Some(_)) if before == *of_key => (None, Fate::Changed),
                            (Some(_), Some(now)) => (Some(now), Fate::Changed),
                            (None, now) => (now.as_ref(), Fate::New),
                            (before, None) => (before.as_ref(), Fate::Gone),
                        };
                        if let Some(left) = shows {
                            let row = row(key, left, of_key.1.as_ref());
                            session.give((row, fate));
                        }
                        if of_key.0.is_none() && of_key.1.is_none() {
                            records.remove(&key);
                        }
                    }
                }
                kept.tell(|| records.len());
            }
        },
    )
}
