//! Checkpoints: what a worker's graph keeps, in files, so that a start need not read all ledgers back.
//!
//! A checkpoint is a cache, and PostgreSQL the only truth. It is of an epoch that ended with a cut, and is gone
//! on from only where the store confirms it: it has that commit point, with the same offsets and checksum, and
//! no engine of another form (another code or other tables) has written to the store since. What was counted
//! behind it is read back from the ledgers, and then the graph is where the store is. Anything else is said in
//! a sentence, and all is read back.
//!
//! It is taken while the graph runs. Worker 0 asks for it with a cut, and closes no epoch behind that one until
//! each worker has taken what changed since its last one; so nobody's state is beyond the cut. What was taken
//! is written by a thread of each worker, in files of sorted keys ([`run`]), the small ones merged with the new
//! one; then comes `worker-N.json`, which names those that count, and last the line in `checkpoints`. Whatever
//! is cut off before that, the checkpoint before holds; after a change of the number of workers there is none
//! until all of them have written.

mod run;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dataflows::Epoch;
use dataflows::analytics::Tables;
use dataflows::keeper::{Base, Changes, Keeper, slot_of};
use dataflows::model::Topic;
use dataflows::slots::{slots_of, worker_of_slot};
use dataflows::views::Hub;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::vec::input::Handle;
use timely::dataflow::operators::vec::{Broadcast, Input};
use timely::worker::Worker;
use tracing::{debug, info, warn};
use xxhash_rust::xxh3::xxh3_64;

use self::run::{Cursor, Got, Run, Source, Writer, merged};
use super::{Failure, gather};
use crate::platform::clock::Stopwatch;
use crate::platform::crash;
use crate::platform::files;
use crate::store::checkpoints::{self, Point};
use crate::store::{self, Claim};

/// Where checkpoints are, and how often one is taken.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory, which is theirs alone.
    pub dir: PathBuf,
    /// At the earliest so long after the one before.
    pub every: Duration,
}

impl Settings {
    /// The directory of a store: one log may have several.
    fn of_store(&self, client: &mut postgres::Client) -> Result<PathBuf> {
        let store = store::identity(client)?;
        Ok(self.dir.join(format!("{:016x}", xxh3_64(store.as_bytes()))))
    }
}

/// So many checkpoints of a worker are there: a machine may end when some workers have their newest one and
/// others do not.
const HELD: usize = 2;

/// What a checkpoint is of, besides the data: the code of the graph, the libraries below it, and the tables.
/// The build script gives the code.
pub(super) fn form(tables: &Tables) -> String {
    let names: Vec<&str> = tables.results().map(|(_, name)| name).collect();
    format!("{}-{:016x}", env!("MARKETDAY_FORM"), xxh3_64(names.join(",").as_bytes()))
}

/// What there is of a worker's checkpoints.
#[derive(Serialize, Deserialize)]
struct Manifest {
    form: String,
    workers: usize,
    /// The newest first.
    checkpoints: Vec<Checkpoint>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Checkpoint {
    point: Point,
    /// Its files, the newest first.
    runs: Vec<String>,
}

fn manifest(dir: &Path, worker: usize) -> PathBuf {
    dir.join(format!("worker-{worker}.json"))
}

/// What a start goes on from.
pub(super) struct Restored {
    pub(super) keeper: Keeper,
    /// The offset behind what was read, of each partition.
    pub(super) offsets: BTreeMap<(Topic, u32), u64>,
    point: Point,
    files: Vec<Arc<Run>>,
    /// The checkpoint, if it was this worker's; none where the files are those of another number of workers.
    own: Option<Checkpoint>,
}

impl Restored {
    /// The epoch that it stands at.
    pub(super) fn epoch(&self) -> Epoch {
        self.point.epoch
    }
}

/// What was kept in the slots of a worker: by so many workers, of whom each has files, the newest first.
struct Files {
    workers: usize,
    of: BTreeMap<usize, Vec<Arc<Run>>>,
}

impl Base for Files {
    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let runs = self.of.get(&worker_of_slot(slot_of(key), self.workers))?;
        let found = |run: &Arc<Run>| run.get(key).unwrap_or_else(|error| lost(&error));
        match runs.iter().map(found).find(|found| !matches!(found, Got::Nothing)) {
            Some(Got::Value(value)) => Some(value),
            _ => None,
        }
    }

    fn each(&self, keys: Range<Vec<u8>>, give: &mut dyn FnMut(&[u8], &[u8])) {
        for runs in self.of.values() {
            let sources = runs.iter().map(|run| Cursor::seek(run, &keys.start).map(Source::Run));
            let given = sources.collect::<Result<Vec<_>>>().and_then(|sources| {
                merged(sources, |key, value| {
                    if let Some(value) = value
                        && *keys.start <= *key
                        && *key < *keys.end
                    {
                        give(key, value);
                    }
                    Ok(*key < *keys.end)
                })
            });
            given.unwrap_or_else(|error| lost(&error));
        }
    }
}

/// The files were whole when they were opened.
fn lost(error: &anyhow::Error) -> ! {
    panic!("the disk does not give what the graph kept: {error:#}")
}

/// A checkpoint that the store confirms, and what of it a worker needs.
struct Found {
    point: Point,
    /// Taken by so many workers.
    workers: usize,
    /// Those of them whose slots this worker has.
    of: BTreeMap<usize, Checkpoint>,
}

const READ_BACK: &str = "the analytics' state is read back from the store";

/// Finds what all workers can go on from; where there is nothing, worker 0 says why.
pub(super) fn restore(
    worker: &mut Worker,
    failure: &Failure,
    settings: &Settings,
    form: &str,
    client: &mut postgres::Client,
) -> Result<Option<Restored>> {
    let me = (worker.index(), worker.peers());
    let dir = &settings.of_store(client)?;
    let mut why = None;
    for (point, workers) in checkpoints::complete(client)? {
        let found = found(dir, form, point, workers, me);
        let opened = found.and_then(|found| open(dir, found, me));
        let is_opened = opened.as_ref().map(|_| ()).map_err(|error| format!("{error:#}"));
        let of_all = gather(worker, failure, is_opened)?;
        match of_all.into_iter().find_map(Result::err) {
            None => return opened.map(Some),
            Some(error) => why = why.or(Some(error)),
        }
    }
    match why {
        _ if me.0 > 0 => {}
        Some(why) => warn!("{READ_BACK}: {why}"),
        None if manifest(dir, 0).exists() => info!(
            "{READ_BACK}: it does not have what the checkpoint was taken of, or another version of \
             this program, or one with other tables, has written to it since"
        ),
        None => info!("{READ_BACK}: there is no checkpoint in {}", dir.display()),
    }
    Ok(None)
}

/// Finds what of a checkpoint a worker needs.
fn found(
    dir: &Path,
    form: &str,
    point: Point,
    workers: usize,
    (index, peers): (usize, usize),
) -> Result<Found> {
    let mut of = BTreeMap::new();
    for slot in slots_of(index, peers) {
        let Entry::Vacant(entry) = of.entry(worker_of_slot(slot as u8, workers)) else { continue };
        let path = manifest(dir, *entry.key());
        let bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no checkpoint", path.display()))?;
        ensure!(manifest.form == form, "{} is of another version or other tables", path.display());
        let checkpoint = manifest.checkpoints.into_iter().find(|it| it.point == point);
        let checkpoint = checkpoint.filter(|_| manifest.workers == workers);
        entry.insert(
            checkpoint.with_context(|| format!("{} is of another commit point", path.display()))?,
        );
    }
    Ok(Found { point, workers, of })
}

fn open(dir: &Path, found: Found, (index, peers): (usize, usize)) -> Result<Restored> {
    let Found { point, workers, of } = found;
    let mut files = Files { workers, of: BTreeMap::new() };
    for (worker, checkpoint) in &of {
        let opened = checkpoint.runs.iter().map(|name| Ok(Arc::new(Run::open(&dir.join(name))?)));
        files.of.insert(*worker, opened.collect::<Result<_>>()?);
    }
    let all: Vec<Arc<Run>> = files.of.values().flatten().cloned().collect();
    let keeper = Keeper::over(Rc::new(files), (index, peers));
    let by_topic: BTreeMap<String, Vec<u64>> =
        serde_json::from_str(&point.offsets).context("reading the offsets of a checkpoint")?;
    let mut offsets = BTreeMap::new();
    for (topic, of_topic) in by_topic {
        let topic = Topic::from_name(&topic).context("a checkpoint speaks of another topic")?;
        offsets.extend((0..).zip(of_topic).map(|(partition, offset)| ((topic, partition), offset)));
    }
    let own = of.get(&index).filter(|_| workers == peers).cloned();
    Ok(Restored { keeper, offsets, point, files: all, own })
}

/// What the workers tell one another.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Told {
    /// A checkpoint is to be taken of that epoch, at whose end there is a cut.
    Take(Epoch),
    /// A worker has taken its part.
    Taken,
    /// It has written its part, or could not.
    Written,
}

#[derive(Default)]
struct Heard {
    take: Cell<Option<Epoch>>,
    /// So many have taken the one that was asked for last.
    taken: Cell<usize>,
    /// And so many are through with it.
    written: Cell<usize>,
}

/// The checkpoints of a worker. Without settings, or where they cannot be, there are none.
pub(super) struct Checkpoints {
    keeper: Keeper,
    every: Duration,
    since: Stopwatch,
    heard: Rc<Heard>,
    input: Handle<u64, Told>,
    peers: usize,
    /// Worker 0 has asked for one that not all have taken.
    asks: bool,
    /// This worker has not told that it has written its part.
    writes: bool,
    thread: Option<Thread>,
}

impl Checkpoints {
    pub(super) fn new(
        worker: &mut Worker,
        settings: Option<&Settings>,
        form: String,
        (database, client): (&postgres::Config, &mut postgres::Client),
        claim: &Claim,
        restored: Option<Restored>,
    ) -> Result<Checkpoints> {
        let (index, peers) = (worker.index(), worker.peers());
        let heard = Rc::new(Heard { written: Cell::new(peers), ..Heard::default() });
        let hear = Rc::clone(&heard);
        let input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input();
            stream.broadcast().inspect(move |told| match told {
                Told::Take(epoch) => hear.take.set(Some(*epoch)),
                Told::Taken => hear.taken.set(hear.taken.get() + 1),
                Told::Written => hear.written.set(hear.written.get() + 1),
            });
            input
        });
        let (keeper, files, held) = match restored {
            Some(Restored { keeper, files, own, .. }) => (keeper, files, own.into_iter().collect()),
            None if settings.is_some() => (Keeper::new((index, peers)), Vec::new(), Vec::new()),
            None => Default::default(),
        };
        let thread = match settings {
            Some(settings) => {
                let (dir, database, unwritten) =
                    (settings.of_store(client)?, database.clone(), Vec::new());
                let is_ended = Arc::default();
                let generation = claim.generation;
                let member = Member { worker: index, workers: peers, form, generation };
                Some(Thread::start(Writing {
                    dir,
                    member,
                    database,
                    files,
                    unwritten,
                    held,
                    is_ended,
                    begun: 0,
                }))
            }
            None => None,
        };
        let every = settings.map_or(Duration::MAX, |settings| settings.every);
        let since = Stopwatch::start();
        Ok(Checkpoints {
            keeper,
            every,
            since,
            heard,
            input,
            peers,
            asks: false,
            writes: false,
            thread,
        })
    }

    /// What the graph is to be built with.
    pub(super) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Whether one is due.
    pub(super) fn is_due(&self) -> bool {
        // So that all workers have the same ones, however slow one of them is.
        let is_idle = self.thread.is_some() && self.heard.written.get() == self.peers;
        is_idle && self.since.elapsed() >= self.every
    }

    /// Asks all workers to take one of an epoch, at whose end there is a cut.
    pub(super) fn ask(&mut self, epoch: Epoch) {
        self.asks = true;
        self.heard.taken.set(0);
        self.heard.written.set(0);
        self.tell(Told::Take(epoch));
    }

    fn tell(&mut self, told: Told) {
        self.input.send(told);
        self.input.flush();
    }

    /// Takes one that was asked for, as soon as its epoch has closed. Whether the graph's epochs may go on at
    /// this worker.
    pub(super) fn step(&mut self, hub: &Hub) -> bool {
        if let Some(epoch) = self.heard.take.get()
            && hub.frontier().is_none_or(|open| open > epoch)
        {
            self.heard.take.set(None);
            self.since = Stopwatch::start();
            if let Some(thread) = &self.thread {
                thread.write(Some(epoch), self.keeper.changes());
            }
            self.writes = true;
            self.tell(Told::Taken);
        }
        if self.writes && self.thread.as_ref().is_none_or(|thread| !thread.busy()) {
            self.writes = false;
            self.tell(Told::Written);
        }
        if self.asks && self.heard.taken.get() == self.peers {
            self.asks = false;
        }
        !self.asks
    }

    /// No more are asked for.
    pub(super) fn end(&mut self) {
        self.every = Duration::MAX;
    }

    /// Whether all workers have taken what this one has asked for.
    pub(super) fn are_taken(&self) -> bool {
        !self.asks
    }

    /// Takes the last one, of all that is committed, when the graph has ended.
    pub(super) fn finish(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.write(None, self.keeper.changes());
            thread.finish();
        }
    }
}

/// The thread that writes a worker's checkpoints.
struct Thread {
    jobs: Option<SyncSender<Job>>,
    busy: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

/// What is to be written. Without an epoch it is that of the newest commit point.
type Job = (Option<Epoch>, Changes);

/// Who writes.
struct Member {
    worker: usize,
    workers: usize,
    form: String,
    generation: i64,
}

impl Thread {
    fn start(mut writing: Writing) -> Thread {
        let (jobs, todo) = sync_channel(1);
        let (busy, ended) = (Arc::<AtomicBool>::default(), Arc::clone(&writing.is_ended));
        let is_busy = Arc::clone(&busy);
        let handle = std::thread::spawn(move || writing.run(&todo, &is_busy));
        Thread { jobs: Some(jobs), busy, ended, handle: Some(handle) }
    }

    fn busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    fn write(&self, epoch: Option<Epoch>, changes: Changes) {
        self.busy.store(true, Ordering::Release);
        // It runs as long as there is somebody who sends.
        _ = self.jobs.as_ref().map(|jobs| jobs.send((epoch, changes)));
    }

    fn finish(mut self) {
        drop(self.jobs.take());
        _ = self.handle.take().map(JoinHandle::join);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// What the thread works with.
struct Writing {
    dir: PathBuf,
    member: Member,
    database: postgres::Config,
    /// Those of the newest checkpoint; before the first one those that the start went on from.
    files: Vec<Arc<Run>>,
    /// What could not be written yet, the newest first.
    unwritten: Vec<Changes>,
    /// The newest first.
    held: Vec<Checkpoint>,
    /// So many files were begun.
    begun: u64,
    /// The engine has ended before its time.
    is_ended: Arc<AtomicBool>,
}

/// How often one looks whether what was taken is committed.
const LOOK: Duration = Duration::from_millis(20);

impl Writing {
    fn run(&mut self, jobs: &Receiver<Job>, busy: &AtomicBool) {
        let mut failing = false;
        for (epoch, mut changes) in jobs {
            let since = Stopwatch::start();
            let keys = changes.len();
            changes.sort();
            self.unwritten.insert(0, changes);
            let written = self.write(epoch);
            let written = match written {
                Ok(Some(point)) => Ok(Some(point)),
                failed => self.give_up().and(failed),
            };
            match written {
                Ok(Some(point)) => {
                    let ms = since.elapsed().as_millis() as u64;
                    debug!(epoch = point, keys, ms, "checkpoint");
                    failing = false;
                }
                Err(error) if !self.is_ended.load(Ordering::Acquire) && !failing => {
                    failing = true;
                    warn!(
                        "a checkpoint cannot be written, so that a start would read back what was \
                         counted since the last one, or all: {error:#}"
                    );
                }
                // What it is of was never committed, or the same was said before.
                Ok(None) | Err(_) => {}
            }
            busy.store(false, Ordering::Release);
        }
    }

    /// The name of the file that is written: that of no other of this worker.
    fn name(&self) -> String {
        let Member { worker, generation, .. } = self.member;
        format!("{worker}-{generation}-{}.kept", self.begun)
    }

    /// Has less in memory, and on the disk, after a write that failed: of each key the newest change alone.
    fn give_up(&mut self) -> Result<()> {
        // Where it is there it is in no checkpoint.
        _ = fs::remove_file(self.dir.join(self.name()));
        let mut newest = Changes::default();
        merged(self.unwritten.iter().map(Source::of).collect(), |key, value| {
            newest.push_bytes(key, value);
            Ok(true)
        })?;
        self.unwritten = vec![newest];
        Ok(())
    }

    /// Writes all that is not written, as of an epoch; gives that of the commit point.
    fn write(&mut self, epoch: Option<Epoch>) -> Result<Option<Epoch>> {
        self.begun += 1;
        let Writing { dir, member, .. } = &*self;
        for dir in dir.parent().into_iter().chain([&**dir]) {
            files::private_directory(dir)?;
        }
        // Merged are those that are not much larger than what is merged before: so each key is written
        // a few times only, and there are few files.
        let mut bytes: u64 = self.unwritten.iter().map(|it| it.bytes() as u64).sum();
        let mut small = 0;
        // And those of other workers have what is not ours.
        let is_foreign = self.held.is_empty();
        for run in &self.files {
            if run.bytes > 2 * bytes && !is_foreign {
                break;
            }
            bytes += run.bytes;
            small += 1;
        }
        let mut client = store::connect(&self.database)?;
        let committed = checkpoints::epoch(&mut client, member.generation)?;
        let newest = self.held.first().map(|held| held.point.epoch);
        if epoch.is_none()
            && newest == Some(committed)
            && self.unwritten.iter().all(Changes::is_empty)
        {
            return Ok(newest);
        }
        let name = self.name();
        let whole = small == self.files.len();
        let slots = slots_of(member.worker, member.workers);
        {
            let mut sources: Vec<Source<'_>> = self.unwritten.iter().map(Source::of).collect();
            for run in &self.files[..small] {
                sources.push(Source::Run(Cursor::seek(run, &[])?));
            }
            let mut writer = Writer::create(&dir.join(&name))?;
            merged(sources, |key, value| {
                // What is gone need not be told where nothing is below.
                let is_ours = slots.contains(&usize::from(slot_of(key)));
                if is_ours && (value.is_some() || !whole) {
                    writer.push(key, value)?;
                }
                Ok(!self.is_ended.load(Ordering::Acquire))
            })?;
            crash::point("checkpoint-file");
            writer.finish()?;
        }
        let Some(point) = self.committed(&mut client, epoch)? else { return Ok(None) };
        let file = Run::open(&dir.join(&name))?;
        let mut runs = vec![name];
        runs.extend(self.held.first().iter().flat_map(|it| it.runs[small..].iter().cloned()));
        let mut held = vec![Checkpoint { point: point.clone(), runs }];
        held.extend(self.held.iter().take(HELD - 1).cloned());
        let manifest =
            Manifest { form: member.form.clone(), workers: member.workers, checkpoints: held };
        // The next engine in this directory may have its own by now.
        checkpoints::epoch(&mut client, member.generation)?;
        if self.is_ended.load(Ordering::Acquire) {
            return Ok(None);
        }
        crash::point("checkpoint-manifest");
        let text = serde_json::to_vec_pretty(&manifest).context("writing a checkpoint")?;
        files::replace(&self::manifest(dir, member.worker), files::PRIVATE, &text)?;
        crash::point("checkpoint-line");
        let bytes = file.bytes + self.files[small..].iter().map(|run| run.bytes).sum::<u64>();
        let epochs: Vec<Epoch> = manifest.checkpoints.iter().map(|it| it.point.epoch).collect();
        let Member { worker, workers, form, generation } = &self.member;
        checkpoints::tell(&mut client, *generation, (*worker, *workers), form, &epochs, bytes)?;
        self.files.splice(..small, [Arc::new(file)]);
        self.held = manifest.checkpoints;
        self.unwritten.clear();
        self.clean()?;
        Ok(Some(point.epoch))
    }

    /// Waits until what was taken is committed; none where the engine ends before.
    fn committed(
        &self,
        client: &mut postgres::Client,
        epoch: Option<Epoch>,
    ) -> Result<Option<Point>> {
        loop {
            let committed = checkpoints::epoch(client, self.member.generation)?;
            match epoch {
                // An empty store has none.
                None => return checkpoints::point(client, committed),
                Some(epoch) if committed >= epoch => {
                    let point = checkpoints::point(client, epoch)?;
                    return point.context("a commit has no commit point").map(Some);
                }
                Some(_) => {}
            }
            if self.is_ended.load(Ordering::Acquire) {
                return Ok(None);
            }
            sleep(LOOK);
        }
    }

    /// Removes files that are in no checkpoint.
    fn clean(&self) -> Result<()> {
        let member = &self.member;
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let worker =
                name.strip_suffix(".kept").and_then(|it| it.split('-').next()?.parse().ok());
            let is_over = |worker: usize| member.worker == 0 && worker >= member.workers;
            let is_ours = |worker| worker == member.worker || is_over(worker);
            let counts = self.held.iter().any(|it| it.runs.iter().any(|run| run == name));
            if worker.is_some_and(is_ours) && !counts {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        Ok(())
    }
}
