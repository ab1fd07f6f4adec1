//! Imports: files as they come from elsewhere, and what is said of them (`tests/cases`).

use std::fs;
use std::path::Path;

use dataflows::model::{Topic, partition_of};
use marketday::log::embedded;
use serde_json::Value;

use crate::support::{case, command, log_end, records, refused, scratch};

/// What an import of a case's file says, with its exit code.
fn import(file: &str, dir: &Path, more: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut import = command(&["import"]);
    let output = import.arg(case(file)).arg("--dir").arg(dir).args(more).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said.lines().map(str::to_owned).collect())
}

/// The times of the heartbeats in each partition of orders.
fn heartbeats(dir: &Path) -> Vec<Vec<i64>> {
    let log = embedded::open(&dir.join("log")).unwrap();
    let of = |partition| {
        let batch = records(&*log, Topic::Orders, partition);
        let values = batch.iter().map(|record| serde_json::from_slice(record.value.unwrap()));
        let beats = values.map(Result::unwrap).filter(|it: &Value| it["event"] == "heartbeat");
        beats.map(|it| it["at"].as_i64().unwrap()).collect()
    };
    (0..log.partitions(Topic::Orders)).map(of).collect()
}

#[test]
fn a_byte_order_mark_is_passed_over_and_other_forms_are_named() {
    let scratch = scratch();
    for file in ["bom", "crlf_bom"] {
        let (code, said) =
            import(&format!("05-file-forms/{file}.ndjson"), &scratch.join(file), &[]);
        let all = "8 records imported (8 valid, 0 duplicate, 0 dead), 0 lines refused";
        assert_eq!((code, said), (Some(0), vec![all.to_owned()]), "{file}");
        assert_eq!(log_end(&scratch.join(file)), 8 + 3);
        assert_eq!(heartbeats(&scratch.join(file)), vec![[1_790_000_300_000]; 3]);
    }
    for (file, form) in [
        ("plain.ndjson.gz", "compressed with gzip"),
        ("utf16.ndjson", "is UTF-16"),
        ("array.json", "is a JSON array"),
        ("pretty.json", "an event over several lines"),
    ] {
        let (dir, file) = (scratch.join(file), case(&format!("05-file-forms/{file}")));
        let args = ["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()];
        refused(&mut command(&args), form);
        assert_eq!(log_end(&dir), 0, "{form}");
    }
    for (start, form) in [
        (&b"\x28\xb5\x2f\xfd\x04"[..], "compressed with zstd"),
        (b"\xfd7zXZ\0\0", "compressed with xz"),
        (b"BZh91AY&SY", "compressed with bzip2"),
        (b"PK\x03\x04\x14", "a zip archive"),
    ] {
        let file = scratch.join("packed");
        fs::write(&file, start).unwrap();
        let args = ["import", file.to_str().unwrap(), "--dir", scratch.to_str().unwrap()];
        refused(&mut command(&args), form);
    }
    for (file, form) in [
        ("bare_events", "there is no `topic` and no `value`"),
        ("numeric_key", "`key` is a number: it is a text, \"1\""),
        ("value_as_string", "`value` is a text"),
    ] {
        let (code, said) =
            import(&format!("05-file-forms/{file}.ndjson"), &scratch.join(file), &[]);
        assert_eq!(code, Some(1), "{said:?}");
        assert!(said[0].ends_with("8 lines refused") && said.len() == 9, "{said:?}");
        assert!(said[1].starts_with("line 1: ") && said[1].contains(form), "{said:?}");
        assert_eq!(log_end(&scratch.join(file)), 0);
    }
}

#[test]
fn the_documented_lines_are_valid() {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/use.md")).unwrap();
    let (_, lines) = text.split_once("\n```json\n").unwrap();
    let (lines, _) = lines.split_once("```").unwrap();
    let (dir, file) = (scratch(), scratch().join("lines"));
    fs::write(&file, lines).unwrap();
    let (code, said) = import(file.to_str().unwrap(), &dir, &[]);
    let all = "7 records imported (7 valid, 0 duplicate, 0 dead), 0 lines refused";
    assert_eq!((code, said), (Some(0), vec![all.to_owned()]));
}

#[test]
fn records_that_will_not_count_are_told_and_more_than_allowed_fail() {
    let dir = scratch();
    let file = "06-other-tools-forms/input.ndjson";
    let (code, said) = import(file, &dir.join("0"), &[]);
    assert_eq!(code, Some(1));
    assert_eq!(said[0], "18 records imported (3 valid, 0 duplicate, 15 dead), 0 lines refused");
    let first = "15 of 18 records are no events; the first: line 4: `at`";
    assert!(said[1].starts_with(first), "{said:?}");
    assert_eq!(said.len(), 1 + 15);
    assert_eq!(log_end(&dir.join("0")), 18, "and no heartbeat without an order event");
    assert_eq!(import(file, &dir.join("14"), &["--max-rejects", "14"]).0, Some(1));
    assert_eq!(import(file, &dir.join("15"), &["--max-rejects", "15"]).0, Some(0));
}

/// One order of 2099 among those of 2026: in the log, but not the time of the heartbeats.
#[test]
fn one_wrong_clock_is_not_the_time_of_the_heartbeats() {
    let dir = scratch();
    let file = |name: &str| format!("03-one-future-record/{name}.ndjson");
    let (good, bad, later) = (1_789_996_400_000, 4_070_908_800_000, 1_790_000_600_000);
    assert_eq!(import(&file("good"), &dir, &[]).0, Some(0));
    let (code, said) = import(&file("bad_clock"), &dir, &[]);
    assert_eq!(code, Some(0));
    assert!(said[1].starts_with("the newest order event, of 2099-01-01 09:00:00, stands alone"));
    assert!(said[1].contains("the heartbeats say 2026-09-21 22:13:20; --until"), "{said:?}");
    assert_eq!(import(&file("later"), &dir, &[]).1.len(), 1, "nothing stands alone");
    assert_eq!(heartbeats(&dir), vec![[good, good, later]; 3]);

    // Of one customer, into a log without orders, it is the only time that there is.
    let alone = scratch();
    assert_eq!(import(&file("bad_clock"), &alone, &[]).1.len(), 1);
    assert_eq!(heartbeats(&alone), vec![[bad]; 3]);
    // Whoever knows better says so.
    assert_eq!(import(&file("bad_clock"), &alone, &["--until", "2026-09-21T22:13:20"]).1.len(), 1);
    assert_eq!(heartbeats(&alone), vec![[bad, good, good]; 3], "one alone might not be believed");
    assert_eq!(import(&file("good"), &alone, &["--until", "2099-01-01"]).0, Some(0));
    assert_eq!(heartbeats(&alone)[0][3..], [bad - 9 * 3_600_000; 2]);
}

#[test]
fn duplicates_are_counted_by_topic_within_the_file() {
    let (dir, file) = (scratch(), scratch().join("twice"));
    let good = fs::read_to_string(case("03-one-future-record/good.ndjson")).unwrap();
    fs::write(&file, good.repeat(2)).unwrap();
    let (code, said) = import(file.to_str().unwrap(), &dir, &[]);
    let twice = "86 records imported (43 valid, 43 duplicate, 0 dead), 0 lines refused";
    assert_eq!((code, said), (Some(0), vec![twice.to_owned()]));
    let log = embedded::open(&dir.join("log")).unwrap();
    let place = partition_of(b"1", log.partitions(Topic::Orders));
    assert!(records(&*log, Topic::Orders, place).len() >= 40, "they are in the log all the same");
}
