//! Two records of one key, side by side in a row.

use differential_dataflow::ExchangeData;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;

use super::{HashMap, Key, RecordChanges, Stash, StateSize, replace};
use crate::analytics::Outputs;
use crate::keeper::Keeper;
use crate::passes::Rows;
use crate::row::{Fate, Row};
use crate::slots::worker_of;
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
    keeper: &Keeper,
    row: impl Fn(K, &A, Option<&B>) -> Row + 'static,
) -> Rows<'s>
where
    K: Key,
    A: ExchangeData,
    B: ExchangeData,
{
    let (scope, peers) = (left.inner.scope(), left.inner.scope().peers());
    let left_by_key =
        Exchange::new(move |((key, _), _, _): &((K, A), Epoch, isize)| worker_of(key, peers));
    let right_by_key =
        Exchange::new(move |((key, _), _, _): &((K, B), Epoch, isize)| worker_of(key, peers));
    left.inner.binary_frontier::<_, Outputs, _, _, _, _>(
        right.inner,
        left_by_key,
        right_by_key,
        name,
        |_capability, info| {
            let mut kept = StateSize::by(scope, &info);
            let records = keeper.hashed::<K, (Option<A>, Option<B>)>();
            let mut held: Stash<HashMap<K, Changes<A, B>>> = Stash::new();
            move |(left, left_open), (right, right_open), output| {
                let mut records = records.borrow_mut();
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
                        records.update(key, |of_key| {
                            let before = of_key.clone().unwrap_or_default();
                            let (mut now, mut beside) = of_key.take().unwrap_or_default();
                            replace(&mut now, left);
                            replace(&mut beside, right);
                            let (shows, fate) = match (&before.0, &now) {
                                (Some(was), Some(is)) if was == is && before.1 == beside => {
                                    (None, Fate::Changed)
                                }
                                (Some(_), Some(_)) => (now.as_ref(), Fate::Changed),
                                (None, _) => (now.as_ref(), Fate::New),
                                (_, None) => (before.0.as_ref(), Fate::Gone),
                            };
                            if let Some(left) = shows {
                                session.give((row(key, left, beside.as_ref()), fate));
                            }
                            let is_known = now.is_some() || beside.is_some();
                            *of_key = is_known.then_some((now, beside));
                        });
                    }
                }
                kept.tell(|| records.len());
            }
        },
    )
}
