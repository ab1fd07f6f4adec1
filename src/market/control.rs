//! How others speak to a running market, the web page too: a socket in its directory, a line of JSON
//! each way.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc::sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use dataflows::{
    market::{Figures, Settings},
    model::Millis,
};
use serde::{Deserialize, Serialize};

use super::{Handle, ScenarioRequest, Speed};
use crate::platform::clock::Stopwatch;
use crate::platform::files;

/// How long one waits for the other to speak.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one waits for a scenario: some milliseconds, but a market that lives through its log
/// again carries it out behind that.
const CARRY_OUT: Duration = Duration::from_mins(2);
/// How many are heard at a time; the others wait.
const HEARD: usize = 32;
/// The longest line that is listened to.
const LINE: usize = 64 << 10;
/// The pause after one could not be heard: the process may have no descriptor left for a moment.
const BEAT: Duration = Duration::from_millis(100);

/// The longest answer: far above the figures of a market with hundreds of scenarios.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What one asks of a market.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlRequest {
    /// Only how it stands.
    Look,
    /// A scenario to start or stop.
    Scenario(ScenarioRequest),
    /// To hold its clock, or to let it go on.
    Pause(bool),
    /// Another speed.
    Speed(Speed),
}

/// How a market stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MarketStatus {
    /// Market time up to which everything is in the log; 0 before anything is.
    pub clock: Millis,
    /// Market time from which a scenario that was asked for is in effect; else the clock.
    pub from: Millis,
    /// Market time of its beginning, and from which it lives by the clock.
    pub origin: Millis,
    /// See `origin`.
    pub start: Millis,
    /// How fast the clock goes when it is live.
    pub speed: Speed,
    /// The clock is held.
    pub paused: bool,
    /// Its figures; they run a little ahead of the clock.
    pub figures: Figures,
}

/// What a market answers: how it stands then, or why it does not do what was asked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Done(MarketStatus),
    Refused(String),
}

/// A market that can be spoken to, for as long as this lives.
pub struct Listening {
    path: PathBuf,
}

impl Drop for Listening {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.path);
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("market").join("control.sock")
}

/// Listens for requests to the market in a directory.
pub fn listen(dir: &Path, settings: &Settings, handle: &Arc<Handle>) -> Result<Listening> {
    let path = socket(dir);
    let what = || format!("listening for commands at {}", path.display());
    // Whoever can open the socket steers the market.
    files::private_directory(&dir.join("market"))?;
    if UnixStream::connect(&path).is_ok() {
        bail!("another market is running in {}: stop it, or name another --dir", dir.display());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(what),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(what)?;
    fs::set_permissions(&path, Permissions::from_mode(files::PRIVATE)).with_context(what)?;
    let (settings, handle) = (settings.clone(), Arc::clone(handle));
    // Ends with the process: nobody can be kept waiting by it.
    thread::spawn(move || {
        // A token each.
        let (done, places) = sync_channel(HEARD);
        (0..HEARD).for_each(|_| _ = done.send(()));
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                thread::sleep(BEAT);
                continue;
            };
            _ = places.recv();
            let (settings, handle, done) = (settings.clone(), Arc::clone(&handle), done.clone());
            // Who asks how it stands does not wait for another's scenario.
            thread::spawn(move || {
                // Who does not say what they want in time is not heard.
                _ = serve(&stream, &settings, &handle);
                _ = done.send(());
            });
        }
    });
    Ok(Listening { path })
}

fn serve(stream: &UnixStream, settings: &Settings, handle: &Handle) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let answer = match carry_out(&hear(stream)?, settings, handle) {
        Ok(standing) => Answer::Done(standing),
        Err(error) => Answer::Refused(format!("{error:#}")),
    };
    send(stream, &answer)
}

/// What the other says, if it is a line and comes in time.
fn hear(mut stream: &UnixStream) -> Result<String> {
    let (since, mut line, mut bytes) = (Stopwatch::start(), Vec::new(), [0; 4096]);
    while line.last() != Some(&b'\n') {
        let left = PATIENCE.checked_sub(since.elapsed()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.context("it is not said in time")?))?;
        let read = stream.read(&mut bytes)?;
        ensure!(read > 0 && line.len() + read <= LINE, "it is no line of {LINE} bytes at the most");
        line.extend_from_slice(&bytes[..read]);
    }
    Ok(String::from_utf8(line)?)
}

fn carry_out(line: &str, settings: &Settings, handle: &Handle) -> Result<MarketStatus> {
    let mut from = None;
    match serde_json::from_str(line)? {
        ControlRequest::Look => {}
        ControlRequest::Scenario(request) => {
            from = Some(handle.ask(settings, request)?.wait(CARRY_OUT)?);
        }
        ControlRequest::Pause(paused) => handle.paused.store(paused, Ordering::Relaxed),
        ControlRequest::Speed(speed) => handle.set_speed(speed),
    }
    let clock = handle.logged();
    Ok(MarketStatus {
        clock,
        from: from.unwrap_or(clock),
        origin: settings.origin,
        start: settings.start,
        speed: handle.speed(),
        paused: handle.paused.load(Ordering::Relaxed),
        figures: handle.figures(),
    })
}

/// Reads a line, or what there is of one that has no end.
fn read_answer(stream: &UnixStream) -> Result<String> {
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    Ok(line)
}

fn send(mut stream: &UnixStream, what: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// Asks something of the market that runs in a directory. Returns how it stands then.
pub fn ask(dir: &Path, what: &ControlRequest) -> Result<MarketStatus> {
    let stream = UnixStream::connect(socket(dir)).map_err(|error| {
        anyhow!(
            "no market is running in {} ({error}): start one with `marketday up --dir {}`, or name \
             another --dir",
            dir.display(),
            dir.display()
        )
    })?;
    let patience = if matches!(what, ControlRequest::Scenario(_)) { CARRY_OUT } else { PATIENCE };
    stream.set_read_timeout(Some(patience + PATIENCE))?;
    send(&stream, what)?;
    let line = read_answer(&stream).context("waiting for the market's answer")?;
    match serde_json::from_str(&line).context("the market ended before it answered")? {
        Answer::Done(standing) => Ok(standing),
        Answer::Refused(why) => bail!("{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::market::cache::Cache;
    use dataflows::model::time::DAY;

    /// Whatever is said to a market: what it takes on is what it can carry out.
    #[test]
    fn fuzz_requests() {
        let settings = crate::fuzz::settings();
        let seeds = [
            r#""look""#,
            r#"{"pause":true}"#,
            r#"{"speed":"max"}"#,
            r#"{"speed":{"times":60.0}}"#,
            r#"{"scenario":{"name":"black-friday","wish":{"start":{"strength":2.5,"categories":["food"],"lasts":7200000}}}}"#,
            r#"{"scenario":{"name":"flash","command":{"start":{"strength":null,"categories":[],"lasts":null}}}}"#,
            r#"{"scenario":{"name":"seollal","wish":"stop"}}"#,
        ];
        crate::fuzz::fuzz!(300_000, seeds, |input| {
            let Ok(request) = serde_json::from_slice::<ControlRequest>(&input.0) else {
                return false;
            };
            let said = serde_json::to_string(&request).unwrap();
            let again: ControlRequest = serde_json::from_str(&said).unwrap();
            assert_eq!(serde_json::to_string(&again).unwrap(), said);
            let market = Handle::new(Cache::default(), Speed::Max);
            match request {
                ControlRequest::Scenario(request) => {
                    if market.ask(&settings, request).is_ok() {
                        let mut asked = market.requests.lock().unwrap();
                        let mut command = asked.pop().unwrap().command;
                        // As the driver has it.
                        command.until = command.until.map(|lasts| settings.start + lasts);
                        command.at = settings.start;
                        command.check(&settings.profile.words()).unwrap();
                        assert!(command.until.is_none_or(|it| it <= settings.start + 3_660 * DAY));
                    }
                }
                request => {
                    let line = serde_json::to_string(&request).unwrap();
                    let standing = carry_out(&line, &settings, &market).unwrap();
                    assert!(
                        !matches!(standing.speed, Speed::Times(times) if !(0.0..=1e5).contains(&times))
                    );
                }
            }
            true
        });
    }

    /// Who sends no end of a line costs no more memory than the longest one.
    #[test]
    fn a_line_without_an_end_is_read_no_further() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let sender = thread::spawn(move || {
            let chunk = vec![b'x'; 64 << 10];
            // Ends with an error once nobody reads any more.
            while theirs.write_all(&chunk).is_ok() {}
        });
        assert_eq!(read_answer(&ours).unwrap().len() as u64, ANSWER_BYTES_MAX);
        drop(ours);
        sender.join().unwrap();
    }
}
