//! What the tests share: a directory and a PostgreSQL server for this run, both gone after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use std::os::unix::process::CommandExt;

use marketday::{migrate, private_postgres::PrivatePostgres};
use postgres::{Client, Config, NoTls};

/// A new empty directory. A server that is started in it is stopped after the tests.
pub(crate) fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = run_directory().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir(&dir).unwrap();
    dir
}

/// The config of a new database of this test's own, with the migrations run.
pub(crate) fn fresh_database() -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let server = server();
    connect(server).batch_execute(&format!("CREATE DATABASE {name} TEMPLATE migrated")).unwrap();
    let mut config = server.clone();
    config.dbname(&name);
    config
}

/// Connects, or fails the test.
pub(crate) fn connect(config: &Config) -> Client {
    config.connect(NoTls).unwrap()
}

/// The built program with arguments, ready to be spawned.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marketday"));
    // What stands in the developer's environment must not reach the tests.
    for name in ["KAFKA_BROKERS", "REDIS_URL", "DATABASE_URL"] {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the built program to its end and gives its standard output; it must succeed.
pub(crate) fn marketday(args: &[&str]) -> String {
    let output = command(args).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "marketday {args:?}: {}\n{stdout}{stderr}", output.status);
    stdout
}

/// Waits until a condition holds, a minute at the most.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("waited in vain until {what}");
}

/// The server of this run, without the syncs that make a database durable: nobody needs it later.
fn server() -> &'static Config {
    static SERVER: OnceLock<Config> = OnceLock::new();
    SERVER.get_or_init(|| {
        let config = PrivatePostgres::start(&run_directory().join("server")).unwrap().config();
        let mut client = connect(&config);
        for setting in ["fsync = off", "full_page_writes = off", "synchronous_commit = off"] {
            client.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
        }
        client.batch_execute("SELECT pg_reload_conf()").unwrap();
        // Migrated once, then copied: that is quicker, and roles are not created twice at a time.
        client.batch_execute("CREATE DATABASE migrated").unwrap();
        migrate::run(config.clone().dbname("migrated")).unwrap();
        config
    })
}

/// The directory of this run. A child waits for our end, however it comes, and cleans up: it holds
/// the reading end of a pipe whose writing end dies with us.
fn run_directory() -> &'static Path {
    static RUN: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (dir, _cleaner) = RUN.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("marketday-test-").tempdir().unwrap().keep();
        let cleaner = Command::new("sh")
            .arg("-c")
            .arg(
                "read _; find \"$0\" -name postmaster.pid | while read -r file; do
                     pid=$(head -n 1 \"$file\"); kill -QUIT \"$pid\"
                     while kill -0 \"$pid\"; do sleep 0.1; done
                 done; rm -rf \"$0\"",
            )
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C is for the tests, not for the cleaning
            .spawn()
            .unwrap();
        (dir, cleaner)
    });
    dir
}
