//! The standing views of the analytics: added, shown and dropped while they run.
//!
//! Worker 0 decides, and tells all; each does the same in the same order, and answers.
//!
//! 1. *Listen*: every worker hears what its graph tells from here on, and says from which epoch.
//! 2. Worker 0 asks for a cut behind the last of these. When it is committed, the committing thread shares
//!    a snapshot of the store, which is the past up to there.
//! 3. *Build*: every worker builds the view's dataflow and reads its share of the past, in slices at times
//!    that nothing else uses, beside all other work.
//! 4. Who has caught up says at which epoch, and holds the commit there, for a moment.
//! 5. *Show*: with the first cut behind the last of these the view is in the store, whole.
//!
//! At a start there is no past to be read: the graph tells everything again, so a view is shown with the
//! first commit.
//!
//! Each worker tells now and then how many records a view holds there. One that holds more than it may is
//! given up: its dataflow ends, its rows stay those of one cut, and it says so.
//!
//! Invariant: from the cut at which a view is shown on, it is committed with every cut; a cut waits until
//! all views have passed it. And a view harms no other: what cannot be worked out makes it stale.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use dataflows::Epoch;
use dataflows::analytics::{Handle, Output, Tables};
use dataflows::model::Millis;
use dataflows::row::{Cell, Fate, Row, RowBatch};
use dataflows::views::{Cut, Definition, Ear, Hub, Kept, View};
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::input::Handle as Input;
use timely::dataflow::operators::vec::{Broadcast, Input as _};
use timely::dataflow::operators::{Exchange, Inspect};
use timely::worker::Worker;
use tracing::{debug, error, info, warn};

use super::committing::Commits;
use super::profile::Held;
use crate::platform::clock::Stopwatch;
use crate::platform::retry;
use crate::store::views;

/// What worker 0 tells all.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    Listen(Definition),
    Build {
        table: u16,
        since: Epoch,
        snapshot: String,
        now: Option<i64>,
    },
    Show {
        table: u16,
        from: Epoch,
    },
    /// Behind that epoch; all cuts before it are worked out.
    GiveUp {
        table: u16,
        from: Epoch,
        reason: String,
    },
    Drop {
        table: u16,
    },
}

/// What each answers: what it has done, and its epoch then.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Answer {
    worker: usize,
    table: u16,
    done: Done,
    epoch: Epoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Done {
    Listens,
    HasCaughtUp,
    /// So many records.
    Holds(u64),
    LetGo,
}

/// How far a view is at this worker.
#[derive(Default)]
enum Stage {
    /// While it goes from one to the next.
    #[default]
    Between,
    Listening(Rc<Ear>, Definition),
    /// It reads its past.
    Past(View, Receiver<Result<RowBatch>>),
    CatchingUp(View),
    /// It has caught up at that epoch, and the commit is held there.
    Waits(View, Epoch),
    /// It is committed with every cut from that epoch on.
    Shown(View, Epoch),
    /// It held too much, and is committed with the cuts between these epochs.
    Ends(View, Epoch, Epoch),
    GivenUp,
}

/// A view at this worker.
struct Standing {
    name: String,
    stage: Stage,
    kept: Kept,
    /// What changed since the last cut that was shown.
    pending: Vec<(dataflows::views::Row, isize)>,
    /// Cuts that are not looked at before it is known from which one on it is shown.
    cuts: VecDeque<Cut>,
    /// What the store says of it.
    told: Option<(&'static str, String)>,
    /// It was no set of rows: nothing of it is committed any more.
    broken: bool,
    /// So many records it held when that was told last.
    held: u64,
}

/// So many batches of the past, some 10,000 rows, are fed between two looks at everything else.
const SLICE: usize = 24;

/// A view has caught up when it is so many epochs behind what the graph has told: they take ten milliseconds.
const BEHIND: Epoch = 10;

/// How often one looks what the views hold.
const WEIGH: Duration = Duration::from_millis(500);

/// The standing views of a worker.
pub(super) struct Views {
    hub: Hub,
    held: Held,
    weighed: Stopwatch,
    /// The writing end for what is committed.
    output: Handle<Output>,
    views: BTreeMap<u16, Standing>,
    orders: Rc<RefCell<VecDeque<Order>>>,
    answer: Input<u64, Answer>,
    database: postgres::Config,
    index: usize,
    peers: usize,
    /// The number of the table of states.
    states: u16,
    /// Worker 0's.
    desk: Option<Desk>,
}

impl Views {
    /// Builds what the workers tell one another by, and the views that there are already.
    pub(super) fn new(
        worker: &mut Worker,
        (hub, held): (Hub, Held),
        output: Handle<Output>,
        database: &postgres::Config,
        begin: Begin,
        office: Option<Office>,
    ) -> Views {
        let orders = Rc::<RefCell<VecDeque<Order>>>::default();
        let hear = Rc::clone(&orders);
        let order = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Order>();
            stream.broadcast().inspect(move |it| hear.borrow_mut().push_back(it.clone()));
            input
        });
        let answers = Rc::<RefCell<VecDeque<Answer>>>::default();
        let hear = Rc::clone(&answers);
        let answer = worker.dataflow::<u64, _, _>(|scope| {
            let (input, stream) = scope.new_input::<Answer>();
            stream.exchange(|_| 0).inspect(move |it| hear.borrow_mut().push_back(*it));
            input
        });
        let (index, peers) = (worker.index(), worker.peers());
        let mut views = Views {
            hub,
            held,
            weighed: Stopwatch::start(),
            output,
            views: BTreeMap::new(),
            orders,
            answer,
            database: database.clone(),
            index,
            peers,
            states: begin.states,
            desk: None,
        };
        let mut known = BTreeMap::new();
        for (definition, most) in begin.views {
            let (ear, _) = views.hub.listen(definition.tables());
            let (table, name) = (definition.shape.table, definition.name.clone());
            known.insert(table, Case { most, ..Case::new(name.clone(), Step::Shown) });
            let kept = Kept::new(definition.shape.clone());
            let mut view = View::build(worker, &definition, &ear, 0, begin.now);
            view.past_is_over();
            let stage = Stage::Shown(view, begin.from);
            views.views.insert(table, Standing::new(name, stage, kept));
        }
        let failed = begin.failed.into_iter();
        let failed = failed.map(|(name, state, reason)| (name, state, reason, Fate::New));
        views.desk = office.map(|office| Desk {
            office,
            order,
            answers,
            known,
            failed: failed.collect(),
            given_up: Vec::new(),
            told: begin.from,
        });
        views
    }

    /// Whether a cut is wanted for a view, whatever else there is.
    pub(super) fn want_a_cut(&self) -> bool {
        self.desk.as_ref().is_some_and(|desk| {
            !desk.failed.is_empty()
                || desk.known.values().any(|case| match &case.step {
                    Step::Cut(cut, _) => cut.is_none() && !desk.builds(),
                    Step::Showing(..) => true,
                    Step::Leaves(cut, _) => cut.is_none(),
                    _ => false,
                })
        })
    }

    /// Hears of a cut that was asked for: the views that wait for one begin with it.
    pub(super) fn cut(&mut self, epoch: Epoch, commits: &Commits) {
        let Some(desk) = &mut self.desk else { return };
        // One snapshot at a time.
        let builds = desk.builds();
        for case in desk.known.values_mut() {
            match &mut case.step {
                Step::Cut(cut, least) if cut.is_none() && epoch >= *least && !builds => {
                    debug!(epoch, "standing views: a cut to begin with");
                    *cut = Some(epoch);
                    commits.share(epoch);
                }
                Step::Showing(from) if epoch >= *from => case.step = Step::Shown,
                Step::Leaves(cut, least) if epoch >= *least => {
                    cut.get_or_insert(epoch);
                }
                _ => {}
            }
        }
    }

    /// Does what there is to do: `epoch` is the graph's.
    pub(super) fn step(
        &mut self,
        worker: &mut Worker,
        epoch: Epoch,
        commits: &Commits,
    ) -> Result<()> {
        loop {
            let Some(order) = self.orders.borrow_mut().pop_front() else { break };
            self.follow(worker, order);
        }
        let mut answers = Vec::new();
        for (table, view) in &mut self.views {
            if view.goes_on(epoch, &self.hub)? {
                answers.push((*table, Done::HasCaughtUp, epoch));
            }
        }
        // Before it is shown it is known whether it holds too much.
        if !answers.is_empty() || self.weighed.elapsed() >= WEIGH {
            self.weighed = Stopwatch::start();
            self.weigh(worker);
        }
        for (table, done, epoch) in answers {
            self.answer(table, done, epoch);
        }
        self.give(epoch);
        if let Some(desk) = &mut self.desk {
            desk.step(self.peers, *self.output.time(), commits)?;
            for (table, from, reason) in mem::take(&mut desk.given_up) {
                self.give_up(table, from, reason);
            }
        }
        Ok(())
    }

    /// Tells what each view holds here, where that is not about what it was.
    fn weigh(&mut self, worker: &Worker) {
        let mut told = Vec::new();
        for (table, standing) in &mut self.views {
            let Some(view) = standing.view() else { continue };
            let held = self.held.by(worker, &view.operators) + standing.keeps();
            if held.abs_diff(standing.held) > standing.held / 64 {
                standing.held = held;
                told.push((*table, held));
            }
        }
        for (table, held) in told {
            self.answer(table, Done::Holds(held), 0);
        }
    }

    fn answer(&mut self, table: u16, done: Done, epoch: Epoch) {
        self.answer.send(Answer { worker: self.index, table, done, epoch });
        // With the time it is on its way at once: a flush alone leaves it where it is.
        self.answer.advance_to(self.answer.time() + 1);
    }

    fn follow(&mut self, worker: &mut Worker, order: Order) {
        debug!(worker = self.index, "standing views: told");
        match order {
            Order::Listen(definition) => {
                let (ear, epoch) = self.hub.listen(definition.tables());
                let (table, name) = (definition.shape.table, definition.name.clone());
                let kept = Kept::new(definition.shape.clone());
                let stage = Stage::Listening(ear, definition);
                self.views.insert(table, Standing::new(name, stage, kept));
                self.answer(table, Done::Listens, epoch);
            }
            Order::Build { table, since, snapshot, now } => {
                let standing = self.views.get_mut(&table).expect("it listens");
                let Stage::Listening(ear, definition) = &standing.stage else { return };
                let view = View::build(worker, definition, ear, since, now);
                let shard = (self.index, self.peers);
                let past = read_past(&self.database, snapshot, definition, shard);
                standing.stage = Stage::Past(view, past);
            }
            Order::Show { table, from } => {
                let standing = self.views.get_mut(&table).expect("it waits");
                standing.show(from);
            }
            Order::GiveUp { table, from, reason } => {
                self.give_up(table, from, reason);
                let epoch = *self.output.time();
                self.answer(table, Done::LetGo, epoch);
            }
            Order::Drop { table } => {
                // With the view its dataflow ends.
                self.views.remove(&table);
                let epoch = *self.output.time();
                self.answer(table, Done::LetGo, epoch);
            }
        }
    }

    /// Ends a view behind an epoch. Worker 0 does so before it gives anything more to the commit, so that no
    /// commit has the view's old rows and calls it live; and again, which changes nothing, when it is told.
    fn give_up(&mut self, table: u16, from: Epoch, reason: String) {
        let Some(standing) = self.views.get_mut(&table) else { return };
        if matches!(standing.stage, Stage::Ends(..) | Stage::GivenUp) {
            return;
        }
        standing.stage = match mem::take(&mut standing.stage) {
            Stage::Shown(view, since) => Stage::Ends(view, since, from),
            _ => Stage::GivenUp,
        };
        if let Some(desk) = &mut self.desk {
            let fate = if standing.told.is_some() { Fate::Changed } else { Fate::New };
            desk.failed.push((standing.name.clone(), "ended".into(), reason, fate));
        }
    }

    /// Gives the commit what the cuts have made of the views, and lets it go on as far as they all are.
    fn give(&mut self, epoch: Epoch) {
        let mut least = epoch;
        let mut ready: BTreeMap<Epoch, Vec<Output>> = BTreeMap::new();
        for view in self.views.values_mut() {
            if let Some(held) = view.holds() {
                least = least.min(held);
            }
        }
        for view in self.views.values_mut() {
            for (cut, outputs) in view.shown_before(least, self.states, self.index == 0) {
                ready.entry(cut).or_default().extend(outputs);
            }
        }
        if let Some(desk) = &mut self.desk
            && *self.output.time() < least
        {
            // Those that do not stand say so with the first commit.
            let rows =
                mem::take(&mut desk.failed).into_iter().map(|(name, state, reason, fate)| {
                    Output::row(&state_row(self.states, &name, &state, &reason), fate)
                });
            ready.entry(desk.told.max(*self.output.time())).or_default().extend(rows);
        }
        for (cut, outputs) in ready {
            self.output.advance_to(cut.max(*self.output.time()));
            for output in outputs {
                self.output.send(output);
            }
        }
        self.output.advance_to(least.max(*self.output.time()));
    }

    /// Whether all that was cut is given, when the graph itself has ended.
    pub(super) fn ends(&mut self) -> bool {
        let over = |view: &Standing| match &view.stage {
            Stage::Shown(view, _) | Stage::Ends(view, ..) => view.frontier().is_none(),
            // What does not stand yet begins anew at the next start.
            _ => true,
        };
        let over = self.views.values().all(over);
        self.give(Epoch::MAX);
        over
    }
}

/// What there is of views when the analytics begin.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Begin {
    /// With the records that each may hold.
    views: Vec<(Definition, u64)>,
    /// Those that cannot stand any more, each with its state and the reason.
    failed: Vec<(String, String, String)>,
    /// The epoch of the first cut, and `now` before it.
    from: Epoch,
    now: Option<i64>,
    states: u16,
}

impl Standing {
    fn new(name: String, stage: Stage, kept: Kept) -> Standing {
        let (pending, cuts) = (Vec::new(), VecDeque::new());
        Standing { name, stage, kept, pending, cuts, told: None, broken: false, held: 0 }
    }

    fn view(&self) -> Option<&View> {
        match &self.stage {
            Stage::Past(view, _)
            | Stage::CatchingUp(view)
            | Stage::Waits(view, _)
            | Stage::Shown(view, _)
            | Stage::Ends(view, ..) => Some(view),
            Stage::Listening(..) | Stage::Between | Stage::GivenUp => None,
        }
    }

    /// So many records are kept of it beside its dataflow.
    fn keeps(&self) -> u64 {
        self.kept.held() as u64
    }

    /// Goes on with the past; whether it has just caught up.
    fn goes_on(&mut self, epoch: Epoch, hub: &Hub) -> Result<bool> {
        match &mut self.stage {
            Stage::Past(view, past) => {
                let mut taken = 0;
                while taken < SLICE {
                    match past.try_recv() {
                        Ok(rows) => view.take_in(&rows?),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => {
                            view.past_is_over();
                            break;
                        }
                    }
                    taken += 1;
                }
                if taken > 0 {
                    view.next_slice();
                }
                if view.is_past() {
                    self.advance_stage(Stage::CatchingUp);
                }
                Ok(false)
            }
            Stage::CatchingUp(view) => {
                let told = hub.frontier().unwrap_or(epoch);
                if view.frontier().is_some_and(|it| it + BEHIND < told) {
                    return Ok(false);
                }
                self.advance_stage(|view| Stage::Waits(view, epoch));
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn advance_stage(&mut self, next: impl FnOnce(View) -> Stage) {
        self.stage = match mem::take(&mut self.stage) {
            Stage::Past(view, _)
            | Stage::CatchingUp(view)
            | Stage::Waits(view, _)
            | Stage::Shown(view, _) => next(view),
            early => early,
        };
    }

    fn show(&mut self, from: Epoch) {
        self.advance_stage(|view| Stage::Shown(view, from));
    }

    /// Up to which epoch the commit may go, if it has to wait for this.
    fn holds(&self) -> Option<Epoch> {
        match &self.stage {
            Stage::Waits(_, epoch) => Some(*epoch),
            Stage::Shown(view, _) | Stage::Ends(view, ..) => view.frontier(),
            _ => None,
        }
    }

    /// What cuts before an epoch have made of it.
    fn shown_before(
        &mut self,
        least: Epoch,
        states: u16,
        tells: bool,
    ) -> Vec<(Epoch, Vec<Output>)> {
        let Some(view) = self.view() else { return Vec::new() };
        let cuts = view.cuts();
        self.cuts.extend(cuts);
        let (from, until) = match &self.stage {
            Stage::Shown(_, from) => (*from, Epoch::MAX),
            Stage::Ends(_, from, until) => (*from, *until),
            _ => return Vec::new(),
        };
        let mut shown = Vec::new();
        while let Some(cut) = self.cuts.pop_front_if(|cut| cut.epoch < least.min(until)) {
            self.pending.extend(cut.changes);
            let raised = cut.raised.map(|raised| raised.to_string());
            if cut.epoch < from {
                continue;
            }
            let mut outputs = Vec::new();
            let mut batch = RowBatch::default();
            if raised.is_none() {
                let changes = mem::take(&mut self.pending);
                let give = |row: Row, fate| {
                    batch.push(&row, fate);
                    outputs.extend(batch.take_full().map(Output::Rows));
                };
                if !self.broken && self.kept.change(changes, give).is_err() {
                    error!("a fault of marketday: the view {} is no set of rows", self.name);
                    self.broken = true;
                }
                if self.broken {
                    (outputs, batch) = (Vec::new(), RowBatch::default());
                }
            }
            outputs.push(Output::Rows(batch));
            let now = raised.map_or(("live", String::new()), |reason| ("failed", reason));
            if tells && self.told.as_ref() != Some(&now) {
                let fate = if self.told.is_some() { Fate::Changed } else { Fate::New };
                outputs.push(Output::row(&state_row(states, &self.name, now.0, &now.1), fate));
                self.told = Some(now);
            }
            shown.push((cut.epoch, outputs));
        }
        if matches!(self.stage, Stage::Ends(..)) && least >= until {
            // With the view its dataflow ends.
            self.stage = Stage::GivenUp;
            (self.pending, self.cuts) = (Vec::new(), VecDeque::new());
        }
        shown
    }
}

/// A row of `standing_view_states`.
fn state_row(table: u16, name: &str, state: &str, reason: &str) -> Row {
    Row::new(table, &[Cell::Text(name)], &[Cell::Text(state), Cell::Text(reason)])
}

/// Reads a worker's share of what a view's relations held at a snapshot, on a thread of its own.
fn read_past(
    database: &postgres::Config,
    snapshot: String,
    definition: &Definition,
    shard: (usize, usize),
) -> Receiver<Result<RowBatch>> {
    let (sender, receiver) = sync_channel(2 * SLICE);
    let (database, sources) = (database.clone(), definition.sources.clone());
    std::thread::spawn(move || {
        // Who is no longer interested has gone.
        let result = views::past(&database, &snapshot, &sources, shard, &mut |rows| {
            sender.send(Ok(rows)).map_err(|_| anyhow!("nobody reads the past of a view any more"))
        });
        if let Err(error) = result {
            _ = sender.send(Err(error.context("reading the past of a standing view")));
        }
    });
    receiver
}

/// How far worker 0 is with a view.
enum Step {
    /// So many listen, the last of them from that epoch on.
    Listens(usize, Epoch),
    /// It waits for a cut at that epoch at least, or for its commit.
    Cut(Option<Epoch>, Epoch),
    Builds(usize, Epoch),
    /// All have caught up; shown from there on.
    Showing(Epoch),
    Shown,
    /// So many have let go of it.
    Drops(usize, Epoch),
    /// All have; the cut after which it can go, once there is one, and the epoch behind which.
    Leaves(Option<Epoch>, Epoch),
    /// It held too much; so many have let go of it.
    GivenUp(usize, Epoch),
}

struct Case {
    name: String,
    step: Step,
    /// So many records it may hold.
    most: u64,
    /// So many it holds at each worker.
    held: BTreeMap<usize, u64>,
}

impl Case {
    fn new(name: String, step: Step) -> Case {
        Case { name, step, most: u64::MAX, held: BTreeMap::new() }
    }
}

/// Worker 0's part: what is wanted, and how far all are with it.
struct Desk {
    office: Office,
    order: Input<u64, Order>,
    answers: Rc<RefCell<VecDeque<Answer>>>,
    known: BTreeMap<u16, Case>,
    /// Those that do not hold: the state, why, and what becomes of what was said of them.
    failed: Vec<(String, String, String, Fate)>,
    /// Those that have just been given up: behind which epoch, and why.
    given_up: Vec<(u16, Epoch, String)>,
    told: Epoch,
}

impl Desk {
    fn tell(&mut self, order: Order) {
        debug!(?order, "standing views");
        self.order.send(order);
        self.order.advance_to(self.order.time() + 1);
    }

    /// `given`: all cuts before that epoch are worked out, and given to the commit by this worker.
    fn step(&mut self, peers: usize, given: Epoch, commits: &Commits) -> Result<()> {
        while let Ok(wanted) = self.office.wanted.try_recv() {
            match wanted? {
                Wanted::Add(mut definition, most) => {
                    let table = self.office.tables.number(&views::kept(&definition.name));
                    definition.shape.table = table;
                    info!(view = definition.name, "a standing view is added");
                    let case = Case::new(definition.name.clone(), Step::Listens(0, 0));
                    self.known.insert(table, Case { most, ..case });
                    self.tell(Order::Listen(definition));
                }
                Wanted::Fails(name, reason) => {
                    self.failed.push((name, "failed".into(), reason, Fate::New));
                }
                Wanted::Drop(name) => {
                    let found = self.known.iter().find(|(_, case)| case.name == name);
                    if let Some(table) = found.map(|(table, _)| *table) {
                        info!(view = name, "a standing view is dropped");
                        self.known.insert(table, Case::new(name, Step::Drops(0, 0)));
                        self.tell(Order::Drop { table });
                    } else {
                        // What is said of it may be on its way: it goes behind that.
                        let table = self.office.tables.number(&views::kept(&name));
                        self.known.insert(table, Case::new(name, Step::Leaves(None, given)));
                    }
                }
            }
        }
        loop {
            let Some(answer) = self.answers.borrow_mut().pop_front() else { break };
            if let Done::Holds(records) = answer.done {
                self.weigh(answer.table, answer.worker, records, given, commits);
            } else {
                self.hear(answer, peers);
            }
        }
        if let Some((epoch, shared)) = commits.shared() {
            let (snapshot, now) = (shared.snapshot.clone(), shared.now);
            let builds =
                |case: &&mut Case| matches!(case.step, Step::Cut(Some(cut), _) if cut <= epoch);
            let mut orders = Vec::new();
            for (table, case) in &mut self.known {
                if builds(&case) {
                    case.step = Step::Builds(0, 0);
                    let (table, snapshot) = (*table, snapshot.clone());
                    orders.push(Order::Build { table, since: epoch, snapshot, now });
                }
            }
            for order in orders {
                self.tell(order);
            }
        }
        let committed = commits.committed();
        let gone = self.known.extract_if(
            ..,
            |_, case| matches!(case.step, Step::Leaves(Some(cut), _) if committed >= cut),
        );
        for (_, case) in gone.collect::<Vec<_>>() {
            self.office.gone(case.name);
        }
        // The snapshot is held while somebody reads in it, or may yet begin to.
        let reads = |case: &Case| match case.step {
            Step::Builds(..) | Step::Drops(..) => true,
            Step::GivenUp(count, _) => count < peers,
            _ => false,
        };
        if !self.known.values().any(reads) {
            commits.release();
        }
        Ok(())
    }

    /// Hears what a view holds at a worker, and gives it up where that is too much.
    fn weigh(&mut self, table: u16, worker: usize, held: u64, given: Epoch, commits: &Commits) {
        let Some(case) = self.known.get_mut(&table) else { return };
        if matches!(case.step, Step::Drops(..) | Step::Leaves(..) | Step::GivenUp(..)) {
            return;
        }
        case.held.insert(worker, held);
        let held: u64 = case.held.values().sum();
        self.office.notes().insert(case.name.clone(), held);
        if held > case.most {
            warn!(view = case.name, held, most = case.most, "a standing view is given up");
            let reason = format!(
                "it held {held} records, and may hold {}: drop it, or put it in its own place with a larger \
                 bound (`view add --replace --most`)",
                case.most
            );
            self.office.notes().insert(case.name.clone(), 0);
            case.step = Step::GivenUp(0, 0);
            commits.give_up(table, given);
            self.given_up.push((table, given, reason.clone()));
            self.tell(Order::GiveUp { table, from: given, reason });
        }
    }

    /// Whether views are being built.
    fn builds(&self) -> bool {
        self.known.values().any(|case| matches!(case.step, Step::Builds(..)))
    }

    /// Hears what a worker has done; when all have, the next step follows.
    fn hear(&mut self, Answer { table, done, epoch, .. }: Answer, peers: usize) {
        debug!(table, ?done, epoch, "standing views");
        let Some(case) = self.known.get_mut(&table) else { return };
        let ((Step::Listens(count, last), Done::Listens)
        | (Step::Builds(count, last), Done::HasCaughtUp)
        | (Step::Drops(count, last) | Step::GivenUp(count, last), Done::LetGo)) =
            (&mut case.step, done)
        else {
            // What it was told is no longer wanted.
            return;
        };
        (*count, *last) = (*count + 1, epoch.max(*last));
        let (all, last) = (*count == peers, *last);
        if !all {
            return;
        }
        match done {
            Done::Listens => case.step = Step::Cut(None, last),
            Done::LetGo if matches!(case.step, Step::GivenUp(..)) => {}
            Done::LetGo => case.step = Step::Leaves(None, last),
            Done::Holds(_) => {}
            Done::HasCaughtUp => {
                case.step = Step::Showing(last);
                self.tell(Order::Show { table, from: last });
            }
        }
    }
}

/// What is wanted of the views.
pub(super) enum Wanted {
    /// It may hold so many records.
    Add(Definition, u64),
    /// It cannot stand, for that reason.
    Fails(String, String),
    Drop(String),
}

/// So many records are held for views, by their names: what its thread is to write down.
type Notes = BTreeMap<String, u64>;

impl Begin {
    /// Whether there are views, or were.
    pub(super) fn has_views(&self) -> bool {
        !(self.views.is_empty() && self.failed.is_empty())
    }
}

/// A thread that looks into the store for views that are added or dropped, and takes those out of it that
/// the workers have let go of.
pub(super) struct Office {
    wanted: Receiver<Result<Wanted>>,
    gone: SyncSender<String>,
    notes: Arc<Mutex<Notes>>,
    tables: Tables,
}

/// How often it looks, if nobody calls.
const LOOK: Duration = Duration::from_millis(200);

impl Office {
    /// Finds the views that there are, and opens; no other engine looks after them meanwhile.
    pub(super) fn open(
        database: &postgres::Config,
        tables: &Tables,
        from: Epoch,
        now: Option<Millis>,
    ) -> Result<(Office, Begin)> {
        let mut client = crate::store::connect(database)?;
        let states = tables.number("standing_view_states");
        let now = now.map(dataflows::views::micros);
        let mut begin = Begin { from, now, states, ..Begin::default() };
        let mut known = Vec::new();
        let stood = views::states(&mut client)?;
        for view in views::list(&mut client)? {
            if view.dropped {
                continue;
            }
            if let Some(of) = stood.iter().find(|it| it.name == view.name && it.state == "ended") {
                begin.failed.push((view.name.clone(), of.state.clone(), of.reason.clone()));
                known.push(view.name);
                continue;
            }
            match definition(&mut client, &view, tables) {
                Ok(mut definition) => {
                    definition.shape.table = tables.number(&views::kept(&view.name));
                    begin.views.push((definition, view.most));
                }
                Err(error) => {
                    warn!("the standing view {} cannot stand: {error:#}", view.name);
                    begin.failed.push((view.name.clone(), "failed".into(), format!("{error:#}")));
                }
            }
            known.push(view.name);
        }
        let (want, wanted) = sync_channel(64);
        let (gone, leave) = sync_channel(64);
        let notes = Arc::<Mutex<Notes>>::default();
        let to_write = Arc::clone(&notes);
        let (tables, known_to_it) = (tables.clone(), tables.clone());
        std::thread::spawn(move || {
            if let Err(error) = look(&mut client, &known_to_it, known, &want, &leave, &to_write) {
                _ = want.send(Err(error.context("looking after the standing views")));
            }
        });
        Ok((Office { wanted, gone, notes, tables }, begin))
    }

    fn gone(&self, name: String) {
        // Its thread ends with an error, which is told.
        _ = self.gone.try_send(name);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a view is to the engine, which keeps some tables.
pub(crate) fn definition(
    client: &mut postgres::Client,
    view: &views::View,
    tables: &Tables,
) -> Result<Definition> {
    let mut definition = views::analyse(client, &view.name, &view.text)?.definition;
    definition
        .numbered(|source| tables.results().find(|(_, it)| *it == source).map(|it| it.0))
        .map_err(|table| anyhow!("it reads {table}, which is not kept (--tables)"))?;
    Ok(definition)
}

fn look(
    client: &mut postgres::Client,
    tables: &Tables,
    mut known: Vec<String>,
    want: &SyncSender<Result<Wanted>>,
    leave: &Receiver<String>,
    notes: &Mutex<Notes>,
) -> Result<()> {
    client.batch_execute("LISTEN standing_views")?;
    let (mut dropping, mut leaving) = (Vec::<String>::new(), Vec::<String>::new());
    let mut is_ours = false;
    loop {
        // An earlier engine may be about to end.
        is_ours = is_ours || views::look_after(client)?;
        loop {
            match leave.try_recv() {
                Ok(name) => leaving.push(name),
                Err(TryRecvError::Empty) => break,
                // The worker has ended.
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        let held = mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
        views::write_costs(client, &held)?;
        for name in std::mem::take(&mut leaving) {
            match views::remove(client, &name) {
                Ok(()) => {
                    known.retain(|it| *it != name);
                    dropping.retain(|it| *it != name);
                }
                // Somebody reads it.
                Err(error) if retry::transient(&error) => {
                    warn!("dropping the standing view {name} waits: {error:#}");
                    leaving.push(name);
                }
                Err(error) => return Err(error),
            }
        }
        for view in views::list(client)? {
            if view.dropped && !dropping.contains(&view.name) {
                dropping.push(view.name.clone());
                _ = want.send(Ok(Wanted::Drop(view.name)));
            } else if !view.dropped && !known.contains(&view.name) {
                known.push(view.name.clone());
                match definition(client, &view, tables) {
                    Ok(definition) => {
                        _ = want.send(Ok(Wanted::Add(definition, view.most)));
                    }
                    Err(error) => {
                        warn!("the standing view {} cannot stand: {error:#}", view.name);
                        _ = want.send(Ok(Wanted::Fails(view.name, format!("{error:#}"))));
                    }
                }
            }
        }
        crate::store::wait_for_commit(client, LOOK)?;
    }
}
