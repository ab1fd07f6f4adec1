//! Feeding the graph: a worker's partitions, epoch by epoch, in step with the other workers and no
//! further ahead than the graph may be.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dataflows::Epoch;
use dataflows::analytics::Handles;
use dataflows::model::{Millis, Topic};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::vec::input::Handle;
use timely::dataflow::operators::vec::{Broadcast, Input};
use timely::worker::Worker;

use super::source::{MAX_DRIFT, Reached, Source};
use crate::log::Log;
use crate::platform::clock;

/// The workers read on while what they have read and not committed takes less than this, all of
/// them together: enough for commits in which keys coalesce (some 150,000 orders), few enough that
/// memory stays bounded when the store is slow, or the records are long.
const UNCOMMITTED_BYTES: usize = 96 << 20;

/// An epoch ends when its records take so much.
const EPOCH_BYTES: usize = 16 << 20;

/// Records read between two looks at everything else: an epoch while catching up.
pub(super) const EPOCH_RECORDS: usize = 20_000;

/// One epoch a this much of wall time.
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
    /// This worker's share of [`UNCOMMITTED_BYTES`].
    may_take: usize,
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
        let may_take = UNCOMMITTED_BYTES / worker.peers();
        Feed {
            log,
            source,
            handles,
            epochs,
            alignment,
            probe,
            in_flight: VecDeque::new(),
            may_take,
        }
    }

    /// Goes on to the epoch of this instant.
    pub(super) fn advance(&mut self) {
        let epoch = self.epochs.now().max(self.handles.epoch());
        self.handles.advance_to(epoch);
        while self.in_flight.front().is_some_and(|(epoch, _)| !self.probe.less_equal(epoch)) {
            self.in_flight.pop_front();
        }
    }

    /// Reads an epoch's records, unless too much is uncommitted; returns how many.
    pub(super) fn read(&mut self) -> Result<usize> {
        if self.uncommitted() >= self.may_take {
            self.source.rest();
            return Ok(0);
        }
        let max = (EPOCH_RECORDS, EPOCH_BYTES);
        self.source.grow(&*self.log, &mut self.handles)?;
        let (read, bytes) = self.source.read(max, self.alignment.horizon(), &mut self.handles)?;
        self.alignment.tell(self.source.next_at());
        if read > 0 {
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

/// The epochs by the wall clock: one every [`EPOCH`] since the claim, so that workers need not
/// agree on more than its instant.
pub(super) struct Epochs {
    first: Epoch,
    ahead: Duration,
    stopwatch: clock::Stopwatch,
}

impl Epochs {
    pub(super) fn new(first: Epoch, started_at: Millis) -> Epochs {
        let ahead = Duration::from_millis((clock::wall() - started_at).max(0) as u64);
        Epochs { first, ahead, stopwatch: clock::Stopwatch::start() }
    }

    fn now(&self) -> Epoch {
        let since = self.ahead + self.stopwatch.elapsed();
        self.first + (since.as_millis() / EPOCH.as_millis()) as Epoch
    }
}

/// Keeps the workers' reading in step by event time: what one worker reads far ahead of another
/// would be early for `now`, and the other's late.
struct Alignment {
    next: Rc<RefCell<BTreeMap<usize, Millis>>>,
    input: RefCell<Handle<u64, (usize, Millis)>>,
    index: usize,
}

impl Alignment {
    fn new(worker: &mut Worker) -> Alignment {
        let next = Rc::new(RefCell::new(
            (0..worker.peers()).map(|index| (index, Millis::MIN)).collect::<BTreeMap<_, _>>(),
        ));
        let hear = Rc::clone(&next);
        let input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input();
            stream
                .broadcast()
                .inspect(move |(index, at)| _ = hear.borrow_mut().insert(*index, *at));
            input
        });
        Alignment { next, input: input.into(), index: worker.index() }
    }

    /// Tells the others the next instant that this worker has to read; none when it has read all.
    fn tell(&self, next_at: Option<Millis>) {
        let next_at = next_at.unwrap_or(Millis::MAX);
        if self.next.borrow()[&self.index] != next_at {
            self.next.borrow_mut().insert(self.index, next_at);
            let mut input = self.input.borrow_mut();
            input.send((self.index, next_at));
            input.flush();
        }
    }

    /// Up to which instant this worker may read; the slowest not without end either, or the others
    /// would be more than a day behind it.
    fn horizon(&self) -> Millis {
        let next = self.next.borrow();
        let others = next.iter().filter(|(index, _)| **index != self.index);
        let slowest = others.map(|(_, at)| *at).min().unwrap_or(Millis::MAX);
        slowest.saturating_add(MAX_DRIFT)
    }
}
