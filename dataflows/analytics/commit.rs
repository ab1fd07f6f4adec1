//! The last operator: gathers what changed at one worker and hands it over, cut by cut.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use timely::container::{ContainerBuilder, PushInto};
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Operator;
use timely::scheduling::Activator;

use crate::Epoch;
use crate::ledger::Tally;
use crate::model::{Millis, Topic};
use crate::operators::{Stash, Vecs};
use crate::row::{Fate, Row, RowBatch};

/// Something to be committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// Rows that change.
    Rows(RowBatch),
    /// What became of records of a partition.
    Tally(Topic, u32, Tally),
    /// The market time of the results.
    Now(Millis),
    /// What was read up to the end of this epoch can be committed.
    Cut,
}

impl Output {
    /// One row that changes.
    pub fn row(row: &Row, fate: Fate) -> Output {
        let mut batch = RowBatch::default();
        batch.push(row, fate);
        Output::Rows(batch)
    }
}

/// Makes messages of what operators give, and batches of the rows among it.
#[derive(Default)]
pub(crate) struct Outputs {
    rows: RowBatch,
    message: Vec<Output>,
    sent: Vec<Output>,
}

impl PushInto<(Row, Fate)> for Outputs {
    fn push_into(&mut self, (row, fate): (Row, Fate)) {
        self.rows.push(&row, fate);
        self.message.extend(self.rows.take_full().map(Output::Rows));
    }
}

impl PushInto<Output> for Outputs {
    fn push_into(&mut self, output: Output) {
        self.message.push(output);
    }
}

impl ContainerBuilder for Outputs {
    type Container = Vec<Output>;

    fn extract(&mut self) -> Option<&mut Vec<Output>> {
        self.sent.clear();
        std::mem::swap(&mut self.message, &mut self.sent);
        (!self.sent.is_empty()).then_some(&mut self.sent)
    }

    fn finish(&mut self) -> Option<&mut Vec<Output>> {
        if !self.rows.is_empty() {
            self.message.push(Output::Rows(std::mem::take(&mut self.rows)));
        }
        self.extract()
    }
}

/// All that changed from one cut to the next.
#[derive(Default, Debug)]
pub struct Closed {
    /// Rows that change, a key's once.
    pub rows: Vec<RowBatch>,
    /// What became of the records, by topic and partition.
    pub tallies: BTreeMap<(Topic, u32), Tally>,
    /// `now`, if there is one.
    pub now: Option<Millis>,
    cut: bool,
}

impl Closed {
    fn add(&mut self, output: Output) {
        match output {
            Output::Rows(rows) => self.rows.push(rows),
            Output::Tally(topic, partition, tally) => {
                self.tallies.entry((topic, partition)).or_default().add(&tally);
            }
            Output::Now(now) => self.now = self.now.max(Some(now)),
            Output::Cut => self.cut = true,
        }
    }

    /// Adds a later epoch's changes.
    fn merge(&mut self, later: Closed) {
        self.rows.extend(later.rows);
        for (partition, tally) in later.tallies {
            self.tallies.entry(partition).or_default().add(&tally);
        }
        self.now = self.now.max(later.now);
    }
}

/// Tells `deliver` of each closed epoch with what has changed, at worker 0: at a cut what changed since the
/// one before, else nothing yet. Holds the output's frontier at the earliest epoch that is not `committed`
/// yet, so that a probe behind it shows every worker how far the store is. The activator is to be used when
/// `committed` has moved.
pub fn commit(
    outputs: Stream<'_, Epoch, Vec<Output>>,
    mut deliver: impl FnMut(Epoch, Option<Closed>) + 'static,
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
            let mut gathered = Closed::default();
            let mut uncommitted = Vec::new();
            move |(input, frontier), _output| {
                input.for_each_stamp(|capability, batches| {
                    let epoch = *capability.least().expect("a message has a time");
                    let closed = held.at(epoch, || capability.delayed(&epoch, 0));
                    batches.flat_map(|batch| batch.drain(..)).for_each(|output| closed.add(output));
                });
                while let Some((capability, closed)) =
                    held.pop_closed(|epoch| frontier.less_equal(epoch))
                {
                    let cut = closed.cut;
                    gathered.merge(closed);
                    deliver(*capability.time(), cut.then(|| std::mem::take(&mut gathered)));
                    uncommitted.push(capability);
                }
                let committed = committed();
                uncommitted.retain(|capability| *capability.time() > committed);
            }
        },
    );
    (stream, activator.expect("the constructor ran"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Cell;

    /// More rows than a batch holds, with something else between them, and a builder that is used again.
    #[test]
    fn every_row_is_handed_over_once_and_in_order() {
        let mut outputs = Outputs::default();
        for round in 0..2 {
            let mut given = Vec::new();
            for number in 0..5_000 {
                let row = Row::new(7, &[Cell::Int(number)], &[Cell::Text("of some length")]);
                outputs.push_into((row, Fate::New));
                if number % 1_000 == 0 {
                    outputs.push_into(Output::Now(number));
                }
                given.extend(outputs.extract().map(std::mem::take).unwrap_or_default());
            }
            while let Some(message) = outputs.finish() {
                given.append(message);
            }
            let batches = given.iter().filter_map(|output| match output {
                Output::Rows(rows) => Some(rows),
                _ => None,
            });
            assert!(batches.clone().count() > 2, "round {round}");
            let rows = batches.flat_map(RowBatch::iter);
            let numbers = rows.map(|row| crate::row::Fields(row.key()).int());
            assert!(numbers.eq(0..5_000), "round {round}");
            let others = given.iter().filter(|output| matches!(output, Output::Now(_)));
            assert_eq!(others.count(), 5);
        }
    }
}
