//! What happens while one looks: commit points, what the analytics wait for and the market's clock, as
//! server-sent events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::response::sse::Event;
use postgres::Client;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};

use crate::market::control::{self, ControlRequest, MarketStatus};
use crate::market::{self, Speed};
use crate::platform::clock::Stopwatch;
use crate::store;
use crate::store::waits::{self, OutOfStep, Wait};

/// How often the market is asked how it stands.
const BEAT: Duration = Duration::from_secs(1);
/// The least time between two commit points that a page is told of; it may skip some.
const APART: Duration = Duration::from_millis(250);

/// The newest commit point, and what it does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
struct Point {
    epoch: i64,
    /// Market time of the results, in ms.
    now: Option<i64>,
    /// Records of the log that are not committed, as the analytics told last.
    waiting: i64,
}

/// What keeps the results from being those of now.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
struct Holds {
    waits: Vec<Wait>,
    out_of_step: Vec<OutOfStep>,
}

/// A row of a standing view that is an alert.
#[derive(Clone, PartialEq, Eq, Serialize)]
struct Alert {
    /// The view.
    name: String,
    /// Market time of the commit point that brought it, in ms.
    since: Option<i64>,
    text: String,
}

/// So many alerts are shown, the oldest first.
const ALERTS: i64 = 20;

/// A partition that has been out of step for so long is spoken of: while much is read, each is at times.
const OUT_OF_STEP: Duration = Duration::from_secs(5);

/// The newest of each, for any number of listeners.
pub(super) struct Live {
    commits: watch::Receiver<Option<Point>>,
    holds: watch::Receiver<Holds>,
    alerts: watch::Receiver<Vec<Alert>>,
    market: Arc<watch::Sender<Option<MarketStatus>>>,
    dir: PathBuf,
}

impl Live {
    /// Starts to listen, for as long as this lives. Where the store or the market is away, it tries again.
    pub(super) fn start(database: &postgres::Config, dir: &Path) -> Live {
        let (told, commits) = watch::channel(None);
        let (told_holds, holds) = watch::channel(Holds::default());
        let (told_alerts, alerts) = watch::channel(Vec::new());
        let database = database.clone();
        std::thread::spawn(move || {
            while !told.is_closed() {
                _ = watch_commits(&database, &told, &told_holds, &told_alerts);
                // What was known is not of now.
                _ = told_holds.send_replace(Holds::default());
                _ = told_alerts.send_replace(Vec::new());
                std::thread::sleep(BEAT);
            }
        });
        let market = Arc::new(watch::Sender::new(None));
        let live = Live { commits, holds, alerts, market, dir: dir.to_owned() };
        let (heard, dir) = (Arc::downgrade(&live.market), dir.to_owned());
        std::thread::spawn(move || {
            while let Some(market) = heard.upgrade() {
                _ = market.send_replace(control::ask(&dir, &ControlRequest::Look).ok());
                drop(market);
                std::thread::sleep(BEAT);
            }
        });
        live
    }

    /// Tells the listeners how the market stands, before they would hear of it.
    pub(super) fn tell(&self, standing: Option<MarketStatus>) {
        _ = self.market.send_replace(standing);
    }

    /// The events for one listener, from how things stand now on.
    pub(super) fn events(&self) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let commits = WatchStream::new(self.commits.clone())
            .filter_map(|point| Event::default().event("commit").json_data(point?).ok());
        let settings = market::settings_in(&self.dir).ok().flatten();
        let about = settings.iter().flat_map(|it| &it.scenarios);
        let about = about.map(|it| (it.name.clone(), Value::from(it.about.as_str())));
        let about = Value::Object(about.collect());
        let market = WatchStream::new(self.market.subscribe()).filter_map(move |standing| {
            let told = standing.map(|standing| told(&standing, &about));
            Event::default().event("market").json_data(told).ok()
        });
        let holds = WatchStream::new(self.holds.clone())
            .filter_map(|holds| Event::default().event("holds").json_data(holds).ok());
        let alerts = WatchStream::new(self.alerts.clone())
            .filter_map(|alerts| Event::default().event("alerts").json_data(alerts).ok());
        commits.throttle(APART).merge(market).merge(holds).merge(alerts).map(Ok)
    }
}

/// What a page is told of the market.
fn told(standing: &MarketStatus, about: &Value) -> Value {
    let MarketStatus { clock, origin, start, speed, paused, figures, .. } = standing;
    let running = figures.scenarios.iter().map(|it| {
        json!({
            "name": &*it.name,
            "about": about[&*it.name].as_str().unwrap_or_default(),
            "strength": it.strength,
            "until": it.until,
        })
    });
    json!({
        "clock": clock.max(origin),
        "speed": match speed { Speed::Max => None, Speed::Times(times) => Some(times) },
        "paused": paused,
        "live": clock >= start,
        "origin": origin,
        "start": start,
        "orders": figures.orders,
        "customers": figures.customers,
        "products": figures.products,
        "scenarios": running.collect::<Value>(),
    })
}

/// The alerts that there are, the oldest first.
fn alerts(client: &mut Client) -> Result<Vec<Alert>> {
    let rows = client.query(
        "SELECT name, (extract(epoch FROM since) * 1000)::bigint, left(text, 300) FROM view_alerts
         ORDER BY since, name LIMIT $1",
        &[&ALERTS],
    )?;
    let alert =
        |row: &postgres::Row| Alert { name: row.get(0), since: row.get(1), text: row.get(2) };
    Ok(rows.iter().map(alert).collect())
}

/// Tells something where it is not what is known already.
fn tell<T: PartialEq>(told: &watch::Sender<T>, newest: T) {
    told.send_if_modified(|known| {
        let changed = *known != newest;
        *known = newest;
        changed
    });
}

/// Tells of each commit point, of what keeps others from coming, and of alerts, until the store is lost.
fn watch_commits(
    database: &postgres::Config,
    told: &watch::Sender<Option<Point>>,
    told_holds: &watch::Sender<Holds>,
    told_alerts: &watch::Sender<Vec<Alert>>,
) -> Result<()> {
    let mut client = store::connect(database)?;
    client.batch_execute("SET statement_timeout = '5s'; LISTEN commit_point")?;
    let mut looked: Option<Stopwatch> = None;
    let mut out_since: BTreeMap<(i64, bool), Stopwatch> = BTreeMap::new();
    while !told.is_closed() {
        let row = client.query_one(
            "SELECT coalesce(epoch, 0), (extract(epoch FROM now) * 1000)::bigint, lag
             FROM (SELECT coalesce(sum(lag), 0)::bigint AS lag FROM pipeline_status) AS waiting
             LEFT JOIN (SELECT epoch, now FROM commit_points ORDER BY epoch DESC LIMIT 1) AS newest
                 ON true",
            &[],
        )?;
        let newest = Some(Point { epoch: row.get(0), now: row.get(1), waiting: row.get(2) });
        tell(told, newest);
        if looked.is_none_or(|looked| looked.elapsed() >= BEAT) {
            looked = Some(Stopwatch::start());
            let mut out_of_step = waits::out_of_step(&mut client)?;
            let place = |it: &OutOfStep| (it.partition, it.left_out);
            out_since.retain(|known, _| out_of_step.iter().any(|it| place(it) == *known));
            out_of_step.retain(|it| {
                out_since.entry(place(it)).or_insert_with(Stopwatch::start).elapsed() >= OUT_OF_STEP
            });
            tell(told_holds, Holds { waits: waits::waits(&mut client)?, out_of_step });
            // Views are made by others, and what one of them does ends nothing here.
            tell(told_alerts, alerts(&mut client).unwrap_or_default());
        }
        store::wait_for_commit(&mut client, BEAT)?;
    }
    Ok(())
}
