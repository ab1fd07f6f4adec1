//! The analytics at one worker, fed with a shop's events from memory, for measurements.

use std::io::Write;

use anyhow::Result;
use dataflows::analytics::{Begin, Closed, Handles, Tables, analytics, commit};
use dataflows::ledger::Sourced;
use dataflows::model::OrderEvent;
use dataflows::views::Hub;
use dataflows::{Epoch, QUERIES};
use rustix::time::{ClockId, clock_gettime};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;
use timely::worker::Worker;

use crate::events::{Events, PARTITIONS};

/// Epochs sent before the first of them must be through.
const IN_FLIGHT: u64 = 4;

/// A worker with the graph of all queries.
pub(crate) struct Engine<'w> {
    pub(crate) worker: &'w mut Worker,
    pub(crate) handles: Handles,
    pub(crate) events: Events,
    /// CPU seconds of the making of events, and of everything else.
    pub(crate) made: f64,
    pub(crate) own: f64,
    orders: u64,
    probe: ProbeHandle<Epoch>,
    epoch: Epoch,
}

impl<'w> Engine<'w> {
    /// Builds the graph and sends it the records of a year of so many orders: customers, products and
    /// scenarios. They are through when this is.
    pub(crate) fn new(
        worker: &'w mut Worker,
        orders: u64,
        mut deliver: impl FnMut(Closed) + 'static,
    ) -> Engine<'w> {
        let probe = ProbeHandle::new();
        let handles = worker.dataflow(|scope| {
            let (handles, _views, outputs) =
                analytics(scope, &Begin::default(), &Tables::of(QUERIES), &Hub::default());
            let deliver =
                move |_, closed: Option<Closed>| closed.into_iter().for_each(&mut deliver);
            commit(outputs, deliver, || u64::MAX).0.probe_with(&probe);
            handles
        });
        let events = Events::new(orders, worker.index() as u64, worker.peers() as u64);
        let (made, own, epoch) = (0.0, 0.0, 1);
        let mut engine = Engine { worker, handles, events, made, own, orders, probe, epoch };
        engine.handles.advance_to(epoch);
        engine.events.send_records(|origin, event| engine.handles.send(origin, event));
        if engine.worker.index() == 0 {
            engine.handles.cut();
        }
        engine.close();
        engine.wait(engine.epoch);
        engine
    }

    /// Whether there are orders to come.
    pub(crate) fn is_open(&self) -> bool {
        self.events.next < self.orders
    }

    /// Makes and feeds an epoch of so many placed orders, with a cut where `cut` of them are full again and
    /// at the end.
    pub(crate) fn go_on(&mut self, epoch: u64, cut: u64) {
        let before = self.events.next;
        let made = self.make((before + epoch).min(self.orders));
        let is_cut = !self.is_open() || self.events.next / cut > before / cut;
        let in_flight = if self.is_open() { IN_FLIGHT } else { 0 };
        self.feed(made, is_cut, in_flight);
    }

    /// The events up to the placed order `end`.
    pub(crate) fn make(&mut self, end: u64) -> Vec<Sourced<OrderEvent>> {
        let before = cpu();
        let made = self.events.until(end);
        self.made += cpu() - before;
        made
    }

    /// Sends an epoch's events and closes it, with a cut or without, and works until no more than so many
    /// are on their way.
    pub(crate) fn feed(&mut self, made: Vec<Sourced<OrderEvent>>, is_cut: bool, in_flight: u64) {
        let before = cpu();
        for event in made {
            self.handles.orders.send(event);
        }
        if self.worker.index() == 0 {
            for partition in 0..PARTITIONS {
                self.handles.reached.send((partition as u32, self.events.newest()));
            }
            if is_cut {
                self.handles.cut();
            }
        }
        self.close();
        self.wait(self.epoch.saturating_sub(in_flight));
        self.own += cpu() - before;
    }

    fn close(&mut self) {
        self.epoch += 1;
        self.handles.advance_to(self.epoch);
    }

    /// Works until all epochs before that one are through.
    fn wait(&mut self, epoch: u64) {
        while self.probe.less_than(&epoch) {
            self.worker.step_or_park(None);
        }
    }
}

/// This thread's CPU time in seconds.
pub(crate) fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// After how many orders memory is looked at first.
pub(crate) fn early(orders: u64) -> u64 {
    (orders / 2).min(1_000_000)
}

pub(crate) fn say(line: std::fmt::Arguments<'_>) -> Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
