//! The page's connections: so many and no more, and none that says or takes nothing for ever.
//!
//! Where there is no room, the one on which nothing has been asked for longest gives way, so that who
//! opens connections and says nothing keeps nobody out, and takes no descriptors from the market.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::warn;

/// How long a request's head may take to come, from when the connection is there or the last answer
/// was sent.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest head, and what is buffered of an answer.
const BUFFER: usize = 64 << 10;
/// How long it takes until one looks again whether there is room, or a descriptor to be had.
const BEAT: Duration = Duration::from_millis(100);

/// How many connections there are at a time: a quarter of the descriptors that the process may have,
/// and no more than this.
const MOST: u64 = 512;

/// See [`MOST`].
pub(super) fn most() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (descriptors / 4).clamp(8, MOST) as usize
}

/// Connections on which nothing is asked, by when that began: the first has waited longest.
#[derive(Default)]
struct Idle {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// All that are open.
struct Connections {
    places: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

impl Connections {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more; whoever waits for nothing gives it up.
    async fn place(&self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            if let Some((_, oldest)) = self.idle().waiting.pop_first() {
                oldest.notify_one();
            }
            if let Ok(Ok(place)) = timeout(BEAT, Arc::clone(&self.places).acquire_owned()).await {
                return place;
            }
        }
    }
}

/// One of them.
struct Connection {
    all: Arc<Connections>,
    /// Told when it is to give way.
    give_way: Arc<Notify>,
    /// Its number among those on which nothing is asked.
    idle: Mutex<Option<u64>>,
}

impl Connection {
    fn rests(&self) {
        let mut all = self.all.idle();
        all.next += 1;
        let number = all.next;
        all.waiting.insert(number, Arc::clone(&self.give_way));
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    fn works(&self) {
        let number = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(number) = number {
            self.all.idle().waiting.remove(&number);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.works();
    }
}

/// Lives until an answer is sent.
struct Answering(Arc<Connection>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.rests();
    }
}

/// Takes connections up and serves them, without end. Who takes nothing of what is sent for `stalled`
/// is cut off.
pub(super) async fn serve(listener: TcpListener, router: Router, most: usize, stalled: Duration) {
    let places = Arc::new(Semaphore::new(most));
    let all = Arc::new(Connections { places, idle: Mutex::default() });
    let mut refused = false;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // It was given up before it was taken up.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) =>
            {
                continue;
            }
            Err(error) => {
                if !std::mem::replace(&mut refused, true) {
                    warn!("taking up a visitor of the web page: {error}; trying again");
                }
                sleep(BEAT).await;
                continue;
            }
        };
        refused = false;
        let place = all.place().await;
        let (all, router) = (Arc::clone(&all), router.clone());
        tokio::spawn(async move {
            let _place = place;
            attend(stream, router, all, stalled).await;
        });
    }
}

/// Serves a connection to its end.
async fn attend(stream: TcpStream, router: Router, all: Arc<Connections>, stalled: Duration) {
    // The kernel ends a connection whose other end is gone, or takes nothing: then our sending fails.
    _ = set_tcp_user_timeout(&stream, stalled.as_millis() as u32);
    let give_way = Arc::new(Notify::new());
    let connection =
        Arc::new(Connection { all, give_way: Arc::clone(&give_way), idle: Mutex::default() });
    connection.rests();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        connection.works();
        let answering = Answering(Arc::clone(&connection));
        let answer = router.call(request);
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| {
                body.map_frame(move |frame| {
                    _ = &answering;
                    frame
                })
            }))
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(BUFFER);
    let visit = server.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a visitor goes is their own business.
        _ = visit => {}
        () = give_way.notified() => {}
    }
}
