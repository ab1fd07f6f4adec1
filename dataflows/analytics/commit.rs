//! The last operator: gathers what changed at one worker and hands it over, epoch by epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::scheduling::Activator;

use crate::Epoch;
use crate::ledger::Tally;
use crate::model::{Millis, Topic};
use crate::operators::{Stash, Vecs};
use crate::row::Row;

/// Something to be committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// A row that comes (1) or goes (-1).
    Row {
        /// The row.
        row: Row,
        /// When.
        epoch: Epoch,
        /// 1 or -1.
        diff: isize,
    },
    /// What became of records of a partition.
    Tally(Topic, u32, Tally),
    /// The market time of the results.
    Now(Millis),
}

/// All that an epoch changed.
#[derive(Default, Debug)]
pub struct Closed {
    /// Rows that come and go.
    pub rows: Vec<(Row, isize)>,
    /// What became of the records, by topic and partition.
    pub tallies: BTreeMap<(Topic, u32), Tally>,
    /// `now`, if it moved.
    pub now: Option<Millis>,
}

impl Closed {
    fn add(&mut self, output: Output) {
        match output {
            Output::Row { row, diff, .. } => self.rows.push((row, diff)),
            Output::Tally(topic, partition, tally) => {
                self.tallies.entry((topic, partition)).or_default().add(&tally);
            }
            Output::Now(now) => self.now = self.now.max(Some(now)),
        }
    }

    /// Adds a later epoch's changes.
    pub fn merge(&mut self, later: Closed) {
        self.rows.extend(later.rows);
        for (partition, tally) in later.tallies {
            self.tallies.entry(partition).or_default().add(&tally);
        }
        self.now = self.now.max(later.now);
    }
}

/// Hands each closed epoch to `deliver`, at worker 0, and holds the output's frontier at the
/// earliest epoch that is not `committed` yet, so that a probe behind it shows every worker how
/// far the store is. The activator is to be used when `committed` has moved.
pub fn commit(
    outputs: Stream<'_, Epoch, Vec<Output>>,
    mut deliver: impl FnMut(Epoch, Closed) + 'static,
    committed: impl Fn() -> Epoch + 'static,
) -> (Stream<'_, Epoch, Vec<()>>, Activator) {
    let scope = outputs.scope();
    let mut activator = None;
    let stream = outputs.unary_frontier::<Vecs<()>, _, _, _>(
        Exchange::new(|_| 0),
        "commit",
        |_capability, info| {
            activator = Some(scope.activator_for(info.address));
            let mut held: Stash<Closed> = Stash::new();
            let mut uncommitted = Vec::new();
            move |(input, frontier), _output| {
                input.for_each_stamp(|capability, batches| {
                    let stamp = *capability.least().expect("a message has a time");
                    for output in batches.flat_map(|batch| batch.drain(..)) {
                        let epoch = match &output {
                            Output::Row { epoch, .. } => *epoch,
                            Output::Tally(..) | Output::Now(_) => stamp,
                        };
                        held.at(epoch, || capability.delayed(&epoch, 0)).add(output);
                    }
                });
                while let Some((capability, closed)) =
                    held.pop_closed(|epoch| frontier.less_equal(epoch))
                {
                    deliver(*capability.time(), closed);
                    uncommitted.push(capability);
                }
                let committed = committed();
                uncommitted.retain(|capability| *capability.time() > committed);
            }
        },
    );
    (stream, activator.expect("the constructor ran"))
}
