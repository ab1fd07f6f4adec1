//! The thread that commits, and what it shares with the workers of its process.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Error, Result};
use dataflows::Epoch;
use dataflows::analytics::Closed;
use tracing::{debug, warn};

use crate::platform::clock::Stopwatch;
use crate::store::waits::waits_for_lock;
use crate::store::{self, Committer};

/// A commit that takes so long is asked what it waits for ...
const LONG: Duration = Duration::from_secs(5);

/// ... this often.
const LOOK: Duration = Duration::from_millis(500);

/// Closed epochs on their way to the store. Those that close while a transaction runs are merged
/// into the next, whose size is then bounded by the number of keys touched; how many records can
/// wait is bounded where the workers read.
#[derive(Clone)]
pub(super) struct Commits(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    committed: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: Option<(Epoch, Closed)>,
    closed: bool,
    /// Taken by the worker that ends with it.
    failure: Option<Error>,
    failed: bool,
    /// Since when a commit runs.
    running: Option<Stopwatch>,
}

impl Commits {
    pub(super) fn new(committed: Epoch) -> Commits {
        Commits(Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            committed: committed.into(),
        }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a closed epoch.
    pub(super) fn push(&self, epoch: Epoch, closed: Closed) {
        let mut queue = self.queue();
        match &mut queue.waiting {
            Some((last, waiting)) => {
                *last = epoch;
                waiting.merge(closed);
            }
            None => queue.waiting = Some((epoch, closed)),
        }
        self.0.filled.notify_one();
    }

    /// The last committed epoch.
    pub(super) fn committed(&self) -> Epoch {
        self.0.committed.load(Ordering::Acquire)
    }

    /// Why committing has ended, if it failed.
    pub(super) fn check(&self) -> Result<()> {
        self.queue().failure.take().map_or(Ok(()), Err)
    }

    /// Gives up what waits when dropped, so that the thread ends however the worker does.
    pub(super) fn until_dropped(&self) -> Abandon {
        Abandon(self.clone())
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.0.filled.notify_one();
    }

    /// Starts the thread that commits whatever waits, one transaction after the other, and one
    /// that says when a commit waits; the committer's session is that of `backend`.
    pub(super) fn start(
        &self,
        mut committer: Committer,
        now: Arc<AtomicI64>,
        database: &postgres::Config,
        backend: i32,
    ) -> JoinHandle<()> {
        let (commits, database) = (self.clone(), database.clone());
        std::thread::spawn(move || commits.watch(&database, backend));
        let commits = self.clone();
        std::thread::spawn(move || {
            while let Some((epoch, closed)) = commits.next() {
                let moved = closed.now;
                let rows = closed.rows.len();
                let result = committer.commit(epoch, closed);
                let mut queue = commits.queue();
                let took = queue.running.take().map_or(Duration::ZERO, Stopwatch::elapsed);
                if let Err(error) = result {
                    queue.failed = true;
                    queue.failure = Some(error);
                    return;
                }
                drop(queue);
                debug!(epoch, rows, ms = took.as_millis() as u64, "commit");
                if let Some(moved) = moved {
                    now.store(moved, Ordering::Relaxed);
                }
                commits.0.committed.store(epoch, Ordering::Release);
            }
        })
    }

    fn next(&self) -> Option<(Epoch, Closed)> {
        let mut queue = self.queue();
        loop {
            if let Some(waiting) = queue.waiting.take() {
                queue.running = Some(Stopwatch::start());
                return Some(waiting);
            }
            if queue.closed {
                return None;
            }
            queue = self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says once of a commit that takes long what it waits for, until committing ends.
    fn watch(&self, database: &postgres::Config, backend: i32) {
        let mut told = false;
        loop {
            sleep(LOOK);
            let queue = self.queue();
            let (ended, running) = (queue.failed || queue.closed, queue.running);
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

/// See [`Commits::until_dropped`].
pub(super) struct Abandon(Commits);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.queue().waiting = None;
        self.0.close();
    }
}
