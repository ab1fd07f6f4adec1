//! The market's workers, on threads of their own, and what they hand to the thread that appends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;

use dataflows::market::{
    Command, Control, Figures, Output, Part, Release, Settings, Snapshot, Truth, market,
};
use dataflows::model::time::HOUR;
use dataflows::model::{Event, Millis, OrderId, OrderKind, Topic};
use timely::dataflow::operators::vec::input::Input;

use super::cache::Cache;

/// How long a worker rests at most before it looks whether it has been told something.
const PARK: Duration = Duration::from_millis(100);

/// Batches on their way to the log; each is about [`BATCH_BYTES`].
const QUEUE: usize = 64;

/// While the market lives through its past, a worker collects so much before it hands it over.
const BATCH_BYTES: usize = 128 << 10;

/// Events of a worker, encoded.
pub(super) struct EncodedBatch {
    pub(super) worker: usize,
    pub(super) until: Millis,
    pub(super) bytes: Vec<u8>,
    pub(super) records: Vec<EncodedRecord>,
}

impl EncodedBatch {
    /// The records, each with its key and value.
    pub(super) fn records(&self) -> impl Iterator<Item = (&EncodedRecord, Option<&[u8]>, &[u8])> {
        let mut start = 0;
        self.records.iter().map(move |record| {
            let key = record.key_end.map(|end| &self.bytes[start..end]);
            let value = &self.bytes[record.key_end.unwrap_or(start)..record.value_end];
            start = record.value_end;
            (record, key, value)
        })
    }
}

/// A record and where its key and value end in the batch's bytes.
pub(super) struct EncodedRecord {
    pub(super) topic: Topic,
    pub(super) partition: u32,
    pub(super) at: Millis,
    pub(super) event_id: Option<u64>,
    /// What it does to which order.
    pub(super) order: Option<(OrderKind, OrderId)>,
    pub(super) key_end: Option<usize>,
    pub(super) value_end: usize,
}

/// What comes from the workers to the thread that appends.
pub(super) enum FromWorker {
    Batch(EncodedBatch),
    Figures(Figures),
    Part(u64, Part),
    Truth(Vec<Truth>),
}

/// The workers, on threads of their own.
pub(super) struct Workers {
    orders: Vec<SyncSender<Control>>,
    pub(super) messages: Receiver<FromWorker>,
    threads: Arc<Mutex<Vec<Thread>>>,
    run_until: Arc<AtomicI64>,
    guards: timely::communication::WorkerGuards<()>,
}

impl Workers {
    pub(super) fn start(
        settings: &Settings,
        workers: usize,
        snapshot: Option<Snapshot>,
        commands: &[Command],
        cache: Arc<Cache>,
        truth: bool,
    ) -> Workers {
        let (sender, messages) = sync_channel(QUEUE);
        let (orders, hears): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(QUEUE)).unzip();
        let threads = Arc::new(Mutex::new(Vec::new()));
        let run_until = Arc::new(AtomicI64::new(Millis::MIN));
        let hears: Vec<_> = hears.into_iter().map(|hears| Mutex::new(Some(hears))).collect();
        let shared = (settings.clone(), Mutex::new(snapshot), commands.to_vec());
        let (threads_here, run_until_here) = (threads.clone(), run_until.clone());
        let sender = Mutex::new(sender);
        let guards = timely::execute(timely::Config::process(workers), move |worker| {
            let (settings, snapshot, commands) = &shared;
            let hears: Receiver<Control> =
                hears[worker.index()].lock().expect("no panic while held").take().expect("its own");
            threads_here.lock().expect("no panic while held").push(std::thread::current());
            let sender = sender.lock().expect("no panic while held").clone();
            let out = outlet(worker.index(), sender, run_until_here.clone());
            let mut control = worker.dataflow(|scope| {
                let (control, stream) = scope.new_input();
                let snapshot = snapshot.lock().expect("no panic while held");
                let (snapshot, cache) = (snapshot.as_ref(), cache.clone());
                market(scope, settings, snapshot, commands, stream, out, cache, truth);
                control
            });
            'living: loop {
                while let Ok(order) = hears.try_recv() {
                    let last = matches!(order, Control::Stop);
                    control.send(order);
                    if last {
                        break 'living;
                    }
                }
                control.flush();
                worker.step_or_park(Some(PARK));
            }
        })
        .expect("threads can be started");
        Workers { orders, messages, threads, run_until, guards }
    }

    pub(super) fn tell(&self, order: &Control) {
        if let Control::Run(run_until) = order {
            self.run_until.store(*run_until, Ordering::Relaxed);
        }
        for worker in &self.orders {
            // A worker that is gone has said why.
            _ = worker.send(order.clone());
        }
        for thread in self.threads.lock().expect("no panic while held").iter() {
            thread.unpark();
        }
    }

    pub(super) fn end(self) {
        self.tell(&Control::Stop);
        // Lets go of workers that wait for room in the queue.
        drop(self.messages);
        drop(self.guards);
    }
}

/// Takes what comes out of a worker, encodes it and hands it over: at once when the market is
/// live, in bigger batches when it may live far on.
fn outlet(
    worker: usize,
    sender: SyncSender<FromWorker>,
    run_until: Arc<AtomicI64>,
) -> Rc<dyn Fn(Output)> {
    let batch =
        RefCell::new(EncodedBatch { worker, until: 0, bytes: Vec::new(), records: Vec::new() });
    let sends = Cell::new(0);
    Rc::new(move |output| {
        // The receiver is gone when the market was stopped.
        match output {
            Output::Release(release) => {
                let mut batch = batch.borrow_mut();
                encode(release, &mut batch);
                let far = batch.until + HOUR < run_until.load(Ordering::Relaxed);
                if !far || batch.bytes.len() >= BATCH_BYTES {
                    let next = EncodedBatch {
                        worker,
                        until: batch.until,
                        bytes: Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4),
                        records: Vec::with_capacity(batch.records.len()),
                    };
                    _ = sender.send(FromWorker::Batch(std::mem::replace(&mut *batch, next)));
                }
            }
            Output::Figures(figures) => {
                sends.set(sends.get() + 1);
                if sends.get() % 64 == 0 || figures.at + HOUR >= run_until.load(Ordering::Relaxed) {
                    _ = sender.send(FromWorker::Figures(figures));
                }
            }
            Output::Part(refresh, part) => _ = sender.send(FromWorker::Part(refresh, part)),
            Output::Truth(truth) => _ = sender.send(FromWorker::Truth(truth)),
        }
    })
}

fn encode(release: Release, batch: &mut EncodedBatch) {
    batch.until = release.until;
    for (partition, event) in release.records {
        let key_end = event.key().map(|key| {
            batch.bytes.extend_from_slice(key.as_bytes());
            batch.bytes.len()
        });
        event.write(&mut batch.bytes);
        let order = match &event {
            Event::Order(event) => Some((event.order.event, event.order.order_id)),
            _ => None,
        };
        batch.records.push(EncodedRecord {
            order,
            topic: event.topic(),
            partition,
            at: event.at(),
            event_id: event.event_id(),
            key_end,
            value_end: batch.bytes.len(),
        });
    }
}
