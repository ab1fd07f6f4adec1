//! The private server starts, is adopted after a kill, repairs what a kill left, and is shut to others.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use marketday::platform::private_postgres::PrivatePostgres;
use postgres::NoTls;
use postgres::error::SqlState;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{connect, fresh_database, scratch, wait_until};

const STARTER: &str = "MARKETDAY_TEST_START_IN";

/// A process that starts a server and then waits to be killed: this very test binary.
fn starter(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "private_postgres::a_killed_starter_leaves_a_server_that_is_adopted"])
        .env(STARTER, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

fn data(dir: &Path) -> PathBuf {
    dir.join("postgres/data")
}

fn pid(dir: &Path) -> String {
    let text = fs::read_to_string(data(dir).join("postmaster.pid")).unwrap();
    text.lines().next().unwrap().to_owned()
}

fn kill(signal: Signal, pid: &str) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), signal).unwrap();
    if signal == Signal::KILL {
        wait_until("the process is gone", || !Path::new("/proc").join(pid).join("cwd").exists());
    }
}

#[test]
fn a_killed_starter_leaves_a_server_that_is_adopted() {
    if let Some(dir) = std::env::var_os(STARTER) {
        let _server = PrivatePostgres::start(Path::new(&dir)).unwrap();
        fs::write(Path::new(&dir).join("started"), "").unwrap();
        loop {
            std::thread::park();
        }
    }
    let dir = scratch();
    let mut starter = starter(&dir);
    wait_until("the server is started", || dir.join("started").exists());
    starter.kill().unwrap();
    starter.wait().unwrap();
    let left = pid(&dir);

    let adopted = PrivatePostgres::start(&dir).unwrap();
    connect(&adopted.config()).batch_execute("SELECT 1").unwrap();
    assert_eq!(pid(&dir), left);
    adopted.stop().unwrap();
    assert!(!data(&dir).join("postmaster.pid").exists());
}

#[test]
fn a_starter_killed_while_it_creates_the_cluster_is_repaired() {
    let dir = scratch();
    let unfinished = || {
        let entries = fs::read_dir(dir.join("postgres")).ok()?.flatten();
        entries
            .map(|entry| entry.path())
            .find(|path| path.join("global").exists() && *path != data(&dir))
    };
    let mut starter = starter(&dir);
    wait_until("initdb is at work", || unfinished().is_some());
    starter.kill().unwrap();
    starter.wait().unwrap();
    assert!(!data(&dir).exists());

    let server = PrivatePostgres::start(&dir).unwrap();
    connect(&server.config()).batch_execute("CREATE ROLE reader; CREATE TABLE t ()").unwrap();
    server.stop().unwrap();
}

#[test]
fn the_database_survives_a_killed_server_and_keeps_its_port() {
    let dir = scratch();
    let first = PrivatePostgres::start(&dir).unwrap();
    connect(&first.config()).batch_execute("CREATE TABLE t AS SELECT 7 AS n").unwrap();
    let (port, killed) = (first.port(), pid(&dir));
    kill(Signal::KILL, &killed);
    drop(first);

    let second = PrivatePostgres::start(&dir).unwrap();
    assert_ne!(pid(&dir), killed);
    assert_eq!(second.port(), port);
    let n: i32 = connect(&second.config()).query_one("SELECT n FROM t", &[]).unwrap().get(0);
    assert_eq!(n, 7);
    second.stop().unwrap();
}

#[test]
fn a_pid_file_that_names_a_stranger_is_stale() {
    let dir = scratch();
    PrivatePostgres::start(&dir).unwrap().stop().unwrap();
    let stranger = std::process::id();
    fs::write(data(&dir).join("postmaster.pid"), format!("{stranger}\n/\n0\n5432\n\n\n")).unwrap();

    let server = PrivatePostgres::start(&dir).unwrap();
    assert_ne!(pid(&dir), stranger.to_string());
    server.stop().unwrap();
}

#[test]
fn a_server_that_is_shutting_down_is_waited_for() {
    let dir = scratch();
    let first = PrivatePostgres::start(&dir).unwrap();
    let old = pid(&dir);
    let client = connect(&first.config());
    kill(Signal::TERM, &old); // smart shutdown: it refuses newcomers until the last client leaves
    let newcomer = std::thread::spawn({
        let dir = dir.clone();
        move || PrivatePostgres::start(&dir).unwrap()
    });
    wait_until("the server is stopping", || {
        fs::read_to_string(data(&dir).join("postmaster.pid"))
            .is_ok_and(|text| text.contains("stopping"))
    });
    drop(client);
    let second = newcomer.join().unwrap();
    assert_ne!(pid(&dir), old);
    drop(first);
    second.stop().unwrap();
}

#[test]
fn a_second_start_gets_the_same_server_and_the_last_user_stops_it() {
    let dir = scratch();
    let first = PrivatePostgres::start(&dir).unwrap();
    let server = pid(&dir);
    let second = PrivatePostgres::start(&dir).unwrap();
    assert_eq!(pid(&dir), server);

    first.stop().unwrap();
    connect(&second.config()).batch_execute("SELECT 1").unwrap();
    second.stop().unwrap();
    assert!(!data(&dir).join("postmaster.pid").exists());
}

#[test]
fn the_server_is_shut_to_others() {
    let dir = scratch();
    let server = PrivatePostgres::start(&dir).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&server.password_file()), 0o600);
    assert_eq!(mode(&dir.join("postgres")), 0o700);

    let mut tcp = postgres::Config::new();
    tcp.host("127.0.0.1").port(server.port()).user("marketday").dbname("marketday");
    let refused = tcp.clone().password("wrong").connect(NoTls).err().unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
    let password = fs::read_to_string(server.password_file()).unwrap();
    connect(tcp.password(&password));
    assert!(!server.address().contains(&password));

    // No listening socket on this port but those on loopback: address and port are hexadecimal,
    // 0A is LISTEN.
    let port = format!(":{:04X}", server.port());
    let listening: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| {
            fs::read_to_string(table)
                .unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (fields[3] == "0A" && fields[1].ends_with(&port)).then(|| fields[1].to_owned())
        })
        .collect();
    assert_eq!(listening, [format!("0100007F{port}")]);
    server.stop().unwrap();
}

#[test]
fn a_directory_closed_to_the_servers_user_points_elsewhere() {
    let closed = scratch();
    let dir = closed.join("inner");
    fs::create_dir(&dir).unwrap();
    for path in [&closed, &dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    for _ in 0..2 {
        let server = PrivatePostgres::start(&dir).unwrap();
        connect(&server.config()).batch_execute("CREATE TABLE IF NOT EXISTS t ()").unwrap();
        server.stop().unwrap();
    }
    // As root only: for others the server runs as themselves.
    if let Ok(elsewhere) = fs::read_link(dir.join("postgres")) {
        assert!(elsewhere.join("data/PG_VERSION").exists());
        fs::remove_dir_all(elsewhere).unwrap();
    }
}

/// As root it would give away whatever another user's link names.
#[test]
fn a_link_of_another_user_is_not_followed() {
    let (dir, elsewhere) = (scratch(), scratch());
    let link = dir.join("postgres");
    symlink(&elsewhere, &link).unwrap();
    if lchown(&link, Some(65_534), None).is_err() {
        return; // Not as root: then there is nothing to give away.
    }
    let before = fs::metadata(&elsewhere).unwrap();
    let refused = PrivatePostgres::start(&dir).err().unwrap();
    assert!(format!("{refused:#}").contains("a link that another user made"), "{refused:#}");
    let after = fs::metadata(&elsewhere).unwrap();
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
}

#[test]
fn a_long_path_falls_back_on_tcp() {
    let server = PrivatePostgres::start(&scratch().join("long".repeat(30))).unwrap();
    connect(&server.config()).batch_execute("SELECT 1").unwrap();
    server.stop().unwrap();
}

#[test]
fn tests_get_databases_of_their_own() {
    let [mut one, mut other] = [(); 2].map(|()| connect(&fresh_database()));
    one.batch_execute("UPDATE progress SET epoch = 7").unwrap();
    let epoch: i64 = other.query_one("SELECT epoch FROM progress", &[]).unwrap().get(0);
    assert_eq!(epoch, 0);
}
