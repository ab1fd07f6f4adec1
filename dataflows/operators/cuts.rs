//! Cuts: the epochs at which rows are made, and what comes in between waits for.

use differential_dataflow::{AsCollection, ExchangeData, Hashable};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Operator;

use super::{Stash, Vecs};
use crate::analytics::Outputs;
use crate::model::Millis;
use crate::passes::Rows;
use crate::row::{Fate, Row};
use crate::{Collection, Epoch};

/// The changes of a collection at the cuts, each cut's taken together. `cuts` is there at every worker.
///
/// As a differential operator there is `consolidate`; none moves a change to a later time.
///
/// Work: a push a change. State: the changes since the last cut.
pub fn at_cuts<'s, D: ExchangeData>(
    changes: Collection<'s, D>,
    cuts: Stream<'s, Epoch, Vec<Millis>>,
) -> Collection<'s, D> {
    changes
        .inner
        .binary_frontier::<_, Vecs<(D, Epoch, isize)>, _, _, _, _>(
            cuts,
            Pipeline,
            Pipeline,
            "at cuts",
            |_capability, _info| {
                let mut waiting: Vec<(D, Epoch, isize)> = Vec::new();
                let mut held: Stash<()> = Stash::new();
                move |(changes, changes_open), (cuts, cuts_open), output| {
                    changes.for_each_stamp(|_capability, batches| {
                        for batch in batches {
                            waiting.append(batch);
                        }
                    });
                    cuts.for_each_stamp(|capability, _batches| {
                        let epoch = *capability.least().expect("a message has a time");
                        held.at(epoch, || capability.delayed(&epoch, 0));
                    });
                    while let Some((capability, ())) = held.pop_closed(|epoch| {
                        changes_open.less_equal(epoch) || cuts_open.less_equal(epoch)
                    }) {
                        let cut = *capability.time();
                        let up_to_here = waiting.extract_if(.., |(_, epoch, _)| *epoch <= cut);
                        let mut changes: Vec<_> =
                            up_to_here.map(|(record, _, diff)| (record, diff)).collect();
                        differential_dataflow::consolidation::consolidate(&mut changes);
                        let changes = changes.into_iter().map(|(record, diff)| (record, cut, diff));
                        output.session(&capability).give_iterator(changes);
                    }
                }
            },
        )
        .as_collection()
}

/// The rows of records that change at cuts only: each key's once, as it is then. What encodes a row is
/// given a record, key first. A key's changes meet at one worker, wherever they come from, since what goes
/// and what comes there make one row.
///
/// Work: a sort of a cut's changes. State: none.
pub fn changed<K: ExchangeData + Hashable, V: ExchangeData>(
    records: Collection<'_, (K, V)>,
    row: impl Fn(&K, &V) -> Row + 'static,
) -> Rows<'_> {
    let by_key = Exchange::new(|((key, _), _, _): &((K, V), Epoch, isize)| key.hashed().into());
    records.inner.unary_frontier::<Outputs, _, _, _>(
        by_key,
        "changed rows",
        move |_capability, _info| {
            let mut held: Stash<Vec<((K, V), isize)>> = Stash::new();
            move |(input, frontier), output| {
                input.for_each_stamp(|capability, batches| {
                    for (record, epoch, diff) in batches.flat_map(|batch| batch.drain(..)) {
                        held.at(epoch, || capability.delayed(&epoch, 0)).push((record, diff));
                    }
                });
                while let Some((capability, mut changes)) =
                    held.pop_closed(|epoch| frontier.less_equal(epoch))
                {
                    differential_dataflow::consolidation::consolidate(&mut changes);
                    let mut session = output.session_with_builder(&capability);
                    for of_key in changes.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
                        let goes = of_key.iter().any(|(_, diff)| *diff < 0);
                        let comes = || of_key.iter().filter(|(_, diff)| *diff > 0);
                        let fate = if goes { Fate::Changed } else { Fate::New };
                        // A second row of a key is refused where it would be committed.
                        for ((key, value), diff) in comes() {
                            for _ in 0..*diff {
                                session.give((row(key, value), fate));
                            }
                        }
                        if comes().next().is_none() {
                            let ((key, value), _) = &of_key[0];
                            session.give((row(key, value), Fate::Gone));
                        }
                    }
                }
            }
        },
    )
}
