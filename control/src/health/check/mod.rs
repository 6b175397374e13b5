//! One health check, from ordinary sockets of the calling thread's namespace; scripts and files belong to the host.

mod answer;
mod by_service;
mod dns;
mod file;
mod http;
mod ping;
mod process;
mod script;
mod search;
mod send;
mod smtp;
pub(crate) mod tls;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shunt_dataplane::id::Protocol;
use shunt_model::health::{Check, CheckKind, Failure, Lack, RealKey, Success};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::Lacks;
use super::punctual::Punctual;
use super::scripts::Scripts;
use crate::kernel::ServiceWays;

/// What checks share: the thread of scripts, and TLS as it was set up.
#[derive(Debug)]
pub struct Tools {
    scripts: Scripts,
    tls: tls::Connectors,
    ways: ServiceWays,
    /// Places of those that read files.
    files: Arc<Semaphore>,
    lacks: Arc<Lacks>,
    /// Whether the thread was there in time.
    pub(super) punctual: Punctual,
}

/// Files that are read at once; checks of others wait, and fail at their timeout where a file system hangs.
pub const FILES_READING_MAX: usize = 16;

impl Tools {
    /// With these scripts; `ways` is told of the sockets of checks that go their service's way, `lacks` of what the director lacks.
    #[must_use]
    pub fn new(scripts: Scripts, ways: ServiceWays, lacks: Arc<Lacks>) -> Self {
        let files = Arc::new(Semaphore::new(FILES_READING_MAX));
        Self { scripts, tls: tls::Connectors::default(), ways, files, lacks, punctual: Punctual::default() }
    }

    /// Tells whether the thread that calls this is in time, for as long as checks are made on it. It never ends.
    pub async fn keep_time(&self) {
        self.punctual.keep().await;
    }

    /// A check lacked something.
    pub fn note(&self, lack: Lack) {
        self.lacks.note(std::time::Instant::now(), lack);
    }

    /// Files of authorities are read anew.
    pub fn forget(&self) {
        self.tls.forget();
    }
}

/// Carries out a check, of a real server or of nobody's.
///
/// A check's future is moved when it starts: what only some kinds need is kept apart, so that not all of them are large.
///
/// # Errors
/// [`Failure`] says what went wrong; [`Failure::Lack`] is no verdict, and is told.
pub async fn run(key: Option<&RealKey>, check: &Check, tools: &Tools) -> Result<Success, Failure> {
    let deadline = Deadline { at: Instant::now() + check.timeout, after: check.timeout };
    let running = tools.punctual.begin();
    let asked = ask(key, check, tools, deadline);
    let mut result = match (&check.way, key) {
        // Seldom wanted, and large: not a part of every check.
        (Some(way), Some(key)) => Box::pin(by_service::explain(asked, check, way, key, deadline)).await,
        _ => asked.await,
    };
    if result.as_ref().is_err_and(Failure::may_be_lateness) && running.was_late() {
        result = Err(Failure::Lack(Lack::Time));
    }
    if let Some(lack) = result.as_ref().err().and_then(Failure::lack) {
        tools.note(lack);
    }
    result
}

async fn ask(
    key: Option<&RealKey>,
    check: &Check,
    tools: &Tools,
    deadline: Deadline,
) -> Result<Success, Failure> {
    match &check.kind {
        CheckKind::Tcp => connect(check, tools, deadline).await.map(|_stream| Success::Up),
        CheckKind::Http(asked) => http::run(key, check, asked, tools, deadline).await,
        CheckKind::Smtp { helo } => {
            let stream = connect(check, tools, deadline).await?;
            deadline.answer(Box::pin(smtp::run(stream, helo.as_deref()))).await
        }
        CheckKind::Dns { name, query } => {
            let socket = datagrams(check, tools).await?;
            deadline.answer(Box::pin(dns::run(&socket, name, *query))).await
        }
        CheckKind::Ping => {
            let from = check.from.map(|from| from.ip());
            let by_service = check.way.as_ref().map(|way| (&tools.ways, way));
            deadline.answer(Box::pin(ping::run(check.to.ip(), from, by_service))).await
        }
        CheckKind::Udp(asked) => Box::pin(udp::run(&datagrams(check, tools).await?, asked, deadline)).await,
        CheckKind::Script { script, dynamic } => {
            Box::pin(script::run(key, script, *dynamic, check.timeout, &tools.scripts)).await
        }
        CheckKind::Send { send, expect } => {
            let stream = connect(check, tools, deadline).await?;
            deadline.answer(Box::pin(send::run(stream, send.expose(), expect))).await
        }
        CheckKind::File { path, factor, missing } => {
            let place = place(&tools.files, deadline).await?;
            deadline.answer(Box::pin(file::run(path, *factor, *missing, place))).await
        }
        CheckKind::Process(asked) => {
            let place = place(&tools.files, deadline).await?;
            deadline.answer(Box::pin(process::run(asked, place))).await
        }
    }
}

/// A place to read files. Who gets none in time has no verdict: others hang, not he.
async fn place(places: &Arc<Semaphore>, deadline: Deadline) -> Result<OwnedSemaphorePermit, Failure> {
    let place = timeout_at(deadline.at, places.clone().acquire_owned()).await;
    place.ok().and_then(Result::ok).ok_or(Failure::Lack(Lack::Places))
}

/// The end of a check's time.
#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    /// What comes in time, else [`Failure::NoAnswer`].
    async fn answer<T>(self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout_at(self.at, work).await.unwrap_or(Err(Failure::NoAnswer(self.after)))
    }
}

/// Opens a TCP connection to what the check asks.
async fn connect(check: &Check, tools: &Tools, deadline: Deadline) -> Result<TcpStream, Failure> {
    let socket = socket(check, tools).map_err(|error| making_failure(&error))?;
    let opened = timeout_at(deadline.at, socket.connect(check.to)).await;
    let opened = opened.map_err(|_| Failure::NoConnection(deadline.after))?;
    let stream = opened.map_err(|error| connect_failure(&error))?;
    // It ends with RST, and leaves no TIME_WAIT behind: thousands of checks a second would use up all ports towards few real servers. Where
    // the system does not let us, it ends as any other.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    Ok(stream)
}

/// A TCP socket, bound where the check says.
fn socket(check: &Check, tools: &Tools) -> io::Result<TcpSocket> {
    let socket = if check.to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = check.from {
        // A source port of the operator's choice may still be in TIME_WAIT.
        socket.set_reuseaddr(from.port() != 0)?;
        socket.bind(from)?;
        if let Some(way) = &check.way {
            tools.ways.take(&SockRef::from(&socket), Protocol::Tcp.number(), None, way)?;
        }
    }
    Ok(socket)
}

/// A UDP socket that speaks to what the check asks, and hears when that is unreachable.
async fn datagrams(check: &Check, tools: &Tools) -> Result<UdpSocket, Failure> {
    let any = if check.to.is_ipv4() {
        SocketAddr::from(([0, 0, 0, 0], 0))
    } else {
        SocketAddr::from(([0_u16; 8], 0))
    };
    let socket = UdpSocket::bind(check.from.unwrap_or(any)).await;
    let socket = socket.map_err(|error| making_failure(&error))?;
    if let Some(way) = &check.way {
        let taken = tools.ways.take(&SockRef::from(&socket), Protocol::Udp.number(), None, way);
        taken.map_err(|error| making_failure(&error))?;
    }
    socket.connect(check.to).await.map_err(|error| connect_failure(&error))?;
    Ok(socket)
}

/// What the system says when a socket is made, before anybody else has a part in it.
fn making_failure(error: &io::Error) -> Failure {
    match crate::health::lack::of_making(error) {
        Some(lack) => Failure::Lack(lack),
        None => connect_failure(error),
    }
}

fn connect_failure(error: &io::Error) -> Failure {
    if let Some(lack) = crate::health::lack::of(error) {
        return Failure::Lack(lack);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::Connect(without_number(error)),
    }
}

/// What the system says about a connection that was open, without "(os error 104)".
fn closed(error: &io::Error) -> Failure {
    if let Some(lack) = crate::health::lack::of(error) {
        return Failure::Lack(lack);
    }
    if let Some(failure) = tls::said(error) {
        return failure;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::Closed(without_number(error)),
    }
}

/// What the system says, without "(os error 113)".
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// What a server said, shortened to something that can stand in a line.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    shunt_model::fault::printable(text.trim_end(), 80)
}

#[cfg(test)]
mod tests;
