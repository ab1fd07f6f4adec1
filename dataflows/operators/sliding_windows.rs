//! What happened within the last five minutes, the last hour ...: spans that end at `now`.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};
use std::ops::RangeBounds;

use differential_dataflow::difference::Abelian;
use differential_dataflow::{AsCollection, VecCollection};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use super::{Stash, StateSize, Vecs};
use crate::Epoch;
use crate::model::Millis;

/// What an epoch brings: records with their instants, and where `now` moves to.
type Arrivals<D, R> = (Vec<((D, Millis), R)>, Option<Millis>);

/// Each record, with its instant `at`, for each of the spans that it is in: the place of the span
/// in `spans`, and the record while `now - span < at <= now`.
///
/// As differential timestamps, the records that have yet to leave would be walked at every advance
/// of the frontier, once a span. So this is a calendar operator: one queue by instant serves all
/// spans, and `now` moves over it. A span's record that comes and goes between two values of `now`
/// is never given. The operator is linear, so records stay at the worker where they are.
///
/// Work: a record is given and taken back once a span; one that is late, at once; one that is too
/// old for all spans, never. A move of `now` looks up two places a span. State: the records of the
/// longest span, and those beyond `now`.
pub fn sliding_windows<'s, D, R>(
    records: VecCollection<'s, Epoch, (D, Millis), R>,
    spans: &'static [Millis],
    now: Stream<'s, Epoch, Vec<Millis>>,
    name: &str,
) -> VecCollection<'s, Epoch, (usize, D), R>
where
    D: Clone + 'static,
    R: Abelian + 'static,
{
    let scope = records.inner.scope();
    let longest = spans.iter().copied().max().unwrap_or(0);
    records
        .inner
        .binary_frontier::<_, Vecs<((usize, D), Epoch, R)>, _, _, _, _>(
            now,
            Pipeline,
            Pipeline,
            name,
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut queue: BTreeMap<(Millis, u64), (D, R)> = BTreeMap::new();
                let mut number = 0;
                let mut now = Millis::MIN;
                let mut held: Stash<Arrivals<D, R>> = Stash::new();
                move |(records, records_open), (nows, nows_open), output| {
                    records.for_each_stamp(|capability, batches| {
                        for (record, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                            let (arrived, _) = held.at(epoch, || capability.delayed(&epoch, 0));
                            arrived.push((record, diff));
                        }
                    });
                    nows.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        let (_, to) = held.at(epoch, || capability.delayed(&epoch, 0));
                        *to = batches.flat_map(|batch| batch.drain(..)).max().max(*to);
                    });
                    while let Some((capability, (arrived, to))) = held.pop_closed(|epoch| {
                        records_open.less_equal(epoch) || nows_open.less_equal(epoch)
                    }) {
                        let epoch = *capability.time();
                        let mut session = output.session(&capability);
                        let before = now;
                        now = to.map_or(now, |to| to.max(now));
                        for (place, span) in spans.iter().enumerate() {
                            // In the span are those after `now - span` up to `now`.
                            let left = before.saturating_sub(*span);
                            let leaves = before.min(now.saturating_sub(*span));
                            let enters = before.max(now.saturating_sub(*span));
                            for (_at, (record, diff)) in queue.range(after_up_to(left, leaves)) {
                                let mut diff = diff.clone();
                                diff.negate();
                                session.give(((place, record.clone()), epoch, diff));
                            }
                            for (_at, (record, diff)) in queue.range(after_up_to(enters, now)) {
                                session.give(((place, record.clone()), epoch, diff.clone()));
                            }
                        }
                        let out_of_all = now.saturating_sub(longest);
                        while let Some(first) = queue.first_entry() {
                            if first.key().0 > out_of_all {
                                break;
                            }
                            first.remove();
                        }
                        for ((record, at), diff) in arrived {
                            if at <= out_of_all {
                                continue;
                            }
                            for (place, span) in spans.iter().enumerate() {
                                if now.saturating_sub(*span) < at && at <= now {
                                    session.give(((place, record.clone()), epoch, diff.clone()));
                                }
                            }
                            queue.insert((at, number), (record, diff));
                            number += 1;
                        }
                    }
                    kept.tell(|| queue.len());
                }
            },
        )
        .as_collection()
}

/// The places of the queue after one instant, up to another.
fn after_up_to(after: Millis, up_to: Millis) -> impl RangeBounds<(Millis, u64)> {
    (Excluded((after, u64::MAX)), Included((up_to, u64::MAX)))
}
