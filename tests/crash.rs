//! Killed at any moment, the program goes on as if nothing had been.
//!
//! A kill at a named point is the program's own signal (`src/platform/crash.rs`), any other comes from here
//! when the log or the commits have grown. After each one `verify` must find nothing.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use marketday::log::embedded;
use marketday::platform::private_postgres::PrivatePostgres;
use marketday::store::result_tables;
use postgres::{Client, NoTls};

use crate::support::{Running, command, first_records, log_end, partitions, scratch, wait_until};

/// A directory in which `up` is started again and again; the server keeps running between.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    flags: &'static [&'static str],
    pub(crate) server: PrivatePostgres,
    kills: usize,
}

impl Place {
    pub(crate) fn new(flags: &'static [&'static str]) -> Place {
        let dir = scratch();
        let server = PrivatePostgres::start(&dir).unwrap();
        Place { dir, flags, server, kills: 0 }
    }

    fn start(&self, crash_at: Option<&str>) -> Running {
        self.start_with(&[], crash_at)
    }

    /// Starts it with more flags.
    pub(crate) fn start_with(&self, flags: &[&str], crash_at: Option<&str>) -> Running {
        let mut command = command(&["up", "--dir", self.dir.to_str().unwrap()]);
        command.args(self.flags).args(flags);
        if let Some(point) = crash_at {
            command.env("MARKETDAY_CRASH_AT", point);
        }
        Running::start(&mut command, self.dir.join("said"))
    }

    /// Runs until it kills itself at the n-th passing of a point, as in `copy:2`.
    fn crash_at(&mut self, point: &str) {
        let running = self.start(Some(point));
        self.crashes_at(point, running);
    }

    /// Waits until it has killed itself at the point that it was started with.
    pub(crate) fn crashes_at(&mut self, point: &str, mut running: Running) {
        let status = running.end();
        assert_eq!(status.signal(), Some(9), "{point}: {status}\n{}", running.said());
        let name = point.split(':').next().unwrap();
        let reached = format!("MARKETDAY_CRASH_AT: {name}");
        assert!(running.said().contains(&reached), "{point}:\n{}", running.said());
        self.killed(point);
    }

    /// Runs until a condition holds, then kills it.
    fn kill_when(&mut self, what: &str, holds: impl FnMut() -> bool) {
        let mut running = self.start(None);
        running.wait_until(what, holds);
        running.kill();
        self.killed(what);
    }

    pub(crate) fn killed(&mut self, how: &str) {
        self.kills += 1;
        self.verify(&format!("after kill {}, {how}", self.kills));
    }

    pub(crate) fn verify(&self, when: &str) {
        let verify = command(&["verify", "--dir", self.dir.to_str().unwrap()]).output().unwrap();
        let (said, error) =
            (String::from_utf8_lossy(&verify.stdout), String::from_utf8_lossy(&verify.stderr));
        // Killed before the first commit it has nothing, and says so.
        let differs: Vec<&str> =
            said.lines().filter(|line| line.starts_with("differs: ")).collect();
        let nothing = committed(&mut self.client()) == 0
            && matches!(differs[..], [line] if line.contains("nothing is committed"));
        assert!(verify.status.success() || nothing, "{when}: {}\n{said}{error}", verify.status);
    }

    pub(crate) fn client(&self) -> Client {
        self.server.config().connect(NoTls).unwrap()
    }

    /// What every table holds that follows from the log: a hash for each.
    fn tables(&self) -> BTreeMap<&'static str, String> {
        let mut client = self.client();
        let ledgers = ["user_events", "product_events", "order_events", "scenario_events"];
        let names = ledgers.into_iter().chain(["dead_letters", "commit_offsets"]);
        let names = names.chain(result_tables());
        let hash = |name| {
            let query = format!(
                "SELECT count(*) || ' rows, ' ||
                        coalesce(md5(string_agg(t::text, ',' ORDER BY t::text)), '')
                 FROM {name} AS t"
            );
            (name, client.query_one(&query, &[]).unwrap().get(0))
        };
        names.map(hash).collect()
    }
}

/// Number of records that are committed.
fn committed(client: &mut Client) -> i64 {
    let query = "SELECT coalesce(sum(next_offset), 0)::bigint FROM commit_offsets";
    client.query_one(query, &[]).unwrap().get(0)
}

/// Minutes that the results are beyond an instant; negative before it.
fn minutes_since(client: &mut Client, instant: &str) -> i64 {
    let query = format!(
        "SELECT coalesce(floor(extract(epoch FROM now - timestamptz '{instant}') / 60), -1)::bigint
         FROM progress"
    );
    client.query_one(&query, &[]).unwrap().get(0)
}

/// Number of records in each partition.
fn ends(dir: &Path) -> Vec<u64> {
    let log = embedded::open(&dir.join("log")).unwrap();
    partitions_of(dir).map(|(topic, partition)| log.end(topic, partition).unwrap()).collect()
}

fn partitions_of(dir: &Path) -> impl Iterator<Item = (dataflows::model::Topic, u32)> {
    let log = embedded::open(&dir.join("log")).unwrap();
    let of = move |topic| {
        let log = log.clone();
        (0..log.partitions(topic)).map(move |partition| (topic, partition))
    };
    dataflows::model::Topic::ALL.into_iter().flat_map(of)
}

#[test]
fn killed_in_its_history_it_ends_with_the_same_tables() {
    let flags =
        &["--history", "120d", "--start", "2026-11-30", "--seed", "7", "--exit-when-caught-up"];
    let mut place = Place::new(flags);
    // The first hits: before anything is durable, and while the log grows.
    for point in ["seeding:1", "seeded:1"] {
        place.crash_at(point);
    }
    let (dir, reached) = (place.dir.clone(), log_end(&place.dir));
    place.kill_when("the log has grown", || log_end(&dir) > reached);
    for point in ["copy:1", "before-commit:1", "after-commit:1"] {
        place.crash_at(point);
    }
    let mut client = place.client();
    let reached = committed(&mut client);
    place.kill_when("more is committed", || committed(&mut client) > reached);
    // Points that a run passes whatever is left to do.
    for point in ["hydration:1", "hydration:3", "copy:1", "hydration:4", "before-commit:1"] {
        place.crash_at(point);
    }
    for point in ["hydration:2", "after-commit:1", "before-commit:1", "after-commit:1"] {
        place.crash_at(point);
    }
    assert_eq!(place.kills, 16);
    assert_eq!(place.start(None).end().code(), Some(0));
    place.verify("at the end");

    let undisturbed = Place::new(flags);
    assert_eq!(undisturbed.start(None).end().code(), Some(0));
    assert_eq!(place.tables(), undisturbed.tables());
    assert_eq!(partitions(&place.dir), partitions(&undisturbed.dir));
    assert!(place.tables()["order_events"].starts_with(|digit: char| digit > '0'));
}

#[test]
fn killed_while_live_it_goes_on_and_stops_when_asked() {
    const START: &str = "2026-11-27 00:00+09";
    let market = ["--history", "2d", "--start", "2026-11-27", "--seed", "7"];
    let mut place =
        Place::new(&["--history", "2d", "--start", "2026-11-27", "--seed", "7", "--speed", "600"]);
    marketday::store::migrate::run(&place.server.config()).unwrap();
    let mut client = place.client();
    place.kill_when("it is live", || minutes_since(&mut client, START) > 0);
    place.crash_at("resume:1");
    let reached = minutes_since(&mut client, START);
    place.kill_when("it is live again", || minutes_since(&mut client, START) > reached + 20);
    for point in ["copy:20", "before-commit:30", "after-commit:20", "hydration:2"] {
        place.crash_at(point);
    }
    assert_eq!(place.kills, 7);

    let mut running = place.start(None);
    let reached = minutes_since(&mut client, START);
    running.wait_until("it is live", || minutes_since(&mut client, START) > reached + 10);
    let second = command(&["up", "--dir", place.dir.to_str().unwrap()]).output().unwrap();
    let sentence = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1), "{sentence}");
    assert!(sentence.contains("another `marketday up` is running"), "{sentence}");
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
    place.verify("after it was asked to stop");

    // The market alone, never disturbed and at another speed, has made the same records.
    let alone = scratch();
    let to = ["market", "--to", alone.to_str().unwrap(), "--speed", "max"];
    let mut undisturbed = Running::start(command(&to).args(market), alone.join("said"));
    let held = ends(&place.dir);
    undisturbed.wait_until("the other market is as far", || {
        ends(&alone).iter().zip(&held).all(|(end, held)| end >= held)
    });
    assert_eq!(undisturbed.interrupt().code(), Some(0));
    let held: BTreeMap<_, _> = partitions_of(&place.dir).zip(held).collect();
    let same = first_records(&alone, |topic, partition| held[&(topic, partition)]);
    assert_eq!(same, partitions(&place.dir));
    wait_until("the directory is free", || marketday::commands::up::lock(&place.dir).is_ok());
}
