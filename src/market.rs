//! Drives the market: gives it leave to live on, and puts what it does into the log.
//!
//! The workers encode; the thread that calls [`run`] appends, flushes and watches the clock. Its
//! queue is bounded, so workers wait when the log is slow. A restart loads the newest snapshot (or
//! none), simulates on from there, and compares what it makes with what each partition holds already:
//! a record of somebody else's ends it. Commands wait until all of that is made again.
//!
//! Invariant: what is in the log depends on the settings and the journal of commands alone
//! (`tests/market.rs`).

pub mod control;
mod dirt;
mod held;
mod keep;
mod target;

pub use dirt::Dirt;
pub use keep::{History, Wish, settings_in, settle, writes};

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::Write,
    path::Path,
    rc::Rc,
    str::FromStr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::Thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use dataflows::{
    market::{
        Command, Control, Figures, Output, Part, Release, Scenario, Settings, Snapshot, Truth,
        market, word,
    },
    model::{
        Event, Millis, OrderId, OrderKind, Topic,
        time::{DAY, HOUR},
    },
};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::input::Input;

use crate::{
    cache::Cache,
    clock::{self, Stopwatch},
    crash,
    log::Log,
    retry, wire,
};
use dirt::Dirty;
use keep::{Keep, Kept};
use target::{Lines, Nowhere, Records, Stamp, Target};

/// Encoded batches on their way to the log; each is about [`BATCH_BYTES`].
const QUEUE: usize = 64;
/// While the market lives through its past, a worker collects so much before it hands it over.
const BATCH_BYTES: usize = 128 << 10;
/// How far ahead of the log the market may live in its past.
const AHEAD: Millis = 2 * DAY;
/// Appended bytes, and time, after which the log is made durable.
const FLUSH_BYTES: usize = 16 << 20;
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Time between snapshots: of the wall in history, of the market live.
const SNAPSHOT_AFTER: Duration = Duration::from_secs(20);
const SNAPSHOT_LIVE: Duration = Duration::from_mins(10);
/// A snapshot may cost a twentieth of the time.
const SNAPSHOT_SHARE: u32 = 20;
/// How soon the clock is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// How fast market time goes by once the market is live.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// As fast as the machine allows.
    Max,
    /// So many times as fast as the wall clock. At 1 the market catches up with an absence.
    Times(f64),
}

impl FromStr for Speed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("max", _) => Ok(Speed::Max),
            (_, Ok(times)) if times > 0.0 && times <= 100_000.0 => Ok(Speed::Times(times)),
            _ => Err("a speed is a number above 0 and at most 100000, or max"),
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// History is over, and all of it is in the log.
    HistoryOver,
}

/// What others see of a running market, and say to it.
pub struct Remote {
    /// Set to end the run.
    pub stop: Arc<AtomicBool>,
    /// Set to hold the clock; no event changes by it.
    pub paused: AtomicBool,
    /// How fast the clock goes when it is live; no event changes by it.
    speed: Mutex<Speed>,
    /// The cache of its working set, and what is counted there.
    pub cache: Arc<Cache>,
    figures: Mutex<Figures>,
    /// Market time up to which everything is in the log.
    logged: AtomicI64,
    requests: Mutex<Vec<Asked>>,
}

/// A scenario to start or stop by hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The scenario's name.
    pub name: String,
    /// What to do.
    pub wish: ScenarioWish,
}

/// What to do with a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScenarioWish {
    /// Start it, or change it where it is active.
    Start {
        /// The factor on all orders, 0.05 to 10; none: the peak of the rule with that name.
        strength: Option<f64>,
        /// The categories it favours; none of them: those of the rule.
        categories: Vec<String>,
        /// Market time after which it ends by itself.
        lasts: Option<Millis>,
    },
    /// Stop it.
    Stop,
}

/// A request that is to be carried out.
struct Asked {
    command: Command,
    /// Where it is told when it takes effect, or why it does not.
    answer: SyncSender<Result<Millis>>,
    /// Nobody has taken it on or given it up.
    open: Arc<AtomicBool>,
}

/// What one who asks waits for.
pub struct Pending {
    answer: Receiver<Result<Millis>>,
    open: Arc<AtomicBool>,
}

impl Pending {
    /// The market time after which it takes effect, at the first order tick, once it is durable. What
    /// is given up after so long is not carried out later.
    pub fn wait(self, longest: Duration) -> Result<Millis> {
        match self.answer.recv_timeout(longest) {
            Err(_) if self.open.swap(false, Ordering::Relaxed) => {
                bail!("the market did not get to it within {} s, and will not", longest.as_secs())
            }
            // It is being carried out at this moment.
            Err(RecvTimeoutError::Timeout) => self.answer.recv().context("the market has ended")?,
            Err(RecvTimeoutError::Disconnected) => bail!("the market has ended"),
            Ok(answer) => answer,
        }
    }
}

impl Remote {
    /// The remote of a market with that cache and that speed.
    pub fn new(cache: Cache, speed: Speed) -> Self {
        Remote {
            stop: Arc::default(),
            paused: AtomicBool::default(),
            speed: speed.into(),
            cache: Arc::new(cache),
            figures: Mutex::default(),
            logged: AtomicI64::default(),
            requests: Mutex::default(),
        }
    }

    /// How fast the clock goes when the market is live.
    pub fn speed(&self) -> Speed {
        *self.speed.lock().expect("no panic while held")
    }

    /// Has the clock go at another speed from now on.
    pub fn set_speed(&self, speed: Speed) {
        *self.speed.lock().expect("no panic while held") = speed;
    }

    /// The figures of the market; they run ahead of the log by the length of the queue.
    pub fn figures(&self) -> Figures {
        self.figures.lock().expect("no panic while held").clone()
    }

    /// Market time up to which everything is in the log.
    pub fn logged(&self) -> Millis {
        self.logged.load(Ordering::Relaxed)
    }

    /// Asks for a scenario.
    pub fn ask(&self, settings: &Settings, request: Request) -> Result<Pending> {
        let Request { name, wish } = request;
        let rule = settings.scenarios.iter().find(|scenario| scenario.name == name);
        let (strength, categories, lasts) = match wish {
            ScenarioWish::Start { strength, categories, lasts } => {
                let strength = strength.or(rule.map(Scenario::peak)).with_context(|| {
                    format!(
                        "there is no scenario `{name}` in the calendar (see `marketday scenario \
                         list`): one of your own needs a --strength"
                    )
                })?;
                (Some(strength), categories, lasts)
            }
            ScenarioWish::Stop => (None, Vec::new(), None),
        };
        let allowed = |strength: f64| (0.05..=10.0).contains(&strength);
        ensure!(strength.is_none_or(allowed), "a strength is a factor from 0.05 to 10");
        let possible = |lasts| (1..=3_660 * DAY).contains(&lasts);
        ensure!(lasts.is_none_or(possible), "a scenario lasts for some time, ten years at most");
        ensure!(word(&name), "a scenario's name has letters, digits and hyphens, at most 100");
        let words = settings.profile.words();
        if let Some(category) = categories.iter().find(|it| !words.contains(&it.as_str())) {
            bail!("there is no category `{category}`; there are {}", words.join(", "));
        }
        // The driver knows the time, and adds it.
        let command = Command { at: 0, name, strength, categories, until: lasts };
        let ((answer, receiver), open) = (sync_channel(1), Arc::new(AtomicBool::new(true)));
        let asked = Asked { command, answer, open: Arc::clone(&open) };
        self.requests.lock().expect("no panic while held").push(asked);
        Ok(Pending { answer: receiver, open })
    }
}

/// Runs a market and puts its events into the log, until it is told to stop, or with
/// `history_only` until it would go live. `dir` holds its snapshots and the journal of commands.
pub fn run(
    dir: &Path,
    log: &dyn Log,
    settings: &Settings,
    workers: usize,
    history_only: bool,
    remote: &Remote,
) -> Result<Ended> {
    let keep = Keep::open(dir, log.identity())?;
    let kept = keep.newest()?;
    let dirt = keep.dirt()?;
    // First the writer: from then on nobody else moves the ends.
    let mut writer = log.writer()?;
    writer.end_when(&remote.stop);
    let target: Box<dyn Target + '_> = match dirt {
        Some(dirt) => {
            Box::new(Dirty::open(dirt, settings, workers, log, writer, &keep, kept.as_ref())?)
        }
        None => Box::new(Records::open(log, writer, workers, kept.as_ref())?),
    };
    if kept.is_some() {
        crash::point("resume");
    }
    let until = history_only.then_some(settings.start);
    let plan = Plan { settings, workers, until, remote, truth: None };
    plan.run(Some(&keep), &keep.commands()?, kept, target)
}

/// Runs a market without a log: a JSON line for each event goes to `out`, in market-time order.
pub fn write_lines(
    settings: &Settings,
    workers: usize,
    history_only: bool,
    remote: &Remote,
    out: &mut dyn Write,
) -> Result<Ended> {
    let until = history_only.then_some(settings.start);
    let plan = Plan { settings, workers, until, remote, truth: None };
    plan.run(None, &[], None, Box::new(Lines::new(workers, out)))
}

/// Lives through the market of a directory again, up to a market time, and tells what no shop knows;
/// its events go nowhere.
pub fn truth(
    dir: &Path,
    settings: &Settings,
    until: Millis,
    tell: &dyn Fn(Vec<Truth>) -> Result<()>,
) -> Result<Ended> {
    let commands = Keep::open(dir, "")?.commands()?;
    let remote = Remote::new(Cache::default(), Speed::Max);
    let (truth, until) = (Some(tell), Some(until));
    let plan = Plan { settings, workers: 1, until, remote: &remote, truth };
    plan.run(None, &commands, None, Box::new(Nowhere))
}

/// Events of a worker, encoded.
struct Events {
    worker: usize,
    until: Millis,
    bytes: Vec<u8>,
    records: Vec<Encoded>,
}

impl Events {
    /// The records, each with its key and value.
    fn records(&self) -> impl Iterator<Item = (&Encoded, Option<&[u8]>, &[u8])> {
        let mut start = 0;
        self.records.iter().map(move |record| {
            let key = record.key_end.map(|end| &self.bytes[start..end]);
            let value = &self.bytes[record.key_end.unwrap_or(start)..record.value_end];
            start = record.value_end;
            (record, key, value)
        })
    }
}

/// Moves a partition's newest stamp on; they ascend, or a record would be taken for one that is
/// there already.
fn ascend(last: &mut [Vec<Option<Stamp>>], record: &Encoded) -> Result<Option<Stamp>> {
    let last = &mut last[record.topic as usize][record.partition as usize];
    let stamp = Some((record.at, record.event_id));
    ensure!(stamp > *last, "the market made {stamp:?} after {last:?} in one partition");
    *last = stamp;
    Ok(stamp)
}

/// A record and where its key and value end in the batch's bytes.
struct Encoded {
    topic: Topic,
    partition: u32,
    at: Millis,
    event_id: Option<u64>,
    /// What it does to which order.
    order: Option<(OrderKind, OrderId)>,
    key_end: Option<usize>,
    value_end: usize,
}

/// What comes from the workers to the thread that appends.
enum Message {
    Batch(Events),
    Figures(Figures),
    Part(u64, Part),
    Truth(Vec<Truth>),
}

struct Plan<'a> {
    settings: &'a Settings,
    workers: usize,
    /// Market time at which the run ends.
    until: Option<Millis>,
    remote: &'a Remote,
    /// Who wants to hear what no shop knows.
    truth: Option<&'a dyn Fn(Vec<Truth>) -> Result<()>>,
}

impl Plan<'_> {
    fn run(
        &self,
        keep: Option<&Keep>,
        commands: &[Command],
        kept: Option<Kept>,
        target: Box<dyn Target + '_>,
    ) -> Result<Ended> {
        let begun = kept.as_ref().map_or(0, |kept| kept.snapshot.refresh());
        let begun = self.settings.border(begun);
        let crew = Crew::start(
            self.settings,
            self.workers,
            kept.map(|kept| kept.snapshot),
            commands,
            self.remote.cache.clone(),
            self.truth.is_some(),
        );
        let mut driver = Driver {
            plan: self,
            keep,
            target,
            leave: begun,
            done: vec![begun; self.workers],
            snapshot: None,
            snapshot_cost: Duration::ZERO,
            since_snapshot: Stopwatch::start(),
            since_flush: Stopwatch::start(),
            unflushed: 0,
            // Where market time and wall time meet.
            anchor: None,
            paced: self.remote.speed(),
            paused_at: None,
            // A command that is not in effect yet keeps its time.
            commands_until: commands.last().map_or(begun, |command| command.at),
            started: BTreeMap::new(),
        };
        for command in commands {
            // One that was stopped although it was not active says nothing.
            _ = driver.starts_or_is_active(command);
        }
        let ended = driver.drive(&crew);
        crew.end();
        match ended {
            // What waited for a log that is away: its records are made again.
            Err(error) if error.is::<retry::Stopped>() => Ok(Ended::Stopped),
            ended => ended,
        }
    }
}

/// The workers, on threads of their own.
struct Crew {
    orders: Vec<SyncSender<Control>>,
    messages: Receiver<Message>,
    threads: Arc<Mutex<Vec<Thread>>>,
    leave: Arc<AtomicI64>,
    guards: timely::communication::WorkerGuards<()>,
}

impl Crew {
    fn start(
        settings: &Settings,
        workers: usize,
        snapshot: Option<Snapshot>,
        commands: &[Command],
        cache: Arc<Cache>,
        truth: bool,
    ) -> Crew {
        let (sender, messages) = sync_channel(QUEUE);
        let (orders, hears): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(QUEUE)).unzip();
        let threads = Arc::new(Mutex::new(Vec::new()));
        let leave = Arc::new(AtomicI64::new(Millis::MIN));
        let hears: Vec<_> = hears.into_iter().map(|hears| Mutex::new(Some(hears))).collect();
        let shared = (settings.clone(), Mutex::new(snapshot), commands.to_vec());
        let (threads_here, leave_here) = (threads.clone(), leave.clone());
        let sender = Mutex::new(sender);
        let guards = timely::execute(timely::Config::process(workers), move |worker| {
            let (settings, snapshot, commands) = &shared;
            let hears: Receiver<Control> =
                hears[worker.index()].lock().expect("no panic while held").take().expect("its own");
            threads_here.lock().expect("no panic while held").push(std::thread::current());
            let sender = sender.lock().expect("no panic while held").clone();
            let out = outlet(worker.index(), sender, leave_here.clone());
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
                worker.step_or_park(Some(5 * LOOK));
            }
        })
        .expect("threads can be started");
        Crew { orders, messages, threads, leave, guards }
    }

    fn tell(&self, order: &Control) {
        if let Control::Run(leave) = order {
            self.leave.store(*leave, Ordering::Relaxed);
        }
        for worker in &self.orders {
            // A worker that is gone has said why.
            _ = worker.send(order.clone());
        }
        for thread in self.threads.lock().expect("no panic while held").iter() {
            thread.unpark();
        }
    }

    fn end(self) {
        self.tell(&Control::Stop);
        // Lets go of workers that wait for room in the queue.
        drop(self.messages);
        drop(self.guards);
    }
}

/// Takes what comes out of a worker, encodes it and hands it over: at once when the market is
/// live, in bigger batches when it has leave to live far on.
fn outlet(worker: usize, sender: SyncSender<Message>, leave: Arc<AtomicI64>) -> Rc<dyn Fn(Output)> {
    let batch = RefCell::new(Events { worker, until: 0, bytes: Vec::new(), records: Vec::new() });
    let sends = Cell::new(0);
    Rc::new(move |output| {
        // The receiver is gone when the market was stopped.
        match output {
            Output::Release(release) => {
                let mut batch = batch.borrow_mut();
                encode(release, &mut batch);
                let far = batch.until + HOUR < leave.load(Ordering::Relaxed);
                if !far || batch.bytes.len() >= BATCH_BYTES {
                    let next = Events {
                        worker,
                        until: batch.until,
                        bytes: Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4),
                        records: Vec::with_capacity(batch.records.len()),
                    };
                    _ = sender.send(Message::Batch(std::mem::replace(&mut *batch, next)));
                }
            }
            Output::Figures(figures) => {
                sends.set(sends.get() + 1);
                if sends.get() % 64 == 0 || figures.at + HOUR >= leave.load(Ordering::Relaxed) {
                    _ = sender.send(Message::Figures(figures));
                }
            }
            Output::Part(refresh, part) => _ = sender.send(Message::Part(refresh, part)),
            Output::Truth(truth) => _ = sender.send(Message::Truth(truth)),
        }
    })
}

fn encode(release: Release, batch: &mut Events) {
    batch.until = release.until;
    for (partition, event) in release.records {
        let key_end = event.key().map(|key| {
            batch.bytes.extend_from_slice(key.as_bytes());
            batch.bytes.len()
        });
        wire::encode(&event, &mut batch.bytes);
        let order = match &event {
            Event::Order(event) => Some((event.order.event, event.order.order_id)),
            _ => None,
        };
        batch.records.push(Encoded {
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

/// The thread that appends and gives leave.
struct Driver<'a> {
    plan: &'a Plan<'a>,
    keep: Option<&'a Keep>,
    target: Box<dyn Target + 'a>,
    /// Market time up to which the workers may live.
    leave: Millis,
    /// Market time up to which each worker's partitions are complete in the target.
    done: Vec<Millis>,
    /// The snapshot that is being made: its refresh, and the parts that have come.
    snapshot: Option<(u64, Vec<Part>)>,
    snapshot_cost: Duration,
    since_snapshot: Stopwatch,
    since_flush: Stopwatch,
    unflushed: usize,
    anchor: Option<(Millis, Millis)>,
    /// The speed of the anchor.
    paced: Speed,
    paused_at: Option<Millis>,
    commands_until: Millis,
    /// The scenarios that were started by hand in this run, and until when.
    started: BTreeMap<String, Millis>,
}

impl Driver<'_> {
    fn drive(&mut self, crew: &Crew) -> Result<Ended> {
        let remote = self.plan.remote;
        loop {
            if remote.stop.load(Ordering::Relaxed) {
                self.flush()?;
                return Ok(Ended::Stopped);
            }
            self.grant(crew)?;
            match crew.messages.recv_timeout(LOOK) {
                Ok(Message::Batch(batch)) => {
                    self.unflushed += batch.bytes.len();
                    self.done[batch.worker] = batch.until;
                    self.target.take(batch)?;
                }
                Ok(Message::Figures(figures)) => {
                    *remote.figures.lock().expect("no panic while held") = figures;
                }
                Ok(Message::Part(refresh, part)) => {
                    if let Some((of, parts)) = &mut self.snapshot
                        && *of == refresh
                    {
                        parts.push(part);
                    }
                }
                Ok(Message::Truth(truth)) => {
                    if let Some(tell) = self.plan.truth {
                        tell(truth)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("a worker of the market ended"),
            }
            let done = self.done();
            let waits = done >= self.leave;
            if self.unflushed >= FLUSH_BYTES
                || self.since_flush.elapsed() >= FLUSH_AFTER
                || (waits && self.unflushed > 0)
            {
                self.flush()?;
            }
            self.finish_snapshot()?;
            if self.plan.until.is_some_and(|until| done >= until) && self.snapshot.is_none() {
                self.flush()?;
                return Ok(Ended::HistoryOver);
            }
        }
    }

    fn done(&self) -> Millis {
        self.done.iter().copied().min().expect("at least one worker")
    }

    fn flush(&mut self) -> Result<()> {
        crash::point("seeding");
        self.target.flush()?;
        crash::point("seeded");
        self.unflushed = 0;
        self.since_flush = Stopwatch::start();
        self.plan.remote.logged.store(self.done(), Ordering::Relaxed);
        Ok(())
    }

    /// Lets the workers live on as far as they may.
    fn grant(&mut self, crew: &Crew) -> Result<()> {
        let Plan { settings, remote, .. } = *self.plan;
        // While the log holds more than has been made again, a command would change what is there.
        let mut requests = remote.requests.lock().expect("no panic while held");
        let wait = requests.is_empty() || self.target.is_behind() || remote.figures().at == 0;
        let taken = if wait { Vec::new() } else { std::mem::take(&mut *requests) };
        drop(requests);
        for Asked { command, answer, open } in taken {
            if !open.swap(false, Ordering::Relaxed) {
                continue;
            }
            let at = self.commands_until.max(self.leave);
            let until = command.until.map(|lasts| at + lasts);
            let command = Command { at, until, ..command };
            if let Err(error) = self.starts_or_is_active(&command) {
                _ = answer.send(Err(error));
                continue;
            }
            self.commands_until = at;
            if let Some(keep) = self.keep {
                keep.journal(&command)?;
            }
            crew.tell(&Control::Command(command));
            // Who asked may have gone.
            _ = answer.send(Ok(at));
        }

        let border = settings.border(settings.refresh_of(self.leave) + 1);
        let goes_live = self.leave < settings.start && self.may_live() >= settings.start;
        let leave = if goes_live { settings.start } else { self.may_live() };
        if self.keep.is_some() && self.snapshot.is_none() && (self.snapshot_due() || goes_live) {
            // A snapshot is made at a border that the workers have no leave yet to reach.
            let border = if goes_live { settings.start } else { border };
            let refresh = settings.refresh_of(border);
            crew.tell(&Control::Snapshot(refresh));
            self.snapshot = Some((refresh, Vec::new()));
        }
        let limit =
            self.snapshot.as_ref().map_or(Millis::MAX, |(refresh, _)| settings.border(*refresh));
        let leave = leave.min(limit);
        if leave > self.leave {
            self.leave = leave;
            crew.tell(&Control::Run(leave));
        }
        Ok(())
    }

    /// That a scenario which is to be stopped is active; else what is.
    fn starts_or_is_active(&mut self, command: &Command) -> Result<()> {
        let Command { at, name, strength, until, .. } = command;
        if strength.is_some() {
            self.started.insert(name.clone(), until.unwrap_or(Millis::MAX));
            return Ok(());
        }
        // What was started a moment ago is not among the figures yet.
        let started = self.started.remove(name).is_some_and(|until| until > *at);
        let figures = self.plan.remote.figures();
        let active: Vec<&str> = figures.scenarios.iter().map(|it| &*it.name).collect();
        ensure!(
            started || active.contains(&name.as_str()),
            "no scenario `{name}` is active: there is {}",
            if active.is_empty() { "none".into() } else { active.join(", ") }
        );
        Ok(())
    }

    /// Market time up to which the clock and the log allow to live.
    fn may_live(&mut self) -> Millis {
        let Plan { settings, until, remote, .. } = *self.plan;
        let wall = clock::wall();
        if remote.paused.load(Ordering::Relaxed) {
            self.paused_at.get_or_insert(wall);
            return self.leave;
        }
        if let (Some(paused_at), Some((_, meets))) = (self.paused_at.take(), &mut self.anchor) {
            *meets += wall - paused_at;
        }
        // Half of what is ahead is used up before more is given, so that leave comes in big steps.
        let ahead =
            if self.leave < self.done() + AHEAD / 2 { self.done() + AHEAD } else { self.leave };
        if let Some(until) = until {
            return ahead.min(until);
        }
        if self.leave < settings.start {
            return ahead.min(settings.start);
        }
        // What an earlier run has lived through is made again at full speed.
        if self.leave < self.target.held_until() {
            return ahead.min(self.target.held_until());
        }
        let speed = remote.speed();
        if std::mem::replace(&mut self.paced, speed) != speed {
            self.anchor = Some((self.leave, wall));
        }
        let Speed::Times(times) = speed else { return ahead };
        let (market, meets) = *self.anchor.get_or_insert_with(|| {
            // At 1 the market lives by the wall clock, if it began in step with it.
            if times.to_bits() == 1f64.to_bits() && (settings.start..wall).contains(&self.leave) {
                (wall, wall)
            } else {
                (self.leave, wall)
            }
        });
        let clock = market + ((wall - meets) as f64 * times) as Millis;
        clock.min(self.done() + AHEAD).max(self.leave)
    }

    fn snapshot_due(&self) -> bool {
        let least = match self.plan.remote.speed() {
            Speed::Times(times) if self.leave >= self.plan.settings.start => {
                SNAPSHOT_LIVE.div_f64(times.max(1.0))
            }
            _ => SNAPSHOT_AFTER,
        };
        let least = least.max(self.snapshot_cost * SNAPSHOT_SHARE);
        self.since_snapshot.elapsed() >= least
    }

    /// Writes the snapshot once all its parts have come and the log has all that is before it.
    fn finish_snapshot(&mut self) -> Result<()> {
        let Some((refresh, parts)) = &self.snapshot else { return Ok(()) };
        let border = self.plan.settings.border(*refresh);
        if parts.len() < self.plan.workers || self.done() < border {
            return Ok(());
        }
        let began = Stopwatch::start();
        if border == self.plan.settings.start {
            self.target.end_history(self.plan.until.is_some())?;
        }
        self.flush()?;
        let (_, parts) = self.snapshot.take().expect("just seen");
        if let Some(keep) = self.keep {
            let (last, origin) = (self.target.last(), self.plan.settings.origin);
            let orders_at = last[Topic::Orders as usize].iter();
            let orders_at = orders_at.map(|last| last.map_or(origin, |(at, _)| at)).collect();
            let snapshot = Snapshot::new(parts, orders_at);
            let snapshot = snapshot.context("worker 0 gave no part")?;
            let made = self.target.made();
            keep.save(&Kept { last, made, dirty: self.target.dirty()?, snapshot })?;
        }
        self.snapshot_cost = began.elapsed();
        self.since_snapshot = Stopwatch::start();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_not_carried_out_later() {
        let remote = Remote::new(Cache::default(), Speed::Max);
        let settings = Settings::new(1, 0, 0);
        let stop = || Request { name: "flash".into(), wish: ScenarioWish::Stop };
        let given_up = remote.ask(&settings, stop()).unwrap();
        assert!(given_up.wait(Duration::ZERO).is_err());
        let waiting = remote.ask(&settings, stop()).unwrap();
        let asked = std::mem::take(&mut *remote.requests.lock().unwrap());
        let taken: Vec<bool> =
            asked.iter().map(|asked| asked.open.swap(false, Ordering::Relaxed)).collect();
        assert_eq!(taken, [false, true]);
        asked[1].answer.send(Ok(7)).unwrap();
        assert_eq!(waiting.wait(Duration::ZERO).unwrap(), 7);
    }
}
