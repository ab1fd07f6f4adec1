//! What happened within the last five minutes, the last hour ...: spans that end at `now`.

use std::hash::Hash;

use differential_dataflow::difference::Abelian;
use differential_dataflow::{AsCollection, ExchangeData, VecCollection};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;

use super::{Stash, StateSize, Vecs};
use crate::Epoch;
use crate::keeper::Keeper;
use crate::model::Millis;
use crate::slots::{slot, worker_of};

/// What an epoch brings: records with their instants, and where `now` moves to.
type Arrivals<D, R> = (Vec<((D, Millis), R)>, Option<Millis>);

/// Each record, with its instant `at`, for each of the spans that it is in: the place of the span
/// in `spans`, and the record while `now - span < at <= now`.
///
/// As differential timestamps, the records that have yet to leave would be walked at every advance
/// of the frontier, once a span. So this is a calendar operator: one queue by instant serves all
/// spans, and `now` moves over it. A span's record that comes and goes between two values of `now`
/// is never given.
///
/// Work: a record is given and taken back once a span; one that is late, at once; one that is too
/// old for all spans, never. A move of `now` looks up two places a span. State: the records of the
/// longest span, and those beyond `now`. At a start `now` comes to them anew, so that those behind are told of
/// all once more.
pub fn sliding_windows<'s, D, R>(
    records: VecCollection<'s, Epoch, (D, Millis), R>,
    spans: &'static [Millis],
    now: Stream<'s, Epoch, Vec<Millis>>,
    name: &str,
    keeper: &Keeper,
) -> VecCollection<'s, Epoch, (usize, D), R>
where
    D: ExchangeData + Hash,
    R: ExchangeData + Abelian,
{
    let (scope, peers) = (records.inner.scope(), records.inner.scope().peers());
    let by_record =
        Exchange::new(move |((it, _), _, _): &((D, Millis), Epoch, R)| worker_of(it, peers));
    let longest = spans.iter().copied().max().unwrap_or(0);
    records
        .inner
        .binary_frontier::<_, Vecs<((usize, D), Epoch, R)>, _, _, _, _>(
            now,
            by_record,
            Pipeline,
            name,
            |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let of_record = |place: &Place<D>| place.1.as_ref().map_or(0, slot);
                let queue = keeper.sorted::<Place<D>, R>(of_record);
                let mut now = Millis::MIN;
                let mut held: Stash<Arrivals<D, R>> = Stash::new();
                move |(records, records_open), (nows, nows_open), output| {
                    let mut queue = queue.borrow_mut();
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
                            let between = |after, up_to| {
                                let within = queue.range(behind(after)..behind(up_to));
                                within.filter_map(|((_at, it), diff)| {
                                    Some((it.clone()?, diff.clone()))
                                })
                            };
                            for (record, mut diff) in between(left, leaves) {
                                diff.negate();
                                session.give(((place, record), epoch, diff));
                            }
                            for (record, diff) in between(enters, now) {
                                session.give(((place, record), epoch, diff));
                            }
                        }
                        let out_of_all = now.saturating_sub(longest);
                        while let Some((first, _)) = queue.first_key_value()
                            && first.0 <= out_of_all
                        {
                            let first = first.clone();
                            queue.remove(&first);
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
                            let place = (at, Some(record));
                            let sum = queue.at(place.clone(), R::zero);
                            sum.plus_equals(&diff);
                            if sum.is_zero() {
                                queue.remove(&place);
                            }
                        }
                    }
                    kept.tell(|| queue.len());
                }
            },
        )
        .as_collection()
}

/// Where a record stands in the queue; without one it is before all of its instant.
type Place<D> = (Millis, Option<D>);

/// The place behind all of an instant.
fn behind<D>(at: Millis) -> Place<D> {
    (at.saturating_add(1), None)
}
