//! A market's log is the market's: nobody else writes into it, and it takes nobody's records for
//! its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use dataflows::model::Topic;
use marketday::log::{Log, Owner, embedded};
use serde_json::Value;

use crate::support::{
    command, database_url, fresh_database, log_end, marketday, partitions, records, refused,
    scratch,
};

/// A record of somebody else's.
const FOREIGN: &str = r#"{"event_id":7,"at":1790000000000,"event":"placed","order_id":7,"user_id":1,"ordered_at":1790000000000,"lines":[{"product_id":1,"category":"tea","quantity":1,"unit_price":9}]}"#;

fn market<'a>(name: &'a str, dir: &'a str) -> [&'a str; 8] {
    let history = ["--history", "2d", "--start", "2026-11-30", "--exit-when-caught-up"];
    [name, "--dir", dir, history[0], history[1], history[2], history[3], history[4]]
}

/// Appends a record as any producer might.
fn append(log: &dyn Log, partition: u32, at: i64, value: &str) {
    let mut writer = log.writer().unwrap();
    writer.append(Topic::Orders, partition, at, Some(b"1"), value.as_bytes()).unwrap();
    writer.flush().unwrap();
}

fn import(dir: &Path) -> Command {
    let file = dir.with_extension("ndjson");
    fs::write(&file, format!(r#"{{"topic":"orders","key":"1","value":{FOREIGN}}}"#)).unwrap();
    command(&["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()])
}

/// The log of a version that did not say who writes it.
fn forget_owner(dir: &Path) {
    fs::remove_file(dir.join("log/owner")).unwrap();
}

fn forget_snapshots(dir: &Path) {
    for file in fs::read_dir(dir.join("market")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "snapshot") {
            fs::remove_file(path).unwrap();
        }
    }
}

fn owner(dir: &Path) -> Option<Owner> {
    embedded::open(&dir.join("log")).unwrap().owner().unwrap()
}

#[test]
fn an_import_of_nothing_leaves_the_log_to_anybody() {
    let dir = scratch();
    let file = dir.join("refused");
    fs::write(&file, "no event\n").unwrap();
    for file in [Path::new("/dev/null"), &file] {
        _ = command(&["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()]).output();
        assert_eq!(owner(&dir), None, "{}", file.display());
    }
    assert!(import(&dir).status().unwrap().success());
    assert_eq!(owner(&dir), Some(Owner::Import));
}

#[test]
fn nobody_imports_into_a_markets_log() {
    let scratch = scratch();
    let (dir, elsewhere) = (scratch.join("market"), scratch.join("elsewhere"));
    let name = dir.to_str().unwrap();
    marketday(&market("market", name));
    let held = partitions(&dir);
    let expected = "a market writes to this log";
    refused(&mut import(&dir), expected);
    refused(&mut import(&dir), "--dir OTHER");

    // It goes on after an upgrade too, and says then whose log it is.
    forget_owner(&dir);
    refused(&mut import(&dir), expected);
    forget_snapshots(&dir);
    marketday(&market("market", name));
    assert_eq!(owner(&dir), Some(Owner::Market));
    assert_eq!(partitions(&dir), held);

    // Where the market's own directory is not, its records tell.
    forget_owner(&dir);
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(dir.join("log"), elsewhere.join("log")).unwrap();
    refused(&mut import(&elsewhere), expected);
    assert_eq!(partitions(&elsewhere), held);
    // Its lines, imported, are no market's.
    let lines = [&market("market", name)[..1], &["--to", "-"], &market("market", name)[3..]];
    let (file, imported) = (scratch.join("lines"), scratch.join("imported"));
    fs::write(&file, marketday(&lines.concat())).unwrap();
    for _ in 0..2 {
        marketday(&["import", file.to_str().unwrap(), "--dir", imported.to_str().unwrap()]);
        fs::remove_file(imported.join("log/owner")).unwrap();
    }
}

#[test]
fn no_market_writes_where_others_have_written() {
    let (imported, foreign) = (scratch().join("imported"), scratch().join("foreign"));
    for _ in 0..2 {
        assert!(import(&imported).status().unwrap().success(), "two imports go into one log");
    }
    append(&*embedded::open(&foreign.join("log")).unwrap(), 0, 1, FOREIGN);
    for dir in [&imported, &foreign] {
        let (held, database) = (log_end(dir), fresh_database());
        for name in ["market", "up"] {
            let mut command = command(&market(name, dir.to_str().unwrap()));
            command.env("DATABASE_URL", database_url(&database));
            refused(&mut command, "with --dir OTHER");
        }
        assert_eq!(log_end(dir), held);
    }
}

/// Into a market's log somebody has written all the same: before or behind what a snapshot spares.
#[test]
fn a_market_does_not_go_on_over_records_of_others() {
    let dir = scratch();
    let name = dir.to_str().unwrap();
    marketday(&market("market", name));
    let log = || embedded::open(&dir.join("log")).unwrap();
    let end = log().end(Topic::Orders, 1).unwrap();
    // A copy of its own log, with one more record in the middle.
    let mixed = dir.join("mixed");
    drop(embedded::open(&mixed).unwrap());
    fs::copy(dir.join("log/log.json"), mixed.join("log.json")).unwrap();
    let mut writer = embedded::open(&mixed).unwrap().writer().unwrap();
    for topic in Topic::ALL {
        for partition in 0..log().partitions(topic) {
            for record in records(&*log(), topic, partition).iter() {
                let (at, value) = (record.timestamp, record.value.unwrap());
                if (topic, partition, record.offset) == (Topic::Orders, 1, end / 2) {
                    writer.append(topic, partition, at, Some(b"1"), FOREIGN.as_bytes()).unwrap();
                }
                writer.append(topic, partition, at, record.key, value).unwrap();
            }
        }
    }
    writer.flush().unwrap();
    drop(writer);

    // Behind its end, as an import of an older version.
    append(&*log(), 1, 1_790_000_000_000, FOREIGN);
    let live = ["market", "--dir", name, "--speed", "max"];
    let expected = format!("offset {end} of orders-1 was not written by this market");
    refused(&mut command(&live), &expected);
    refused(&mut command(&live), "a new market begins with --dir OTHER");
    forget_owner(&dir);
    forget_snapshots(&dir);
    refused(&mut command(&live), &expected);
    refused(&mut import(&dir), "a market writes to this log");
    // It is analysed and verified as before; `up` does that and refuses its market.
    let database = fresh_database();
    let with_database = |args: &[&str]| {
        let mut command = command(&[args, &["--dir", name]].concat());
        command.env("DATABASE_URL", database_url(&database));
        command
    };
    let analytics = with_database(&["analytics", "--exit-when-caught-up"]).output().unwrap();
    assert!(analytics.status.success(), "{}", String::from_utf8_lossy(&analytics.stderr));
    let output = with_database(&["up", "--speed", "max"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(&expected), "{said}");
    assert!(with_database(&["verify"]).status().unwrap().success());

    // In the middle, with and without the snapshot.
    forget_snapshots(&dir);
    fs::remove_dir_all(dir.join("log")).unwrap();
    fs::rename(mixed, dir.join("log")).unwrap();
    let expected = format!("offset {} of orders-1 was not written by this market", end / 2);
    refused(&mut command(&live), &expected);
    let again = scratch().join("again");
    let again_name = again.to_str().unwrap();
    marketday(&market("market", again_name));
    let about = fs::read_to_string(dir.join("log/log.json")).unwrap();
    let about: Value = serde_json::from_str(&about).unwrap();
    let own = fs::read_to_string(again.join("log/log.json")).unwrap();
    let own: Value = serde_json::from_str(&own).unwrap();
    let (own, other) = (own["identity"].as_str().unwrap(), about["identity"].as_str().unwrap());
    // The other log under this one's name: its snapshot is believed.
    let renamed = fs::read_to_string(dir.join("log/log.json")).unwrap().replace(other, own);
    fs::remove_dir_all(again.join("log")).unwrap();
    fs::rename(dir.join("log"), again.join("log")).unwrap();
    fs::write(again.join("log/log.json"), renamed).unwrap();
    refused(
        &mut command(&["market", "--dir", again_name, "--speed", "max"]),
        "some record of orders-1 was not written by this market",
    );
}
