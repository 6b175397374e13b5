//! A listener that takes no more clients than it may.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::asked::Peer;

/// How long to wait when the system has no descriptor to spare.
const RETRY: Duration = Duration::from_millis(100);

/// A listener with so many places.
#[derive(Debug)]
pub struct Limited {
    listener: UnixListener,
    places: Arc<Semaphore>,
}

impl Limited {
    /// A listener that serves `places` clients at once.
    pub fn new(listener: UnixListener, places: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)) }
    }
}

/// A client and its place.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl Client {
    /// Who connected; none when the system does not tell.
    pub fn peer(&self) -> Option<Peer> {
        let peer = self.stream.peer_cred().ok()?;
        Some(Peer { uid: peer.uid(), pid: peer.pid() })
    }
}

impl axum::serve::Listener for Limited {
    type Io = Client;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Client, SocketAddr) {
        loop {
            // The semaphore is never closed.
            if let Ok(place) = self.places.clone().acquire_owned().await {
                if let Ok((stream, address)) = self.listener.accept().await {
                    return (Client { stream, _place: place }, address);
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Client {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
