//! Runs the processes of the analytics and starts them again when one of them is lost.
//!
//! Timely's processes live and die together: where one is killed the others end by themselves,
//! with [`LOST`]. So does one that has lost the store or the brokers, whose error it has said. Then
//! all are started again, once the store is back, and go on from the last commit. A process that ends
//! with another error of its own has said why; starting it again would only say it again, so all end.

use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tracing::{info, warn};

use crate::platform::clock::Stopwatch;
use crate::platform::private_postgres;
use crate::platform::retry::{self, PAUSE, STEADY};
use crate::platform::signals;

/// How a process ends that has lost another one, the store or the brokers: what a supervisor takes as
/// "start me again".
pub const LOST: u8 = 75;

/// Names, to a process, the one that supervises it.
const SUPERVISOR: &str = "MARKETDAY_SUPERVISOR";

/// Names, to a process, the addresses of all of them.
const ADDRESSES: &str = "MARKETDAY_ADDRESSES";

/// How soon it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long processes may take to end when they have lost one, or are told to: one by hand waits
/// for the others in vain.
const NOTICE: Duration = Duration::from_secs(10);

/// In a process that may have a supervisor: end when that is gone, however it went.
pub fn end_with_supervisor() -> Result<()> {
    let Ok(supervisor) = std::env::var(SUPERVISOR) else { return Ok(()) };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("asking to end with the supervisor")?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_ref() != Some(&supervisor) {
        bail!("the supervisor {supervisor} is gone");
    }
    Ok(())
}

/// Where the processes are that the supervisor of this one has started.
pub fn addresses() -> Option<Vec<String>> {
    let addresses = std::env::var(ADDRESSES).ok()?;
    Some(addresses.split(',').map(str::to_owned).collect())
}

/// Ends this process at once, with that code. A supervisor sees to the server that it started; without one
/// a private server that nobody else uses ends too.
pub fn end_at_once(code: i32) -> ! {
    if std::env::var_os(SUPERVISOR).is_none() {
        private_postgres::end_at_once();
    }
    std::process::exit(code)
}

/// Runs processes of the analytics until they end or `stop` is set: the one of that `place`, or all
/// of them on this machine, at free ports, new ones every time. `start` gives the command of each.
/// `ready` waits until they can be started again; it is told to stop with
/// [`Stopped`](retry::Stopped). False if one has ended with an error of its own.
pub fn supervise(
    processes: usize,
    place: Option<usize>,
    stop: &AtomicBool,
    ready: impl Fn() -> Result<()>,
    start: impl Fn(usize) -> Command,
) -> Result<bool> {
    let mut pause = PAUSE.0;
    loop {
        let since = Stopwatch::start();
        let addresses = place.is_none().then(|| free_addresses(processes)).transpose()?;
        let places = place.map_or(0..processes, |place| place..place + 1);
        let mut group = Group(Vec::new());
        for place in places {
            info!(place, "starting a process of the analytics");
            let mut command = start(place);
            if let Some(addresses) = &addresses {
                command.env(ADDRESSES, addresses);
            }
            let child = command
                .env(SUPERVISOR, std::process::id().to_string())
                // Ctrl-C comes to us, and from us to them: a second one would end them at once.
                .process_group(0)
                .stdout(Stdio::null())
                .spawn()
                .with_context(|| format!("starting process {place} of the analytics"))?;
            group.0.push((place, child, None));
        }
        let (place, status) = match group.run(stop)? {
            Ended::Well => return Ok(true),
            Ended::Failed => return Ok(false),
            Ended::Lost(place, status) => (place, status),
        };
        if since.elapsed() > STEADY {
            pause = PAUSE.0;
        }
        warn!(
            "process {place} of the analytics is gone ({status}); starting again from the last commit"
        );
        let stopped = || stop.load(Ordering::SeqCst);
        let rested = retry::rest(pause, &stopped).map_err(anyhow::Error::from);
        match rested.and_then(|()| ready()) {
            Err(error) if error.is::<retry::Stopped>() => return Ok(true),
            waited => waited?,
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// How a group has ended.
enum Ended {
    Well,
    /// One with an error, which it has told.
    Failed,
    /// That one was killed, or has lost another.
    Lost(usize, ExitStatus),
}

/// The processes that run, and how each has ended.
struct Group(Vec<(usize, Child, Option<ExitStatus>)>);

impl Group {
    /// Waits until all have ended.
    fn run(&mut self, stop: &AtomicBool) -> Result<Ended> {
        let mut told = false;
        let mut failed = false;
        let mut lost = None;
        let mut noticing = None;
        loop {
            if stop.load(Ordering::SeqCst) && !told {
                told = true;
                noticing = Some(Stopwatch::start());
                self.signal(Signal::INT);
            }
            let mut running = 0;
            for (place, child, ended) in &mut self.0 {
                if ended.is_some() {
                    continue;
                }
                *ended = child.try_wait().context("waiting for a process of the analytics")?;
                match ended {
                    None => running += 1,
                    Some(status) if status.success() => {}
                    Some(status) => {
                        noticing.get_or_insert_with(Stopwatch::start);
                        // A panic, which the process has told, would only come again.
                        let panicked = status.signal() == Some(Signal::ABORT.as_raw());
                        let killed = status.code().is_none() && !panicked;
                        if killed || status.code() == Some(i32::from(LOST)) {
                            // What was killed says more than what has noticed it.
                            if lost.is_none() || status.code().is_none() {
                                lost = Some((*place, *status));
                            }
                        } else {
                            failed = true;
                        }
                    }
                }
            }
            if running == 0 {
                return Ok(match lost {
                    _ if failed => Ended::Failed,
                    Some((place, status)) if !told => Ended::Lost(place, status),
                    _ => Ended::Well,
                });
            }
            if signals::at_once() || noticing.is_some_and(|since| since.elapsed() > NOTICE) {
                self.signal(Signal::KILL);
            }
            sleep(LOOK);
        }
    }

    fn signal(&self, signal: Signal) {
        for (_, child, ended) in &self.0 {
            if ended.is_none() {
                _ = kill_process(Pid::from_child(child), signal);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.0 {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// Addresses of this machine with free ports.
fn free_addresses(processes: usize) -> Result<String> {
    // All are held until each has its own.
    let free: Vec<TcpListener> = (0..processes)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("looking for free ports")?;
    let addresses = free.iter().map(TcpListener::local_addr);
    let addresses: Vec<String> =
        addresses.map(|address| Ok(address?.to_string())).collect::<Result<_>>()?;
    Ok(addresses.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a group of one that does that is started again until it ends well.
    fn supervised(what: &str) -> bool {
        let stop = AtomicBool::new(false);
        let start = |_| {
            let mut shell = Command::new("sh");
            shell.args(["-c", what]);
            shell
        };
        supervise(1, None, &stop, || Ok(()), start).unwrap()
    }

    #[test]
    fn what_was_killed_is_started_again_and_what_panicked_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("killed");
        let once = format!("test -e {0} || {{ touch {0}; kill -KILL $$; }}", mark.display());
        assert!(supervised(&once), "it ends well when it is started again");
        assert!(!supervised("kill -ABRT $$"), "a panic would only come again");
        assert!(!supervised("exit 1"));
    }
}
