//! The web page: the dashboards of `grafana/` drawn without Grafana, live, and buttons for the market.
//!
//! A server on a runtime of its own. It knows the store and the directory of the market, and nothing
//! else of the program: a page over the store of another process is the same.

mod ask;
mod connections;
pub mod dashboards;
pub mod korean;
mod live;
mod metrics;

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::Json;
use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{delete, get, post};
use dataflows::market::Scenario;
use dataflows::model::Millis;
use include_dir::{Dir, include_dir};
use postgres::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tracing::info;

use crate::market::control::{self, ControlRequest};
use crate::market::{self, ScenarioCommand, Speed};
use crate::platform::retry;
use crate::store;
use crate::store::changes::{Begin, Follower, follow_on};
use live::Live;

static WEB: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/page/web");

/// A page that is served for as long as this lives.
pub struct Page {
    /// Where.
    pub address: SocketAddr,
    runtime: Option<Runtime>,
    /// Let go of after the runtime's threads: a client that is dropped on one of those panics.
    _shop: Arc<AppState>,
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// Where the page is served, for whom, and over what.
pub struct Settings {
    /// Where; where that port is taken, at another.
    pub listen: SocketAddr,
    /// The names by which it may be asked for, besides `localhost` and numbers.
    pub names: Vec<String>,
    /// The store, as its owner: that a table is followed is written there.
    pub database: postgres::Config,
    /// The store, as a login that only reads, where there is one.
    pub reader: postgres::Config,
    /// Where the market runs, if it runs on this machine.
    pub dir: PathBuf,
    /// How long a visitor may take nothing of what is sent to them: [`STALLED`].
    pub stalled: Duration,
}

/// After this a visitor who takes nothing of what is sent is cut off.
pub const STALLED: Duration = Duration::from_secs(30);

/// What the handlers share.
struct AppState {
    database: postgres::Config,
    reader: postgres::Config,
    names: Vec<String>,
    dir: PathBuf,
    clients: Mutex<Vec<Client>>,
    /// A server takes so many connections and no more, whoever reloads a page in vain.
    turns: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    steering: Arc<Semaphore>,
    asking: Arc<Semaphore>,
    keeping: Arc<Semaphore>,
    live: Live,
}

/// As who the panels are read.
pub const ROLE: &str = "marketday_reader";
/// How many read from the store at a time; the others wait.
const READERS: usize = 4;
/// How many follow a table at a time, each with a thread and a connection; others are refused.
const FOLLOWERS: usize = 16;
/// How many speak to the market at a time, each with a descriptor or two; the others wait.
const STEERING: usize = 8;
/// How many questions are run at a time, each on a connection of its own; the others wait.
const ASKING: usize = 2;
/// The longest body of a request, and how long it may take to come.
const BODY: (usize, Duration) = (64 << 10, Duration::from_secs(10));

impl AppState {
    /// Runs something on a connection of the pool, away from the handlers.
    async fn with<T: Send + 'static>(
        self: Arc<Self>,
        run: impl FnOnce(&mut Client) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.turns).acquire_owned().await?;
        blocking(move || {
            // Whoever asked may have gone meanwhile: the turn ends with the work.
            let _turn = turn;
            let mut idle = self.clients.lock().unwrap_or_else(PoisonError::into_inner).pop();
            // The server may have been started again.
            let valid = |client: &mut Client| client.is_valid(Duration::from_secs(1)).is_ok();
            let mut client = if let Some(client) = idle.take_if(valid) {
                client
            } else {
                let mut client = store::connect(&self.reader)?;
                // Those of the login, which ours do without.
                client.batch_execute(
                    "RESET statement_timeout; RESET lock_timeout;
                     RESET idle_in_transaction_session_timeout",
                )?;
                client
            };
            let done = run(&mut client);
            // A transaction that was given up is rolled back by now.
            self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client);
            done
        })
        .await
    }
}

/// Runs something of a visitor's, whose turn it is then, on a connection of its own.
async fn alone<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    login: postgres::Config,
    run: impl FnOnce(&mut Client) -> Result<T> + Send + 'static,
) -> Result<T, Refusal> {
    let turn = Arc::clone(turns).acquire_owned().await?;
    let done = blocking(move || {
        let _turn = turn;
        run(&mut store::connect(&login)?).map_err(of_the_question)
    });
    Ok(done.await?)
}

/// What PostgreSQL says of a visitor's SQL is not the store's failure, unless it is lost.
fn of_the_question(error: anyhow::Error) -> anyhow::Error {
    if retry::lost(&error) { error } else { anyhow!("{error:#}") }
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(run).await.map_err(|panic| anyhow!("{panic}"))?
}

/// A sentence for who asked for something that cannot be, or cannot be had now.
struct Refusal(anyhow::Error);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let store = self.0.chain().any(<dyn std::error::Error>::is::<postgres::Error>);
        let status = if store { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
        (status, Json(json!({ "error": format!("{:#}", self.0) }))).into_response()
    }
}

impl<E: Into<anyhow::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Refusal(error.into())
    }
}

/// Serves the page over a store, for as long as what is returned lives.
pub fn serve(settings: Settings) -> Result<Page> {
    let Settings { listen, names, database, reader, dir, stalled } = settings;
    let listener = TcpListener::bind(listen)
        .or_else(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => TcpListener::bind((listen.ip(), 0)),
            _ => Err(error),
        })
        .with_context(|| format!("serving the web page at {listen}: name another --page"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let most = connections::most();
    let live = Live::start(&reader, &dir);
    let shop = Arc::new(AppState {
        database,
        reader,
        names,
        dir,
        clients: Mutex::default(),
        turns: Arc::new(Semaphore::new(READERS)),
        followers: Arc::new(Semaphore::new(FOLLOWERS)),
        // Whoever listens does not go by themselves: the other half of the connections is for questions.
        listeners: Arc::new(Semaphore::new(most / 2)),
        steering: Arc::new(Semaphore::new(STEERING)),
        asking: Arc::new(Semaphore::new(ASKING)),
        keeping: Arc::new(Semaphore::new(1)),
        live,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("starting the web page")?;
    let served = router(Arc::clone(&shop));
    let listener = {
        let _runtime = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    runtime.spawn(connections::serve(listener, served, most, stalled));
    Ok(Page { address, runtime: Some(runtime), _shop: shop })
}

fn router(shop: Arc<AppState>) -> Router {
    let api = Router::new()
        .route("/dashboards", get(list_dashboards))
        .route("/dashboards/{uid}", get(one_dashboard))
        .route("/panels", post(panels))
        .route("/live", get(live_events))
        .route("/ask", post(ask_once))
        .route("/views", get(list_views).post(keep_view))
        .route("/views/{name}", delete(drop_view))
        .route("/scenarios", get(scenarios))
        .route("/market", post(control_market))
        .route("/tables", get(tables))
        .route("/tables/{table}/changes", get(table_changes));
    // What comes from the market and its store.
    let own = Router::new()
        .nest("/api", api)
        .route("/metrics", get(show_metrics))
        .layer(middleware::from_fn_with_state(Arc::clone(&shop), only_own_pages));
    Router::new()
        .route("/", get(index))
        .route("/ask", get(index))
        .route("/d/{uid}", get(index))
        .route("/assets/{*path}", get(asset))
        .merge(own)
        .layer(middleware::from_fn(whole))
        .layer(middleware::from_fn(log_refused))
        .with_state(shop)
}

/// Waits for the whole of a request, but neither long nor for much.
async fn whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match tokio::time::timeout(BODY.1, to_bytes(body, BODY.0)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, body.into())).await,
        Ok(Err(_)) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

/// Tells of requests that are not done.
async fn log_refused(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        info!(%method, path, status = status.as_u16(), "refused");
    }
    response
}

/// Lets no page of another site ask through a visitor's browser.
async fn only_own_pages(
    State(shop): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Response {
    if is_own(request.headers(), &shop.names) {
        return next.run(request).await;
    }
    let sentence = "this is for pages from here: open it by localhost, by its number, or by a name \
                    that --page-name gives it";
    (StatusCode::FORBIDDEN, Json(json!({ "error": sentence }))).into_response()
}

/// Neither by a name that another site makes point here, nor by a request across origins.
fn is_own(headers: &HeaderMap, names: &[String]) -> bool {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = header(header::HOST).unwrap_or_default();
    // A number of IPv6 has colons of its own, in brackets.
    let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    let name = port.map_or(host, |(name, _)| name);
    let number = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| of == host);
    let here = |site: &str| matches!(site, "same-origin" | "none");
    (number || is("localhost") || names.iter().any(|known| is(known)))
        && header(header::ORIGIN).is_none_or(own)
        && header(HeaderName::from_static("sec-fetch-site")).is_none_or(here)
}

/// Nothing but what comes from here.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";

async fn index() -> Response {
    let page = WEB.get_file("index.html").expect("it is compiled in").contents();
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(page)).into_response()
}

async fn asset(Path(path): Path<String>) -> Response {
    let Some(file) = WEB.get_file(&path) else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match path.rsplit('.').next() {
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")];
    (headers, file.contents()).into_response()
}

#[derive(Deserialize)]
struct Language {
    lang: Option<String>,
}

async fn list_dashboards(Query(Language { lang }): Query<Language>) -> Json<Vec<Value>> {
    let korean = lang.as_deref() == Some("ko");
    let of = |dashboard: &&Value| {
        dashboard["uid"].as_str().is_some_and(|uid| uid.ends_with("-ko") == korean)
    };
    let told = |it: &Value| json!({ "uid": it["uid"], "title": it["title"], "description": it["description"] });
    Json(dashboards::DASHBOARDS.iter().filter(of).map(told).collect())
}

async fn one_dashboard(Path(uid): Path<String>) -> Result<Json<&'static Value>, StatusCode> {
    dashboards::dashboard(&uid).map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn panels(
    State(shop): State<Arc<AppState>>,
    Json(ask): Json<dashboards::Ask>,
) -> Result<Json<dashboards::Drawn>, Refusal> {
    Ok(Json(shop.with(move |client| dashboards::draw(client, &ask)).await?))
}

async fn live_events(
    State(shop): State<Arc<AppState>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, StatusCode> {
    let place = Arc::clone(&shop.listeners).try_acquire_owned();
    let place = place.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let events = shop.live.events().map(move |event| {
        // Held for as long as somebody listens.
        _ = &place;
        event
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

async fn scenarios(State(shop): State<Arc<AppState>>) -> Result<Json<Value>, Refusal> {
    let told = blocking(move || {
        let settings = match market::settings_in(&shop.dir) {
            // Nobody starts any there.
            Err(error) if error.is::<market::OtherRules>() => None,
            settings => settings?,
        };
        let Some(settings) = settings else { return Ok(json!([])) };
        let one = |it: &Scenario| {
            json!({
                "name": it.name,
                "about": it.about,
                "strength": it.peak(),
                "categories": it.categories,
            })
        };
        Ok(settings.scenarios.iter().map(one).collect::<Value>())
    });
    Ok(Json(told.await?))
}

/// What a visitor asks of the market.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Control {
    Start { name: String, for_ms: Option<Millis>, strength: Option<f64> },
    Stop { name: String },
    Pause(bool),
    Speed(Value),
}

impl Control {
    fn request(self) -> Result<ControlRequest> {
        let scenario =
            |name, command| ControlRequest::Scenario(market::ScenarioRequest { name, command });
        Ok(match self {
            Control::Start { name, for_ms: lasts, strength } => {
                let categories = Vec::new();
                scenario(name, ScenarioCommand::Start { strength, categories, lasts })
            }
            Control::Stop { name } => scenario(name, ScenarioCommand::Stop),
            Control::Pause(paused) => ControlRequest::Pause(paused),
            Control::Speed(speed) => {
                let text = speed.as_str().map_or_else(|| speed.to_string(), str::to_owned);
                ControlRequest::Speed(text.parse::<Speed>().map_err(|error| anyhow!(error))?)
            }
        })
    }
}

async fn control_market(
    State(shop): State<Arc<AppState>>,
    Json(control): Json<Control>,
) -> Result<Json<Value>, Refusal> {
    let request = control.request()?;
    let turn = Arc::clone(&shop.steering).acquire_owned().await?;
    let from = blocking(move || {
        let _turn = turn;
        let status = control::ask(&shop.dir, &request)?;
        let from = status.from;
        shop.live.tell(Some(status));
        Ok(from)
    });
    Ok(Json(json!({ "from": from.await? })))
}

/// Runs a visitor's SELECT.
async fn ask_once(
    State(shop): State<Arc<AppState>>,
    Json(question): Json<ask::Question>,
) -> Result<Json<ask::Answer>, Refusal> {
    let run = move |client: &mut Client| ask::answer(client, &question);
    Ok(Json(alone(&shop.asking, shop.reader.clone(), run).await?))
}

async fn list_views(
    State(shop): State<Arc<AppState>>,
) -> Result<Json<Vec<store::views::Told>>, Refusal> {
    Ok(Json(shop.with(ask::kept).await?))
}

async fn keep_view(
    State(shop): State<Arc<AppState>>,
    Json(wish): Json<ask::Wish>,
) -> Result<StatusCode, Refusal> {
    let run = move |client: &mut Client| ask::keep(client, &wish);
    alone(&shop.keeping, shop.database.clone(), run).await?;
    Ok(StatusCode::CREATED)
}

async fn drop_view(
    State(shop): State<Arc<AppState>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    let run = move |client: &mut Client| ask::drop_kept(client, &name);
    alone(&shop.keeping, shop.database.clone(), run).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn tables() -> Json<Vec<&'static str>> {
    Json(store::result_tables().collect())
}

/// The change feed of a table; who comes back with `Last-Event-ID` goes on behind that commit point.
async fn table_changes(
    State(shop): State<Arc<AppState>>,
    Path(table): Path<String>,
    Query(after): Query<After>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let begin = last.or(after.from).map_or(Begin::Now, Begin::After);
    let place = Arc::clone(&shop.followers).try_acquire_owned();
    let place = place.context("too many follow tables already: close one of them")?;
    let lent = Arc::clone(&shop);
    let follower = blocking(move || Follower::begin(&lent.database, &table, begin)).await?;
    let (sender, receiver) = tokio::sync::mpsc::channel(64);
    // A thread each: it waits for commit points most of the time.
    std::thread::spawn(move || {
        let _place = place;
        let gone = || sender.is_closed();
        let ended = follow_on(&shop.database, follower, &gone, &mut |last, changes| {
            // One event a commit point, so that its id is a place to go on from.
            for of_one in changes.chunk_by(|a, b| a.commit_point == b.commit_point) {
                let id = of_one[0].commit_point.to_string();
                let event = Event::default().id(id).event("changes").json_data(of_one)?;
                if sender.blocking_send(event).is_err() {
                    return Ok(false);
                }
            }
            // Fires nothing there, and is remembered.
            Ok(sender.blocking_send(Event::default().id(last.to_string())).is_ok())
        });
        if let Err(error) = ended {
            let event = Event::default().event("ended").data(format!("{error:#}"));
            _ = sender.blocking_send(event);
        }
    });
    let events = ReceiverStream::new(receiver).map(Ok);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

#[derive(Deserialize)]
struct After {
    from: Option<i64>,
}

async fn show_metrics(State(shop): State<Arc<AppState>>) -> Result<Response, Refusal> {
    let text = shop.with(metrics::metrics).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a visitor asks of the market: it is refused, or the market can read it.
    #[test]
    fn fuzz_controls() {
        let seeds = [
            r#"{"start":{"name":"black-friday","for_ms":7200000,"strength":2.5}}"#,
            r#"{"start":{"name":"flash"}}"#,
            r#"{"stop":{"name":"seollal"}}"#,
            r#"{"pause":true}"#,
            r#"{"speed":60}"#,
            r#"{"speed":"max"}"#,
            r#"{"speed":"0.5"}"#,
        ];
        crate::fuzz::fuzz!(200_000, seeds, |input| {
            let Ok(control) = serde_json::from_slice::<Control>(&input.0) else { return false };
            let Ok(request) = control.request() else { return false };
            let said = serde_json::to_string(&request).unwrap();
            let read: ControlRequest = serde_json::from_str(&said).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), said);
            true
        });
    }
}
