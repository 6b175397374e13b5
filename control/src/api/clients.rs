//! The API's clients: who is let in, and for how long each may be slow.
//!
//! A client that sends no request, or does not read its answer, is ended after a time, and gives way at once to one that
//! finds no room. So there is always room for a command: requests under way have fewer places
//! ([`super::places`]) than there are clients.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use futures_util::StreamExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};

use super::asked::{Asked, Peer};

/// Clients at once; who does least gives way to a further one.
pub const CLIENTS_MAX: usize = 128;
/// How long a client may take to send its next request.
pub const REQUEST_MAX: Duration = Duration::from_secs(30);
/// How long a client may read nothing of its answer.
pub const UNREAD_MAX: Duration = Duration::from_secs(30);
/// How long a client reads nothing before it gives way to others.
const UNREAD_SPARED: Duration = Duration::from_secs(1);
/// How long clients that are being answered may take when the director has stopped.
const END_MAX: Duration = Duration::from_millis(500);
/// How often clients are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait when the system has no descriptor to spare.
const RETRY: Duration = Duration::from_millis(100);

/// What a client does.
#[derive(Debug)]
struct Doing {
    /// Requests under way: their answer is not at its end.
    requests: u32,
    /// Since when it sends no request.
    idle: Instant,
    /// Since when it reads nothing of what it has to read.
    unread: Option<Instant>,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    doing: Mutex<Doing>,
    /// Who it is.
    asked: Asked,
    /// The same connection, to ask whether its other end is there.
    connection: OwnedFd,
}

impl Client {
    fn new(stream: &UnixStream) -> io::Result<Self> {
        let doing = Doing { requests: 0, idle: Instant::now(), unread: None };
        let peer = stream.peer_cred().map(|peer| Peer { uid: peer.uid(), pid: peer.pid() });
        let asked = peer.map_or(Asked::Unknown, Asked::Api);
        Ok(Self { doing: Mutex::new(doing), asked, connection: stream.as_fd().try_clone_to_owned()? })
    }

    fn doing(&self) -> MutexGuard<'_, Doing> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the other end of the connection is closed.
    pub fn has_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.connection.as_fd(), PollFlags::empty())];
        let told = poll(&mut fds, PollTimeout::ZERO).is_ok();
        told && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// How long it has kept its room for nothing; none while it is being served.
    fn wastes(&self, now: Instant) -> Option<Duration> {
        let doing = self.doing();
        match (doing.unread, doing.requests) {
            (Some(since), _) => Some(now - since).filter(|time| *time >= UNREAD_SPARED),
            (None, 0) => Some(now - doing.idle),
            (None, _) => None,
        }
    }

    /// Whether its time is over.
    fn is_late(&self, now: Instant) -> bool {
        let doing = self.doing();
        match (doing.unread, doing.requests) {
            (Some(since), _) => now - since >= UNREAD_MAX,
            (None, 0) => now - doing.idle >= REQUEST_MAX,
            (None, _) => false,
        }
    }
}

/// A request under way, until its answer is at its end.
struct UnderWay(Arc<Client>);

impl UnderWay {
    fn new(client: Arc<Client>) -> Self {
        client.doing().requests += 1;
        Self(client)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut doing = self.0.doing();
        doing.requests = doing.requests.saturating_sub(1);
        doing.idle = Instant::now();
    }
}

/// Serves clients until `ended` says true or its sender is gone; those that are being answered have [`END_MAX`] more.
pub(super) async fn serve(listener: UnixListener, router: Router, mut ended: watch::Receiver<bool>) {
    let mut served = JoinSet::new();
    let mut clients: HashMap<Id, (Arc<Client>, AbortHandle)> = HashMap::new();
    let mut look = tokio::time::interval(LOOK);
    let end = ended.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let client = accepted.and_then(|(stream, _)| Ok((Arc::new(Client::new(&stream)?), stream)));
                let Ok((client, stream)) = client else {
                    tokio::time::sleep(RETRY).await;
                    continue;
                };
                if clients.len() >= CLIENTS_MAX {
                    make_room(&mut clients);
                }
                let task = served.spawn(converse(stream, client.clone(), router.clone(), end.clone()));
                clients.insert(task.id(), (client, task));
            }
            Some(done) = served.join_next_with_id() => {
                let id = match done {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                clients.remove(&id);
            }
            _ = look.tick() => {
                let now = Instant::now();
                let late = clients.values().filter(|(client, _)| client.is_late(now));
                late.for_each(|(_, task)| task.abort());
            }
            () = said(&mut ended) => break,
        }
    }
    drop(listener);
    let all = async { while served.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(END_MAX, all).await;
    // What is left does not read: it is not waited for.
    served.abort_all();
}

/// Waits until it says true, or nobody says anything any more.
async fn said(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

/// Ends the client that has kept its room for nothing for longest. There is one: requests have fewer places than there are clients.
fn make_room(clients: &mut HashMap<Id, (Arc<Client>, AbortHandle)>) {
    let now = Instant::now();
    let wasting = clients.iter().filter_map(|(id, (client, _))| Some((client.wastes(now)?, *id)));
    if let Some((_, id)) = wasting.max_by_key(|(time, _)| *time) {
        if let Some((_, task)) = clients.remove(&id) {
            tracing::debug!(
                "API: all {CLIENTS_MAX} places for clients are taken: the one that did nothing for longest gives way"
            );
            task.abort();
        }
    }
}

/// Serves one client.
async fn converse(stream: UnixStream, client: Arc<Client>, router: Router, mut ended: watch::Receiver<bool>) {
    let io = TokioIo::new(Watched { stream, client: client.clone() });
    let service = service_fn(move |mut request: Request<Incoming>| {
        let under_way = UnderWay::new(client.clone());
        request.extensions_mut().insert(client.asked);
        request.extensions_mut().insert(client.clone());
        let answer = TowerToHyperService::new(router.clone()).call(request);
        async move {
            let answer: Result<Response<Body>, _> = answer.await;
            answer.map(|answer| {
                // Answers of one piece keep their length.
                let whole = hyper::body::Body::size_hint(answer.body()).exact().is_some();
                if whole {
                    drop(under_way);
                    return answer;
                }
                answer.map(|body| {
                    Body::from_stream(body.into_data_stream().map(move |piece| {
                        let _ = &under_way;
                        piece
                    }))
                })
            })
        }
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(REQUEST_MAX);
    let mut connection = std::pin::pin!(connection.serve_connection(io, service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = said(&mut ended) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// A client's connection, which takes note of whether it is read.
#[derive(Debug)]
struct Watched {
    stream: UnixStream,
    client: Arc<Client>,
}

impl Watched {
    fn wrote<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let mut doing = self.client.doing();
        if written.is_pending() {
            doing.unread.get_or_insert_with(Instant::now);
        } else {
            doing.unread = None;
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_nothing_is_late_and_who_is_served_is_not() {
        let (stream, other) = UnixStream::pair().unwrap();
        let client = Arc::new(Client::new(&stream).unwrap());
        let now = Instant::now() + UNREAD_SPARED;
        let late = now + REQUEST_MAX.max(UNREAD_MAX);
        assert!(!client.is_late(now) && client.is_late(late) && client.wastes(now).is_some());
        let under_way = UnderWay::new(client.clone());
        assert!(!client.is_late(late) && client.wastes(late).is_none());
        // Its answer is not read.
        client.doing().unread = Some(now);
        assert!(client.wastes(now).is_none() && client.wastes(now + UNREAD_SPARED).is_some());
        assert!(!client.is_late(now + UNREAD_SPARED) && client.is_late(now + UNREAD_MAX));
        client.doing().unread = None;
        drop(under_way);
        assert!(!client.is_late(Instant::now()) && client.is_late(Instant::now() + REQUEST_MAX));
        assert!(!client.has_gone());
        drop(other);
        assert!(client.has_gone());
    }
}
