//! The analytics: timely workers that read the log, run the queries and commit to the store.
//!
//! Each worker reads the partitions p with p mod workers = its index, tags what it reads with the
//! epoch, and lets the graph of [`dataflows::analytics`] do the rest. Worker 0 also hands closed
//! epochs to the committing thread. At the start the workers go on from a checkpoint, or from nothing; what was counted
//! since is read back from the store in epochs of its own, and the log from the committed offsets on.
//!
//! Backpressure: the commit operator holds the graph's frontier at the last committed epoch, and a
//! worker reads on only while less than its share of `UNCOMMITTED_BYTES` is beyond it.

mod as_read;
pub mod checkpoint;
mod committing;
mod connect;
mod feed;
pub mod profile;
mod replay;
mod reporting;
mod source;
mod standing;
pub mod supervise;

pub use replay::{Replay, replay};
pub(crate) use standing::definition;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use dataflows::Epoch;
use dataflows::analytics::{Begin, Handles, Tables, analytics, commit};
use dataflows::model::Topic;
use dataflows::views::Hub;
use timely::CommunicationConfig as To;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Hooks};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::vec::{Broadcast, Input};
use timely::dataflow::operators::{Inspect, Probe};
use timely::scheduling::Activator;
use timely::worker::Worker;
use tracing::{error, info};

use crate::engine::supervise::LOST;
use crate::log::Log;
use crate::platform::clock::Stopwatch;
use crate::platform::crash;
use crate::platform::logging::LAST_WORD;
use crate::platform::retry;
use crate::store::{self, Claim, LedgerDiffers};
use as_read::Mark;
use checkpoint::{Checkpoints, Restored};
use committing::Commits;
use feed::{EPOCH, EPOCH_RECORDS, Epochs, Feed};
use profile::Held;
use reporting::Reading;
use source::Source;
use standing::{Office, Views};

/// How the analytics are run.
#[derive(Clone)]
pub struct Settings {
    /// Where the store is.
    pub database: postgres::Config,
    /// Which tables are kept.
    pub tables: Tables,
    /// Timely's threads, processes and addresses.
    pub timely: timely::CommunicationConfig,
    /// End when everything in the log is committed and `producer_done` is set.
    pub exit_when_caught_up: bool,
    /// Set when nobody will write any more.
    pub producer_done: Arc<AtomicBool>,
    /// Told the market time of the newest commit.
    pub now: Arc<AtomicI64>,
    /// Set to end early, after committing what was read.
    pub stop: Arc<AtomicBool>,
    /// Where the workers keep what a start goes on from, if anywhere.
    pub checkpoints: Option<checkpoint::Settings>,
    /// Names some rows of a topic's ledger that are not what the log says, for the error of a start that
    /// finds it changed.
    pub differing: fn(&postgres::Config, &dyn Log, Topic) -> Vec<String>,
}

/// Runs the analytics until told to stop, or caught up.
///
/// An error ends all workers of this process. Where timely's workers are in several processes, those
/// of the others wait for ours in vain: then an error is printed and ends the process at once, and
/// with its connections the others, whoever joins whatever. Its exit code says whether it passes by
/// itself ([`LOST`]), for the supervisor.
pub fn run(log: &Arc<dyn Log>, settings: Settings) -> Result<()> {
    let process = match &settings.timely {
        To::Cluster { process, .. } => Some(*process),
        _ => None,
    };
    let config = config(settings.timely.clone());
    let (builders, others) = builders(log, &settings)?;
    let reading = Arc::new(Reading::default());
    let reporting =
        reading.report(Arc::clone(log), settings.database.clone(), process.unwrap_or(0));
    let (log, read) = (Arc::clone(log), Arc::clone(&reading));
    let failure = Failure::default();
    let failed = failure.clone();
    let workers = timely::execute::execute_from(builders, others, config.worker, move |worker| {
        if let Err(error) = run_worker(worker, &log, &settings, &read, &failed) {
            if process.is_some() {
                end_process(&error);
            }
            failed.end(worker, error);
        }
    });
    let workers = workers.map_err(|message| {
        reading.end(false);
        anyhow!("starting the analytics' workers: {message}")
    })?;
    let ended: Vec<_> = workers.join().into_iter().collect();
    let first = failure.first();
    reading.end(first.is_ok());
    // Where it failed, the reporting waits for servers that are away: nobody waits for it.
    first?;
    reporting.join().map_err(|_| anyhow!("the reporting thread died"))?;
    reading.check()?;
    for result in ended {
        result.map_err(|message| anyhow!("a worker of the analytics ended: {message}"))?;
    }
    Ok(())
}

/// What timely makes its workers of, and what runs beside them.
type Builders = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

/// Makes what connects timely's workers; where they are in several processes, when all of these are there.
fn builders(log: &Arc<dyn Log>, settings: &Settings) -> Result<Builders> {
    let starting = |message| anyhow!("starting the analytics' workers: {message}");
    let To::Cluster { threads, process, addresses, .. } = &settings.timely else {
        return settings.timely.clone().try_build().map_err(starting);
    };
    let store = store::identity(&mut store::connect(&settings.database)?)?;
    let sockets = connect::connect(&connect::Member {
        process: *process,
        addresses,
        workers: *threads,
        name: format!("{} {store}", log.identity()),
        stop: &settings.stop,
    })?;
    info!(process, "the analytics' processes are connected");
    let hooks = Hooks::default();
    let workers = ProcessBuilder::new_typed_vector(*threads, hooks.refill.clone(), None);
    let (builders, guard) =
        initialize_networking_from_sockets(workers, sockets, *process, *threads, hooks)
            .context("starting the threads that connect the analytics' processes")?;
    Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
}

/// Says why, and ends the process without waiting for anything.
fn end_process(error: &anyhow::Error) -> ! {
    let code = if retry::lost(error) { i32::from(LOST) } else { 1 };
    // With the lock held: the first error is the one that counts.
    let _first = std::io::stderr().lock();
    error!(target: LAST_WORD, "{error:#}");
    supervise::end_at_once(code)
}

/// Timely's and differential's settings, for whoever runs the graph.
pub fn config(communication: timely::CommunicationConfig) -> timely::Config {
    let mut worker = timely::WorkerConfig::default();
    differential_dataflow::configure(
        &mut worker,
        &differential_dataflow::Config::default().idle_merge_effort(Some(1_000)),
    );
    timely::Config { communication, worker }
}

/// The first error of this process's workers: when one ends, the others wait for it in vain.
#[derive(Clone, Default)]
struct Failure(Arc<Mutex<Option<anyhow::Error>>>);

impl Failure {
    fn error(&self) -> MutexGuard<'_, Option<anyhow::Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends a worker that has failed.
    fn end(&self, worker: &mut Worker, error: anyhow::Error) {
        self.error().get_or_insert(error);
        // Timely would step on for ever: what is uncommitted holds the graph open.
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    }

    /// Ends a worker when another has failed.
    fn check(&self) -> Result<()> {
        ensure!(self.error().is_none(), "another worker has failed");
        Ok(())
    }

    fn first(&self) -> Result<()> {
        self.error().take().map_or(Ok(()), Err)
    }
}

fn run_worker(
    worker: &mut Worker,
    log: &Arc<dyn Log>,
    settings: &Settings,
    reading: &Reading,
    failure: &Failure,
) -> Result<()> {
    let mut client = store::connect(&settings.database)?;
    let form = checkpoint::form(&settings.tables);
    // Once the claim stands, no other engine can change the store: what all workers read back
    // after it is one snapshot.
    let claim = (worker.index() == 0)
        .then(|| store::claim(&mut client, &**log, &settings.tables, &form))
        .transpose()?;
    if let Some(claim) = &claim {
        let Claim { generation, epoch, .. } = claim;
        info!(generation, epoch, "the store is this engine's now");
        as_read::warn_of_starts(&**log, &claim.tallies)?;
    }
    let claim = broadcast(worker, failure, claim)?;
    let claimed = Stopwatch::start();
    are_kept(&settings.tables, &claim)?;

    let commits = Commits::new(claim.epoch);
    let _abandon = commits.until_dropped();
    let mut committing = None;
    if worker.index() == 0 {
        let mut client = store::connect(&settings.database)?;
        let backend = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        let committer = store::Committer::new(client, &claim, &settings.tables)?;
        let now = Arc::clone(&settings.now);
        let tables = settings.tables.clone();
        committing = Some(commits.start(committer, tables, now, &settings.database, backend));
    }

    let hydrated = claim.epoch + HYDRATION;
    let office = (worker.index() == 0)
        .then(|| Office::open(&settings.database, &settings.tables, hydrated, claim.now))
        .transpose()?;
    let (desk, found) = office.unzip();
    let standing = broadcast(worker, failure, found)?;
    let restored = restore(worker, failure, settings, &form, &mut client, &claim, &standing)?;
    let from = restored.as_ref().map(|restored| restored.offsets.clone());
    let checkpoints = {
        let (at, database) = (settings.checkpoints.as_ref(), &settings.database);
        Checkpoints::new(worker, at, form, (database, &mut client), &claim, restored)?
    };
    if from.is_some() {
        commits.hold_back(hydrated);
    }
    let (hub, held) = (Hub::default(), Held::register(worker));
    let begin = Begin { hydrated, now: claim.now, keeper: checkpoints.keeper().clone() };
    let probe = ProbeHandle::new();
    let (mut handles, views, activator) = worker.dataflow::<Epoch, _, _>(|scope| {
        let (handles, views, outputs) = analytics(scope, &begin, &settings.tables, &hub);
        let (deliver, committed) = (commits.clone(), commits.clone());
        let (done, activator) = commit(
            outputs,
            move |epoch, closed| deliver.push(epoch, closed),
            move || committed.committed(),
        );
        done.probe_with(&probe);
        (handles, views, activator)
    });
    let views = Views::new(worker, (hub.clone(), held), views, &settings.database, standing, desk);

    handles.advance_to(claim.epoch + 1);
    as_read::has_all(&**log, &claim.tallies)?;
    let tables = &settings.tables;
    let past = Past { claim: &claim, tables, from: from.as_ref(), last: hydrated };
    let read = hydrate(worker, &**log, &mut client, &past, &mut handles);
    drop(client);
    let compared = read.map_err(|mut error| {
        if let Some(LedgerDiffers { topic, rows, .. }) = error.downcast_mut() {
            *rows = (settings.differing)(&settings.database, &**log, *topic);
        }
        error
    })?;
    info!(worker = worker.index(), "what the store holds is read; going on in the log");

    // The first commit writes what differs from what the store holds.
    handles.advance_to(hydrated);
    let cuts = Cuts { commits: commits.clone(), last: hydrated, read: false };
    if worker.index() == 0 {
        handles.cut();
    }
    let shard = (worker.index(), worker.peers());
    let mut source = Source::open(&**log, &claim.tallies, shard, claim.latest)?;
    source.mark(&compared);
    source.announce(&mut handles);
    let epochs = Epochs::new(hydrated + 1, claimed);
    let feed = Feed::new(worker, log, source, handles, epochs, &probe);
    let mut running = Running { feed, cuts, views, checkpoints, hub, probe, activator };
    let check = || failure.check().and_then(|()| commits.check());
    let caught_up = running.run(worker, settings, reading, check)?;
    running.finish(worker, check)?;
    commits.close(caught_up);
    if let Some(thread) = committing {
        thread.join().map_err(|_| anyhow!("the committing thread died"))?;
    }
    commits.check()
}

/// That this process keeps the tables that process 0 does: they decide which operators there are, and those
/// must be the same in all processes.
fn are_kept(tables: &Tables, claim: &Claim) -> Result<()> {
    let kept: Vec<&str> = tables.results().map(|(_, name)| name).collect();
    ensure!(
        kept == claim.kept_tables,
        "this process keeps {}, and process 0 keeps {}: give all processes the same --tables",
        kept.join(","),
        claim.kept_tables.join(",")
    );
    Ok(())
}

/// A worker while its graph runs.
struct Running {
    feed: Feed,
    cuts: Cuts,
    views: Views,
    checkpoints: Checkpoints,
    hub: Hub,
    /// What is not committed yet.
    probe: ProbeHandle<Epoch>,
    /// Of the operator that commits.
    activator: Activator,
}

impl Running {
    /// Reads until it is told to stop, or there is nothing more; whether there is not.
    fn run(
        &mut self,
        worker: &mut Worker,
        settings: &Settings,
        reading: &Reading,
        check: impl Fn() -> Result<()>,
    ) -> Result<bool> {
        loop {
            check()?;
            reading.check()?;
            self.go_on(worker)?;

            let ended = settings.stop.load(Ordering::Relaxed);
            let may_end =
                settings.exit_when_caught_up && settings.producer_done.load(Ordering::SeqCst);
            let read = if ended { 0 } else { self.feed.read()? };
            if worker.index() == 0 {
                self.look(read);
            }
            let offsets = self.feed.offsets();
            offsets.for_each(|(topic, partition, offset)| reading.tell(topic, partition, offset));
            if read == 0 && (ended || (may_end && self.feed.is_through()?)) {
                return Ok(!ended);
            }
            worker.step();
            if read == 0 {
                worker.step_or_park(Some(EPOCH));
            }
        }
    }

    /// Has the graph go on to the epoch of this instant, unless a checkpoint is being taken.
    fn go_on(&mut self, worker: &mut Worker) -> Result<()> {
        if self.checkpoints.step(&self.hub) {
            self.feed.advance();
        }
        self.views.step(worker, self.feed.epoch(), &self.cuts.commits)?;
        self.activator.activate();
        Ok(())
    }

    /// Asks for a cut, and with it for a checkpoint, where one is due: at worker 0, which has read so many
    /// records.
    fn look(&mut self, read: usize) {
        let Running { feed, cuts, views, checkpoints, .. } = self;
        if cuts.look(read, feed, views) && checkpoints.is_due() {
            cuts.commits.tell_of(cuts.last);
            checkpoints.ask(cuts.last);
            feed.close();
        }
    }

    /// Has all committed that was read, once every worker has said up to where it has.
    fn finish(mut self, worker: &mut Worker, check: impl Fn() -> Result<()>) -> Result<()> {
        self.checkpoints.end();
        // Whoever has asked for a checkpoint waits for it, and the others for them.
        while !(self.checkpoints.are_taken() && self.feed.ends()) {
            check()?;
            self.go_on(worker)?;
            if worker.index() == 0 {
                self.look(0);
            }
            worker.step();
            worker.step_or_park(Some(EPOCH));
        }
        let Running { mut feed, mut views, checkpoints, probe, activator, .. } = self;
        feed.advance();
        if worker.index() == 0 {
            feed.cut();
        }
        drop(feed.end());
        while !views.ends() {
            check()?;
            activator.activate();
            worker.step();
            worker.step_or_park(Some(EPOCH));
        }
        drop(views);
        while !probe.done() {
            check()?;
            activator.activate();
            worker.step();
            worker.step_or_park(Some(EPOCH));
        }
        checkpoints.finish();
        Ok(())
    }
}

/// Epochs that a start has for what the store holds.
const HYDRATION: Epoch = 1 << 20;

/// When worker 0 asks for a cut: when the one before is committed, and something has been read since; or while
/// it is being committed, when what has been read is enough for another, so that the graph and the store
/// do not wait for each other in turn.
struct Cuts {
    commits: Commits,
    /// The epoch of the last one.
    last: Epoch,
    /// This worker has read something since.
    read: bool,
}

impl Cuts {
    /// Whether one was asked for.
    fn look(&mut self, read: usize, feed: &mut Feed, views: &mut Views) -> bool {
        self.read |= read > 0;
        let idle = self.commits.committed() >= self.last;
        let next = self.commits.begun() >= self.last && feed.fills_a_commit();
        if next || (idle && (self.read || self.commits.is_uncut() || views.want_a_cut())) {
            (self.last, self.read) = (feed.cut(), false);
            views.cut(self.last, &self.commits);
            return true;
        }
        false
    }
}

/// Finds the checkpoint that a start can go on from. Where views stand, all of the past is told to them.
fn restore(
    worker: &mut Worker,
    failure: &Failure,
    settings: &Settings,
    form: &str,
    client: &mut postgres::Client,
    claim: &Claim,
    standing: &standing::Begin,
) -> Result<Option<Restored>> {
    // Those of other processes may have other flags.
    let is_on = gather(worker, failure, settings.checkpoints.is_some())?;
    let Some(at) = settings.checkpoints.as_ref().filter(|_| is_on.into_iter().all(|on| on)) else {
        return Ok(None);
    };
    if claim.tallies.is_empty() {
        return Ok(None);
    }
    if standing.has_views() {
        if worker.index() == 0 {
            info!(
                "the analytics' state is read back from the store: standing views read all of it"
            );
        }
        return Ok(None);
    }
    let since = Stopwatch::start();
    let restored = checkpoint::restore(worker, failure, at, form, client)?;
    if let Some(restored) = &restored
        && worker.index() == 0
    {
        let ms = since.elapsed().as_millis() as u64;
        info!(epoch = restored.epoch(), ms, "the analytics go on from a checkpoint");
    }
    Ok(restored)
}

/// What of the past a start reads back.
struct Past<'a> {
    claim: &'a Claim,
    tables: &'a Tables,
    /// The offsets from which on, where there is a checkpoint of what was before.
    from: Option<&'a BTreeMap<(Topic, u32), u64>>,
    /// Up to which epoch it is fed.
    last: Epoch,
}

/// Feeds what the store holds: every worker its shard of the ledgers, worker 0 the result rows, so that the
/// first commit writes the difference and nothing else; behind a checkpoint only what was counted since. Ends
/// where the log does not hold what was read of it; gives the last record of each partition that was compared.
fn hydrate(
    worker: &mut Worker,
    log: &dyn Log,
    client: &mut postgres::Client,
    past: &Past<'_>,
    handles: &mut Handles,
) -> Result<BTreeMap<(Topic, u32), Mark>> {
    let Past { claim, tables, from, last } = *past;
    let shard = (worker.index(), worker.peers());
    let mut compared = BTreeMap::new();
    for topic in Topic::ALL {
        let mut starts = BTreeMap::new();
        for partition in (0..log.partitions(topic)).filter(|p| *p as usize % shard.1 == shard.0) {
            starts.insert(partition, log.start(topic, partition)?);
        }
        // Who hears of the scenarios keeps nothing of them.
        let from = from.filter(|_| topic != Topic::Scenarios).map(|from| {
            let of_topic = from.iter().filter(|((it, partition), _)| {
                *it == topic && *partition as usize % shard.1 == shard.0
            });
            of_topic.map(|((_, partition), offset)| (*partition, *offset)).collect()
        });
        let mut events = 0usize;
        let from = from.as_ref();
        let read = store::hydrate(client, claim, topic, shard, &starts, from, |origin, event| {
            handles.send(origin, event);
            events += 1;
            // What the operators take in now waits neither in their queues nor for its epoch's end.
            if events.is_multiple_of(EPOCH_RECORDS) {
                handles.advance_to((handles.epoch() + 1).min(last));
                worker.step();
            }
        });
        let mut known =
            read.with_context(|| format!("reading the ledger of {} back", topic.name()))?;
        known.extend(store::dead_letters(client, topic, shard)?);
        let marks = as_read::compare(log, topic, known)?;
        compared.extend(marks.into_iter().map(|(partition, mark)| ((topic, partition), mark)));
        crash::point("hydration");
    }
    if shard.0 == 0 {
        let others = from.is_some();
        store::stored_rows(client, tables, others, |output| handles.outputs.send(output))?;
        for ((topic, partition), tally) in &claim.tallies {
            let reached = tally.reach.and_then(|reach| reach.reached);
            if let (Topic::Orders, Some(reached)) = (topic, reached) {
                handles.reached.send((*partition, reached));
            }
        }
    }
    Ok(compared)
}

/// Gives every worker what worker 0 says.
fn broadcast<D: timely::ExchangeData + Clone>(
    worker: &mut Worker,
    failure: &Failure,
    said: Option<D>,
) -> Result<D> {
    let mut heard = hear(worker, failure, said, 1)?;
    Ok(heard.pop().expect("one has said it"))
}

/// Gives every worker what each of them says, in whatever order.
fn gather<D: timely::ExchangeData + Clone>(
    worker: &mut Worker,
    failure: &Failure,
    said: D,
) -> Result<Vec<D>> {
    let peers = worker.peers();
    hear(worker, failure, Some(said), peers)
}

/// Says something to all workers, or nothing, and waits until so many have.
fn hear<D: timely::ExchangeData + Clone>(
    worker: &mut Worker,
    failure: &Failure,
    said: Option<D>,
    wanted: usize,
) -> Result<Vec<D>> {
    let heard = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let hear = std::rc::Rc::clone(&heard);
    let mut input = worker.dataflow::<u64, _, _>(|scope| {
        let (input, stream) = scope.new_input::<D>();
        stream.broadcast().inspect(move |said| hear.borrow_mut().push(said.clone()));
        input
    });
    if let Some(said) = said {
        input.send(said);
    }
    drop(input);
    while heard.borrow().len() < wanted {
        failure.check()?;
        worker.step_or_park(Some(EPOCH));
    }
    Ok(heard.take())
}
