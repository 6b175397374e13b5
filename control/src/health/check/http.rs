//! HTTP/1.1 GET, by TLS or without.

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncWrite};

use super::tls::Connectors;
use super::{Deadline, connect, without_number};
use crate::health::kind::{Body, Http};
use crate::health::{Check, Failure, RealKey, Success};

/// The longest head of an answer, in bytes; a longer one is a failure.
const HEAD_MAX: usize = 64 << 10;
/// The longest body that is read, in bytes; a longer one is a failure where the body matters.
pub const BODY_MAX: usize = 4 << 20;

pub async fn run(
    key: Option<&RealKey>,
    check: &Check,
    asked: &Http,
    tls: &Connectors,
    deadline: Deadline,
) -> Result<Success, Failure> {
    let host = asked.host.clone().unwrap_or_else(|| match key.map_or(check.to.ip(), |key| key.listen.ip()) {
        IpAddr::V4(vip) => vip.to_string(),
        IpAddr::V6(vip) => format!("[{vip}]"),
    });
    let stream = connect(check, deadline).await?;
    match &asked.tls {
        None => deadline.answer(exchange(stream, asked, &host)).await,
        Some(settings) => {
            let ask = async {
                let stream = tls.secure(stream, settings, &host, check.to.ip()).await?;
                exchange(stream, asked, &host).await
            };
            deadline.answer(ask).await
        }
    }
}

/// Ends a task when the check that needs it does.
struct Guard(tokio::task::JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a GET and reads the answer: its head, and its body where that matters.
async fn exchange<S>(stream: S, asked: &Http, host: &str) -> Result<Success, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = hyper::Request::get(&asked.path)
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
    let got = answer.status().as_u16();
    if !asked.status.iter().any(|range| range.contains(&got)) {
        return Err(Failure::Status { got, wanted: asked.status.clone() });
    }
    match &asked.body {
        None => Ok(Success::Up),
        Some(wanted) => compare(&read(answer.into_body()).await?, wanted),
    }
}

async fn read(body: Incoming) -> Result<Bytes, Failure> {
    let whole = Limited::new(body, BODY_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return Failure::TooLong(BODY_MAX);
        }
        error.downcast_ref().map_or_else(|| Failure::Closed(error.to_string()), answer_failure)
    })?;
    Ok(whole.to_bytes())
}

fn compare(body: &[u8], wanted: &Body) -> Result<Success, Failure> {
    match wanted {
        Body::Digest(wanted) => {
            let got: [u8; 16] = Md5::digest(body).into();
            if got == *wanted { Ok(Success::Up) } else { Err(Failure::Digest { got, wanted: *wanted }) }
        }
        Body::Matches(pattern) if pattern.is_in(body) => Ok(Success::Up),
        Body::Matches(pattern) => {
            Err(Failure::Unexpected { got: super::shown(body), wanted: pattern.to_string() })
        }
    }
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
