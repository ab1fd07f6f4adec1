//! The analytics as several processes of timely, over one log and one store.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use dataflows::model::Topic;
use marketday::log::embedded;
use marketday::platform::private_postgres::PrivatePostgres;
use postgres::Config;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::support::{
    Running, command, connect, database_url, fresh_database, marketday, one_sentence, scratch,
    tables, wait_until,
};

const DAY: i64 = 86_400_000;
const START: i64 = 1_790_000_000_000;

/// 20,000 orders of 500 customers in 40 days, every tenth cancelled and every tenth refunded.
fn events() -> String {
    let mut lines = String::new();
    let mut add = |topic: &str, key: i64, value: &str| {
        writeln!(lines, r#"{{"topic":"{topic}","key":"{key}","value":{{{value}}}}}"#).unwrap();
    };
    for id in 0..50 {
        add(
            "products",
            id,
            &format!(
                r#""event_id":{id},"at":{START},"product_id":{id},"name":"p{id}","category":"c{}","price":900,"stock":9,"listed_at":{START}"#,
                id % 7
            ),
        );
    }
    for id in 0..500 {
        add(
            "users",
            id,
            &format!(
                r#""event_id":{id},"at":{START},"user_id":{id},"name":"u{id}","birth_date":"1990-01-01","sex":"F","region":"r","status":"ACTIVE","marketing_consent":true,"signed_up_at":{START}"#
            ),
        );
    }
    let mut event_id = 0;
    for order in 0..20_000_i64 {
        let ordered_at = START + order * (40 * DAY / 20_000);
        let (user, product) = (order * 7919 % 500, order * 31 % 50);
        let events: &[(&str, i64)] = match order % 10 {
            3 => &[("placed", 0), ("cancelled", 3_600_000)],
            7 => &[("placed", 0), ("refunded", 2 * DAY)],
            _ => &[("placed", 0)],
        };
        for (event, after) in events {
            add(
                "orders",
                user,
                &format!(
                    r#""event_id":{event_id},"at":{},"event":"{event}","order_id":{order},"user_id":{user},"ordered_at":{ordered_at},"lines":[{{"product_id":{product},"category":"c{}","quantity":{},"unit_price":45000}}]"#,
                    ordered_at + after,
                    product % 7,
                    1 + order % 3
                ),
            );
            event_id += 1;
        }
    }
    lines
}

/// A directory whose log holds the events.
fn imported() -> PathBuf {
    let dir = scratch();
    let file = dir.join("events.ndjson");
    fs::write(&file, events()).unwrap();
    marketday(&["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
    dir
}

/// A hosts file with two free ports.
fn hosts(dir: &Path) -> PathBuf {
    hosts_of(dir, 2)
}

/// A hosts file with so many free ports.
pub(crate) fn hosts_of(dir: &Path, processes: usize) -> PathBuf {
    let free: Vec<_> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let lines = free.iter().map(|it| it.local_addr().unwrap().to_string() + "\n");
    let hosts = dir.join("hosts");
    fs::write(&hosts, lines.collect::<String>()).unwrap();
    hosts
}

/// One of two processes, without a supervisor.
fn process(dir: &Path, hosts: &Path, index: &str, more: &[&str]) -> Running {
    let (dir_text, hosts) = (dir.to_str().unwrap(), hosts.to_str().unwrap());
    let args =
        [&["analytics", "--once", "--dir", dir_text, "-n", "2", "-p", index, "-h", hosts], more];
    Running::start(&mut command(&args.concat()), said(dir, index))
}

fn said(dir: &Path, index: &str) -> PathBuf {
    dir.join(format!("stderr-{index}"))
}

/// The tables of a run with threads only.
fn with_threads(dir: &Path, workers: &str) -> Config {
    let database = fresh_database();
    let dir = dir.to_str().unwrap();
    let output = command(&["analytics", "--dir", dir, "--exit-when-caught-up", "-w", workers])
        .env("DATABASE_URL", database_url(&database))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    database
}

#[test]
fn two_processes_give_the_tables_of_one_and_share_the_private_server() {
    let dir = &imported();
    let hosts = hosts(dir);
    let mut processes = ["0", "1"].map(|p| process(dir, &hosts, p, &["--exit-when-caught-up"]));
    for (index, process) in processes.iter_mut().enumerate() {
        let status = process.end();
        let said = fs::read_to_string(said(dir, &index.to_string())).unwrap();
        assert!(status.success(), "process {index}: {status}\n{said}");
    }
    assert!(!dir.join("postgres/data/postmaster.pid").exists(), "the last one stops the server");
    marketday(&["verify", "--dir", dir.to_str().unwrap()]);

    let server = PrivatePostgres::start(dir).unwrap();
    let two_processes = tables(&server.config());
    assert_eq!(two_processes["users"].len(), 500);
    let db = &mut connect(&server.config());
    let counted: i64 = db
        .query_one("SELECT counted FROM commit_points ORDER BY epoch DESC LIMIT 1", &[])
        .unwrap()
        .get(0);
    assert_eq!(counted, 50 + 500 + 24_000);
    let reported: i64 = db.query_one("SELECT count(*) FROM pipeline_status", &[]).unwrap().get(0);
    assert_eq!(reported, 10, "each process reports its partitions");
    for workers in ["1", "3"] {
        assert_eq!(two_processes, tables(&with_threads(dir, workers)), "{workers} workers");
    }
    server.stop().unwrap();
}

#[test]
fn a_killed_process_takes_the_other_with_it_and_one_alone_goes_on() {
    for victim in [0, 1] {
        let dir = &imported();
        let hosts = hosts(dir);
        let mut processes = ["0", "1"].map(|p| process(dir, &hosts, p, &[]));
        let server = PrivatePostgres::start(dir).unwrap();
        wait_until("something is committed", || {
            let Ok(mut db) = server.config().connect(postgres::NoTls) else { return false };
            let epoch = db.query_one("SELECT epoch FROM progress", &[]);
            epoch.is_ok_and(|epoch| epoch.get::<_, i64>(0) > 0)
        });
        processes[victim].kill();
        let status = processes[1 - victim].end();
        assert!(!status.success(), "victim {victim}");
        let dir = dir.to_str().unwrap();
        marketday(&["analytics", "--dir", dir, "--exit-when-caught-up"]);
        marketday(&["verify", "--dir", dir]);
        server.stop().unwrap();
    }
}

/// Kills each of the processes under supervisors in turn; each time new ones must go on by
/// themselves. In the end the supervisors are told to end.
fn survive_kills(dir: &Path, database: &Config, supervisors: &mut [Running]) {
    let counted = |supervisor: &mut Running, events: i64| {
        supervisor.wait_until("everything is committed", || {
            let query = "SELECT counted FROM commit_points ORDER BY epoch DESC LIMIT 1";
            let point = connect(database).query_opt(query, &[]).unwrap();
            point.is_some_and(|point| point.get::<_, i64>(0) == events)
        });
    };
    let processes = |supervisors: &[Running]| -> Vec<Pid> {
        supervisors.iter().flat_map(Running::children).collect()
    };
    let mut events = 50 + 500 + 24_000;
    counted(&mut supervisors[0], events);
    let all = processes(supervisors).len();
    for victim in (0..all).rev() {
        let before = processes(supervisors);
        kill_process(before[victim], Signal::KILL).unwrap();
        wait_until("new processes run", || {
            let now = processes(supervisors);
            now.len() == all && now.iter().all(|pid| !before.contains(pid))
        });
        let more = dir.join("more.ndjson");
        fs::write(&more, event(events)).unwrap();
        marketday(&["import", more.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
        events += 1;
        counted(&mut supervisors[0], events);
    }
    let last = processes(supervisors);
    supervisors.iter().for_each(Running::ask_to_end);
    for supervisor in supervisors {
        assert!(supervisor.end().success(), "{}", supervisor.said());
    }
    assert!(last.iter().all(|pid| test_kill_process(*pid).is_err()), "they end with it");
    let mut verify = command(&["verify", "--dir", dir.to_str().unwrap()]);
    assert!(verify.env("DATABASE_URL", database_url(database)).status().unwrap().success());
}

/// A `PostgreSQL` that is not the program's own, and may go away.
struct Server {
    dir: PathBuf,
    running: PrivatePostgres,
}

impl Server {
    fn start() -> Server {
        let dir = scratch();
        Server { running: PrivatePostgres::start(&dir).unwrap(), dir }
    }

    fn database(&self, name: &str) -> Config {
        let mut config = self.running.config();
        connect(&config).batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        config.dbname(name);
        config
    }

    /// Sends it a signal, waits until it has ended and starts it again.
    fn restart(&mut self, signal: Signal) {
        let pid = fs::read_to_string(self.dir.join("postgres/data/postmaster.pid")).unwrap();
        let pid = Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        wait_until("the server has ended", || test_kill_process(pid).is_err());
        self.running = PrivatePostgres::start(&self.dir).unwrap();
    }
}

/// Analytics that run over the events and a database.
struct Analytics {
    dir: PathBuf,
    database: Config,
    running: Running,
    events: i64,
}

impl Analytics {
    fn start(database: Config, flags: &[&str]) -> Analytics {
        let dir = imported();
        let mut analytics = command(&[&["analytics"], flags].concat());
        analytics.arg("--dir").arg(&dir).env("DATABASE_URL", database_url(&database));
        let running = Running::start(&mut analytics, said(&dir, "all"));
        Analytics { dir, database, running, events: 50 + 500 + 24_000 }
    }

    fn is_committed(&mut self, what: &str) {
        let (database, events) = (&self.database, self.events);
        self.running.wait_until(&format!("all is committed {what}"), || {
            let Ok(mut client) = database.connect(postgres::NoTls) else { return false };
            let query = "SELECT counted FROM commit_points ORDER BY epoch DESC LIMIT 1";
            let point = client.query_opt(query, &[]).ok().flatten();
            point.is_some_and(|point| point.get::<_, i64>(0) == events)
        });
    }

    fn import_one(&mut self) {
        let more = self.dir.join("more.ndjson");
        fs::write(&more, event(self.events)).unwrap();
        marketday(&["import", more.to_str().unwrap(), "--dir", self.dir.to_str().unwrap()]);
        self.events += 1;
    }

    fn ends_well(&mut self) {
        assert!(self.running.interrupt().success(), "{}", self.running.said());
        let mut verify = command(&["verify", "--dir", self.dir.to_str().unwrap()]);
        let output = verify.env("DATABASE_URL", database_url(&self.database)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn analytics_come_back_by_themselves_when_the_store_does() {
    let mut server = Server::start();
    let mut all = [
        Analytics::start(server.database("one"), &["-w", "2"]),
        Analytics::start(server.database("three"), &["--processes", "3"]),
    ];
    for analytics in &mut all {
        analytics.is_committed("at first");
    }
    for fault in [Some(Signal::INT), Some(Signal::QUIT), Some(Signal::KILL), None] {
        let what = format!("after {fault:?}");
        if let Some(signal) = fault {
            server.restart(signal);
        } else {
            let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE application_name = 'marketday' AND datname <> 'marketday'
                  AND pid <> pg_backend_pid()";
            connect(&server.running.config()).batch_execute(terminate).unwrap();
        }
        all.iter_mut().for_each(Analytics::import_one);
        for analytics in &mut all {
            analytics.is_committed(&what);
        }
    }
    for analytics in &mut all {
        let said = analytics.running.said();
        assert!(
            said.contains("from the last commit") || said.contains("trying again in"),
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");
        analytics.ends_well();
    }

    // Where it does not come back, they end all the same when they are told to.
    for (database, flags) in [("again", &["-w", "2"][..]), ("thrice", &["--processes", "3"])] {
        let mut analytics = Analytics::start(server.database(database), flags);
        analytics.is_committed("before the server ends");
        let pid = fs::read_to_string(server.dir.join("postgres/data/postmaster.pid")).unwrap();
        let pid = Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        analytics.import_one();
        let said = said(&analytics.dir, "all");
        analytics.running.wait_until("it is tried again", || {
            fs::read_to_string(&said).unwrap().contains("trying again in 0.2 s")
        });
        assert!(analytics.running.interrupt().success(), "{}", analytics.running.said());
        wait_until("the server has ended", || test_kill_process(pid).is_err());
        server.running = PrivatePostgres::start(&server.dir).unwrap();
    }
}

#[test]
fn a_server_of_ours_that_is_killed_is_started_again() {
    let dir = imported();
    let name = dir.to_str().unwrap();
    let mut analytics =
        Running::start(&mut command(&["analytics", "--dir", name]), said(&dir, "all"));
    let epoch = || -> Option<i64> {
        let server = PrivatePostgres::start(&dir).ok()?;
        let mut client = server.config().connect(postgres::NoTls).ok()?;
        Some(client.query_one("SELECT epoch FROM progress", &[]).ok()?.get(0))
    };
    let pid_file = dir.join("postgres/data/postmaster.pid");
    analytics.wait_until("something is committed", || epoch().is_some_and(|epoch| epoch > 0));
    let pid = fs::read_to_string(&pid_file).unwrap();
    let pid = Pid::from_raw(pid.lines().next().unwrap().parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    analytics.wait_until("another server runs", || {
        let now = fs::read_to_string(&pid_file).unwrap_or_default();
        now.lines().next().is_some_and(|now| now != pid.as_raw_nonzero().to_string())
    });
    let more = dir.join("more.ndjson");
    fs::write(&more, event(24_550)).unwrap();
    marketday(&["import", more.to_str().unwrap(), "--dir", name]);
    analytics.wait_until("it is committed", || {
        let Ok(server) = PrivatePostgres::start(&dir) else { return false };
        let Ok(mut client) = server.config().connect(postgres::NoTls) else { return false };
        let query = "SELECT counted FROM commit_points ORDER BY epoch DESC LIMIT 1";
        let point = client.query_opt(query, &[]).ok().flatten();
        point.is_some_and(|point| point.get::<_, i64>(0) == 24_551)
    });
    assert!(analytics.interrupt().success(), "{}", analytics.said());
    marketday(&["verify", "--dir", name]);
}

#[test]
fn three_processes_that_are_fenced_end_and_say_so() {
    let mut analytics = Analytics::start(fresh_database(), &["--processes", "3"]);
    analytics.is_committed("at first");
    let name = analytics.dir.to_str().unwrap();
    let mut other = command(&["analytics", "--exit-when-caught-up", "--dir", name]);
    other.env("DATABASE_URL", database_url(&analytics.database));
    assert!(other.status().unwrap().success());
    analytics.import_one();
    assert_eq!(analytics.running.end().code(), Some(1), "{}", analytics.running.said());
    let said = analytics.running.said();
    assert!(said.contains("another engine has taken this database over"), "{said}");
    assert!(!said.contains("panicked") && !said.contains("starting again"), "{said}");
}

#[test]
fn a_server_that_ends_idle_sessions_does_not_end_ours() {
    let database = fresh_database();
    let name = database.get_dbname().unwrap();
    let timeout = format!("ALTER DATABASE {name} SET idle_session_timeout = '1s'");
    connect(&database).batch_execute(&timeout).unwrap();
    let mut analytics = Analytics::start(database, &["--processes", "3"]);
    analytics.is_committed("at first");
    let database = analytics.database.clone();
    analytics.running.wait_until("the committing session was idle for long", || {
        let query = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'marketday'
              AND state = 'idle' AND state_change < clock_timestamp() - interval '2 s'";
        connect(&database).query_one(query, &[]).unwrap().get::<_, i64>(0) > 0
    });
    analytics.import_one();
    analytics.is_committed("after a pause");
    assert_eq!(analytics.running.said(), "");
    analytics.ends_well();
}

#[test]
fn a_commit_that_waits_for_a_lock_says_so_and_status_does() {
    let mut analytics = Analytics::start(fresh_database(), &[]);
    analytics.is_committed("at first");
    let mut other = connect(&analytics.database);
    let mut holding = other.transaction().unwrap();
    holding.batch_execute("LOCK TABLE order_events IN EXCLUSIVE MODE").unwrap();
    analytics.import_one();
    let file = said(&analytics.dir, "all");
    analytics.running.wait_until("it says what it waits for", || {
        let said = fs::read_to_string(&file).unwrap();
        said.contains("a commit waits for") && said.contains("LOCK TABLE order_events")
    });
    let mut status = command(&["status", "--dir", analytics.dir.to_str().unwrap()]);
    let output = status.env("DATABASE_URL", database_url(&analytics.database)).output().unwrap();
    let status = String::from_utf8_lossy(&output.stdout);
    assert!(status.contains("commit        waits for"), "{status}");
    let database = analytics.database.clone();
    let told = || -> Vec<String> {
        let sql = "SELECT told FROM current_waits WHERE what = 'lock'";
        connect(&database).query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    analytics.running.wait_until("the page and Grafana are told", || {
        told().iter().any(|told| told.starts_with("backend ") && !told.contains("LOCK"))
    });
    holding.rollback().unwrap();
    analytics.is_committed("without the lock");
    analytics.running.wait_until("it is over", || told().is_empty());
    assert_eq!(analytics.running.said().lines().count(), 1, "{}", analytics.running.said());
    analytics.ends_well();
}

/// The clock of one machine is 10 s behind, and then its host is paused. What the other reads is committed
/// before what the one reads later: nobody holds it back.
#[test]
fn neither_a_wrong_clock_nor_a_paused_host_adds_latency_for_good() {
    let fakes = ["x86_64", "aarch64"]
        .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1"));
    let fake = fakes.iter().find(|fake| Path::new(fake).exists());
    let fake = fake.expect("needs libfaketime; `./marketday test` installs it");
    let (dir, database) = (&imported(), fresh_database());
    let hosts = hosts(dir);
    let [mut right, wrong] = ["0", "1"].map(|index| {
        let mut analytics = command(&["analytics", "--once", "-n", "2", "-p", index, "-h"]);
        analytics.arg(&hosts).arg("--dir").arg(dir).env("DATABASE_URL", database_url(&database));
        if index == "1" {
            let clock = [("FAKETIME", "-10s"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
            analytics.env("LD_PRELOAD", fake).envs(clock);
        }
        Running::start(&mut analytics, said(dir, index))
    });
    let log = embedded::open(&dir.join("log")).unwrap();
    let mut writer = log.writer().unwrap();
    let mut append = |partition: u32, id: i64| {
        let line: Value = serde_json::from_str(&event(id)).unwrap();
        let value = line["value"].to_string();
        writer.append(Topic::Orders, partition, START, None, value.as_bytes()).unwrap();
        writer.flush().unwrap();
        log.end(Topic::Orders, partition).unwrap() as i64
    };
    // Up to where a partition is read and up to where it is committed, and whether its reader told so
    // within the last seconds.
    let stands = |partition: i64| -> (i64, i64, bool) {
        let sql = "SELECT read, next_offset, written_at > clock_timestamp() - interval '3 s'
                   FROM pipeline_status JOIN commit_offsets USING (topic, partition)
                   WHERE topic = 'orders' AND partition = $1";
        let row = connect(&database).query_opt(sql, &[&partition]).unwrap();
        row.map_or((0, 0, false), |row| (row.get(0), row.get(1), row.get(2)))
    };
    let mut id = 24_550;
    for paused in [false, false, true, false, false] {
        // The right one reads partition 0, the wrong one partition 1.
        if paused {
            wrong.signal(Signal::STOP);
            right.wait_until("the other tells nothing", || !stands(1).2);
        }
        let first = append(0, id);
        right.wait_until("the first is read", || stands(0).0 == first);
        if paused {
            wrong.signal(Signal::CONT);
            right.wait_until("it is committed after the pause", || stands(0).1 == first);
        }
        let second = append(1, id + 1);
        right.wait_until("the second is committed", || stands(1).1 == second);
        assert_eq!(stands(0).1, first, "what was read before is committed before");
        id += 2;
    }
    right.kill();
}

/// A late order, as a line of an import.
fn event(event_id: i64) -> String {
    format!(
        r#"{{"topic":"orders","key":"7","value":{{"event_id":{event_id},"at":{START},"event":"placed","order_id":{event_id},"user_id":7,"ordered_at":{START},"lines":[{{"product_id":1,"category":"c1","quantity":1,"unit_price":900}}]}}}}"#
    )
}

#[test]
fn of_three_supervised_processes_each_may_be_killed() {
    let (dir, database) = (&imported(), fresh_database());
    let mut analytics = command(&["analytics", "--processes", "3", "--dir"]);
    analytics.arg(dir).env("DATABASE_URL", database_url(&database));
    let supervisor = Running::start(&mut analytics, said(dir, "all"));
    survive_kills(dir, &database, &mut [supervisor]);
}

/// Whatever connects to a port of the analytics: it aborts none of them, and keeps none from the others.
fn junk(address: &str) -> Vec<TcpStream> {
    let hello = |text: &str| format!("{text}\n").into_bytes();
    let words = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        // The index of a process, as timely has it: below this one's, and beyond all.
        0u64.to_be_bytes().to_vec(),
        u64::MAX.to_be_bytes().to_vec(),
        (0..9_000u32).map(|it| ((it * 7919) >> 5) as u8).collect(),
        vec![b'{'; 100_000],
        hello("{}"),
        hello(r#"{"marketday":"0.1.0","name":"x","process":1,"processes":3,"workers":1}"#),
        hello(
            r#"{"marketday":"0.1.0","name":"x","process":18446744073709551615,"processes":0,"workers":9}"#,
        ),
        b"\n".to_vec(),
        Vec::new(),
    ];
    let connect = |word: &Vec<u8>| {
        let mut stream = TcpStream::connect(address).unwrap();
        _ = stream.write_all(word); // it may hang up in between
        stream
    };
    // Some go at once, and some stay and say nothing more.
    for word in &words {
        drop(connect(word));
    }
    words.iter().map(connect).collect()
}

#[test]
fn strangers_at_the_ports_are_not_heard() {
    let (dir, database) = (&imported(), fresh_database());
    let hosts = &hosts_of(dir, 3);
    let text = fs::read_to_string(hosts).unwrap();
    let addresses: Vec<&str> = text.lines().collect();
    let start = |index: &str, more: &[&str], database: &Config, said: &str| {
        let name = dir.to_str().unwrap();
        let args = ["analytics", "--once", "--dir", name, "-p", index, "-h"];
        let mut process = command(&args);
        process.arg(hosts).args(more).env("DATABASE_URL", database_url(database));
        Running::start(&mut process, dir.join(said))
    };
    let refused = |index: &str, more: &[&str], database: &Config, expected: &str| {
        let mut process = start(index, more, database, "refused");
        assert_eq!(process.end().code(), Some(1), "{}", process.said());
        one_sentence(&process.said(), expected);
    };

    // Somebody else is where process 0 will be.
    let stranger = TcpListener::bind(addresses[0]).unwrap();
    let mut last = start("2", &["-n", "3"], &database, "2");
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[b'x'; 10_000], b""] {
        let (mut caller, _) = stranger.accept().unwrap();
        _ = caller.write_all(answer);
    }
    drop(stranger);

    let mut first = start("0", &["-n", "3", "--log", "info"], &database, "0");
    first.wait_until("process 0 listens", || TcpStream::connect(addresses[0]).is_ok());
    let waiting = junk(addresses[0]);
    refused("1", &["-n", "3"], &fresh_database(), "give each analytics addresses of their own");
    refused("1", &["-n", "3", "-w", "2"], &database, "give all the same -n and -w");
    let few = dir.join("few");
    fs::write(&few, text.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap();
    let args = ["analytics", "--once", "-p", "1", "-n", "2", "--dir", dir.to_str().unwrap(), "-h"];
    let mut fewer = command(&args);
    fewer.arg(few).env("DATABASE_URL", database_url(&database));
    let output = fewer.output().unwrap();
    one_sentence(&String::from_utf8_lossy(&output.stderr), "give all the same -n and -w");
    // Once process 2 is there another one is not it.
    let heard = dir.join("0");
    first.wait_until("process 2 is there", || {
        fs::read_to_string(&heard).unwrap().contains("process 2 of the analytics is there")
    });
    let mut again = start("2", &["-n", "3"], &database, "again");
    assert_eq!(again.end().code(), Some(1), "{}", again.said());
    one_sentence(&again.said(), "there is another process 2 already");

    let mut middle = start("1", &["-n", "3"], &database, "1");
    first.wait_until("everything is committed", || {
        let query = "SELECT counted FROM commit_points ORDER BY epoch DESC LIMIT 1";
        let point = connect(&database).query_opt(query, &[]).unwrap();
        point.is_some_and(|point| point.get::<_, i64>(0) == 50 + 500 + 24_000)
    });
    for address in addresses {
        assert!(TcpStream::connect(address).is_err(), "nobody listens at {address} any more");
    }
    drop(waiting);
    let all = [&mut first, &mut middle, &mut last];
    for process in &all {
        process.ask_to_end();
    }
    for process in all {
        assert!(process.end().success(), "{}", process.said());
        assert!(!process.said().contains("panicked"), "{}", process.said());
    }
    let said = first.said();
    assert_eq!(said.matches("and is not heard").count(), 1, "{said}");
    let mut verify = command(&["verify", "--dir", dir.to_str().unwrap()]);
    assert!(verify.env("DATABASE_URL", database_url(&database)).status().unwrap().success());
}

/// The tables decide which operators there are: other ones elsewhere would take each other's messages.
#[test]
fn processes_that_keep_other_tables_end_at_once() {
    let dir = &imported();
    let hosts = hosts(dir);
    let tables = ["orders_by_minute,best_sellers", "orders_by_hour,repurchase"];
    let mut processes = ["0", "1"].map(|index| {
        let tables = tables[usize::from(index == "1")];
        process(dir, &hosts, index, &["--tables", tables, "--exit-when-caught-up"])
    });
    assert!(processes.iter_mut().all(|process| !process.end().success()));
    let said = processes.iter().map(Running::said).collect::<String>();
    assert!(said.contains("give all processes the same --tables"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn of_two_processes_by_hand_each_may_be_killed() {
    let (dir, database) = (&imported(), fresh_database());
    let hosts = hosts(dir);
    let mut supervisors = ["0", "1"].map(|process| {
        let mut analytics = command(&["analytics", "-n", "2", "-p", process, "-h"]);
        analytics.arg(&hosts).arg("--dir").arg(dir).env("DATABASE_URL", database_url(&database));
        Running::start(&mut analytics, said(dir, process))
    });
    survive_kills(dir, &database, &mut supervisors);
}

#[test]
fn a_killed_supervisor_takes_its_processes_with_it() {
    let (dir, database) = (&imported(), fresh_database());
    let mut analytics = command(&["analytics", "--processes", "2", "--dir"]);
    analytics.arg(dir).env("DATABASE_URL", database_url(&database));
    let mut supervisor = Running::start(&mut analytics, said(dir, "all"));
    wait_until("both run", || supervisor.children().len() == 2);
    let processes = supervisor.children();
    supervisor.kill();
    wait_until("both are gone", || processes.iter().all(|pid| test_kill_process(*pid).is_err()));
}

/// `now` is a function of what was read, not of who read it: no worker runs so far ahead of the others
/// that their partitions are left out of it.
#[test]
fn now_is_the_same_for_any_number_of_workers() {
    let dir = scratch();
    let dir = dir.to_str().unwrap();
    let history = ["--history", "90d", "--start", "2026-11-30", "--exit-when-caught-up"];
    marketday(&[&["market", "--to", dir], &history[..]].concat());
    let now = |workers: &str| -> String {
        let database = fresh_database();
        let mut analytics = command(&["analytics", "--exit-when-caught-up", "--dir", dir]);
        analytics.args(["-w", workers]).env("DATABASE_URL", database_url(&database));
        assert!(analytics.status().unwrap().success());
        let now = connect(&database).query_one("SELECT now::text FROM progress", &[]);
        now.unwrap().get(0)
    };
    let one = now("1");
    assert_eq!([now("2"), now("3")], [one.clone(), one]);
}
