//! Where the generator's working set is cached: in memory, or in a Redis that others can look into.
//!
//! Live, the set of every refresh is put, and every worker of the market reads it; while the market
//! lives through its past it is put at most once a second, so that Redis can be watched and history
//! is not slowed down, and nobody reads it. In Redis it stands under these keys:
//!
//! | key | value |
//! |---|---|
//! | `marketday:{market}:working_set` | the version of the newest set: the number of its refresh |
//! | `marketday:{market}:working_set:{version}` | that set: a JSON object, see [`CachedSet`] |
//! | `marketday:{market}:customers` | a hash: of each customer of the newest set, by id, a JSON object, see [`market::CustomerById`] |
//! | `marketday:{market}:products` | the same of each product, see [`market::ProductById`] |
//!
//! `{market}` tells markets apart that share a Redis. The newest set and the one before it are
//! kept; all of it expires an hour after it was put. A put is one transaction: whoever looks sees
//! the keys of one version, and each object of the hashes names it.
//!
//! The market waits for Redis within its own step, because what it reads decides what it draws; that
//! is some milliseconds a refresh, most of them to write the members by id. A Redis that does not answer
//! costs half a second once: from then on it is left alone, until a thread of its own is connected
//! again. The analytics never wait, they are another dataflow.
//!
//! Invariant: what is cached, or not, changes no event (`dataflows/market/tests/mod.rs`,
//! `tests/cache.rs`).

mod redis;

pub use redis::Link;

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dataflows::{
    market::{self, ById, CachedSet, Reading, Settings},
    model::time::{date_of, day_of},
};
use serde::Serialize;

use crate::platform::clock::Stopwatch;
use redis::Redis;

/// In history the cache is written at most this often.
const IN_HISTORY: Duration = Duration::from_secs(1);

/// The cache of one market.
pub struct Cache {
    home: Home,
    since_put: Mutex<Option<Stopwatch>>,
    puts: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    differing: AtomicU64,
    failures: AtomicU64,
}

enum Home {
    Memory(Mutex<Option<CachedSet>>),
    Redis(Redis),
}

/// What happened at a cache so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// `memory` or `redis`.
    pub home: &'static str,
    /// Sets that were put.
    pub puts: u64,
    /// Refreshes of a worker that drew from what it read.
    pub hits: u64,
    /// Refreshes of a worker that found nothing, and drew from its own copy.
    pub misses: u64,
    /// Refreshes of a worker that found another set than its own, and drew from its own copy.
    pub differing: u64,
    /// Calls that Redis did not answer, or not with what can be read.
    pub failures: u64,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache::new(None, "")
    }
}

impl Cache {
    /// The cache of the market of that name: in a Redis, or in memory.
    pub fn new(redis: Option<Arc<Link>>, market: &str) -> Cache {
        let home = match redis {
            Some(link) => Home::Redis(Redis::new(link, market)),
            None => Home::Memory(Mutex::new(None)),
        };
        Cache {
            home,
            since_put: Mutex::new(None),
            puts: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            differing: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        Counts {
            home: if matches!(self.home, Home::Redis(_)) { "redis" } else { "memory" },
            puts: self.puts.load(Ordering::Relaxed),
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            differing: self.differing.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Whether it is time for another put in history.
    fn is_time(&self) -> bool {
        let mut since = self.since_put.lock().expect("no panic while held");
        let is_time = since.is_none_or(|since| since.elapsed() >= IN_HISTORY);
        if is_time {
            *since = Some(Stopwatch::start());
        }
        is_time
    }

    /// Counts what failed; what is away was not asked.
    fn answered<T>(&self, answer: Result<Option<T>, redis::Failed>) -> Option<T> {
        answer.unwrap_or_else(|redis::Failed| {
            self.failures.fetch_add(1, Ordering::Relaxed);
            None
        })
    }
}

impl market::Cache for Cache {
    fn put(&self, live: bool, set: &dyn Fn() -> CachedSet, by_id: &dyn Fn(&CachedSet) -> ById) {
        if !live && !self.is_time() {
            return;
        }
        let put = match &self.home {
            Home::Memory(newest) => {
                *newest.lock().expect("no panic while held") = Some(set());
                Some(())
            }
            Home::Redis(redis) => self.answered(redis.put(set, by_id)),
        };
        self.puts.fetch_add(u64::from(put.is_some()), Ordering::Relaxed);
    }

    fn get(&self, version: u64) -> Option<CachedSet> {
        match &self.home {
            Home::Memory(newest) => {
                let newest = newest.lock().expect("no panic while held");
                newest.as_ref().filter(|set| set.version == version).cloned()
            }
            Home::Redis(redis) => self.answered(redis.get(version)),
        }
    }

    fn count(&self, reading: Reading) {
        let count = match reading {
            Reading::Hit => &self.hits,
            Reading::Miss => &self.misses,
            Reading::Differs => &self.differing,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sets put; {} read, {} missing, {} differing; {} calls failed",
            self.puts, self.hits, self.misses, self.differing, self.failures
        )
    }
}

/// The name of a market that has no other: its seed, its first day and its first live day.
pub fn market_name(settings: &Settings) -> String {
    let date = |at| date_of(day_of(at));
    format!("{}-{}-{}", settings.seed, date(settings.origin), date(settings.start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever Redis gives: it is no set, or one that is held against the market's own.
    #[test]
    fn fuzz_cached_sets() {
        let set = r#"{"version":7,"at":1795964400000,"customers":[{"user_id":1,"age_band":"20s","bought_before":true,"weight":65536},{"user_id":4294967295,"age_band":"60+","bought_before":false,"weight":1}],"products":[{"product_id":9,"group":"best seller","weight":1000001},{"product_id":10,"group":"newest","weight":1}]}"#;
        let whole: CachedSet = serde_json::from_str(set).unwrap();
        crate::fuzz::fuzz!(200_000, [set], |input| {
            let Ok(set) = serde_json::from_slice::<CachedSet>(&input.0) else { return false };
            let said = serde_json::to_vec(&set).unwrap();
            assert_eq!(serde_json::from_slice::<CachedSet>(&said).unwrap(), set);
            assert!(set == whole || said != serde_json::to_vec(&whole).unwrap());
            true
        });
    }
}
