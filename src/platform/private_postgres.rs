//! A PostgreSQL server of our own in a directory, started from the system's binaries.
//!
//! The server is a process of its own and outlives us when we are killed; the next start adopts it.
//! It refuses to run as root, so for root it runs as the user `postgres` (or `nobody`).
//!
//! Invariant: `data` is a whole cluster or is not there. It is made beside and then renamed, so a
//! kill at any moment is repaired by the next start; `tests/private_postgres.rs` kills there.

use std::env;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use postgres::error::SqlState;
use postgres::{Config, NoTls};
use rustix::process::{Pid, Signal, kill_process};

use crate::platform::files::{PRIVATE, private, replace};

/// Name of the database, and of the role that owns it and everything else.
const NAME: &str = "marketday";

/// Where clusters go whose own directory is closed to the server's user.
const ELSEWHERE: &str = "/var/lib/marketday";

/// How often a server that does not answer yet is asked, and the pause between: ten minutes in all,
/// because after a crash it first replays up to `max_wal_size` of its log.
const POLLS: u32 = 6000;
const POLL: Duration = Duration::from_millis(100);

/// How often a start is tried: another program may take the port in between, and the backends of a
/// server that was killed need a moment to notice.
const LAUNCHES: u32 = 10;

/// How many sessions a login besides the owner may have at a time: some pages, and who looks on.
const LOGIN_CONNECTIONS: u32 = 40;

/// Bytes that fit into the address of a Unix socket, less the socket's own name.
const SOCKET_DIRECTORY_MAX: usize = 90;

/// Added to `postgresql.conf` once; whoever edits it later has the last word.
const SETTINGS: &str = "
# marketday: few connections, large commits, a database that can be computed again from the log.
listen_addresses = '127.0.0.1'
unix_socket_directories = '..'
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'
shared_buffers = '256MB'
work_mem = '64MB'
maintenance_work_mem = '256MB'
wal_level = minimal
max_wal_senders = 0
max_wal_size = '4GB'
checkpoint_timeout = '15min'
jit = off
# A container's /dev/shm is too small for a parallel hash join.
dynamic_shared_memory_type = mmap
";

/// A running server.
pub struct PrivatePostgres {
    home: Home,
    tools: PathBuf,
    port: u16,
    password: String,
    /// Locked (shared) by everyone who uses the server, so that only the last one stops it.
    in_use: Arc<File>,
}

/// The servers that this process uses, for [`end_at_once`].
static USED: Mutex<Vec<(Home, Weak<File>)>> = Mutex::new(Vec::new());

/// Set where this process is ended at once: it starts none any more.
static ENDING: AtomicBool = AtomicBool::new(false);

/// How long one waits, in polls, for a server to end at once, and before for those who use it: processes
/// of ours that end just now, or others whose server it stays.
const ENDING_POLLS: u32 = 100;
const OTHERS_POLLS: u32 = 10;

/// Ends the servers that nobody else uses, without waiting for what they do: the last that a process
/// does which does not end in order. The data are safe; the next start repairs the rest.
pub fn end_at_once() {
    ENDING.store(true, Ordering::SeqCst);
    let used = USED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (home, in_use) in used {
        if let Some(in_use) = in_use.upgrade() {
            home.end_at_once(&in_use);
        }
    }
}

impl PrivatePostgres {
    /// Starts the server that lives in a directory, or adopts it where it runs already.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_in(dir).with_context(|| {
            format!(
                "starting the private PostgreSQL in {} (or name your own with --database)",
                dir.display()
            )
        })
    }

    fn start_in(dir: &Path) -> Result<Self> {
        let home = Home::of(dir)?;
        let one_at_a_time = home.lock()?;
        let in_use = Arc::new(home.open("in-use")?);
        in_use.lock_shared().context("locking it for use")?;
        let used = (home.clone(), Arc::downgrade(&in_use));
        USED.lock().unwrap_or_else(PoisonError::into_inner).push(used);

        let tools = home.tools()?;
        if !home.data().exists() {
            home.create_cluster(&tools)?;
        }
        let password = fs::read_to_string(home.password_file())
            .with_context(|| format!("reading {}", home.password_file().display()))?;
        let mut server = Self { home, tools, port: 0, password, in_use };
        if let Err(error) = server.launch_or_adopt() {
            drop(one_at_a_time);
            _ = server.stop();
            return Err(error);
        }
        Ok(server)
    }

    fn launch_or_adopt(&mut self) -> Result<()> {
        let mut launches = 0;
        for _ in 0..POLLS {
            let Some((_, port)) = self.home.live_server()? else {
                launches += 1;
                match self.home.launch(&self.tools) {
                    Err(error) if launches == LAUNCHES || ENDING.load(Ordering::SeqCst) => {
                        return Err(error);
                    }
                    Err(_) => sleep(POLL * launches),
                    Ok(()) => {}
                }
                continue;
            };
            self.port = port;
            let Err(error) = self.config().connect(NoTls) else { return Ok(()) };
            match error.code() {
                Some(&SqlState::INVALID_CATALOG_NAME) => self.create_database()?,
                None | Some(&SqlState::CANNOT_CONNECT_NOW) => sleep(POLL),
                Some(_) => return Err(error).context(format!("connecting to {}", self.address())),
            }
        }
        bail!("it runs but does not answer; its log is {}", self.home.log_file().display());
    }

    fn create_database(&self) -> Result<()> {
        let mut client = self
            .config()
            .dbname("postgres")
            .connect(NoTls)
            .context("connecting to create the database")?;
        client.batch_execute(&format!("CREATE DATABASE {NAME}")).context("creating the database")
    }

    /// How this program connects: by the Unix socket where its path is short enough.
    pub fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .user(NAME)
            .password(&self.password)
            .dbname(NAME)
            .application_name(NAME)
            .port(self.port);
        if self.home.path.as_os_str().len() <= SOCKET_DIRECTORY_MAX {
            config.host_path(&self.home.path);
        } else {
            config.host("127.0.0.1");
        }
        config
    }

    /// How one connects as another login, which is made where it is missing: a member of that role, who
    /// owns nothing, and cannot become who does.
    pub fn login(&self, name: &str, role: &str) -> Result<Config> {
        let making = || format!("making the login {name} in the private PostgreSQL");
        // One at a time: PostgreSQL refuses two who change a role at once.
        let _one_at_a_time = self.home.lock()?;
        let file = self.home.path.join(format!("{name}.password"));
        let known = fs::read_to_string(&file).unwrap_or_default();
        let password = if known.is_empty() { random_word()? } else { known };
        self.home.write_secret(&file, &password).with_context(making)?;
        let mut client = self.config().connect(NoTls).with_context(making)?;
        client
            .batch_execute(&format!(
                "DO $$ BEGIN
                     IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN
                         CREATE ROLE {name};
                     END IF;
                 END $$;
                 ALTER ROLE {name} NOSUPERUSER LOGIN CONNECTION LIMIT {LOGIN_CONNECTIONS}
                     PASSWORD '{password}';
                 ALTER ROLE {name} SET default_transaction_read_only = on;
                 ALTER ROLE {name} SET statement_timeout = '30s';
                 ALTER ROLE {name} SET idle_in_transaction_session_timeout = '30s';
                 ALTER ROLE {name} SET lock_timeout = '10s';
                 ALTER ROLE {name} SET temp_file_limit = '1GB';
                 GRANT {role} TO {name}"
            ))
            .with_context(making)?;
        let mut config = self.config();
        config.user(name).password(password);
        Ok(config)
    }

    /// How other programs connect; the password stays in its file.
    pub fn address(&self) -> String {
        format!(
            "postgres://{NAME}@127.0.0.1:{}/{NAME} (password in {})",
            self.port,
            self.password_file().display()
        )
    }

    /// Port on 127.0.0.1; the same at the next start if it is still free then.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file with the password, readable by its owner only.
    pub fn password_file(&self) -> PathBuf {
        self.home.password_file()
    }

    /// Starts the server again if it has ended, where it was.
    pub fn revive(&self) -> Result<()> {
        let _one_at_a_time = self.home.lock()?;
        if self.home.live_server()?.is_some() {
            return Ok(());
        }
        self.home.launch(&self.tools)
    }

    /// Stops the server, unless another marketday uses it: then that one does.
    pub fn stop(self) -> Result<()> {
        let _one_at_a_time = self.home.lock()?;
        self.in_use.unlock().context("unlocking the private PostgreSQL")?;
        match self.in_use.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()),
            locked => locked.context("locking the private PostgreSQL to stop it")?,
        }
        let mut stop = self.home.command(&self.tools.join("pg_ctl"));
        stop.process_group(0)
            .args(["stop", "--mode=fast", "--wait", "--timeout=600", "-D"])
            .arg(self.home.data());
        run(&mut stop).context("stopping the private PostgreSQL")
    }
}

/// The directory of a cluster, and who may write there.
#[derive(Clone)]
struct Home {
    path: PathBuf,
    /// The server's user where we are root; none: ourselves.
    user: Option<User>,
}

#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Home {
    /// `dir/postgres`: a directory, or a link to one that the server's user can reach.
    fn of(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).context("creating the directory")?;
        let dir = dir.canonicalize().context("finding the directory")?;
        let user =
            if rustix::process::geteuid().is_root() { Some(unprivileged_user()?) } else { None };

        let link = dir.join("postgres");
        let path = match fs::read_link(&link) {
            Ok(elsewhere) => {
                // As root its target is given to the server's user.
                let owner = link.symlink_metadata().context("looking at the link")?.uid();
                ensure!(
                    owner == 0 || owner == rustix::process::geteuid().as_raw(),
                    "{} is a link that another user made: remove it, or name another --dir",
                    link.display()
                );
                elsewhere
            }
            Err(_) if reachable(&dir, user)? => link,
            Err(_) if link.is_dir() => bail!(
                "{} is the server's, whose user can no longer enter {}: open the directories above it \
                 to others (chmod o+x), or move it to where it was",
                link.display(),
                dir.display()
            ),
            Err(_) => {
                let elsewhere = Path::new(ELSEWHERE).join(random_word()?);
                symlink(&elsewhere, &link).with_context(|| {
                    format!("linking {} to {}", link.display(), elsewhere.display())
                })?;
                elsewhere
            }
        };
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        if path.starts_with(ELSEWHERE) {
            fs::set_permissions(ELSEWHERE, Permissions::from_mode(0o711))
                .with_context(|| format!("opening {ELSEWHERE} to the server's user"))?;
        }
        let home =
            Self { path: path.canonicalize().context("finding the cluster's directory")?, user };
        fs::set_permissions(&home.path, Permissions::from_mode(0o700))
            .and_then(|()| home.give(&home.path))
            .with_context(|| format!("giving {} to the server's user", home.path.display()))?;
        Ok(home)
    }

    fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.path.join("log")
    }

    fn password_file(&self) -> PathBuf {
        self.path.join("password")
    }

    fn open(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))
    }

    /// Held while the server is started or stopped: one at a time.
    fn lock(&self) -> Result<File> {
        let file = self.open("lock")?;
        file.lock().context("waiting for another marketday that starts or stops the server")?;
        Ok(file)
    }

    fn give(&self, path: &Path) -> std::io::Result<()> {
        self.user.map_or(Ok(()), |user| lchown(path, Some(user.uid), Some(user.gid)))
    }

    /// A command as the server's user.
    fn command(&self, program: &Path) -> Command {
        command_as(program, self.user)
    }

    /// The directory of the binaries that fit the cluster, or of the first found for a new one.
    fn tools(&self) -> Result<PathBuf> {
        let mut found = tool_directories().into_iter();
        let Ok(version) = fs::read_to_string(self.data().join("PG_VERSION")) else {
            return found.next().context(
                "PostgreSQL's server binaries are not installed: run `apt-get install postgresql`, \
                 or set PG_BIN to their directory",
            );
        };
        let version = version.trim();
        found.find(|bin| major_version(bin).as_deref() == Some(version)).with_context(|| {
            format!(
                "the database in {} needs PostgreSQL {version}: run `apt-get install postgresql-{version}`, \
                 set PG_BIN to its directory, or remove the database: it is computed again from the log",
                self.path.display()
            )
        })
    }

    /// Writes a file that the server's user alone may read, and who started it.
    fn write_secret(&self, file: &Path, secret: &str) -> Result<()> {
        replace(file, PRIVATE, secret.as_bytes())?;
        self.give(file).with_context(|| format!("giving {} to the server's user", file.display()))
    }

    fn create_cluster(&self, tools: &Path) -> Result<()> {
        // What a killed start left; where its initdb still runs, the next start removes the rest.
        for entry in fs::read_dir(&self.path).context("listing the cluster's directory")?.flatten()
        {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }

        let password_file = self.password_file();
        self.write_secret(&password_file, &random_word()?)?;

        let new = self.path.join(format!("new-{}", random_word()?));
        let mut initdb = self.command(&tools.join("initdb"));
        initdb
            .args(["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "--no-instructions"])
            .arg(format!("--username={NAME}"))
            .arg("--pwfile")
            .arg(&password_file)
            .arg("--pgdata")
            .arg(&new);
        run(&mut initdb).context("creating the cluster")?;

        private()
            .append(true)
            .open(new.join("postgresql.conf"))
            .and_then(|mut file| {
                file.write_all(SETTINGS.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&new, self.data()))
            .and_then(|()| File::open(&self.path)?.sync_all())
            .context("finishing the cluster")
    }

    /// The process and the port in the pid file, where that process is really our server.
    fn live_server(&self) -> Result<Option<(Pid, u16)>> {
        let pid_file = self.data().join("postmaster.pid");
        let text = match fs::read_to_string(&pid_file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("reading {}", pid_file.display()))?,
        };
        let mut lines = text.lines();
        let pid = lines.next().unwrap_or_default().trim();
        let process = Path::new("/proc").join(pid);
        // A server works in its data directory. The pid may be somebody else's by now.
        if fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == self.data()) {
            let port = lines.nth(2).and_then(|port| port.trim().parse().ok()).unwrap_or(0);
            return Ok(pid.parse().ok().and_then(Pid::from_raw).map(|pid| (pid, port)));
        }
        // A dead server's file stays: by it the new server finds out whether old backends still run.
        if process.join("cwd").symlink_metadata().is_ok() {
            fs::remove_file(&pid_file)
                .with_context(|| format!("removing the stale {}", pid_file.display()))?;
        }
        Ok(None)
    }

    fn launch(&self, tools: &Path) -> Result<()> {
        ensure!(!ENDING.load(Ordering::SeqCst), "this program is ending");
        let port = self.choose_port()?;
        let mut start = self.command(&tools.join("pg_ctl"));
        start
            // A Ctrl-C is for us, who wait until there is a server to stop.
            .process_group(0)
            .args([
                "start",
                "--silent",
                "--wait",
                "--timeout=600",
                &format!("--options=-p {port}"),
                "-D",
            ])
            .arg(self.data())
            .arg("--log")
            .arg(self.log_file());
        run(&mut start).with_context(|| {
            let log = fs::read_to_string(self.log_file()).unwrap_or_default();
            let newest = log.lines().rev().take(5).collect::<Vec<_>>();
            let newest = newest.into_iter().rev().collect::<Vec<_>>().join("\n");
            format!(
                "the server does not start; the end of {}:\n{newest}",
                self.log_file().display()
            )
        })
    }

    /// See [`end_at_once`].
    fn end_at_once(&self, in_use: &File) {
        for poll in 0..ENDING_POLLS {
            if in_use.try_lock().is_err() {
                if poll == OTHERS_POLLS {
                    return;
                }
            } else if let Ok(Some((pid, _))) = self.live_server() {
                _ = kill_process(pid, Signal::QUIT);
            } else if !self.data().exists()
                || self.open("lock").is_ok_and(|lock| lock.try_lock().is_ok())
            {
                // And nobody is about to start or stop it.
                return;
            }
            sleep(POLL);
        }
    }

    /// The port of last time, so that Grafana finds the server again, or a free one.
    fn choose_port(&self) -> Result<u16> {
        let file = self.path.join("port");
        let last = fs::read_to_string(&file).ok().and_then(|port| port.parse().ok()).unwrap_or(0);
        let port = TcpListener::bind(("127.0.0.1", last))
            .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
            .and_then(|listener| listener.local_addr())
            .context("looking for a free port on 127.0.0.1")?
            .port();
        replace(&file, PRIVATE, port.to_string().as_bytes())?;
        Ok(port)
    }
}

fn command_as(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    // The server's user may not be allowed into the directory we stand in.
    command.current_dir("/").env("LC_ALL", "C").stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

/// Runs a command to its end; what it printed becomes the error.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("running {}", program.display()))?;
    ensure!(
        output.status.success(),
        "{} failed ({}): {}{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout).trim(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn unprivileged_user() -> Result<User> {
    let users = fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let find = |name: &str| {
        let fields: Vec<_> = users
            .lines()
            .map(|line| line.split(':'))
            .find_map(|mut fields| (fields.next() == Some(name)).then(|| fields.collect()))?;
        Some(User { uid: fields.get(1)?.parse().ok()?, gid: fields.get(2)?.parse().ok()? })
    };
    find("postgres").or_else(|| find("nobody")).ok_or_else(|| {
        anyhow!(
            "PostgreSQL does not run as root, and neither a user `postgres` nor `nobody` exists"
        )
    })
}

/// Whether the server's user can get into a directory; where only the directory itself is in the
/// way, and no group uses it, the user's group is let through (not: allowed to look around).
fn reachable(dir: &Path, user: Option<User>) -> Result<bool> {
    let Some(user) = user else { return Ok(true) };
    let enters = |path: &Path| -> Result<bool> {
        let mut test = command_as(Path::new("test"), Some(user));
        Ok(test.arg("-x").arg(path).status().context("running test -x")?.success())
    };
    if enters(dir)? {
        return Ok(true);
    }
    let metadata = dir.metadata().context("looking at the directory")?;
    let ours_alone = metadata.uid() == 0 && metadata.mode() & 0o070 == 0;
    if !ours_alone || !enters(dir.parent().unwrap_or(dir))? {
        return Ok(false);
    }
    chown(dir, None, Some(user.gid))
        .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(metadata.mode() | 0o010)))
        .context("letting the server's user through the directory")?;
    enters(dir)
}

/// Directories with a server's binaries, best first.
fn tool_directories() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = match env::var_os("PG_BIN") {
        Some(bin) => vec![bin.into()],
        None => env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect(),
    };
    if env::var_os("PG_BIN").is_none() {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
            })
            .collect();
        versions.sort_unstable();
        found.extend(versions.into_iter().rev().map(|(_, bin)| bin));
    }
    found.retain(|bin| ["initdb", "pg_ctl", "postgres"].iter().all(|tool| bin.join(tool).exists()));
    found
}

/// `15` of `pg_ctl (PostgreSQL) 15.18`.
fn major_version(tools: &Path) -> Option<String> {
    let output = Command::new(tools.join("pg_ctl")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().nth(2)?.split('.').next()?.to_owned())
}

/// 128 bits from the operating system's random source, in hexadecimal.
fn random_word() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
