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

/// The cuts, at every worker, each with `now` at its end; [`Millis::MIN`] while there is none.
///
/// `now` is the least, over the partitions, of the time reached there, leaving out those that have
/// reached none and those more than one day behind the furthest; it never goes back (nor below
/// `floor`, where an earlier run had it). No differential operator keeps a maximum that forgets
/// nothing and goes one way.
pub fn cuts<'s>(
    reached: Stream<'s, Epoch, Vec<(u32, Millis)>>,
    asked: Stream<'s, Epoch, Vec<()>>,
    floor: Millis,
) -> Stream<'s, Epoch, Vec<Millis>> {
    let scope = reached.scope();
    reached
        .binary_frontier::<_, Vecs<Millis>, _, _, _, _>(
            asked,
            Exchange::new(|_| 0),
            Exchange::new(|()| 0),
            "cuts",
            move |_capability, info| {
                let mut kept = StateSize::by(scope, &info);
                let mut partitions: BTreeMap<u32, Millis> = BTreeMap::new();
                let mut now = floor;
                let mut waiting: BTreeMap<Epoch, Vec<(u32, Millis)>> = BTreeMap::new();
                let mut held: Stash<()> = Stash::new();
                move |(reached, reached_open), (asked, asked_open), output| {
                    reached.for_each_stamp(|capability, batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        for batch in batches {
                            waiting.entry(epoch).or_default().append(batch);
                        }
                    });
                    asked.for_each_stamp(|capability, _batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        held.at(epoch, || capability.delayed(&epoch, 0));
                    });
                    let open = |epoch: &Epoch| {
                        reached_open.less_equal(epoch) || asked_open.less_equal(epoch)
                    };
                    while let Some((capability, ())) = held.pop_closed(open) {
                        let cut = *capability.time();
                        advance(&mut now, &mut partitions, &mut waiting, |epoch| *epoch <= cut);
                        output.session(&capability).give(now);
                    }
                    // So that little waits, however seldom there is a cut.
                    advance(&mut now, &mut partitions, &mut waiting, |epoch| !open(epoch));
                    kept.tell(|| partitions.len());
                }
            },
        )
        .broadcast()
}

/// Moves `now` on by what was read in closed epochs.
fn advance(
    now: &mut Millis,
    partitions: &mut BTreeMap<u32, Millis>,
    waiting: &mut BTreeMap<Epoch, Vec<(u32, Millis)>>,
    closed: impl Fn(&Epoch) -> bool,
) {
    while let Some(first) = waiting.first_entry().filter(|first| closed(first.key())) {
        for (partition, at) in first.remove() {
            let reached = partitions.entry(partition).or_insert(at);
            *reached = at.max(*reached);
        }
        *now = now_of(partitions.values().copied()).max(*now);
    }
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
                    for now in batches.flat_map(|batch| batch.drain(..)) {
                        if !first_worker || now == Millis::MIN {
                            continue;
                        }
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
