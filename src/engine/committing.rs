//! The thread that commits, one that sorts out what it commits next, and what they share with the workers
//! of their process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Error, Result};
use dataflows::Epoch;
use dataflows::analytics::{Closed, Tables};
use dataflows::ledger::Tally;
use dataflows::model::{Millis, Topic};
use dataflows::row::{RowBatch, RowRef};
use postgres::Client;
use tracing::{debug, warn};

use crate::platform::clock::Stopwatch;
use crate::platform::retry;
use crate::store::waits::waits_for_lock;
use crate::store::{self, Committer, Writes};

/// A commit that takes so long is asked what it waits for ...
const LONG: Duration = Duration::from_secs(5);

/// ... this often.
const LOOK: Duration = Duration::from_millis(500);

/// So few events in so long a time: what there was to be caught up with is committed, and the market is live. A
/// busy machine may commit nothing for some seconds while it catches up.
const CALM: (u64, Duration) = (5_000, Duration::from_secs(10));

/// What has changed from one cut to the next, on its way to the store: what is being committed and, but for the
/// last, one at most that waits. How many records can wait is bounded where the workers read.
#[derive(Clone)]
pub(super) struct Commits(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    begun: AtomicU64,
    committed: AtomicU64,
}

#[derive(Default)]
struct Queue {
    closed: VecDeque<(Epoch, Closed)>,
    /// The same, sorted out by table.
    sorted: VecDeque<Result<Sorted>>,
    /// Epochs have closed since the last cut.
    uncut: bool,
    /// Nothing more will come; perhaps since there is nothing more.
    end: Option<CaughtUp>,
    /// Taken by the worker that ends with it.
    failure: Option<Error>,
    failed: bool,
    /// Since when a commit runs.
    running: Option<Stopwatch>,
    sharing: Sharing,
    /// Tables of which nothing is written any more, from an epoch on.
    given_up: BTreeMap<u16, Epoch>,
    /// The epoch of a cut that shows what the store has.
    held_back: Option<Epoch>,
    /// An epoch that gets a commit point in any case.
    told_of: Epoch,
}

/// Whether a snapshot is shared of what is committed, so that others can read it.
#[derive(Default)]
enum Sharing {
    #[default]
    No,
    /// When that epoch is committed.
    Asked(Epoch),
    Shared(Epoch, Arc<Snapshot>),
}

/// A snapshot of the store that others may read as long as this is there.
pub(super) struct Snapshot {
    /// Holds it.
    _client: Mutex<Client>,
    /// How one asks for it.
    pub(super) snapshot: String,
    /// `now` in it, in PostgreSQL's microseconds.
    pub(super) now: Option<i64>,
}

/// What a commit writes.
struct Sorted {
    epoch: Epoch,
    writes: Writes,
    read: BTreeMap<(Topic, u32), Tally>,
    now: Option<Millis>,
}

/// Whether all was committed that there was.
#[derive(Clone, Copy)]
struct CaughtUp(bool);

/// Leaves out some of the rows.
fn leave_out(rows: &mut [RowBatch], is_out: impl Fn(&RowRef<'_>) -> bool) {
    for batch in rows.iter_mut().filter(|batch| batch.iter().any(|row| is_out(&row))) {
        let mut others = RowBatch::default();
        let stay = batch.iter().filter(|row| !is_out(row));
        stay.for_each(|row| others.push(&row.to_row(), row.fate));
        *batch = others;
    }
}

impl Commits {
    pub(super) fn new(committed: Epoch) -> Commits {
        Commits(Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            begun: committed.into(),
            committed: committed.into(),
        }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a closed epoch: what changed since the cut before, if it ends with one.
    pub(super) fn push(&self, epoch: Epoch, closed: Option<Closed>) {
        let mut queue = self.queue();
        queue.uncut = closed.is_none();
        if let Some(mut closed) = closed {
            if !queue.given_up.is_empty() {
                let given_up =
                    |table: u16| queue.given_up.get(&table).is_some_and(|from| *from <= epoch);
                leave_out(&mut closed.rows, |row| given_up(row.table));
            }
            if queue.held_back == Some(epoch) {
                leave_out(&mut closed.rows, |row| Tables::is_result(row.table));
            }
            queue.closed.push_back((epoch, closed));
            self.0.filled.notify_all();
        }
    }

    /// Nothing of a table is written any more from an epoch on, which has not closed.
    pub(super) fn give_up(&self, table: u16, from: Epoch) {
        self.queue().given_up.insert(table, from);
    }

    /// At an epoch's cut the tables are as the store has them: nothing of them is written.
    pub(super) fn hold_back(&self, epoch: Epoch) {
        self.queue().held_back = Some(epoch);
    }

    /// An epoch gets a commit point, whether or not something has changed.
    pub(super) fn tell_of(&self, epoch: Epoch) {
        self.queue().told_of = epoch;
    }

    /// Whether epochs have closed of which nothing is on its way to the store.
    pub(super) fn is_uncut(&self) -> bool {
        self.queue().uncut
    }

    /// The last epoch whose commit has begun.
    pub(super) fn begun(&self) -> Epoch {
        self.0.begun.load(Ordering::Acquire)
    }

    /// The last committed epoch.
    pub(super) fn committed(&self) -> Epoch {
        self.0.committed.load(Ordering::Acquire)
    }

    /// Asks for a snapshot to be shared right after an epoch's commit.
    pub(super) fn share(&self, epoch: Epoch) {
        self.queue().sharing = Sharing::Asked(epoch);
    }

    /// The epoch up to which there is a snapshot to be read.
    pub(super) fn shared(&self) -> Option<(Epoch, Arc<Snapshot>)> {
        match &self.queue().sharing {
            Sharing::Shared(epoch, snapshot) => Some((*epoch, Arc::clone(snapshot))),
            _ => None,
        }
    }

    /// Nobody reads in the snapshot any more.
    pub(super) fn release(&self) {
        let mut queue = self.queue();
        if matches!(queue.sharing, Sharing::Shared(..)) {
            queue.sharing = Sharing::No;
        }
    }

    /// Shares a snapshot, if it is asked for: nothing later is committed yet.
    fn share_committed(&self, epoch: Epoch, database: &postgres::Config) -> Result<()> {
        if !matches!(self.queue().sharing, Sharing::Asked(asked) if asked <= epoch) {
            return Ok(());
        }
        let mut client = store::connect(database)?;
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let row = client
            .query_one(
                "SELECT pg_export_snapshot(),
                        (extract(epoch FROM now - '2000-01-01Z') * 1000000)::bigint FROM progress",
                &[],
            )
            .context("sharing a snapshot of the store")?;
        let (snapshot, now) = (row.get(0), row.get(1));
        let shared = Arc::new(Snapshot { _client: Mutex::new(client), snapshot, now });
        self.queue().sharing = Sharing::Shared(epoch, shared);
        Ok(())
    }

    /// Why committing has ended, if it failed.
    pub(super) fn check(&self) -> Result<()> {
        self.queue().failure.take().map_or(Ok(()), Err)
    }

    /// Gives up what waits when dropped, so that the thread ends however the worker does.
    pub(super) fn until_dropped(&self) -> Abandon {
        Abandon(self.clone())
    }

    /// Nothing more will come; perhaps since there is nothing more.
    pub(super) fn close(&self, caught_up: bool) {
        let mut queue = self.queue();
        let before = queue.end.is_some_and(|CaughtUp(before)| before);
        queue.end = Some(CaughtUp(before || caught_up));
        self.0.filled.notify_all();
    }

    /// Starts the thread that commits whatever waits, one transaction after the other, the one that sorts it
    /// out before, and one that says when a commit waits; the committer's session is that of `backend`.
    pub(super) fn start(
        &self,
        mut committer: Committer,
        tables: Tables,
        now: Arc<AtomicI64>,
        database: &postgres::Config,
        backend: i32,
    ) -> JoinHandle<()> {
        let (commits, watched) = (self.clone(), database.clone());
        std::thread::spawn(move || commits.watch(&watched, backend));
        let commits = self.clone();
        std::thread::spawn(move || commits.sort(&tables));
        let (commits, database) = (self.clone(), database.clone());
        std::thread::spawn(move || {
            let mut calm = Some(Calm::begin());
            loop {
                let next = commits.next(calm.is_some());
                let ended = matches!(next, Next::End { .. });
                let mut result = match next {
                    Next::Commit(sorted) => sorted.and_then(|sorted| {
                        if let Some(calm) = &mut calm {
                            calm.hear(sorted.read.values().map(|tally| tally.counted).sum());
                        }
                        commits.commit(&mut committer, &sorted, &now)?;
                        commits.share_committed(sorted.epoch, &database)
                    }),
                    Next::End { caught_up: true } => committer.settle(),
                    Next::End { caught_up: false } | Next::Nothing => Ok(()),
                };
                if result.is_ok() && calm.take_if(Calm::is_calm).is_some() {
                    result = committer.settle();
                }
                if let Err(error) = &result
                    && !retry::transient(error)
                    && let Err(error) = committer.forget_checkpoints()
                {
                    warn!("{error:#}");
                }
                let mut queue = commits.queue();
                queue.running = None;
                if let Err(error) = result {
                    queue.failed = true;
                    queue.failure = Some(error);
                    commits.0.filled.notify_all();
                    return;
                }
                if ended {
                    return;
                }
            }
        })
    }

    /// Sorts out what has closed, until committing ends.
    fn sort(&self, tables: &Tables) {
        let mut queue = self.queue();
        loop {
            if queue.end.is_some() || queue.failed {
                return;
            }
            if let Some((epoch, Closed { rows, tallies: read, now, .. })) = queue.closed.pop_front()
            {
                drop(queue);
                let sorted = Writes::of(rows, tables);
                let sorted = sorted.map(|writes| Sorted { epoch, writes, read, now });
                queue = self.queue();
                // Given up meanwhile, it is not to be committed.
                if queue.end.is_none() {
                    queue.sorted.push_back(sorted);
                    self.0.filled.notify_all();
                }
            } else {
                queue = self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Commits, and tells that.
    fn commit(&self, committer: &mut Committer, sorted: &Sorted, now: &AtomicI64) -> Result<()> {
        let Sorted { epoch, writes, read, now: moved } = sorted;
        let rows = writes.len();
        self.0.begun.store(*epoch, Ordering::Release);
        let since = Stopwatch::start();
        // Where nothing has changed there is no commit point.
        let is_told_of = self.queue().told_of == *epoch;
        if is_told_of || !(writes.is_empty() && read.is_empty()) {
            committer.commit(*epoch, writes, read, *moved)?;
        }
        debug!(epoch, rows, ms = since.elapsed().as_millis() as u64, "commit");
        if let Some(moved) = moved {
            now.store(*moved, Ordering::Relaxed);
        }
        self.0.committed.store(*epoch, Ordering::Release);
        Ok(())
    }

    /// What is to be done next; where somebody looks for a calm, nothing after so long.
    fn next(&self, or_nothing: bool) -> Next {
        let mut queue = self.queue();
        loop {
            if let Some(sorted) = queue.sorted.pop_front() {
                queue.running = Some(Stopwatch::start());
                return Next::Commit(sorted);
            }
            if let Some(CaughtUp(caught_up)) = queue.end {
                queue.running = Some(Stopwatch::start());
                return Next::End { caught_up };
            }
            if or_nothing {
                let (woken, waited) = self
                    .0
                    .filled
                    .wait_timeout(queue, CALM.1)
                    .unwrap_or_else(PoisonError::into_inner);
                queue = woken;
                if waited.timed_out() && queue.sorted.is_empty() && queue.end.is_none() {
                    queue.running = Some(Stopwatch::start());
                    return Next::Nothing;
                }
            } else {
                queue = self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Says once of a commit that takes long what it waits for, until committing ends.
    fn watch(&self, database: &postgres::Config, backend: i32) {
        let mut told = false;
        loop {
            sleep(LOOK);
            let queue = self.queue();
            let (ended, running) = (queue.failed || queue.end.is_some(), queue.running);
            drop(queue);
            match running.map(Stopwatch::elapsed).filter(|running| *running > LONG) {
                None if ended => return,
                None => told = false,
                Some(_) if told => {}
                Some(running) => {
                    let waits = store::connect(database)
                        .and_then(|mut client| waits_for_lock(&mut client, Some(backend)));
                    let seconds = running.as_secs();
                    let line = match waits {
                        Ok(None) => continue,
                        Ok(Some((wait, query))) => format!("a commit waits {wait}: {query}"),
                        Err(error) => {
                            format!("a commit takes {seconds} s, and its server says: {error:#}")
                        }
                    };
                    told = true;
                    warn!("{line}");
                }
            }
        }
    }
}

/// What the committing thread does next.
enum Next {
    Commit(Result<Sorted>),
    /// Nothing has come for a while.
    Nothing,
    End {
        caught_up: bool,
    },
}

/// Hears how many events are committed, and finds when they have become few.
struct Calm {
    since: Stopwatch,
    events: u64,
    /// Nothing is committed before the ledgers are read back.
    begun: bool,
}

impl Calm {
    fn begin() -> Calm {
        Calm { since: Stopwatch::start(), events: 0, begun: false }
    }

    fn hear(&mut self, events: u64) {
        if !std::mem::replace(&mut self.begun, true) {
            self.since = Stopwatch::start();
        }
        self.events += events;
    }

    /// Whether few have come since this was asked last, if that is long enough ago.
    fn is_calm(&mut self) -> bool {
        if self.since.elapsed() < CALM.1 {
            return false;
        }
        let few = self.begun && self.events < CALM.0;
        (self.since, self.events) = (Stopwatch::start(), 0);
        few
    }
}

/// See [`Commits::until_dropped`].
pub(super) struct Abandon(Commits);

impl Drop for Abandon {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.closed.clear();
        queue.sorted.clear();
        drop(queue);
        self.0.close(false);
    }
}
