//! The connections between the processes of the analytics, made before timely begins.
//!
//! Whoever connects says first which process of which analytics it is, and is answered. Who says
//! something else, or nothing, is not heard. When all are there nobody listens any more, so what timely
//! reads comes from its own processes: it would take anything for a message, and abort.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use crate::platform::clock::Stopwatch;
use crate::platform::retry::rest;

/// How long the other may take to connect, to say who it is, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause before a process that is not there is called again.
const AGAIN: Duration = Duration::from_millis(200);

/// How soon it is looked whether somebody has called.
const LOOK: Duration = Duration::from_millis(5);

/// Bytes of what one says of oneself, and how many may be about to say it: others are not let in.
const HELLO_MAX: usize = 4096;
const CALLERS_MAX: usize = 256;

/// One of the processes of the analytics.
pub(super) struct Member<'a> {
    /// Which one, and where all of them are.
    pub(super) process: usize,
    pub(super) addresses: &'a [String],
    /// Worker threads in each.
    pub(super) workers: usize,
    /// Names the log and the store: what other analytics have is another one.
    pub(super) name: String,
    /// Set to give up.
    pub(super) stop: &'a AtomicBool,
}

/// What a process says of itself, in a line of JSON.
#[derive(Serialize, Deserialize)]
struct Hello {
    marketday: String,
    name: String,
    process: usize,
    processes: usize,
    workers: usize,
}

/// What it is answered, in another.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Welcome,
    Refused(String),
}

/// Somebody who has connected, and what they have said so far.
struct Caller {
    stream: TcpStream,
    from: SocketAddr,
    said: Vec<u8>,
    since: Stopwatch,
}

/// Connects this process with all others: calls those before it, then waits for those behind it. So who
/// does not belong to process 0 is told so before others hear of it.
pub(super) fn connect(me: &Member<'_>) -> Result<Vec<Option<TcpStream>>> {
    let mut all = Vec::new();
    for other in 0..me.process {
        all.push(Some(me.call(other)?));
    }
    all.push(None);
    all.extend(me.hear()?.into_iter().map(Some));
    Ok(all)
}

impl Member<'_> {
    fn told_to_end(&self) -> impl Fn() -> bool {
        || self.stop.load(Ordering::Relaxed)
    }

    fn address(&self) -> &str {
        &self.addresses[self.process]
    }

    /// Connects with a process before this one, which may not be there yet.
    fn call(&self, other: usize) -> Result<TcpStream> {
        let address = &self.addresses[other];
        let (since, mut told) = (Stopwatch::start(), false);
        loop {
            match self.call_once(address) {
                Ok((stream, Answer::Welcome)) => return Ok(stream),
                Ok((_, Answer::Refused(why))) => bail!("{why}"),
                Err(error) if since.elapsed() > PATIENCE && !told => {
                    told = true;
                    warn!("waiting for process {other} of the analytics at {address}: {error:#}");
                }
                Err(error) => debug!("process {other} at {address}: {error:#}"),
            }
            rest(AGAIN, &self.told_to_end())?;
        }
    }

    fn call_once(&self, address: &str) -> Result<(TcpStream, Answer)> {
        let mut error = anyhow!("no such host is known");
        for place in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&place, PATIENCE) {
                Ok(stream) => return self.introduce(stream),
                Err(refused) => error = refused.into(),
            }
        }
        Err(error)
    }

    /// Says who this is, and hears the answer.
    fn introduce(&self, mut stream: TcpStream) -> Result<(TcpStream, Answer)> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        say(&mut stream, &self.hello())?;
        // Byte by byte: what follows the answer is timely's.
        let (since, mut said) = (Stopwatch::start(), Vec::new());
        while !said.ends_with(b"\n") {
            let left = PATIENCE.saturating_sub(since.elapsed());
            ensure!(!left.is_zero() && said.len() < HELLO_MAX, "who is there does not answer");
            stream.set_read_timeout(Some(left))?;
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            said.push(byte[0]);
        }
        let answer = serde_json::from_slice(&said).context("who is there is none of these")?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok((stream, answer))
    }

    fn hello(&self) -> Hello {
        Hello {
            marketday: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.clone(),
            process: self.process,
            processes: self.addresses.len(),
            workers: self.workers,
        }
    }

    /// Waits until every process behind this one has connected.
    fn hear(&self) -> Result<Vec<TcpStream>> {
        let first = self.process + 1;
        let mut members: Vec<Option<TcpStream>> = Vec::new();
        members.resize_with(self.addresses.len() - first, || None);
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let listener = TcpListener::bind(self.address())
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .with_context(|| {
                format!("listening at {} for the analytics' other processes", self.address())
            })?;
        let (mut callers, mut told) = (Vec::<Caller>::new(), false);
        while members.iter().any(Option::is_none) {
            for _ in 0..CALLERS_MAX {
                let Ok((stream, from)) = listener.accept() else { break };
                if callers.len() < CALLERS_MAX && stream.set_nonblocking(true).is_ok() {
                    callers.push(Caller {
                        stream,
                        from,
                        said: Vec::new(),
                        since: Stopwatch::start(),
                    });
                }
            }
            let mut others = Vec::new();
            for mut caller in callers {
                let hello = match caller.listen() {
                    Ok(None) => {
                        others.push(caller);
                        continue;
                    }
                    Ok(Some(hello)) => hello,
                    Err(error) => {
                        let (at, from) = (self.address(), caller.from);
                        let what =
                            format!("{from} has connected to {at} and is not heard: {error:#}");
                        // Once: whoever scans ports does it often.
                        if std::mem::replace(&mut told, true) {
                            debug!("{what}");
                        } else {
                            warn!("{what}");
                        }
                        continue;
                    }
                };
                match self.admit(&hello, &members) {
                    Ok(()) => {
                        let joined = caller.welcome().map_err(|error| debug!("{error:#}"));
                        members[hello.process - first] = joined.ok();
                        info!("process {} of the analytics is there", hello.process);
                    }
                    Err(why) => {
                        warn!("{} was refused: {why:#}", caller.from);
                        _ = say(&mut caller.stream, &Answer::Refused(format!("{why:#}")));
                    }
                }
            }
            callers = others;
            rest(LOOK, &self.told_to_end())?;
        }
        Ok(members.into_iter().flatten().collect())
    }

    /// Whether a process that has said who it is belongs to this one.
    fn admit(&self, hello: &Hello, members: &[Option<TcpStream>]) -> Result<()> {
        let (me, my) = (self.process, self.hello());
        let Hello { marketday, name, process, processes, workers } = hello;
        ensure!(
            *name == my.name,
            "process {me} at {} reads another log, or writes another database: give each analytics \
             addresses of their own, in a file of hosts",
            self.address()
        );
        ensure!(
            *marketday == my.marketday,
            "process {process} is of version {marketday}, and process {me} of {}: run the same one",
            my.marketday
        );
        ensure!(
            (*processes, *workers) == (my.processes, my.workers),
            "process {process} is one of {processes} with {workers} workers each, and process {me} one \
             of {} with {}: give all the same -n and -w",
            my.processes,
            my.workers
        );
        ensure!(
            (me + 1..my.processes).contains(process),
            "process {process} has called process {me} for one before it: give all processes the same \
             file of hosts"
        );
        ensure!(
            members[process - me - 1].as_ref().is_none_or(is_gone),
            "there is another process {process} already: give each a number of its own with -p"
        );
        Ok(())
    }
}

impl Caller {
    /// What they say of themselves, once they have said it.
    fn listen(&mut self) -> Result<Option<Hello>> {
        let mut part = [0; HELLO_MAX];
        match self.stream.read(&mut part) {
            Ok(0) => bail!("it went without a word"),
            Ok(read) => self.said.extend_from_slice(&part[..read]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                ensure!(self.since.elapsed() < PATIENCE, "it does not say who it is");
            }
            Err(error) => return Err(error.into()),
        }
        if self.said.ends_with(b"\n") {
            let hello = serde_json::from_slice(&self.said);
            return hello.map(Some).context("it is no process of the analytics");
        }
        ensure!(self.said.len() < HELLO_MAX, "it is no process of the analytics");
        Ok(None)
    }

    /// Lets them in.
    fn welcome(mut self) -> Result<TcpStream> {
        self.stream.set_nodelay(true)?;
        say(&mut self.stream, &Answer::Welcome)?;
        Ok(self.stream)
    }
}

fn say(stream: &mut TcpStream, what: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(stream.write_all(&line)?)
}

/// Whether a process that was let in has ended since.
fn is_gone(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}
