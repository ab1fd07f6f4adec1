//! Imports: files as they come from elsewhere, and what is said of them (`tests/cases`).

use std::fs;
use std::io::{PipeWriter, Write, pipe};
use std::path::{Path, PathBuf};

use dataflows::model::{Topic, partition_of};
use marketday::log::embedded;
use serde_json::Value;

use crate::support::{
    Running, case, command, log_end, marketday, one_sentence, records, refused, scratch,
};

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
        let all = "8 records imported (8 valid, 0 duplicate, 0 conflict, 0 dead), 0 lines refused";
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
    let all = "7 records imported (7 valid, 0 duplicate, 0 conflict, 0 dead), 0 lines refused";
    assert_eq!((code, said), (Some(0), vec![all.to_owned()]));
}

#[test]
fn records_that_will_not_count_are_told_and_more_than_allowed_fail() {
    let dir = scratch();
    let file = "06-other-tools-forms/input.ndjson";
    let (code, said) = import(file, &dir.join("0"), &[]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said[0],
        "18 records imported (3 valid, 0 duplicate, 0 conflict, 15 dead), 0 lines refused"
    );
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
    let twice = "86 records imported (43 valid, 43 duplicate, 0 conflict, 0 dead), 0 lines refused";
    assert_eq!((code, said), (Some(0), vec![twice.to_owned()]));
    let log = embedded::open(&dir.join("log")).unwrap();
    let place = partition_of(b"1", log.partitions(Topic::Orders));
    assert!(records(&*log, Topic::Orders, place).len() >= 40, "they are in the log all the same");
}

/// The lines of a shop whose customers have these numbers, and event ids: each has one order.
fn shop(name: &str, numbers: std::ops::Range<u64>) -> String {
    let lines = numbers.map(|n| {
        let at = 1_790_000_000_000 + n;
        format!(
            r#"{{"topic":"users","key":"{n}","value":{{"event_id":{n},"at":{at},"user_id":{n},"name":"{name} {n}","birth_date":"1990-01-01","sex":"F","region":"r","status":"ACTIVE","marketing_consent":true,"signed_up_at":{at}}}}}
{{"topic":"orders","key":"{n}","value":{{"event_id":{n},"at":{at},"event":"placed","order_id":{n},"user_id":{n},"ordered_at":{at},"lines":[{{"product_id":1,"category":"{name}","quantity":1,"unit_price":9}}]}}}}
"#
        )
    });
    lines.collect()
}

/// A file of lines.
fn file(dir: &Path, name: &str, lines: &str) -> PathBuf {
    let file = dir.join(name);
    fs::write(&file, lines).unwrap();
    file
}

#[test]
fn two_shops_whose_ids_both_begin_at_1_are_told_so_before_anything_is_written() {
    let scratch = scratch();
    let dir = scratch.join("log-of-one");
    let (one, two) = (shop("tea", 1..50), shop("books", 1..50));
    let first = file(&scratch, "one", &one);
    let import_from = |file: &Path, more: &[&str]| import(file.to_str().unwrap(), &dir, more);
    let said = |counts: &str| vec![format!("{counts}, 0 dead), 0 lines refused")];
    let all = said("98 records imported (98 valid, 0 duplicate, 0 conflict");
    assert_eq!(import_from(&first, &[]), (Some(0), all));
    let held = log_end(&dir);
    assert_eq!(held, 98 + 3);

    // Of a file that follows, and of one that has both, at its first line that speaks of it.
    let second = file(&scratch, "two", &two);
    let both = file(&scratch, "both", &(one + &two));
    for (file, dir, sentence) in [
        (&second, &dir, "line 1: event 1 of users is in the log already with other content"),
        (&both, &dir, "line 99: event 1 of users is in the log already"),
        (&both, &scratch.join("new"), "line 99: event 1 of users is in the input already"),
    ] {
        let before = log_end_or_none(dir);
        let args = ["import", file.to_str().unwrap(), "--dir", dir.to_str().unwrap()];
        refused(&mut command(&args), sentence);
        refused(&mut command(&args), "are these two shops whose ids both begin at 1?");
        refused(&mut command(&args), "(--dir OTHER), or number them apart");
        refused(&mut command(&args), "; nothing is imported");
        assert_eq!(log_end(dir), before);
    }

    // An import is repeated from the start without an alarm, spaced and ordered as one likes.
    let again = fs::read_to_string(&first).unwrap().replace(r#""at":"#, r#""more":0, "at": "#);
    let again = file(&scratch, "again", &again);
    let copies = said("98 records imported (0 valid, 98 duplicate, 0 conflict");
    assert_eq!(import_from(&again, &[]), (Some(0), copies));

    // Who means it says how many. About one in 255 is taken for a copy.
    refused(
        command(&["import", "--max-rejects", "9", "--dir"]).arg(&dir).arg(&second),
        " is in the log already",
    );
    let (code, said) = import_from(&second, &["--max-rejects", "98"]);
    assert_eq!(code, Some(0));
    let (counts, all) = (said[0].split_whitespace().collect::<Vec<_>>(), "98 records imported");
    let number = |place: usize| counts[place].trim_start_matches('(').parse::<usize>().unwrap();
    let (valid, duplicate, conflict) = (number(3), number(5), number(7));
    assert!(said[0].starts_with(all) && valid == 0 && duplicate + conflict == 98, "{said:?}");
    assert!(conflict >= 95 && said.len() == 1 + conflict, "{said:?}");
    let first = format!("{conflict} of 98 records are conflicts; the first: line 1: event 1 of");
    assert!(said[1].starts_with(&first), "{said:?}");
    assert_eq!(log_end(&dir), held + 2 * (98 + 3));
}

/// Number of records in a log that may not be there.
fn log_end_or_none(dir: &Path) -> u64 {
    if dir.join("log/log.json").exists() { log_end(dir) } else { 0 }
}

/// An import of what is written into the pipe.
fn pipe_into(dir: &Path, more: &[&str]) -> (Running, PipeWriter) {
    fs::create_dir_all(dir).unwrap();
    let (reader, writer) = pipe().unwrap();
    let mut import = command(&["import", "-", "--dir", dir.to_str().unwrap()]);
    import.args(more).stdin(reader);
    (Running::start(&mut import, dir.join("said")), writer)
}

#[test]
fn a_pipe_ends_at_the_first_conflict() {
    let dir = scratch();
    marketday(&[
        "import",
        file(&dir, "one", &shop("tea", 1..50)).to_str().unwrap(),
        "--dir",
        dir.to_str().unwrap(),
    ]);
    let held = log_end(&dir);
    let (mut import, mut pipe) = pipe_into(&dir, &[]);
    pipe.write_all(shop("books", 100..103).as_bytes()).unwrap();
    import.wait_until("there is something", || log_end(&dir) == held + 6);
    pipe.write_all(shop("books", 7..9).as_bytes()).unwrap();
    assert_eq!(import.end().code(), Some(1));
    let said = import.said();
    one_sentence(&said, "line 7: event 7 of users is in the log already with other content");
    assert!(said.contains("both begin at 1") && said.contains("the lines before it are imported"));
    assert_eq!(log_end(&dir), held + 6);
}

/// What came is in the log though the pipe lives on; it is read to its end, or until Ctrl-C.
#[test]
fn a_live_pipe_is_written_while_it_lives() {
    let (dir, stopped) = (scratch(), scratch());
    let lines = shop("tea", 1..4);
    let (mut import, mut pipe) = pipe_into(&dir, &[]);
    let (start, rest) = lines.split_at(lines.len() - 9);
    pipe.write_all(start.as_bytes()).unwrap();
    import.wait_until("whole lines are in the log", || log_end_or_none(&dir) >= 5);
    pipe.write_all(rest.as_bytes()).unwrap();
    import.wait_until("the last one is, too", || log_end(&dir) >= 6);
    // The market's time goes on: by what two customers have said, and once.
    import.wait_until("there are heartbeats", || log_end(&dir) >= 6 + 3);
    assert_eq!(heartbeats(&dir), vec![[1_790_000_000_003]; 3]);
    drop(pipe);
    assert!(import.end().success(), "{}", import.said());
    let all = "6 records imported (6 valid, 0 duplicate, 0 conflict, 0 dead), 0 lines refused\n";
    assert_eq!(import.said(), all);
    assert_eq!(heartbeats(&dir), vec![[1_790_000_000_003; 2]; 3]);

    let (mut import, mut pipe) = pipe_into(&stopped, &[]);
    pipe.write_all(format!("{lines}no event\n").as_bytes()).unwrap();
    import.wait_until("they are in the log", || log_end_or_none(&stopped) >= 6);
    assert_eq!(import.interrupt().code(), Some(130));
    let said = import.said();
    let told = "6 records imported (6 valid, 0 duplicate, 0 conflict, 0 dead), 1 lines refused\n\
                line 7: not a JSON object\nmarketday: stopped at line 8; run again to go on";
    assert!(said.starts_with(told), "{said}");
    assert_eq!(log_end(&stopped), 6 + 3);
}

#[test]
fn an_import_that_is_stopped_goes_on_when_it_is_run_again() {
    let dir = scratch();
    let lines = file(&dir, "lines", &shop("tea", 1..60_000));
    let args = ["import", lines.to_str().unwrap(), "--dir", dir.to_str().unwrap()];
    let mut import = Running::start(&mut command(&args), dir.join("said"));
    import.wait_until("something is in the log", || log_end_or_none(&dir) > 0);
    assert_eq!(import.interrupt().code(), Some(130));
    one_sentence(&import.said(), "stopped at line ");
    let held = log_end(&dir);
    assert!(held < 119_998, "{held}");
    let rest = 119_998 - held;
    let said = marketday(&args);
    let all =
        format!("119998 records imported ({rest} valid, {held} duplicate, 0 conflict, 0 dead)");
    assert!(said.starts_with(&all), "{said}");
}
