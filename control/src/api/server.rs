//! Requests become calls of [`Director`], its answers become JSON; nothing is decided here.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use futures_util::{Stream, StreamExt as _};
use shunt_model::notify::{Event, What};
use shunt_model::secret::starred;
use shunt_protocol::notify::PAST_MAX;
use tokio::net::UnixListener;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::asked::Asked;
use super::clients;
use super::connections::{Connection, Filter};
use super::director::{Connections, Director, Refusal, ReloadOptions, Running, Since};
use super::explain::Probe;
use super::ipvsadm::Change;
use super::places::{self, Places};
use super::socket::OwnedListener;
use crate::notify;
use crate::notify::Listening;

/// Connections that are written in one piece.
const CONNECTIONS_PER_CHUNK: usize = 128;

type Shared = Arc<dyn Director>;

/// Serves a director until `stop` says true or its sender is gone, then removes the socket and closes every client's
/// connection. Clients wait for that to know that the director has stopped, so it should be the last thing that is stopped.
///
/// # Errors
/// The socket cannot be handed to tokio.
pub async fn serve(
    listener: OwnedListener,
    director: Arc<dyn Director>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (listener, file) = listener.split();
    let Some(listener) = listener else { return Ok(()) };
    let listener = UnixListener::from_std(listener)?;
    let (gone, ended) = watch::channel(false);
    let router = router(director, ended.clone());
    let mut stopped = stop;
    // The file goes first: who sees the connection end finds no socket any more.
    let stopping = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
        drop(file);
        gone.send_replace(true);
        gone.closed().await;
    };
    tokio::join!(clients::serve(listener, router, ended), stopping);
    Ok(())
}

/// A method, and who answers it.
type Handler = (Method, fn() -> MethodRouter<Shared>);

/// A path, and who answers each method there.
struct Endpoint {
    path: &'static str,
    methods: &'static [Handler],
}

impl Endpoint {
    const fn new(path: &'static str, methods: &'static [Handler]) -> Self {
        Self { path, methods }
    }

    /// The methods in words.
    fn words(&self) -> String {
        self.methods.iter().map(|(method, _)| method.as_str()).collect::<Vec<_>>().join(" and ")
    }
}

/// All that is answered, and what a refusal names.
static ENDPOINTS: &[Endpoint] = &[
    Endpoint::new("/v1/status", &[(Method::GET, || get(status))]),
    Endpoint::new("/v1/drops", &[(Method::GET, || get(drops))]),
    Endpoint::new("/v1/connections", &[(Method::GET, || get(connections))]),
    Endpoint::new("/v1/neighbours", &[(Method::GET, || get(neighbours))]),
    Endpoint::new("/v1/events", &[(Method::GET, || get(events))]),
    Endpoint::new("/v1/explain", &[(Method::GET, || get(explain))]),
    Endpoint::new("/v1/configuration", &[(Method::GET, || get(configuration))]),
    Endpoint::new("/v1/ipvsadm", &[(Method::GET, || get(ipvsadm)), (Method::POST, || post(change_ipvsadm))]),
    Endpoint::new("/v1/reload", &[(Method::POST, || post(reload))]),
    Endpoint::new("/v1/stop", &[(Method::POST, || post(stop))]),
];

/// The endpoints; `ended` says when the director has ended.
fn router(director: Arc<dyn Director>, ended: watch::Receiver<bool>) -> Router {
    let places = axum::middleware::from_fn_with_state(Places::default(), places::admit);
    let methods = ENDPOINTS
        .iter()
        .flat_map(|endpoint| endpoint.methods.iter().map(|(_, answered)| (endpoint.path, answered())));
    methods
        .fold(Router::new(), |router, (path, answered)| router.route(path, answered))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::Extension(Ended(ended)))
        .layer(places)
        .with_state(director)
}

/// Says when the director has ended.
#[derive(Clone, Debug)]
struct Ended(watch::Receiver<bool>);

async fn status(State(director): State<Shared>) -> Response {
    look(move || director.status()).await
}

async fn drops(State(director): State<Shared>) -> Response {
    look(move || director.drops()).await
}

async fn neighbours(State(director): State<Shared>) -> Response {
    look(move || director.neighbours()).await
}

/// How `GET /v1/configuration` is answered.
#[derive(Debug, serde::Deserialize)]
struct Telling {
    /// With the secrets, for who compares it.
    #[serde(default)]
    secrets: bool,
}

async fn configuration(
    State(director): State<Shared>,
    telling: Result<Query<Telling>, QueryRejection>,
) -> Response {
    let secrets = match telling {
        Ok(Query(Telling { secrets })) => secrets,
        Err(rejection) => return bad_query(&rejection),
    };
    look(move || {
        let running = director.configuration();
        let text = if secrets { running.text } else { starred(&running.text) };
        Running { text, ..running }
    })
    .await
}

/// Answers where it may wait a little: nothing that hangs may hold up the other clients.
async fn look<T: serde::Serialize + Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Response {
    let seen = tokio::task::spawn_blocking(look).await;
    answer(seen.map_err(|_| Refusal::new("the request failed inside the director: see its log")))
}

async fn reload(
    State(director): State<Shared>,
    asked: Asked,
    options: Result<Query<ReloadOptions>, QueryRejection>,
) -> Response {
    match options {
        Ok(Query(options)) => answer(director.reload(asked, options).await),
        Err(rejection) => bad_query(&rejection),
    }
}

async fn ipvsadm(State(director): State<Shared>) -> Response {
    answer(director.ipvsadm().await)
}

async fn change_ipvsadm(
    State(director): State<Shared>,
    asked: Asked,
    changes: Result<Json<Vec<Change>>, JsonRejection>,
) -> Response {
    match changes {
        Ok(Json(changes)) => answer(director.change_ipvsadm(asked, changes).await),
        Err(rejection) => {
            let error = format!("{}: see the API's description: write the body so", rejection.body_text());
            (StatusCode::BAD_REQUEST, Json(Refusal::new(error))).into_response()
        }
    }
}

async fn explain(State(director): State<Shared>, probe: Result<Query<Probe>, QueryRejection>) -> Response {
    match probe {
        Ok(Query(probe)) => answer(director.explain(probe).await),
        Err(rejection) => bad_query(&rejection),
    }
}

/// How `POST /v1/stop` is answered.
#[derive(Debug, serde::Deserialize)]
struct Stop {
    /// The answer is at its end when the director is.
    #[serde(default)]
    wait: bool,
}

async fn stop(
    State(director): State<Shared>,
    asked: Asked,
    Extension(Ended(mut ended)): Extension<Ended>,
    how: Result<Query<Stop>, QueryRejection>,
) -> Response {
    let wait = match how {
        Ok(Query(Stop { wait })) => wait,
        Err(rejection) => return bad_query(&rejection),
    };
    director.stop(asked);
    let stopping = "{\"stopping\":true}\n";
    let json = [(header::CONTENT_TYPE, "application/json")];
    if !wait {
        return (json, stopping).into_response();
    }
    let first =
        futures_util::stream::once(async move { Ok::<_, std::convert::Infallible>(Bytes::from(stopping)) });
    let end = futures_util::stream::once(async move {
        let _ = ended.wait_for(|ended| *ended).await;
        Ok(Bytes::new())
    });
    (json, Body::from_stream(first.chain(end))).into_response()
}

async fn connections(
    State(director): State<Shared>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Response {
    match filter {
        Ok(Query(filter)) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (json, Body::from_stream(listing(director.connections(), filter))).into_response()
        }
        Err(rejection) => bad_query(&rejection),
    }
}

async fn events(State(director): State<Shared>, since: Result<Query<Since>, QueryRejection>) -> Response {
    let since = match since {
        Ok(Query(since)) => since,
        Err(rejection) => return bad_query(&rejection),
    };
    match director.events(since.since) {
        Some(events) => {
            let lines = [(header::CONTENT_TYPE, "application/x-ndjson")];
            let told: Pin<Box<dyn Stream<Item = _> + Send>> = if since.follows() {
                Box::pin(past(&events).chain(told(events.events)))
            } else {
                Box::pin(past(&events))
            };
            (lines, Body::from_stream(told)).into_response()
        }
        None => {
            let refusal = Refusal::new("events: the director tells none: it is stopping");
            (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response()
        }
    }
}

fn line(event: &Event) -> Bytes {
    Bytes::from(serde_json::to_string(event).unwrap_or_default() + "\n")
}

/// What happened before, one JSON object to a line. An empty line first tells that the events are listened for.
fn past(events: &Listening) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + use<> {
    let missed = events.incomplete.then(|| {
        let text = format!("more happened: only the last {PAST_MAX} events are remembered");
        line(&notify::event(What::Missed, "", None, text))
    });
    let lines = events.past.iter().map(line);
    let lines: Vec<_> = [Bytes::from_static(b"\n")].into_iter().chain(missed).chain(lines).map(Ok).collect();
    futures_util::stream::iter(lines)
}

/// Events as they come, one JSON object to a line.
fn told(events: Receiver<Event>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    futures_util::stream::unfold(events, |mut events| async move {
        let event = match events.recv().await {
            Ok(event) => event,
            Err(RecvError::Lagged(count)) => {
                let text = format!("{count} events were missed: this listener is too slow");
                notify::event(What::Missed, "", None, text)
            }
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(line(&event)), events))
    })
}

/// How far a listing has come.
enum Stage {
    Begin,
    First,
    Later,
    Done,
}

/// The connections as one JSON object, one connection to a line, written as they come.
fn listing(
    connections: Connections,
    filter: Filter,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
    let start = (connections, filter, Stage::Begin);
    futures_util::stream::unfold(start, |(mut connections, filter, mut stage)| async move {
        let mut text = String::new();
        if matches!(stage, Stage::Begin) {
            text.push_str("{\"connections\":[");
            stage = Stage::First;
        }
        // A piece without a wanted connection would be empty, and an empty piece ends the answer.
        while !matches!(stage, Stage::Done) {
            let mut batch = Vec::with_capacity(CONNECTIONS_PER_CHUNK);
            if connections.recv_many(&mut batch, CONNECTIONS_PER_CHUNK).await == 0 {
                text.push_str("\n]}\n");
                stage = Stage::Done;
            }
            for item in batch {
                stage = write_item(item, &filter, stage, &mut text);
                if matches!(stage, Stage::Done) {
                    break;
                }
            }
            if !text.is_empty() {
                return Some((Ok(Bytes::from(text)), (connections, filter, stage)));
            }
        }
        None
    })
}

fn write_item(item: Result<Connection, Refusal>, filter: &Filter, stage: Stage, text: &mut String) -> Stage {
    match item {
        Ok(connection) if filter.wants(&connection) => {
            text.push_str(if matches!(stage, Stage::First) { "\n" } else { ",\n" });
            text.push_str(&serde_json::to_string(&connection).unwrap_or_default());
            Stage::Later
        }
        Ok(_unwanted) => stage,
        Err(refusal) => {
            let error = serde_json::Value::from(refusal.error);
            text.push_str(&format!("\n],\"error\":{error}}}\n"));
            Stage::Done
        }
    }
}

fn answer<T: serde::Serialize>(result: Result<T, Refusal>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response(),
    }
}

fn bad_query(rejection: &QueryRejection) -> Response {
    let error = format!("{}: see the API's description: write the query so", rejection.body_text());
    (StatusCode::BAD_REQUEST, Json(Refusal::new(error))).into_response()
}

async fn nowhere(uri: Uri) -> Response {
    let paths = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect::<Vec<_>>().join(", ");
    let error = format!("{}: no such endpoint: there are {paths}: ask one of these", uri.path());
    (StatusCode::NOT_FOUND, Json(Refusal::new(error))).into_response()
}

async fn wrong_method(uri: Uri, method: Method) -> Response {
    let endpoint = ENDPOINTS.iter().find(|endpoint| endpoint.path == uri.path());
    let takes = endpoint.map(Endpoint::words).unwrap_or_default();
    let error = format!("{}: {method} is the wrong method: it takes {takes}: use that", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, Json(Refusal::new(error))).into_response()
}
