//! What the tests share: a directory and a PostgreSQL server for this run, both gone after it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::mem::take;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{sleep, spawn};
use std::time::Duration;

use std::os::unix::process::{CommandExt, ExitStatusExt};

use dataflows::QUERIES;
use dataflows::model::Topic;
use marketday::log::{Batch, Log, embedded, kafka};
use marketday::{platform::private_postgres::PrivatePostgres, store::migrate};
use postgres::config::Host;
use postgres::{Client, Config, NoTls};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A new empty directory of this test's own, gone with what runs in it when the test is over: all of
/// them together would be more than a small disk holds.
pub(crate) fn scratch() -> PathBuf {
    let dir = shared_scratch();
    OWN.with_borrow_mut(|own| own.directories.push(dir.clone()));
    dir
}

/// A new empty directory that several tests read. A server that is started in it is stopped after them.
pub(crate) fn shared_scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let dir = run_directory().join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    fs::create_dir(&dir).unwrap();
    dir
}

/// What the test of this thread has made for itself.
#[derive(Default)]
struct Own {
    directories: Vec<PathBuf>,
    databases: Vec<String>,
}

thread_local! {
    static OWN: RefCell<Own> = RefCell::default();
}

impl Drop for Own {
    fn drop(&mut self) {
        for dir in &self.directories {
            _ = Command::new("sh").args(["-c", CLEAN]).arg(dir).status();
        }
        let databases = take(&mut self.databases);
        if databases.is_empty() {
            return;
        }
        // In a thread of its own: what a client needs of this one may be gone already.
        let dropped = spawn(move || {
            let Ok(mut client) = server().connect(NoTls) else { return };
            for name in databases {
                _ = client.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"));
            }
        });
        _ = dropped.join();
    }
}

/// Stops the servers in a directory, and removes it. One that ended and that nobody has waited for is
/// still to be seen: it is not waited for long.
const CLEAN: &str = r#"
    find "$0" -name postmaster.pid -o -name redis.pid | while read -r file; do
        pid=$(head -n 1 "$file")
        kill -QUIT "$pid"
        for turn in $(seq 100); do kill -0 "$pid" && sleep 0.1 || break; done
    done 2> /dev/null
    rm -rf "$0""#;

/// The config of a new database of this test's own, with the migrations run.
pub(crate) fn fresh_database() -> Config {
    copied_database("migrated")
}

/// The config of a new database of this test's own, a copy of one that nobody is connected to.
pub(crate) fn copied_database(template: &str) -> Config {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let server = server();
    connect(server).batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}")).unwrap();
    OWN.with_borrow_mut(|own| own.databases.push(name.clone()));
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
    command_of(Path::new(env!("CARGO_BIN_EXE_marketday")), args)
}

/// A program like it with arguments, ready to be spawned.
pub(crate) fn command_of(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    // What stands in the developer's environment must not reach the tests.
    for name in [
        "KAFKA_BROKERS",
        "REDIS_URL",
        "DATABASE_URL",
        "PAGE_DATABASE_URL",
        "MARKETDAY_TOPIC_PREFIX",
        "MARKETDAY_NAME",
        "MARKETDAY_LOG",
    ] {
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

/// The words that name a database in `DATABASE_URL`.
pub(crate) fn database_url(config: &Config) -> String {
    let host = match &config.get_hosts()[0] {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    format!(
        "host={host} port={} user={} password={} dbname={}",
        config.get_ports()[0],
        config.get_user().unwrap(),
        String::from_utf8_lossy(config.get_password().unwrap()),
        config.get_dbname().unwrap()
    )
}

/// Runs the program on a database; it ends well, and this is what it says.
pub(crate) fn with_database(args: &[&str], database: &Config) -> String {
    let output = command(args).env("DATABASE_URL", database_url(database)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {}\n{said}", output.status);
    said.into_owned()
}

/// Reads and commits what a log holds, with so many workers; `verify` then finds all equal.
pub(crate) fn analytics(dir: &Path, database: &Config, workers: &str) {
    let dir = dir.to_str().unwrap();
    with_database(&["analytics", "--exit-when-caught-up", "-w", workers, "--dir", dir], database);
    with_database(&["verify", "--dir", dir], database);
}

/// The path of a file of `tests/cases`; one that is absolute stays what it is.
pub(crate) fn case(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(file)
}

/// Every result table's rows, as text and sorted, and `now`.
pub(crate) fn tables(config: &Config) -> BTreeMap<&'static str, Vec<String>> {
    let db = &mut connect(config);
    let mut rows = |sql: &str| -> Vec<String> {
        db.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    };
    let mut tables: BTreeMap<_, _> = QUERIES
        .iter()
        .map(|query| {
            let sql = format!("SELECT t::text FROM {} AS t ORDER BY 1", query.name);
            (query.name, rows(&sql))
        })
        .collect();
    tables.insert("now", rows("SELECT coalesce(now::text, 'none') FROM progress"));
    tables
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

/// A running program that does not outlive its test.
pub(crate) struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    /// Starts it; what it says goes to a file.
    pub(crate) fn start(command: &mut Command, said: PathBuf) -> Running {
        let file = File::create(&said).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Running { child, said }
    }

    /// The processes that it has started itself.
    pub(crate) fn children(&self) -> Vec<Pid> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.unwrap_or_default();
        let pids = children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()));
        pids.map(Option::unwrap).collect()
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    /// The last lines of that: a feed says a great deal.
    fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Its end before that fails the test.
    pub(crate) fn still_runs(&mut self, what: &str) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("ended before {what}: {status}\n{}", self.last_words());
        }
    }

    /// Waits until a condition holds while it runs, looking often; its end fails the test.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl FnMut() -> bool) {
        self.wait(1, what, holds);
    }

    /// Waits until a market has lived through its history, however long that takes on this machine: its
    /// end fails the test, and so does a quarter of an hour.
    pub(crate) fn wait_for_history(&mut self) {
        let said = self.said.clone();
        let is_over = || fs::read_to_string(&said).unwrap().contains("the history is over");
        self.wait(15, "the history is over", is_over);
    }

    /// Waits so many minutes at the most.
    fn wait(&mut self, minutes: u32, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..minutes * 30_000 {
            if holds() {
                return;
            }
            self.still_runs(what);
            sleep(Duration::from_millis(2));
        }
        panic!("waited in vain until {what}\n{}", self.last_words());
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the program has ended", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Ends it at once; it must have been running.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        let status = self.end();
        assert_eq!(status.signal(), Some(9), "{status}: it had ended before\n{}", self.said());
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to end, as Ctrl-C does.
    pub(crate) fn ask_to_end(&self) {
        self.signal(Signal::INT);
    }

    /// Asks it to end again and again, as who is impatient does, and waits until it has.
    pub(crate) fn hurry(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the program has ended", || {
            self.ask_to_end();
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Asks it to end and waits until it has.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A Redis of a test's own, which keeps nothing.
pub(crate) struct Redis {
    dir: PathBuf,
    pub(crate) port: u16,
    server: Running,
}

impl Redis {
    /// Starts one on a free port.
    pub(crate) fn start() -> Redis {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let (dir, port) = (scratch(), free.local_addr().unwrap().port());
        drop(free);
        Redis { server: Redis::serve(&dir, port), dir, port }
    }

    fn serve(dir: &Path, port: u16) -> Running {
        let mut command = Command::new("redis-server");
        let version = command.arg("--version").output();
        version.expect("redis-server can be run (Debian's package redis-server)");
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.arg("--dir").arg(dir).arg("--pidfile").arg(dir.join("redis.pid"));
        let mut server = Running::start(&mut command, dir.join("said"));
        server.wait_until("Redis listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.server.kill();
        fs::remove_file(self.dir.join("redis.pid")).unwrap();
    }

    /// Starts it again, empty, where it was.
    pub(crate) fn restart(&mut self) {
        self.server = Redis::serve(&self.dir, self.port);
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// How often it was asked for a command, by its own statistics.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let mut info = redis::cmd("INFO");
        let info: String = info.arg("commandstats").query(&mut self.connect()).unwrap();
        let line = format!("cmdstat_{command}:calls=");
        let calls = info.lines().find_map(|text| text.strip_prefix(&line)?.split(',').next());
        calls.map_or(0, |calls| calls.parse().unwrap())
    }
}

/// A hash of what each partition of the log in a directory holds: keys, values, times.
pub(crate) fn partitions(dir: &Path) -> BTreeMap<(Topic, u32), Vec<u8>> {
    first_records(dir, |_, _| u64::MAX)
}

/// Such a hash of the first records of each partition, so many as `limit` says.
pub(crate) fn first_records(
    dir: &Path,
    limit: impl Fn(Topic, u32) -> u64,
) -> BTreeMap<(Topic, u32), Vec<u8>> {
    let log = embedded::open(&dir.join("log")).unwrap();
    let hashes = hashes(&*log, limit).into_iter();
    hashes.map(|(place, (_, hash))| (place, hash)).collect()
}

/// The number and a hash of the first records of each partition of a log.
pub(crate) fn hashes(
    log: &dyn Log,
    limit: impl Fn(Topic, u32) -> u64,
) -> BTreeMap<(Topic, u32), (u64, Vec<u8>)> {
    let mut hashes = BTreeMap::new();
    for topic in Topic::ALL {
        for partition in 0..log.partitions(topic) {
            let end = log.end(topic, partition).unwrap();
            let mut reader = log.reader(topic, partition, 0).unwrap();
            let (mut batch, mut hash) = (Batch::default(), Sha256::new());
            let (mut count, limit) = (0, limit(topic, partition));
            while reader.position() < end && count < limit {
                reader.wait(&mut batch, (limit - count).min(10_000) as usize).unwrap();
                for record in batch.iter() {
                    hash.update(record.timestamp.to_le_bytes());
                    for part in [record.key, record.value] {
                        hash.update(part.map_or(-1, |part| part.len() as i64).to_le_bytes());
                        hash.update(part.unwrap_or_default());
                    }
                }
                count += batch.len() as u64;
                batch.clear();
            }
            hashes.insert((topic, partition), (count, hash.finalize().to_vec()));
        }
    }
    hashes
}

/// Number of records in the log in a directory.
pub(crate) fn log_end(dir: &Path) -> u64 {
    let log = embedded::open(&dir.join("log")).unwrap();
    let ends = Topic::ALL.into_iter().flat_map(|topic| {
        (0..log.partitions(topic))
            .map(|partition| log.end(topic, partition).unwrap())
            .collect::<Vec<_>>()
    });
    ends.sum()
}

/// The server of this run, without the syncs that make a database durable: nobody needs it later.
pub(crate) fn server() -> &'static Config {
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
        connect(config.clone().dbname("migrated"))
            .batch_execute(include_str!("editable.sql"))
            .unwrap();
        config
    })
}

/// The brokers of this run, three of them, as `host:port,host:port,host:port`.
pub(crate) fn brokers() -> &'static str {
    static BROKERS: OnceLock<String> = OnceLock::new();
    BROKERS.get_or_init(|| {
        // Six ports in a row that nobody listens on.
        let port = (20_000..30_000)
            .step_by(10)
            .skip(std::process::id() as usize % 900)
            .find(|port| {
                (*port..port + 6).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
            })
            .unwrap();
        let output = Command::new(KAFKA_START)
            .arg(kafka_directory())
            .arg(port.to_string())
            .env("KAFKA_LIBS", KAFKA_LIBS)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", KAFKA_START, output.status);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

const KAFKA_START: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/start");
const KAFKA_LIBS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/kafka");

/// The log of a market of that name on the brokers.
pub(crate) fn kafka_log(name: &str) -> Arc<dyn Log> {
    kafka::open(
        kafka::Place { brokers: brokers().to_owned(), topic_prefix: Some(name.into()) },
        true,
    )
    .unwrap()
}

/// Ends a broker (1 to 3) at once.
pub(crate) fn kill_broker(broker: u32) {
    signal_broker(broker, Signal::KILL);
}

fn signal_broker(broker: u32, signal: Signal) {
    let pid = fs::read_to_string(kafka_directory().join(format!("{broker}.pid"))).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A broker that is paused until this is dropped.
pub(crate) struct PausedBroker(u32);

impl PausedBroker {
    pub(crate) fn pause(broker: u32) -> PausedBroker {
        signal_broker(broker, Signal::STOP);
        PausedBroker(broker)
    }
}

impl Drop for PausedBroker {
    fn drop(&mut self) {
        signal_broker(self.0, Signal::CONT);
    }
}

/// Starts a killed broker again and waits until it is back.
pub(crate) fn start_broker(broker: u32) {
    let mut start = Command::new(KAFKA_START);
    start.arg(kafka_directory()).args(["broker", &broker.to_string()]);
    assert!(start.env("KAFKA_LIBS", KAFKA_LIBS).status().unwrap().success());
}

/// Where the brokers keep their records, and their process ids.
fn kafka_directory() -> PathBuf {
    run_directory().join("kafka")
}

/// The directory of this run. A child waits for our end, however it comes, and cleans up: it holds
/// the reading end of a pipe whose writing end dies with us.
fn run_directory() -> &'static Path {
    static RUN: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (dir, _cleaner) = RUN.get_or_init(|| {
        let dir = tempfile::Builder::new().prefix("marketday-test-").tempdir().unwrap().keep();
        let cleaner = Command::new("sh")
            .arg("-c")
            .arg(format!(
                r#"read _
                for file in "$0"/kafka/*.pid; do
                    [ ! -e "$file" ] || kill -KILL "$(cat "$file")"
                done
                {CLEAN}"#
            ))
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

/// The one sentence with which a command ends; it must speak of `expected`.
pub(crate) fn refused(command: &mut Command, expected: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?}: {}\n{said}", output.status);
    one_sentence(&said, expected);
}

/// What was said is one sentence that speaks of `expected`, and of no password.
pub(crate) fn one_sentence(said: &str, expected: &str) {
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.starts_with("marketday: ") && said.contains(expected), "{expected}: {said}");
    assert!(!said.contains("panicked") && !said.contains("sekret"), "{said}");
}

/// All records of a partition of a log that nobody writes to.
pub(crate) fn records(log: &dyn Log, topic: Topic, partition: u32) -> Batch {
    let (mut batch, end) = (Batch::default(), log.end(topic, partition).unwrap());
    let mut reader = log.reader(topic, partition, 0).unwrap();
    while reader.position() < end {
        reader.wait(&mut batch, 10_000).unwrap();
    }
    batch
}

/// The events of a topic in a log.
pub(crate) fn events(dir: &Path, topic: Topic) -> Vec<Value> {
    let log = embedded::open(&dir.join("log")).unwrap();
    let mut events = Vec::new();
    for partition in 0..log.partitions(topic) {
        let batch = records(&*log, topic, partition);
        let event = |value: &[u8]| serde_json::from_slice::<Value>(value).unwrap();
        events.extend(batch.iter().map(|record| event(record.value.unwrap())));
    }
    events
}
