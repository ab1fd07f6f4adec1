//! The earliest instant of each key.

use differential_dataflow::consolidation::consolidate;
use differential_dataflow::{AsCollection, Hashable};
use timely::dataflow::channels::pact::{Exchange, ParallelizationContract, Pipeline};
use timely::dataflow::operators::Operator;

use super::{HashMap, Held, Kept, Vecs, turn};
use crate::model::Millis;
use crate::{Collection, Epoch};

type Update = ((i64, Millis), Epoch, isize);

/// The earliest instant of each key.
///
/// A `reduce` says the same at several times the cost: it keeps each instant with its time and
/// difference, and walks all of a key's when one comes (measured: 1.5 CPU seconds a million). Most
/// instants are not the earliest at the worker where they are, which therefore sends few on.
///
/// Work: an insertion near the end of a list for each instant. State: 8 bytes an instant where it is
/// read, for ever, since the earliest may be taken back; and one a key and worker where the key is.
pub fn earliest<'s>(
    instants: Collection<'s, (i64, Millis)>,
    name: &str,
) -> Collection<'s, (i64, Millis)> {
    let here = earliest_by(instants, Pipeline, name);
    earliest_by(here, Exchange::new(|((key, _), _, _): &Update| key.hashed()), name)
}

/// The instants of a key, sorted. What is withdrawn before it comes is kept apart: each is there as
/// often as it came more often than it went.
#[derive(Default)]
struct Instants {
    come: Vec<Millis>,
    /// Empty but for an order that is taken back at another worker than where it was read.
    gone: Vec<(Millis, isize)>,
}

impl Instants {
    fn apply(&mut self, mut changes: Vec<(Millis, isize)>) {
        changes.append(&mut self.gone);
        consolidate(&mut changes);
        for (at, diff) in changes {
            // Most belong at or near the end.
            let end = self.come.partition_point(|come| *come <= at);
            if diff > 0 {
                self.come.splice(end..end, std::iter::repeat_n(at, diff as usize));
                continue;
            }
            let held = end - self.come[..end].partition_point(|come| *come < at);
            let taken = held.min(diff.unsigned_abs());
            self.come.drain(end - taken..end);
            if taken < diff.unsigned_abs() {
                self.gone.push((at, diff + taken as isize));
            }
        }
    }
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
            let mut keys: HashMap<i64, Instants> = HashMap::default();
            let mut number = 0;
            let mut held: Held<HashMap<i64, Vec<(Millis, isize)>>> = Held::new();
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
                        number -= instants.come.len();
                        let before = instants.come.first().copied();
                        instants.apply(changes);
                        for (first, diff) in turn(before, instants.come.first().copied()) {
                            session.give(((key, first), epoch, diff));
                        }
                        number += instants.come.len();
                        if instants.come.is_empty() && instants.gone.is_empty() {
                            keys.remove(&key);
                        }
                    }
                }
                kept.tell(|| number);
            }
        })
        .as_collection()
}
