//! What the program says of its work on standard error, with `--log` and without.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{command, scratch};

/// What a command has said on standard error.
fn said(command: &mut Command) -> (Output, Vec<String>) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said.lines().map(str::to_owned).collect())
}

fn small_market(dir: &str) -> Command {
    command(&["up", "--history", "1d", "--exit-when-caught-up", "--dir", dir])
}

#[test]
fn it_is_quiet_and_says_more_when_it_is_asked_to() {
    let dir = scratch();
    let place = dir.to_str().unwrap();
    let (output, lines) = said(&mut small_market(place));
    assert!(output.status.success(), "{lines:?}");
    assert_eq!(lines.len(), 2, "the page, and how to look at the tables: {lines:?}");

    let (_, lines) = said(small_market(place).arg("--log").arg("debug,json"));
    let events: Vec<Value> =
        lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
    let find = |message: &str| {
        events.iter().find(|event| event["message"] == message).unwrap_or_else(|| {
            panic!("nobody says {message:?}: {lines:#?}");
        })
    };
    for event in &events {
        assert!(event["timestamp"].is_string() && event["target"].is_string(), "{event}");
    }
    assert_eq!(find("starting")["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(find("the store is this engine's now")["generation"], 2);
    let commit = find("commit");
    assert!(commit["level"] == "DEBUG" && commit["epoch"].is_u64(), "{commit}");

    // As text, by the environment, and without what is below the level.
    let (_, lines) = said(small_market(place).env("MARKETDAY_LOG", "info"));
    let line = |what: &str| lines.iter().find(|line| line.contains(what));
    let claimed = line("the store is this engine's now").unwrap();
    assert!(claimed.contains(" INFO marketday::engine: ") && claimed.contains("generation=3"));
    assert!(line("commit epoch").is_none(), "{lines:#?}");
}

#[test]
fn processes_that_it_starts_say_as_much() {
    let dir = scratch();
    let place = dir.to_str().unwrap();
    assert!(small_market(place).status().unwrap().success());
    let (output, lines) = said(&mut command(&[
        "analytics",
        "--exit-when-caught-up",
        "-n",
        "2",
        "--log",
        "info",
        "--dir",
        place,
    ]));
    assert!(output.status.success(), "{lines:#?}");
    let started = lines.iter().filter(|line| line.contains("starting a process")).count();
    let read = lines.iter().filter(|line| line.contains("what the store holds is read")).count();
    assert_eq!((started, read), (2, 2), "{lines:#?}");
}

#[test]
fn an_error_is_an_event_like_others() {
    let dir = scratch();
    let place = dir.join("nowhere");
    let args = ["verify", "--dir", place.to_str().unwrap()];
    let (output, lines) = said(command(&args).arg("--log=error,json"));
    assert_eq!(output.status.code(), Some(1));
    let event: Value = serde_json::from_str(&lines.concat()).unwrap();
    assert!(event["level"] == "ERROR" && event["message"].as_str().unwrap().contains("nowhere"));
    // What it ends with is told whatever else is not, and a variable that is empty says nothing.
    for quiet in ["marketday=off", ""] {
        let (output, lines) = said(command(&args).env("MARKETDAY_LOG", quiet));
        assert_eq!(output.status.code(), Some(1), "{lines:?}");
        assert!(lines.len() == 1 && lines[0].contains("nowhere"), "{quiet:?}: {lines:?}");
    }
    let (output, lines) = said(command(&args).arg("--log=loud"));
    assert_eq!(output.status.code(), Some(2));
    assert!(lines[0].contains("\"loud\" is neither a level"), "{lines:?}");
}
