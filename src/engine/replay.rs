//! The whole log through the whole graph, in memory and for its own sake: nothing is read back
//! from a store, and what would be committed is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use dataflows::Epoch;
use dataflows::QUERIES;
use dataflows::analytics::{Begin, Tables, analytics, commit};
use dataflows::model::Topic;
use dataflows::views::{Definition, Hub, Step, View};
use timely::CommunicationConfig;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;
use timely::worker::Worker;

use super::feed::{EPOCH, Epochs, Feed};
use super::source::{STALLED, Source};
use super::{Failure, config};
use crate::engine::profile::{self, Operator};
use crate::log::Log;
use crate::platform::clock::Stopwatch;

/// Records between two cuts.
const CUT: usize = 100_000;

/// What it took to read a log from its start to its end.
pub struct Replay {
    /// Records read.
    pub records: usize,
    /// The operators of the graph at each worker, in the order in which they were built; those of the view
    /// come last.
    pub workers: Vec<Vec<Operator>>,
    /// The steps of the view, and timely's number of its dataflow.
    pub steps: Vec<Step>,
    /// See `steps`.
    pub view: Option<usize>,
}

/// What a worker tells at the end: the records that it read, its operators, and of the view the steps and the
/// number of the dataflow.
type Replayed = (usize, Vec<Operator>, Option<(Vec<Step>, usize)>);

/// Reads what the log holds with that many workers, as fast as it goes; with a standing view, if one is given.
pub fn replay(log: &Arc<dyn Log>, workers: usize, view: Option<&Definition>) -> Result<Replay> {
    let communication = match workers {
        1 => CommunicationConfig::Thread,
        workers => CommunicationConfig::Process(workers),
    };
    let (log, view, started) = (Arc::clone(log), view.cloned(), Stopwatch::start());
    let failure = Failure::default();
    let failed = failure.clone();
    let workers = timely::execute(config(communication), move |worker| {
        let replayed = replay_at(worker, &log, view.as_ref(), started, &failed);
        replayed.map_err(|error| failed.end(worker, error)).unwrap_or_default()
    });
    let workers = workers.map_err(|message| anyhow!("starting the workers: {message}"))?;
    let mut replay = Replay { records: 0, workers: Vec::new(), steps: Vec::new(), view: None };
    for result in workers.join() {
        let (records, operators, view) =
            result.map_err(|message| anyhow!("a worker of the replay ended: {message}"))?;
        replay.records += records;
        replay.workers.push(operators);
        if let Some((steps, dataflow)) = view {
            (replay.steps, replay.view) = (steps, Some(dataflow));
        }
    }
    failure.first()?;
    Ok(replay)
}

fn replay_at(
    worker: &mut Worker,
    log: &Arc<dyn Log>,
    view: Option<&Definition>,
    started: Stopwatch,
    failure: &Failure,
) -> Result<Replayed> {
    let profile = profile::register(worker);
    let (probe, hub) = (ProbeHandle::new(), Hub::default());
    let begin = Begin::default();
    let (handles, dataflow) = worker.dataflow::<Epoch, _, _>(|scope| {
        let (handles, _views, outputs) = analytics(scope, &begin, &Tables::of(QUERIES), &hub);
        let (done, _activator) = commit(outputs, |_epoch, _closed| {}, || Epoch::MAX);
        done.probe_with(&probe);
        (handles, scope.addr()[0])
    });
    let view = view.map(|definition| {
        let (ear, _) = hub.listen(definition.tables());
        let mut view = View::build(worker, definition, &ear, 0, None);
        view.past_is_over();
        view
    });
    let nothing_read: BTreeMap<(Topic, u32), _> = BTreeMap::new();
    let source = Source::open(&**log, &nothing_read, (worker.index(), worker.peers()), None)?;
    let epochs = Epochs::new(begin.hydrated + 1, started);
    let mut feed = Feed::new(worker, log, source, handles, epochs, &probe);
    let (mut records, mut cuts) = (0, 0);
    let mut idle = Stopwatch::start();
    loop {
        failure.check()?;
        feed.advance();
        let read = feed.read()?;
        records += read;
        // About as many as a commit takes while it catches up.
        if worker.index() == 0 && records * worker.peers() / CUT > cuts {
            cuts += 1;
            feed.cut();
        }
        if read > 0 {
            idle = Stopwatch::start();
        } else if idle.elapsed() > STALLED {
            feed.starving()?.map_or(Ok(()), |what| Err(anyhow!(what)))?;
            idle = Stopwatch::start();
        }
        if read == 0 && feed.is_through()? {
            break;
        }
        worker.step();
        // What it has become is not kept here.
        if let Some(view) = &view {
            drop(view.cuts());
        }
        if read == 0 {
            worker.step_or_park(Some(EPOCH));
        }
    }
    // Closed inputs would end the graph, and it would drop what it holds: it is looked at before,
    // when all workers have read all and nothing is on its way any more.
    let mut handles = feed.end();
    handles.advance_to(Epoch::MAX - 1);
    if worker.index() == 0 {
        handles.cut();
    }
    handles.advance_to(Epoch::MAX);
    let behind = |view: &View| view.frontier().is_some_and(|epoch| epoch < Epoch::MAX);
    while probe.less_than(&Epoch::MAX) || view.as_ref().is_some_and(behind) {
        failure.check()?;
        worker.step_or_park(Some(EPOCH));
    }
    let mut operators = profile.operators(worker, dataflow, &handles.queries);
    let view = view.map(|mut view| {
        operators.extend(profile.operators(worker, view.dataflow, &[]));
        (std::mem::take(&mut view.steps), view.dataflow)
    });
    Ok((records, operators, view))
}
