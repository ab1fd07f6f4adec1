//! The analytics as several processes of timely, over one log and one store.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use marketday::private_postgres::PrivatePostgres;
use postgres::Config;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::{
    Running, command, connect, database_url, fresh_database, marketday, scratch, tables, wait_until,
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
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (one, two) = (free(), free());
    let hosts = dir.join("hosts");
    let (one, two) = (one.local_addr().unwrap(), two.local_addr().unwrap());
    fs::write(&hosts, format!("{one}\n{two}\n")).unwrap();
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
