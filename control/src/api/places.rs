//! Places of the API: how many requests of a kind are served at once, so that no kind keeps out another. A listener that was
//! forgotten must not keep a reload out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Json, Response};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::clients::{Client, REQUEST_MAX};
use super::director::Refusal;

/// Questions that are answered at once.
pub const QUESTIONS_MAX: usize = 32;
/// Changes (reloads, ipvsadm's) that are under way or wait for their turn.
pub const CHANGES_MAX: usize = 32;
/// Listeners to events.
pub const LISTENERS_MAX: usize = 32;
/// Listings of connections at once.
pub const LISTINGS_MAX: usize = 8;
/// Bytes of a request's body.
pub const BODY_MAX: usize = 2 << 20;

/// What a request takes a place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Question,
    Change,
    Listener,
    Listing,
    /// The end needs no place.
    Stop,
}

impl Kind {
    fn of(method: &Method, path: &str) -> Self {
        match path {
            "/v1/stop" => Self::Stop,
            "/v1/events" => Self::Listener,
            "/v1/connections" => Self::Listing,
            _ if method == Method::POST => Self::Change,
            _ => Self::Question,
        }
    }
}

/// All places.
#[derive(Clone, Debug)]
pub(super) struct Places {
    questions: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
    listings: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            questions: places(QUESTIONS_MAX),
            changes: places(CHANGES_MAX),
            listeners: places(LISTENERS_MAX),
            listings: places(LISTINGS_MAX),
        }
    }
}

impl Places {
    /// A place, if this kind of request needs one.
    fn take(&self, kind: Kind) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        let (places, count, what, advice) = match kind {
            Kind::Stop => return Ok(None),
            Kind::Question => (&self.questions, QUESTIONS_MAX, "questions", "ask again in a moment"),
            Kind::Change => (&self.changes, CHANGES_MAX, "changes", "wait until some of those are done"),
            Kind::Listener => {
                (&self.listeners, LISTENERS_MAX, "listeners to events", "end some of them (`shunt events`)")
            }
            Kind::Listing => (
                &self.listings,
                LISTINGS_MAX,
                "listings of connections",
                "end some, or wait until they are done",
            ),
        };
        places.clone().try_acquire_owned().map(Some).map_err(|_none_free| {
            Refusal::new(format!(
                "{what}: all {count} places are taken: other requests have places of their own: {advice}"
            ))
        })
    }
}

/// Takes the whole request, then a place for it; a streamed answer keeps its place until it is at its end. What would change
/// something is not done for a client that has gone.
pub(super) async fn admit(State(places): State<Places>, request: Request, next: Next) -> Response {
    let kind = Kind::of(request.method(), request.uri().path());
    let client = request.extensions().get::<Arc<Client>>().cloned();
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(REQUEST_MAX, axum::body::to_bytes(body, BODY_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            let error =
                format!("the body of the request cannot be read ({error}): it may have {BODY_MAX} bytes");
            return refused(StatusCode::PAYLOAD_TOO_LARGE, error);
        }
        Err(_late) => {
            let error =
                format!("the body of the request did not come within {REQUEST_MAX:?}: send it at once");
            return refused(StatusCode::REQUEST_TIMEOUT, error);
        }
    };
    let place = match places.take(kind) {
        Ok(place) => place,
        Err(refusal) => return (StatusCode::SERVICE_UNAVAILABLE, Json(refusal)).into_response(),
    };
    let changes = matches!(kind, Kind::Change | Kind::Stop);
    if changes && client.is_some_and(|client| client.has_gone()) {
        tracing::warn!("{} {}: not done: the client that asked has gone", head.method, head.uri.path());
        return refused(StatusCode::REQUEST_TIMEOUT, "the client has gone: nothing was done".to_owned());
    }
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    match kind {
        Kind::Listener | Kind::Listing => response.map(|body| {
            Body::from_stream(body.into_data_stream().map(move |piece| {
                let _ = &place;
                piece
            }))
        }),
        Kind::Question | Kind::Change | Kind::Stop => response,
    }
}

fn refused(code: StatusCode, error: String) -> Response {
    (code, Json(Refusal::new(error))).into_response()
}
