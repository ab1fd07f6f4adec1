//! Working sets in Redis.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use dataflows::market::{ById, CachedSet};
use redis::{Client, Connection, Pipeline, RedisResult, cmd, pipe};
use serde::Serialize;
use tracing::warn;

use crate::platform::secret::{ENCODE, Secret, is_name};

/// An answer may take so long before Redis counts as lost. It is waited for once, so it may be
/// long enough for a busy machine.
const WAIT: Duration = Duration::from_millis(500);
/// The same for the first connection, which nothing waits for.
const WAIT_FIRST: Duration = Duration::from_secs(3);
/// A Redis that was lost is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Seconds until a set expires that nobody replaced.
const EXPIRES: u32 = 3_600;

/// A call that Redis did not answer, or not with what can be read.
pub(super) struct Failed;

/// A connection to Redis that comes back by itself.
pub struct Link {
    client: Client,
    /// None while Redis is away.
    connection: Mutex<Option<Connection>>,
    /// Whether people were told that it is away.
    lost: AtomicBool,
}

impl Link {
    /// Connects to the Redis that a URL names.
    pub fn open(address: &Secret) -> Result<Arc<Link>> {
        let client = Client::open(address.expose()).ok();
        let link = client.map(|client| Link {
            client,
            connection: Mutex::new(None),
            lost: AtomicBool::new(false),
        });
        // Where an @ comes behind the host, the host is the beginning of a password.
        let behind =
            address.expose().split_once("://").and_then(|(_, it)| it.split_once(['/', '?', '#']));
        let link = link
            .filter(|link| is_name(&link.address()))
            .filter(|_| behind.is_none_or(|(_, behind)| !behind.contains('@')));
        let link = link.with_context(|| {
            format!(
                "reading the URL of Redis (--redis or REDIS_URL): it is like redis://host:6379 or \
                 redis://:PASSWORD@host:6379; {ENCODE}"
            )
        })?;
        let connected = link.connect(WAIT_FIRST).with_context(|| {
            format!(
                "connecting to Redis at {} (start it there, or leave out --redis and REDIS_URL: \
                 then the working set stays in memory)",
                link.address()
            )
        })?;
        *link.connection.lock().expect("no panic while held") = Some(connected);
        Ok(Arc::new(link))
    }

    fn connect(&self, wait: Duration) -> RedisResult<Connection> {
        let mut connection = self.client.get_connection_with_timeout(wait)?;
        connection.set_read_timeout(Some(WAIT))?;
        connection.set_write_timeout(Some(WAIT))?;
        // A Redis that wants a password says so to a command only.
        cmd("PING").exec(&mut connection)?;
        Ok(connection)
    }

    /// Without the password that the URL may have.
    fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// Has Redis answer; none while it is away.
    fn ask<T>(
        self: &Arc<Self>,
        question: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<Option<T>, Failed> {
        let mut place = self.connection.lock().expect("no panic while held");
        let Some(connection) = place.as_mut() else { return Ok(None) };
        question(connection).map(Some).map_err(|error| {
            // An answer that comes late would be taken for the next one's.
            *place = None;
            if !self.lost.swap(true, Ordering::Relaxed) {
                let goes_on = "the market goes on with its own copy of the working set";
                warn!("Redis at {} is lost ({error}): {goes_on}", self.address());
            }
            self.come_back();
            Failed
        })
    }

    /// Connects again in a thread of its own, since that may take long.
    fn come_back(self: &Arc<Self>) {
        let link = Arc::downgrade(self);
        thread::spawn(move || {
            loop {
                thread::sleep(AGAIN);
                // Nobody needs it any more.
                let Some(link) = link.upgrade() else { return };
                if let Ok(connection) = link.connect(WAIT) {
                    *link.connection.lock().expect("no panic while held") = Some(connection);
                    return;
                }
            }
        });
    }
}

/// The sets of one market.
pub(super) struct Redis {
    link: Arc<Link>,
    /// What all keys begin with.
    market: String,
    /// The versions that were put last, the newest behind.
    put: Mutex<[Option<u64>; 2]>,
}

impl Redis {
    pub(super) fn new(link: Arc<Link>, market: &str) -> Redis {
        let market = format!("marketday:{market}");
        Redis { link, market, put: Mutex::new([None; 2]) }
    }

    fn key_of(&self, version: u64) -> String {
        format!("{}:working_set:{version}", self.market)
    }

    pub(super) fn put(
        &self,
        set: &dyn Fn() -> CachedSet,
        by_id: &dyn Fn(&CachedSet) -> ById,
    ) -> Result<Option<()>, Failed> {
        let answer = self.link.ask(|connection| {
            let set = set();
            let mut put = self.put.lock().expect("no panic while held");
            let ById { customers, products } = by_id(&set);
            let mut pipe = pipe();
            pipe.atomic();
            pipe.cmd("SET").arg(self.key_of(set.version)).arg(json(&set)).arg("EX").arg(EXPIRES);
            let newest = format!("{}:working_set", self.market);
            pipe.cmd("SET").arg(newest).arg(set.version).arg("EX").arg(EXPIRES);
            let customers = customers.iter().map(|one| (one.user_id, json(one)));
            replace(&mut pipe, &format!("{}:customers", self.market), customers);
            let products = products.iter().map(|one| (one.product_id, json(one)));
            replace(&mut pipe, &format!("{}:products", self.market), products);
            // The one before is left to those who are just looking at it.
            if let [Some(old), _] = *put {
                pipe.cmd("DEL").arg(self.key_of(old));
            }
            pipe.exec(connection)?;
            *put = [put[1], Some(set.version)];
            Ok(())
        });
        if matches!(answer, Ok(Some(()))) && self.link.lost.swap(false, Ordering::Relaxed) {
            warn!("Redis at {} is back", self.link.address());
        }
        answer
    }

    pub(super) fn get(&self, version: u64) -> Result<Option<CachedSet>, Failed> {
        let key = self.key_of(version);
        let json: Option<Option<Vec<u8>>> =
            self.link.ask(|connection| cmd("GET").arg(key).query(connection))?;
        let Some(json) = json.flatten() else { return Ok(None) };
        serde_json::from_slice(&json).map(Some).map_err(|_| Failed)
    }
}

fn json(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).expect("it has numbers and words only")
}

/// Puts a hash in the place of the one that was there.
fn replace(pipe: &mut Pipeline, key: &str, fields: impl ExactSizeIterator<Item = (u32, Vec<u8>)>) {
    pipe.cmd("DEL").arg(key);
    // A hash without a field is none.
    if fields.len() > 0 {
        let hash = pipe.cmd("HSET").arg(key);
        fields.for_each(|(id, json)| {
            hash.arg(id).arg(json);
        });
        pipe.cmd("EXPIRE").arg(key).arg(EXPIRES);
    }
}
