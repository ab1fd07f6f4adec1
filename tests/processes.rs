//! The analytics as several processes of timely, over one log and one store.

use std::fmt::Write;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use marketday::private_postgres::PrivatePostgres;
use postgres::Config;

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

/// One of two processes.
fn process(dir: &Path, hosts: &Path, index: &str, more: &[&str]) -> Running {
    let (dir_text, hosts) = (dir.to_str().unwrap(), hosts.to_str().unwrap());
    let args = [&["analytics", "--dir", dir_text, "-n", "2", "-p", index, "-h", hosts], more];
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
