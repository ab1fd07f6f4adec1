//! What happens while one looks: commit points and the market's clock, as server-sent events.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::response::sse::Event;
use dataflows::model::Millis;
use postgres::fallible_iterator::FallibleIterator;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};

use crate::market::control::{self, Ask, Standing};
use crate::market::{self, Speed};
use crate::store;

/// How often the market is asked how it stands.
const BEAT: Duration = Duration::from_secs(1);
/// The least time between two commit points that a page is told of; it may skip some.
const APART: Duration = Duration::from_millis(250);

/// The newest of both, for any number of listeners.
pub(super) struct Live {
    commits: watch::Receiver<Option<CommitPoint>>,
    market: Arc<watch::Sender<Option<Standing>>>,
    about: Value,
}

#[derive(Clone, Serialize)]
struct CommitPoint {
    epoch: i64,
    now: Option<Millis>,
    committed_at: Millis,
}

impl Live {
    /// Starts to listen, for as long as this lives. Where the store or the market is away, it tries again.
    pub(super) fn start(database: &postgres::Config, dir: &Path) -> Live {
        let (told, commits) = watch::channel(None);
        let database = database.clone();
        std::thread::spawn(move || {
            while !told.is_closed() {
                _ = watch_commits(&database, &told);
                std::thread::sleep(BEAT);
            }
        });
        let market = Arc::new(watch::Sender::new(None));
        let (heard, dir) = (Arc::downgrade(&market), dir.to_owned());
        let settings = market::settings_in(&dir).ok().flatten();
        let about = settings.iter().flat_map(|it| &it.scenarios);
        let about = about.map(|it| (it.name.clone(), Value::from(it.about.as_str())));
        let about = Value::Object(about.collect());
        std::thread::spawn(move || {
            while let Some(market) = heard.upgrade() {
                _ = market.send_replace(control::ask(&dir, &Ask::Look).ok());
                drop(market);
                std::thread::sleep(BEAT);
            }
        });
        Live { commits, market, about }
    }

    /// Tells the listeners how the market stands, before they would hear of it.
    pub(super) fn tell(&self, standing: Option<Standing>) {
        _ = self.market.send_replace(standing);
    }

    /// The market's clock, while it runs.
    pub(super) fn clock(&self) -> Option<Millis> {
        self.market.borrow().as_ref().map(|standing| standing.clock)
    }

    /// The events for one listener, from how things stand now on.
    pub(super) fn events(&self) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let commits = WatchStream::new(self.commits.clone()).filter_map(|point| {
            let point = point?;
            Event::default().event("commit").json_data(point).ok()
        });
        let about = self.about.clone();
        let market = WatchStream::new(self.market.subscribe()).filter_map(move |standing| {
            let told = standing.map(|standing| told(&standing, &about));
            Event::default().event("market").json_data(told).ok()
        });
        commits.throttle(APART).merge(market).map(Ok)
    }
}

/// What a page is told of the market.
fn told(standing: &Standing, about: &Value) -> Value {
    let Standing { clock, origin, start, speed, paused, figures, .. } = standing;
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

/// Tells of each commit point, until the store is lost.
fn watch_commits(
    database: &postgres::Config,
    told: &watch::Sender<Option<CommitPoint>>,
) -> Result<()> {
    let mut client = store::connect(database)?;
    client.batch_execute("LISTEN commit_point")?;
    while !told.is_closed() {
        let row = client.query_opt(
            "SELECT epoch, (extract(epoch FROM now) * 1000)::bigint,
                    (extract(epoch FROM committed_at) * 1000)::bigint
             FROM commit_points ORDER BY epoch DESC LIMIT 1",
            &[],
        )?;
        let newest = row.map(|row| CommitPoint {
            epoch: row.get(0),
            now: row.get(1),
            committed_at: row.get(2),
        });
        told.send_if_modified(|known| {
            let epoch = |point: &Option<CommitPoint>| point.as_ref().map(|point| point.epoch);
            let moved = epoch(known) != epoch(&newest);
            *known = newest;
            moved
        });
        let mut heard = client.notifications();
        heard.timeout_iter(BEAT).next().context("waiting for commit points")?;
        // What came meanwhile is told of by the newest.
        while heard.iter().next()?.is_some() {}
    }
    Ok(())
}
