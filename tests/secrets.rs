//! Passwords show nowhere, and what holds customers is their owner's alone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use marketday::log::embedded;

use crate::support::{
    Running, command, command_of, database_url, fresh_database, scratch, wait_until,
};

/// Ways to say where a database is, with a password of which every part has this word in it.
const DATABASES: [&str; 28] = [
    "sekret",
    "mysql://me:sekret@host/db",
    "postgres:me:sekret@host/db",
    "postgres:/me:sekret@host/db",
    "postgres://me:sekret",
    "postgres://me:sekret@host:99999/db",
    "postgres://me:sekret@host:port/db",
    "postgres://me:sekret@[::1/db",
    "postgres://me:p@sekret:sekret@host/db",
    "postgres://me:p@sekret@no-such-host.invalid/db",
    "postgres://me:p@h/sekret@no-such-host.invalid/db",
    "postgres://me:p@h?sekret@no-such-host.invalid/db",
    "postgres://me:sekret%zz@no-such-host.invalid/db",
    "postgres://me:sekret%ff@no-such-host.invalid/db",
    "postgres://me:sekret/#sekret@no-such-host.invalid/db",
    "postgres://me:sekret@no-such-host.invalid/db?password=sekret2",
    "postgres://me@no-such-host.invalid/db?password=a&sekret=b",
    "postgres://me%3Asekret@no-such-host.invalid/db",
    "host=no-such-host.invalid password=a sekret",
    "host=no-such-host.invalid password=a sekret=b",
    "host=no-such-host.invalid user=me password='sekret",
    "host=no-such-host.invalid user=me password='a'sekret dbname=db",
    "host=no-such-host.invalid port=x password=sekret",
    "host=no-such-host.invalid pasword=sekret",
    "host=no-such-host.invalid;password=sekret;dbname=db",
    "user=me;password=sekret host=no-such-host.invalid",
    "dbname=db;password=sekret host=no-such-host.invalid user=me",
    "dbname=postgres://me:sekret@host/db host=no-such-host.invalid user=me",
];

const CACHES: [&str; 14] = [
    "sekret",
    "redis:sekret",
    "http://:sekret@127.0.0.1",
    "rediss://:sekret@127.0.0.1:1",
    "redis://me:sekret",
    "redis://:sekret@127.0.0.1:99999",
    "redis://:p@sekret@127.0.0.1:1",
    "redis://:sekret%ff@127.0.0.1:1",
    "redis://:sekret/x@127.0.0.1:1",
    "redis://me:1#sekret@127.0.0.1",
    "redis://sekret:1/#x@127.0.0.1",
    "redis://127.0.0.1/sekret",
    "redis://127.0.0.1:1;password=sekret",
    "redis://host;password=sekret:1",
];

const BROKERS: [&str; 3] =
    ["me:sekret@host:9092", "kafka://me:sekret@host:9092", "host:9092;password=sekret"];

/// The program ends, with a word on why, and without the password.
fn keeps_it(command: &mut Command) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(!output.status.success() && !said.is_empty(), "{command:?}: {said}");
    assert!(!said.contains("sekret") && !said.contains("panicked"), "{command:?}: {said}");
}

#[test]
fn no_error_shows_a_part_of_a_password() {
    let dir = scratch();
    embedded::open(&dir.join("log")).unwrap();
    let name = dir.to_str().unwrap();
    for database in DATABASES {
        for args in [&["analytics"][..], &["verify", "--log", "trace"], &["status"]] {
            let args = [args, &["--dir", name]].concat();
            keeps_it(command(&args).env("DATABASE_URL", database));
        }
        for args in [&["up"][..], &["analytics", "-n", "2"], &["page"], &["tail", "users"]] {
            let args = [args, &["--dir", name, "--log", "debug,json", "--database", database]];
            keeps_it(&mut command(&args.concat()));
        }
        let misspelt = format!("--databas={database}");
        keeps_it(&mut command(&["status", &misspelt]));
        let wrong_place = ["status", "--database", "x", database];
        keeps_it(&mut command(&wrong_place));
        // What a shell makes of it without quotes.
        let words = database.split(' ');
        keeps_it(command(&["status", "--dir", name, "--database"]).args(words));
    }
    for cache in CACHES {
        let nowhere = dir.join("nowhere");
        for (market, place) in [("up", "--dir"), ("market", "--to")] {
            let args = [market, place, nowhere.to_str().unwrap(), "--log", "debug"];
            keeps_it(command(&args).env("REDIS_URL", cache));
            keeps_it(&mut command(&[&args[..], &["--redis", cache]].concat()));
        }
    }
    for brokers in BROKERS {
        for args in [&["verify"][..], &["import", "-", "--log", "debug"]] {
            keeps_it(command(&[args, &["--dir", name]].concat()).env("KAFKA_BROKERS", brokers));
        }
    }
    let url = "postgres://me:sekret@host/db";
    for args in [&[url][..], &["up", "-w", url], &["up", "--start", url], &["--log", url, "up"]] {
        keeps_it(&mut command(args));
    }
    for flag in ["--help", "-x", "--database"] {
        let mut status = command(&["status", flag]);
        let output = status.env("DATABASE_URL", url).env("KAFKA_BROKERS", BROKERS[0]).output();
        assert!(!format!("{:?}", output.unwrap()).contains("sekret"), "{flag}");
    }
}

#[test]
fn no_process_is_started_with_a_password_among_its_arguments() {
    let (dir, database) = (scratch(), fresh_database());
    embedded::open(&dir.join("log")).unwrap();
    let password = String::from_utf8(database.get_password().unwrap().to_vec()).unwrap();
    let url = database_url(&database);
    let args = ["analytics", "-n", "2", "--dir", dir.to_str().unwrap(), "--database", &url];
    let mut analytics = Running::start(&mut command(&args), dir.join("said"));
    wait_until("both run", || analytics.children().len() == 2);
    for child in analytics.children() {
        let arguments = || {
            let file = format!("/proc/{}/cmdline", child.as_raw_nonzero());
            String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()
        };
        wait_until("it is that program", || arguments().contains("--once"));
        assert!(!arguments().contains(&password), "{}", arguments());
    }
    assert!(analytics.interrupt().success(), "{}", analytics.said());
    assert!(!analytics.said().contains(&password));
}

/// Whether others may do nothing with it.
fn is_closed(metadata: &fs::Metadata) -> bool {
    metadata.mode().trailing_zeros() >= 6
}

/// What others may do there, by path: everything below a directory that is none of a link.
fn open_to_others(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_symlink() {
            continue;
        }
        if !is_closed(&metadata) {
            found.push(path.clone());
        }
        if metadata.is_dir() {
            open_to_others(&path, found);
        }
    }
}

#[test]
fn what_holds_customers_is_their_owners_alone() {
    let dir = scratch();
    let name = dir.to_str().unwrap();
    // Whatever the umask says.
    let up = |more: &[&str]| {
        let mut up = command_of(Path::new("sh"), &["-c", "umask 000; exec \"$0\" \"$@\""]);
        up.args([env!("CARGO_BIN_EXE_marketday"), "up", "--dir", name, "--page", "127.0.0.1:0"]);
        up.args(more);
        up
    };
    let closed = |what: &str| {
        let mut found = Vec::new();
        open_to_others(&dir, &mut found);
        found.retain(|path| !path.ends_with("said"));
        assert!(found.is_empty(), "{what}: {found:?}");
    };
    let history = ["--history", "1d", "--dirt", "late=2%:30d", "--exit-when-caught-up"];
    let output = up(&history).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(dir.join("market/dirt.ndjson").exists());
    closed("a new directory");

    // As a version before this left it.
    let mut open = Command::new("chmod");
    open.args(["-R", "a+rX"]).args(["log", "market"].map(|it| dir.join(it)));
    assert!(open.status().unwrap().success());
    let mut live = Running::start(&mut up(&[]), dir.join("said"));
    let socket = dir.join("market/control.sock");
    live.wait_until("it listens", || socket.metadata().is_ok_and(|it| is_closed(&it)));
    live.wait_until("it writes", || dir.join("log").metadata().is_ok_and(|it| is_closed(&it)));
    closed("an older directory, while it runs");
    assert!(live.interrupt().success(), "{}", live.said());
    closed("an older directory");
}
