//! What a terminal, a shell and a pipe do: readers that go away, Ctrl-C once and twice. It ends in order, and no
//! server and no process is left behind.

use std::io::{PipeReader, Read, pipe};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{
    Running, command, connect, database_url, fresh_database, log_end, marketday, one_sentence,
    refused, scratch, wait_until,
};

/// A market of two days in a directory, with its analytics in a private PostgreSQL.
fn market(dir: &Path) {
    let history = ["--history", "2d", "--exit-when-caught-up", "--page", "127.0.0.1:0"];
    marketday(&[&["up", "--dir", dir.to_str().unwrap()], &history[..]].concat());
    assert!(!is_served(dir));
}

/// Whether the private PostgreSQL of a directory is there.
fn is_served(dir: &Path) -> bool {
    dir.join("postgres/data/postmaster.pid").exists()
}

/// A command whose standard output somebody else reads.
fn read_by(command: &mut Command) -> PipeReader {
    let (reader, writer) = pipe().unwrap();
    command.stdout(writer).stderr(Stdio::piped());
    reader
}

#[test]
fn a_reader_who_goes_away_is_no_error() {
    let (dir, database) = (scratch(), fresh_database());
    let place = dir.to_str().unwrap();
    marketday(&["market", "--dir", place, "--history", "2d", "--exit-when-caught-up"]);
    let url = database_url(&database);
    let command = |args: &[&str]| {
        let mut command = command(args);
        command.env("DATABASE_URL", &url);
        command
    };
    let caught_up = ["analytics", "--dir", place, "--exit-when-caught-up"];
    assert!(command(&caught_up).status().unwrap().success());
    for args in [
        &["--help"][..],
        &["up", "--help"],
        &["market", "--to", "-", "--history", "1d", "--exit-when-caught-up"],
        &["import", "/dev/null", "--dir", "IMPORTED"],
        &["verify", "--dir", place],
        &["verify", "--json", "--dir", place],
        &["status", "--dir", place],
        &["status", "--json", "--dir", place],
        &["explain", "users", "--dir", place],
        &["realism", "--dir", place],
        &["realism", "--json", "--dir", place],
        &["scenario", "list"],
        &["scenario", "list", "--json"],
        &["truth", "--dir", place],
        &["tail", "--snapshot", "users", "--dir", place],
        &["page", "--page", "127.0.0.1:0", "--dir", place],
    ] {
        let imported = scratch();
        let args: Vec<_> = args
            .iter()
            .map(|it| if *it == "IMPORTED" { imported.to_str().unwrap() } else { it })
            .collect();
        let mut gone = command(&args);
        drop(read_by(&mut gone));
        let output = gone.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{args:?}");
    }
    // Errors that nobody reads end nothing.
    let mut unheard = command(&["analytics", "--dir", "/proc/none"]);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    assert_eq!(unheard.stderr(writer).status().unwrap().code(), Some(1));
    // What is wrong with the output is one.
    let full = std::fs::File::create("/dev/full").unwrap();
    let output = command(&["scenario", "list"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    one_sentence(&said, "writing to standard output: No space left");
    // A verdict stays what it is.
    connect(&database).batch_execute("DELETE FROM orders_by_hour").unwrap();
    let mut verify = command(&["verify", "--dir", place]);
    drop(read_by(&mut verify));
    assert_eq!(verify.output().unwrap().status.code(), Some(1));
    // Whose output is closed writes nowhere.
    let mut closed = Command::new("sh");
    closed.args(["-c", r#"exec "$0" scenario list >&-"#, env!("CARGO_BIN_EXE_marketday")]);
    let output = closed.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
}

/// Also where nothing changes, so that nothing is written.
#[test]
fn tail_ends_with_its_reader() {
    let (dir, database) = (scratch(), fresh_database());
    let mut tail = command(&["tail", "orders_by_minute", "--dir", dir.to_str().unwrap()]);
    let reader = read_by(tail.env("DATABASE_URL", database_url(&database)));
    let mut tail = tail.spawn().unwrap();
    let followed = || -> i64 {
        let query = "SELECT count(*) FROM followed_tables";
        connect(&database).query_one(query, &[]).unwrap().get(0)
    };
    wait_until("it follows", || followed() == 1);
    assert!(tail.try_wait().unwrap().is_none());
    drop(reader);
    wait_until("it has ended", || tail.try_wait().unwrap().is_some());
    assert_eq!(tail.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    tail.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_history_that_is_stopped_says_where_and_goes_on() {
    // Before there is a server, which a terminal's Ctrl-C ends as well.
    let new = scratch();
    let up = ["up", "--dir", new.to_str().unwrap(), "--page", "127.0.0.1:0"];
    let mut up = Running::start(&mut command(&up), new.join("said"));
    up.wait_until("initdb is at work", || new.join("postgres/lock").exists());
    assert_eq!(up.interrupt().code(), Some(130));
    assert!(up.said().ends_with("(market time); run again to go on\n"), "{}", up.said());
    assert!(!is_served(&new));

    let dir = scratch();
    let up = |more: &[&str]| {
        let up = ["up", "--dir", dir.to_str().unwrap(), "--page", "127.0.0.1:0"];
        Running::start(&mut command(&[&up[..], more].concat()), dir.join("said"))
    };
    let has_begun = || dir.join("log/log.json").exists() && log_end(&dir) > 1_000;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut up = up(&["--history", "36mo", "--start", "2026-11-30"]);
        let said = dir.join("said");
        let runs = || std::fs::read_to_string(&said).is_ok_and(|said| said.contains("look at"));
        up.wait_until("it has begun", || runs() && has_begun());
        up.signal(signal);
        assert_eq!(up.end().code(), Some(code), "{}", up.said());
        let said = up.said();
        let last = said.lines().last().unwrap();
        let date = last.strip_prefix("marketday: stopped at ").unwrap();
        assert!(("2023-11-01".."2026-11-30").contains(&&date[..10]), "{said}");
        assert!(date.ends_with("(market time); run again to go on"), "{said}");
        assert!(!is_served(&dir));
    }
    // The lines of a market that has no directory cannot go on.
    let lines = ["market", "--to", "-", "--history", "36mo"];
    let mut market = Running::start(&mut command(&lines), dir.join("lines"));
    let begun = || std::fs::metadata(dir.join("lines")).unwrap().len() > 1_000_000;
    market.wait_until("it has begun", begun);
    assert_eq!(market.interrupt().code(), Some(130));
    assert!(market.said().ends_with("(market time)\n"));
    // Nor has the log been committed.
    let analytics = ["analytics", "--exit-when-caught-up", "--dir", dir.to_str().unwrap()];
    let mut analytics = Running::start(&mut command(&analytics), dir.join("analytics"));
    analytics.wait_until("the server runs", || is_served(&dir));
    assert_eq!(analytics.interrupt().code(), Some(130));
    one_sentence(&analytics.said(), "run again to go on");
    assert!(!is_served(&dir));
}

/// A terminal that is closed ends what runs there, unless that was begun with `nohup`.
#[test]
fn a_hang_up_ends_it_unless_it_is_ignored() {
    // Whoever runs the tests may ignore it, as `nohup` does.
    for (begin, ignored) in [("exec env --default-signal=HUP", false), ("trap '' HUP; exec", true)]
    {
        let dir = scratch();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!(r#"{begin} "$0" "$@""#));
        shell.args([env!("CARGO_BIN_EXE_marketday"), "market", "--history", "0"]);
        shell.args(["--speed", "3600", "--dir", dir.to_str().unwrap()]);
        let mut market = Running::start(&mut shell, dir.join("said"));
        let end = || if dir.join("log/log.json").exists() { log_end(&dir) } else { 0 };
        market.wait_until("it runs", || end() > 0);
        market.signal(Signal::HUP);
        if ignored {
            let before = end();
            market.wait_until("it goes on", || end() > before + 100);
            market.ask_to_end();
        }
        assert_eq!(market.end().code(), Some(0), "{}", market.said());
    }
}

/// Ctrl-C while the server starts, while it answers, and again and again.
#[test]
fn no_way_out_leaves_a_server_behind() {
    let dir = scratch();
    market(&dir);
    let place = dir.to_str().unwrap();
    let pid_file = dir.join("postgres/data/postmaster.pid");
    let is_ready = || std::fs::read_to_string(&pid_file).is_ok_and(|about| about.contains("ready"));
    let run = |args: &[&str]| {
        let args = [args, &["--dir", place]].concat();
        Running::start(&mut command(&args), dir.join("said"))
    };
    for args in [&["verify"][..], &["realism"], &["truth"], &["status"], &["tail", "users"]] {
        let mut starting = run(args);
        starting.wait_until("the server starts", || is_served(&dir));
        let code = starting.interrupt().code();
        assert_eq!(code, Some(if args[0] == "tail" { 0 } else { 130 }), "{args:?}");
        assert!(!is_served(&dir), "{args:?}");
        assert_eq!(starting.said(), "", "{args:?}");
    }
    let mut verify = run(&["verify"]);
    verify.wait_until("the server answers", is_ready);
    verify.signal(Signal::TERM);
    assert_eq!(verify.end().code(), Some(143));
    assert!(!is_served(&dir));

    let live = ["up", "--speed", "600", "--page", "127.0.0.1:0"];
    for args in [&live[..], &["analytics"], &["analytics", "--processes", "2"]] {
        let mut running = run(args);
        running.wait_until("the server answers", is_ready);
        if args.contains(&"--processes") {
            running.wait_until("its processes run", || processes_on(place) == 2);
        }
        let code = running.hurry().code();
        assert!(matches!(code, Some(0 | 130)), "{args:?}: {code:?}\n{}", running.said());
        assert!(!is_served(&dir), "{args:?}");
        assert!(!running.said().contains("panicked"), "{}", running.said());
        wait_until("its processes are gone", || processes_on(place) == 0);
    }

    for (args, expected) in [
        (&["tail", "sales"][..], "there is no result table `sales`"),
        (&["realism", "--html", "/proc/none/page"], "/proc/none/page"),
        (&["up", "--seed", "9"], "has seed 1, not 9"),
        (&["analytics", "--tables", "sales"], "there is no result table `sales`"),
    ] {
        refused(&mut command(&[args, &["--dir", place]].concat()), expected);
        assert!(!is_served(&dir), "{args:?}");
    }

    // What was killed leaves it by nature: who looks next takes it along.
    let mut killed = run(&live);
    killed.wait_until("the server answers", is_ready);
    killed.kill();
    assert!(is_served(&dir));
    marketday(&["status", "--dir", place]);
    assert!(!is_served(&dir));
}

/// How many processes of the analytics run on a directory.
fn processes_on(place: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|it| std::fs::read_to_string(it.path().join("cmdline")).ok());
    lines.filter(|line| line.contains("\0--once\0") && line.contains(place)).count()
}
