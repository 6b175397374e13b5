//! HTTP/1.1 GET, by TLS or without.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::answer::Answer;
use super::{Deadline, Tools, closed, connect, shown};
use crate::health::kind::{Body, Http};
use crate::health::{Check, Failure, RealKey, Success};

/// The most that is read at once, in bytes.
const PIECE_MAX: usize = 8 << 10;

pub async fn run(
    key: Option<&RealKey>,
    check: &Check,
    asked: &Http,
    tools: &Tools,
    deadline: Deadline,
) -> Result<Success, Failure> {
    let host = asked.host.clone().unwrap_or_else(|| match key.map_or(check.to.ip(), |key| key.listen.ip()) {
        IpAddr::V4(vip) => vip.to_string(),
        IpAddr::V6(vip) => format!("[{vip}]"),
    });
    let stream = connect(check, tools, deadline).await?;
    match &asked.tls {
        None => deadline.answer(exchange(stream, asked, &host)).await,
        Some(settings) => {
            // Seldom wanted, and large: not a part of every check.
            let ask = Box::pin(async {
                let stream = tools.tls.secure(stream, settings, &host, check.to.ip()).await?;
                exchange(stream, asked, &host).await
            });
            deadline.answer(ask).await
        }
    }
}

/// Sends a GET and reads the answer: its head, and its body where that matters.
async fn exchange<S>(mut stream: S, asked: &Http, host: &str) -> Result<Success, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(&asked.path, host)?;
    stream.write_all(request.as_bytes()).await.map_err(|error| closed(&error))?;
    stream.flush().await.map_err(|error| closed(&error))?;
    let mut answer = Answer::new(matches!(asked.body, Some(Body::Answer(_))));
    loop {
        poll_fn(|context| read_piece(Pin::new(&mut stream), context, &mut answer)).await?;
        let Some(got) = answer.status() else { continue };
        if !asked.status.iter().any(|range| range.contains(&got)) {
            return Err(Failure::Status { got, wanted: asked.status.clone() });
        }
        let Some(wanted) = &asked.body else { return Ok(Success::Up) };
        if let Some(body) = answer.body() {
            return compare(answer.head(), body, wanted);
        }
    }
}

/// What is sent (RFC 9112, 3).
fn request(path: &str, host: &str) -> Result<String, Failure> {
    for (what, text) in [("path", path), ("host", host)] {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let words = format!(
                "the {what} is {:?}, it can only have visible ASCII characters",
                shown(text.as_bytes())
            );
            return Err(Failure::Request(words));
        }
    }
    const AGENT: &str = concat!("shunt/", env!("CARGO_PKG_VERSION"));
    Ok(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {AGENT}\r\nconnection: close\r\n\r\n"))
}

/// Reads once, into room that is on the stack, so that checks that wait hold none.
fn read_piece<S: AsyncRead>(
    stream: Pin<&mut S>,
    context: &mut Context<'_>,
    answer: &mut Answer,
) -> Poll<Result<(), Failure>> {
    let mut room = [MaybeUninit::uninit(); PIECE_MAX];
    let mut piece = ReadBuf::uninit(&mut room);
    let read = ready!(stream.poll_read(context, &mut piece));
    Poll::Ready(match (read, piece.filled()) {
        (Err(error), _) => Err(closed(&error)),
        (Ok(()), []) => answer.end(),
        (Ok(()), piece) => answer.take(piece),
    })
}

fn compare(head: &[u8], body: &[u8], wanted: &Body) -> Result<Success, Failure> {
    match wanted {
        Body::Digest(wanted) => {
            let got: [u8; 16] = Md5::digest(body).into();
            if got == *wanted { Ok(Success::Up) } else { Err(Failure::Digest { got, wanted: *wanted }) }
        }
        Body::Matches(pattern) if pattern.is_in(body) => Ok(Success::Up),
        Body::Matches(pattern) => Err(Failure::Unexpected { got: shown(body), wanted: pattern.to_string() }),
        Body::Answer(search) if search.holds(&[head, body].concat()) => Ok(Success::Up),
        Body::Answer(search) => Err(Failure::Unexpected { got: shown(body), wanted: search.to_string() }),
    }
}
