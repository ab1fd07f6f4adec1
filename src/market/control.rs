//! How other programs speak to a running market: a socket in its directory, a line of JSON each way.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use dataflows::{market::Settings, model::Millis};
use serde::{Deserialize, Serialize};

use super::{Remote, Request};

/// How long one waits for the other; a market carries a request out in some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a market answers: market time from which a request is in effect, or why it is not.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    From(Millis),
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
pub fn listen(dir: &Path, settings: &Settings, remote: &Arc<Remote>) -> Result<Listening> {
    let path = socket(dir);
    let what = || format!("listening for commands at {}", path.display());
    fs::create_dir_all(dir.join("market")).with_context(what)?;
    if UnixStream::connect(&path).is_ok() {
        bail!("another market is running in {}: stop it, or name another --dir", dir.display());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(what),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(what)?;
    let (settings, remote) = (settings.clone(), Arc::clone(remote));
    // Ends with the process: nobody can be kept waiting by it.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who does not say what they want in time is not heard.
            _ = serve(&stream, &settings, &remote);
        }
    });
    Ok(Listening { path })
}

fn serve(stream: &UnixStream, settings: &Settings, remote: &Remote) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let carry_out = || -> Result<Millis> {
        let request: Request = serde_json::from_str(&line)?;
        let from = remote.ask(settings, request)?;
        from.recv_timeout(PATIENCE).context("the market did not carry it out in time")
    };
    let answer = match carry_out() {
        Ok(from) => Answer::From(from),
        Err(error) => Answer::Refused(format!("{error:#}")),
    };
    send(stream, &answer)
}

fn send(mut stream: &UnixStream, what: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// Asks the market that runs in a directory for a scenario. Returns the market time from which it is
/// in effect.
pub fn ask(dir: &Path, request: &Request) -> Result<Millis> {
    let stream = UnixStream::connect(socket(dir)).map_err(|error| {
        anyhow!(
            "no market is running in {} ({error}): start one with `marketday up --dir {}`, or name \
             another --dir",
            dir.display(),
            dir.display()
        )
    })?;
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    send(&stream, request)?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).context("waiting for the market's answer")?;
    match serde_json::from_str(&line).context("the market ended before it answered")? {
        Answer::From(at) => Ok(at),
        Answer::Refused(why) => bail!("{why}"),
    }
}
