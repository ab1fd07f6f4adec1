//! Wrong use ends with one clear sentence on standard error, and an exit code that is not 0.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use postgres::Config;

use crate::support::{
    Running, command, connect, database_url, fresh_database, marketday, one_sentence, refused,
    scratch, wait_until,
};

fn with_database(args: &[&str], database: &Config) -> Command {
    let mut command = command(args);
    command.env("DATABASE_URL", database_url(database));
    command
}

/// Imports a customer's record.
fn import(dir: &Path, event_id: u32) {
    let file = dir.with_extension("ndjson");
    let value = format!(
        r#"{{"event_id":{event_id},"at":1790000000000,"user_id":1,"name":"n","birth_date":"1990-01-01","sex":"F","region":"r","status":"ACTIVE","marketing_consent":true,"signed_up_at":1790000000000}}"#
    );
    fs::write(&file, format!(r#"{{"topic":"users","key":"1","value":{value}}}"#)).unwrap();
    marketday(&["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]);
}

#[test]
fn looking_at_nothing_makes_nothing() {
    let nowhere = scratch().join("nowhere");
    for (look, expected) in [
        (&["verify"][..], "there is no log in"),
        (&["status"], "there is no PostgreSQL in"),
        (&["explain", "users"], "there is no log in"),
    ] {
        let look = [look, &["--dir", nowhere.to_str().unwrap()]].concat();
        refused(&mut command(&look), expected);
    }
    assert!(!nowhere.exists());
}

/// A server that is stopped takes a connection all the same, and so does one of another protocol.
#[test]
fn a_database_that_takes_a_connection_and_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://a:b@{}/x", listener.local_addr().unwrap());
    let dir = scratch();
    let status = ["status", "--dir", dir.to_str().unwrap()];
    refused(command(&status).env("DATABASE_URL", url), "no answer within 10 s");
}

#[test]
fn flags_that_do_not_exist_or_make_no_sense_are_named() {
    for (args, expected) in [
        (&["up", "--sped", "1"][..], "--sped"),
        (&["up", "--speed", "0"], "a speed is a number above 0"),
        (&["up", "--speed", "NaN"], "a speed is a number above 0"),
        (&["up", "--history", "5y"], "a history is 12mo, 30d or 0"),
        (&["up", "--start", "nonsense"], "--start"),
        (&["up", "--start", "+262142-12-31"], "from 1990 to 2099"),
        (&["scenario", "list", "--from=-262143-01-01"], "from 1990 to 2099"),
        (&["analytics", "--seed", "2"], "--seed"),
        (&["up", "-w", "0"], "--workers"),
        (&["market", "-w", "0"], "--workers"),
        (&["analytics", "-w", "0"], "--workers"),
        (&["analytics", "-n", "0"], "--processes"),
        (&["analytics", "-n", "2", "-h", "/dev/null"], "--process"),
        (&["market", "--topic-prefix", "shop"], "--brokers"),
        (&["import"], "<FILE>"),
        (&["explain"], "<QUERY>"),
        (&["explain", "users", "-w", "0"], "--workers"),
        (&["sell"], "sell"),
    ] {
        let output = command(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(expected), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn a_query_that_does_not_exist_is_told_from_those_that_do() {
    let expected =
        "there is no query and no view sales; there are orders_by_minute, orders_by_hour, ";
    refused(&mut command(&["explain", "sales"]), expected);
}

#[test]
fn a_redis_that_cannot_be_used_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("redis://:sekret@{}", free.local_addr().unwrap());
    drop(free);
    for (url, expected) in [
        (nobody.as_str(), "connecting to Redis at 127.0.0.1:"),
        ("127.0.0.1:sekret", "reading the URL of Redis"),
        ("http://:sekret@127.0.0.1", "reading the URL of Redis"),
    ] {
        let dir = scratch().join("nowhere");
        for (name, place) in [("up", "--dir"), ("market", "--to")] {
            let args = [name, place, dir.to_str().unwrap()];
            refused(command(&args).env("REDIS_URL", url), expected);
            assert!(!dir.exists(), "{name}");
        }
    }
}

#[test]
fn processes_that_do_not_fit_are_refused() {
    let dir = scratch();
    let nonsense = dir.join("hosts");
    fs::write(&nonsense, "localhost:2101\nlocalhost:70000\n").unwrap();
    let dir = dir.to_str().unwrap();
    let database = fresh_database();
    for (args, expected) in [
        (&["-n", "2", "-p", "2"][..], "an index below"),
        (&["-p", "1"], "an index below"),
        (&["-n", "2", "-p", "0", "-h", "/nowhere/hosts"], "reading the hosts from /nowhere/hosts"),
        (&["-n", "3", "-p", "0", "-h", "/dev/null"], "as many addresses (there are 0)"),
        (&["-n", "2", "-p", "0", "-h", nonsense.to_str().unwrap()], "line 2 is no address such as"),
    ] {
        let args = [&["analytics", "--exit-when-caught-up", "--dir", dir], args].concat();
        refused(&mut with_database(&args, &database), expected);
    }
}

/// Files of a market that were changed by hand.
#[test]
fn a_market_that_cannot_live_is_refused() {
    let dir = scratch();
    let (dir, market) = (dir.to_str().unwrap(), dir.join("market.json"));
    let early = ["market", "--to", dir, "--start", "2000-06-01", "--history", "1d"];
    refused(&mut command(&early), "a market begins in 2001 at the earliest");
    assert!(!market.exists());

    marketday(&[
        "market",
        "--to",
        dir,
        "--history",
        "1d",
        "--start",
        "2026-11-30",
        "--exit-when-caught-up",
    ]);
    let whole = fs::read_to_string(&market).unwrap();
    for (from, to, expected) in [
        ("\"temperature\": 1.0", "\"temperature\": -1.0", "temperature is 0 to 10"),
        ("\"origin\": 1", "\"origin\": 9", "2001 at the earliest"),
        ("\"demand\": 3.0", "\"demand\": 1e300", "factors from 0.05 to 10"),
    ] {
        assert!(whole.contains(from), "{from}");
        fs::write(&market, whole.replacen(from, to, 1)).unwrap();
        refused(&mut command(&["market", "--to", dir]), expected);
    }
    fs::write(&market, whole).unwrap();
    let journal = r#"{"at":1795964400000,"name":"flash","strength":-1.0,"categories":[]}"#;
    fs::write(Path::new(dir).join("market/commands.ndjson"), format!("{journal}\n")).unwrap();
    let said = "commands.ndjson: a strength is a factor from 0.05 to 10";
    refused(&mut command(&["market", "--to", dir, "--speed", "max"]), said);
}

#[test]
fn a_taken_port_of_a_process_is_named() {
    let dir = scratch();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = dir.join("hosts");
    fs::write(&hosts, format!("{}\n127.0.0.1:1\n", taken.local_addr().unwrap())).unwrap();
    let (dir, hosts) = (dir.to_str().unwrap(), hosts.to_str().unwrap());
    let args = ["analytics", "--dir", dir, "-n", "2", "-p", "0", "-h", hosts];
    refused(&mut with_database(&args, &fresh_database()), "Address already in use");
}

#[test]
fn a_database_that_does_not_let_us_in_is_named_without_its_password() {
    let dir = scratch();
    let dir = dir.to_str().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("postgres://me:sekret@{closed}/db");
    let mut wrong = fresh_database();
    wrong.password("sekret");
    let mut nowhere = fresh_database();
    nowhere.dbname("nowhere");
    let unknown = "postgres://me:sekret@no-such-host.invalid/db";
    // What looks waits for ten seconds, what runs for a minute and with a line a try.
    let waiting = ["up", "analytics", "verify", "status"].map(|name| {
        let dir = scratch();
        marketday::log::embedded::open(&dir.join("log")).unwrap();
        let mut waiting = command(&[name, "--dir", dir.to_str().unwrap()]);
        Running::start(waiting.env("DATABASE_URL", &closed), dir.join("said"))
    });
    for args in [
        &["up"][..],
        &["up", "-w", "2"],
        &["analytics", "--exit-when-caught-up"],
        &["analytics", "--exit-when-caught-up", "-w", "2"],
        &["analytics", "--processes", "2"],
        &["verify"],
        &["status"],
    ] {
        let args = [args, &["--dir", dir]].concat();
        refused(command(&args).env("DATABASE_URL", unknown), "connecting to PostgreSQL at");
        refused(&mut with_database(&args, &nowhere), "database \"nowhere\" does not exist");
        refused(&mut with_database(&args, &wrong), "password authentication failed");
        refused(command(&args).env("DATABASE_URL", "mysql://me:sekret@host"), "database's URL");
    }
    let [mut up, mut analytics, verify, status] = waiting;
    for mut looks in [verify, status] {
        assert_eq!(looks.end().code(), Some(1));
        one_sentence(&looks.said(), "Connection refused");
    }
    // The market has a history before it, which is cut off.
    for (running, code) in [(&mut up, 130), (&mut analytics, 0)] {
        let said = running.said();
        assert!(said.lines().count() > 3, "{said}");
        said.lines().for_each(|line| one_sentence(line, "trying again in"));
        assert_eq!(running.interrupt().code(), Some(code), "{}", running.said());
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = scratch();
    let other = dir.join("other");
    fs::create_dir_all(other.join("log")).unwrap();
    fs::write(other.join("log/letters.txt"), "hello").unwrap();
    let file = dir.join("file");
    fs::write(&file, "hello").unwrap();
    let database = fresh_database();
    for (dir, expected) in [
        (other.to_str().unwrap(), "letters.txt but no log.json"),
        (file.to_str().unwrap(), file.to_str().unwrap()),
        ("/proc/marketday", "/proc/marketday"), // not writable, even for root
    ] {
        for args in [&["up"][..], &["analytics"], &["verify"], &["import", "-"]] {
            let args = [args, &["--dir", dir]].concat();
            refused(&mut with_database(&args, &database), expected);
        }
        refused(&mut command(&["market", "--to", dir]), expected);
    }
    refused(&mut command(&["analytics", "--dir", "/proc/marketday"]), "/proc/marketday");
}

#[test]
fn a_missing_file_is_named_and_makes_no_log() {
    let dir = scratch().join("new");
    let args = ["import", "/nowhere/events.ndjson", "--dir", dir.to_str().unwrap()];
    refused(&mut command(&args), "opening /nowhere/events.ndjson");
    refused(&mut command(&["import", "/", "--dir", dir.to_str().unwrap()]), "reading line 1");
}

#[test]
fn a_market_keeps_its_seed_and_a_running_one_its_directory() {
    let scratch = scratch();
    let market = scratch.join("market");
    let dir = market.to_str().unwrap();
    let database = fresh_database();
    let live = ["up", "--history", "1d", "--seed", "1", "-w", "2", "--dir", dir];
    let said = scratch.join("stderr");
    let mut up = Running::start(&mut with_database(&live, &database), said.clone());
    wait_until("something is committed", || {
        let epoch = connect(&database).query_one("SELECT epoch FROM progress", &[]).unwrap();
        epoch.get::<_, i64>(0) > 0
    });

    refused(&mut with_database(&["up", "--dir", dir], &database), "another `marketday up`");
    refused(&mut command(&["import", "-", "--dir", dir]), "a market writes to this log");
    refused(&mut command(&["market", "--to", dir]), "another market is running in");

    // Another engine may take the store over; then the first one ends, and says why.
    let caught_up = ["analytics", "--exit-when-caught-up", "--dir", dir];
    let output = with_database(&caught_up, &database).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let status = up.end();
    assert_eq!(status.code(), Some(1));
    let said = fs::read_to_string(said).unwrap();
    one_sentence(said.lines().last().unwrap(), "another engine has taken this database over");
    assert!(!said.contains("panicked"), "{said}");

    for (flag, value, expected) in [
        ("--seed", "2", "has seed 1, not 2"),
        ("--history", "2d", "has a history of 1 d, not 2 d"),
        ("--start", "2020-02-29", "not 2020-02-29"),
        ("--profile", "brief", "has the profile it began with"),
    ] {
        let args = ["up", "--dir", dir, flag, value];
        refused(&mut with_database(&args, &database), expected);
        refused(&mut command(&["market", "--to", dir, flag, value]), expected);
    }
}

#[test]
fn a_database_of_another_log_is_refused() {
    let (one, two) = (scratch(), scratch());
    import(&one, 0);
    import(&two, 0);
    let database = fresh_database();
    let analytics = |dir: &Path| {
        let dir = dir.to_str().unwrap();
        with_database(&["analytics", "--exit-when-caught-up", "--dir", dir, "-w", "2"], &database)
    };
    assert!(analytics(&one).status().unwrap().success());
    refused(&mut analytics(&two), "this database holds the results of log ");
    let verify = ["verify", "--dir", two.to_str().unwrap()];
    let output = with_database(&verify, &database).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the database was filled from log "), "{said}");
    assert!(analytics(&one).status().unwrap().success(), "its own log still goes on");
}

#[test]
fn a_log_that_ends_before_the_committed_offsets_is_named() {
    let dir = scratch();
    import(&dir, 0);
    let (log, copy) = (dir.join("log"), dir.join("copy"));
    assert!(Command::new("cp").arg("-r").args([&log, &copy]).status().unwrap().success());
    import(&dir, 1);
    let database = fresh_database();
    let name = dir.to_str().unwrap();
    let args = ["analytics", "--exit-when-caught-up", "--dir", name, "-w", "3"];
    assert!(with_database(&args, &database).status().unwrap().success());
    fs::remove_dir_all(&log).unwrap();
    fs::rename(copy, log).unwrap();
    refused(&mut with_database(&args, &database), "the log does not hold offset 2 of ");
    let verify = with_database(&["verify", "--dir", name], &database).output().unwrap();
    assert_eq!(verify.status.code(), Some(1));
}
