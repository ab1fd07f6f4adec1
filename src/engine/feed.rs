//! Feeding the graph: a worker's partitions, epoch by epoch, in step with the other workers and no
//! further ahead than the graph may be.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dataflows::Epoch;
use dataflows::analytics::Handles;
use dataflows::model::{Millis, Topic};
use serde::{Deserialize, Serialize};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::vec::input::Handle;
use timely::dataflow::operators::vec::{Broadcast, Input};
use timely::worker::Worker;

use super::source::{MAX_DRIFT, Reached, Source};
use crate::log::Log;
use crate::platform::clock::Stopwatch;

/// While a commit runs, the next is cut when so much was read by all workers, as worker 0 has its share of
/// it: enough that keys coalesce in it (some 150,000 orders).
const COMMIT_BYTES: usize = 96 << 20;

/// The workers read on while what they have read and not committed takes less than this, all of
/// them together: a commit that runs, one that is made meanwhile, and what is read for the third. Few
/// enough that memory stays bounded when the store is slow, or the records are long.
const UNCOMMITTED_BYTES: usize = 3 * COMMIT_BYTES;

/// An epoch ends when its records take so much.
const EPOCH_BYTES: usize = 16 << 20;

/// Records read between two looks at everything else: an epoch while catching up.
pub(super) const EPOCH_RECORDS: usize = 20_000;

/// An epoch takes this long.
pub(super) const EPOCH: Duration = Duration::from_millis(10);

/// What a worker reads, and how much of it is on its way.
pub(super) struct Feed {
    log: Arc<dyn Log>,
    source: Source,
    handles: Handles,
    epochs: Epochs,
    alignment: Alignment,
    /// Behind the commit: its frontier is the earliest epoch that is not committed.
    probe: ProbeHandle<Epoch>,
    /// What each epoch's records take.
    in_flight: VecDeque<(Epoch, usize)>,
    /// What was read since the last cut takes.
    uncut: usize,
    workers: usize,
}

impl Feed {
    pub(super) fn new(
        worker: &mut Worker,
        log: &Arc<dyn Log>,
        source: Source,
        handles: Handles,
        epochs: Epochs,
        probe: &ProbeHandle<Epoch>,
    ) -> Feed {
        let (log, probe, alignment) = (Arc::clone(log), probe.clone(), Alignment::new(worker));
        let workers = worker.peers();
        Feed {
            log,
            source,
            handles,
            epochs,
            alignment,
            probe,
            in_flight: VecDeque::new(),
            uncut: 0,
            workers,
        }
    }

    /// Goes on to the epoch of this instant, and tells the others of it.
    pub(super) fn advance(&mut self) {
        let epoch = self.epochs.now(self.alignment.greatest()).max(self.handles.epoch());
        self.handles.advance_to(epoch);
        self.alignment.go_on(epoch);
        while self.in_flight.front().is_some_and(|(epoch, _)| !self.probe.less_equal(epoch)) {
            self.in_flight.pop_front();
        }
    }

    /// The graph's epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.handles.epoch()
    }

    /// Has what all workers have read up to the end of this epoch committed.
    pub(super) fn cut(&mut self) -> Epoch {
        self.handles.cut();
        self.uncut = 0;
        self.handles.epoch()
    }

    /// Closes the open epoch.
    pub(super) fn close(&mut self) {
        self.handles.advance_to(self.handles.epoch() + 1);
    }

    /// Whether this worker has read its share of a commit since the last cut.
    pub(super) fn fills_a_commit(&self) -> bool {
        self.uncut >= COMMIT_BYTES / self.workers
    }

    /// Tells the others that this worker reads no more, and whether they all do not.
    pub(super) fn ends(&mut self) -> bool {
        self.alignment.ends()
    }

    /// Reads an epoch's records, unless too much is uncommitted; returns how many.
    pub(super) fn read(&mut self) -> Result<usize> {
        if self.uncommitted() >= UNCOMMITTED_BYTES / self.workers {
            self.source.rest();
            return Ok(0);
        }
        let max = (EPOCH_RECORDS, EPOCH_BYTES);
        self.source.grow(&*self.log, &mut self.handles)?;
        let (read, bytes) = self.source.read(max, self.alignment.horizon(), &mut self.handles)?;
        self.alignment.tell(self.source.next_at());
        if read > 0 {
            self.uncut += bytes;
            self.in_flight.push_back((self.handles.epoch(), bytes));
        }
        Ok(read)
    }

    /// How far each partition has been read.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (Topic, u32, Reached)> {
        self.source.offsets()
    }

    /// The log holds more than it gives: of which partition, as a sentence.
    pub(super) fn starving(&self) -> Result<Option<String>> {
        self.source.starving(&*self.log)
    }

    /// Whether all that the log holds by now has been read and committed.
    pub(super) fn is_through(&self) -> Result<bool> {
        Ok(self.uncommitted() == 0 && self.source.at_end(&*self.log)?)
    }

    /// Gives the graph back, to be closed; the other workers no longer wait for this one.
    pub(super) fn end(self) -> Handles {
        self.handles
    }

    /// What its uncommitted records take.
    fn uncommitted(&self) -> usize {
        self.in_flight.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The epochs of a worker: one every [`EPOCH`] by a stopwatch since the claim, and none behind the
/// greatest that it has heard of. So no wall clock is asked, and a host that was paused goes on where the
/// others are: whoever is behind would hold back what the others read for as long.
pub(super) struct Epochs {
    first: Epoch,
    claimed: Stopwatch,
}

impl Epochs {
    pub(super) fn new(first: Epoch, claimed: Stopwatch) -> Epochs {
        Epochs { first, claimed }
    }

    fn now(&mut self, heard: Epoch) -> Epoch {
        self.after(self.claimed.elapsed(), heard)
    }

    /// The epoch at a reading of the stopwatch; from there on it goes on as before.
    fn after(&mut self, elapsed: Duration, heard: Epoch) -> Epoch {
        let own = self.first + (elapsed.as_millis() / EPOCH.as_millis()) as Epoch;
        self.first += heard.saturating_sub(own);
        own.max(heard)
    }
}

/// How long a worker may say nothing of its epoch to the others.
const SILENCE: Duration = Duration::from_secs(1);

/// What a worker tells the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Told {
    index: usize,
    /// The next instant that it has to read.
    next_at: Millis,
    epoch: Epoch,
    /// It reads no more.
    ends: bool,
}

/// Keeps the workers in step: their reading by event time, since what one worker reads far ahead of
/// another would be early for `now`, and the other's late; and their epochs.
struct Alignment {
    heard: Rc<RefCell<Heard>>,
    input: Handle<u64, Told>,
    index: usize,
    epoch: Epoch,
    told: Option<Stopwatch>,
    ends: bool,
}

/// What the workers have told, this one too.
struct Heard {
    next: BTreeMap<usize, Millis>,
    greatest: Epoch,
    /// Who reads no more.
    ended: BTreeSet<usize>,
}

impl Alignment {
    fn new(worker: &mut Worker) -> Alignment {
        let next = (0..worker.peers()).map(|index| (index, Millis::MIN)).collect();
        let heard = Rc::new(RefCell::new(Heard { next, greatest: 0, ended: BTreeSet::new() }));
        let hear = Rc::clone(&heard);
        let input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input();
            stream.broadcast().inspect(move |told: &Told| {
                let mut heard = hear.borrow_mut();
                heard.next.insert(told.index, told.next_at);
                heard.greatest = heard.greatest.max(told.epoch);
                if told.ends {
                    heard.ended.insert(told.index);
                }
            });
            input
        });
        Alignment { heard, input, index: worker.index(), epoch: 0, told: None, ends: false }
    }

    /// The greatest epoch of which any worker has told.
    fn greatest(&self) -> Epoch {
        self.heard.borrow().greatest
    }

    /// Goes on to an epoch, of which the others are told now and then.
    fn go_on(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        if self.told.is_none_or(|told| told.elapsed() >= SILENCE) {
            let next_at = self.heard.borrow().next[&self.index];
            self.send(next_at);
        }
    }

    /// Tells the others the next instant that this worker has to read; none when it has read all.
    fn tell(&mut self, next_at: Option<Millis>) {
        let next_at = next_at.unwrap_or(Millis::MAX);
        let before = self.heard.borrow_mut().next.insert(self.index, next_at);
        if before != Some(next_at) {
            self.send(next_at);
        }
    }

    fn send(&mut self, next_at: Millis) {
        self.told = Some(Stopwatch::start());
        let Alignment { index, epoch, ends, .. } = *self;
        self.input.send(Told { index, next_at, epoch, ends });
        self.input.flush();
    }

    /// Tells that this worker reads no more; gives whether no other does.
    fn ends(&mut self) -> bool {
        if !std::mem::replace(&mut self.ends, true) {
            self.send(Millis::MAX);
        }
        let heard = self.heard.borrow();
        heard.ended.len() == heard.next.len()
    }

    /// Up to which instant this worker may read; the slowest not without end either, or the others
    /// would be more than a day behind it.
    fn horizon(&self) -> Millis {
        let heard = self.heard.borrow();
        let others = heard.next.iter().filter(|(index, _)| **index != self.index);
        let slowest = others.map(|(_, at)| *at).min().unwrap_or(Millis::MAX);
        slowest.saturating_add(MAX_DRIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two workers tell each other their epochs every second. The clock of one loses a tenth, and its host
    /// is paused once, with its clock; it has also heard of the claim late.
    #[test]
    fn epochs_follow_the_greatest_and_never_go_back() {
        let mut workers = [Epochs::new(7, Stopwatch::start()), Epochs::new(7, Stopwatch::start())];
        let (mut heard, mut before) = (0, [0, 0]);
        for second in 0..600_u64 {
            let paused = (300..310).contains(&second);
            let slow = (second - second.saturating_sub(300).min(10)) * 900;
            let late = Duration::from_millis(slow.saturating_sub(5_000));
            let first = workers[0].after(Duration::from_secs(second), heard);
            let epochs =
                if paused { [first, before[1]] } else { [first, workers[1].after(late, heard)] };
            assert_eq!(epochs[0], 7 + second * 100, "the one that is ahead goes by its stopwatch");
            assert!(epochs.iter().zip(before).all(|(now, before)| *now >= before), "{second}");
            // What was heard is a second old.
            assert!(paused || epochs[1] + 100 >= epochs[0], "{second}: {epochs:?}");
            heard = first;
            before = epochs;
        }
    }
}
