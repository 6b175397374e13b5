//! One health check: a TCP connection or an HTTP GET, from an ordinary socket of the calling thread's namespace.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Check, CheckKind};

/// The longest head of an answer, in bytes; a longer one is a failure.
const HEAD_MAX: usize = 64 << 10;

/// Why a check failed. Its words are what operators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens on the port.
    Refused,
    /// The time was over before the connection was open.
    NoConnection(Duration),
    /// The time was over before the answer was there.
    NoAnswer(Duration),
    /// The connection could not be opened for another reason.
    Connect(String),
    /// The connection broke or was closed before the answer was there.
    Closed(String),
    /// What came is not an HTTP answer.
    NotHttp(String),
    /// The answer has another status.
    Status {
        /// Its status.
        got: u16,
        /// The status codes that would have been a success.
        wanted: Vec<RangeInclusive<u16>>,
    },
    /// Path or host of the configuration cannot stand in a request.
    Request(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::NoConnection(after) => write!(f, "timeout after {after:?}, no connection"),
            Self::NoAnswer(after) => write!(f, "timeout after {after:?}, no answer"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Closed(error) => write!(f, "connection lost before an answer: {error}"),
            Self::NotHttp(error) => write!(f, "not an HTTP answer: {error}"),
            Self::Status { got, wanted } => {
                write!(f, "HTTP status {got}, wanted ")?;
                for (place, range) in wanted.iter().enumerate() {
                    let comma = if place == 0 { "" } else { ", " };
                    match (range.start(), range.end()) {
                        (start, end) if start == end => write!(f, "{comma}{start}")?,
                        (start, end) => write!(f, "{comma}{start}-{end}")?,
                    }
                }
                Ok(())
            }
            Self::Request(error) => write!(f, "no such request can be made: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Carries out a check.
///
/// # Errors
/// [`Failure`] says what went wrong.
pub async fn run(check: &Check) -> Result<(), Failure> {
    let deadline = Instant::now() + check.timeout;
    let stream = timeout_at(deadline, TcpStream::connect(check.to))
        .await
        .map_err(|_| Failure::NoConnection(check.timeout))?
        .map_err(|error| connect_failure(&error))?;
    match &check.kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Http { path, host, status } => {
            let got = timeout_at(deadline, get(stream, check.to, path, host))
                .await
                .map_err(|_| Failure::NoAnswer(check.timeout))??;
            if status.iter().any(|range| range.contains(&got)) {
                Ok(())
            } else {
                Err(Failure::Status { got, wanted: status.clone() })
            }
        }
    }
}

fn connect_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::Refused,
        _ => Failure::Connect(without_number(error)),
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

/// Ends a task when the check that needs it does.
struct Guard(tokio::task::JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a GET and reads the head of the answer; returns its status. The body is of no interest.
async fn get(stream: TcpStream, to: SocketAddr, path: &str, host: &str) -> Result<u16, Failure> {
    let host = if host.is_empty() { to.to_string() } else { host.to_owned() };
    let request = hyper::Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("shunt/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Failure::Request(error.to_string()))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| answer_failure(&error))?;
    let _guard = Guard(tokio::spawn(async move {
        // What goes wrong with the connection is told to the request as well.
        let _ = connection.await;
    }));
    let answer = sender.send_request(request).await.map_err(|error| answer_failure(&error))?;
    Ok(answer.status().as_u16())
}

fn answer_failure(error: &hyper::Error) -> Failure {
    let cause = std::error::Error::source(error);
    if let Some(error) = cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return Failure::Closed(without_number(error));
    }
    if error.is_parse() || error.is_parse_too_large() {
        Failure::NotHttp(error.to_string())
    } else {
        Failure::Closed(error.to_string())
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
