//! The thread that commits, and what it shares with the workers of its process.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Error, anyhow};
use dataflows::Epoch;
use dataflows::analytics::Closed;

use crate::store::Committer;

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
    failure: Option<String>,
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
    pub(super) fn failure(&self) -> Option<Error> {
        self.queue().failure.as_ref().map(|failure| anyhow!(failure.clone()))
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.0.filled.notify_one();
    }

    /// Starts the thread that commits whatever waits, one transaction after the other.
    pub(super) fn start(&self, mut committer: Committer, now: Arc<AtomicI64>) -> JoinHandle<()> {
        let commits = self.clone();
        std::thread::spawn(move || {
            while let Some((epoch, closed)) = commits.next() {
                let moved = closed.now;
                if let Err(error) = committer.commit(epoch, closed) {
                    commits.queue().failure = Some(format!("{error:#}"));
                    return;
                }
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
                return Some(waiting);
            }
            if queue.closed {
                return None;
            }
            queue = self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
