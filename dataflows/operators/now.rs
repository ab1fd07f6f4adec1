//! The market time of the results, from how far each partition of `orders` has been read.

use std::collections::BTreeMap;

use differential_dataflow::AsCollection;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;
use timely::dataflow::operators::vec::Broadcast;

use super::{Stash, StateSize, Vecs, delta};
use crate::model::time::{DAY, day_of, month_of};
use crate::model::{Day, Millis};
use crate::{Collection, Epoch};

/// `now`, at each epoch in which it moves, at every worker.
///
/// It is the least, over the partitions, of the time reached there, leaving out those that have
/// reached none and those more than one day behind the furthest; it never goes back (nor below
/// `floor`, where an earlier run had it). No differential operator keeps a maximum that forgets
/// nothing and goes one way.
pub fn now(
    reached: Stream<'_, Epoch, Vec<(u32, Millis)>>,
    floor: Millis,
) -> Stream<'_, Epoch, Vec<Millis>> {
    let scope = reached.scope();
    reached
        .unary_frontier::<Vecs<Millis>, _, _, _>(
            Exchange::new(|_| 0),
            "now",
            move |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut partitions: BTreeMap<u32, Millis> = BTreeMap::new();
                let mut now = Millis::MIN;
                let mut held: Stash<Vec<(u32, Millis)>> = Stash::new();
                move |(input, frontier), output| {
                    input.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        let read = held.at(epoch, || capability.delayed(&epoch, 0));
                        for batch in batches {
                            read.append(batch);
                        }
                    });
                    while let Some((capability, read)) =
                        held.pop_closed(|epoch| frontier.less_equal(epoch))
                    {
                        for (partition, at) in read {
                            let reached = partitions.entry(partition).or_insert(at);
                            *reached = at.max(*reached);
                        }
                        let least = now_of(partitions.values().copied()).max(floor);
                        if least > now {
                            now = least;
                            output.session(&capability).give(now);
                        }
                    }
                    kept.tell(|| partitions.len());
                }
            },
        )
        .broadcast()
}

/// The first day of the month of `now`: one record, once there is a `now`.
pub fn month_of_now(now: Stream<'_, Epoch, Vec<Millis>>) -> Collection<'_, Day> {
    let first_worker = now.scope().index() == 0;
    now.unary::<Vecs<(Day, Epoch, isize)>, _, _, _>(
        Pipeline,
        "month of now",
        move |_capability, _info| {
            let mut month = None;
            move |input, output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let mut session = output.session(&capability);
                    for now in batches.flat_map(|batch| batch.drain(..)).filter(|_| first_worker) {
                        let moved = Some(month_of(day_of(now)));
                        for (month, diff) in delta(month, moved) {
                            session.give((month, epoch, diff));
                        }
                        month = moved;
                    }
                });
            }
        },
    )
    .as_collection()
}

/// The least of the partitions' times, without those a day behind.
fn now_of(newest: impl Iterator<Item = Millis> + Clone) -> Millis {
    let newest_of_all = newest.clone().max().unwrap_or(Millis::MIN);
    newest.filter(|at| newest_of_all - at <= DAY).min().unwrap_or(Millis::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_a_day_behind_is_left_out() {
        let now = |newest: &[Millis]| now_of(newest.iter().copied());
        assert_eq!(now(&[]), Millis::MIN);
        assert_eq!(now(&[5 * DAY, 4 * DAY + 7]), 4 * DAY + 7);
        assert_eq!(now(&[5 * DAY, 4 * DAY]), 4 * DAY);
        assert_eq!(now(&[5 * DAY, 4 * DAY - 1]), 5 * DAY);
    }
}
