//! HTTP/1.1 GET, by TLS or without.

use std::fmt;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use md5::{Digest, Md5};
use shunt_model::health::kind::{Body, Http};
use shunt_model::health::{Check, Failure, RealKey, Success};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::answer::{Answer, Reader};
use super::search::Finder;
use super::{Deadline, Tools, closed, connect, shown};

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

/// Sends a GET and reads the answer: its head, and of its body as much as matters.
async fn exchange<S>(mut stream: S, asked: &Http, host: &str) -> Result<Success, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(&asked.path, host)?;
    // Some servers answer whoever opens a connection, and close it: what they said is there, though nothing can be sent.
    let unsent = send(&mut stream, request.as_bytes()).await.err();
    let (mut answer, mut looks) = (Answer::default(), Looks::new(asked.body.as_ref()));
    loop {
        let over =
            poll_fn(|context| read_piece(Pin::new(&mut stream), context, &mut answer, &mut looks)).await?;
        let Some(got) = answer.status() else {
            if let Some(Err(failure)) = over {
                return Err(unsent.unwrap_or(failure));
            }
            continue;
        };
        if !asked.status.iter().any(|range| range.contains(&got)) {
            return Err(Failure::Status { got, wanted: asked.status.clone() });
        }
        if let Some(result) = looks.early() {
            return result;
        }
        match over {
            None if answer.is_whole() => return looks.end(),
            None => {}
            Some(Ok(())) => return looks.end(),
            // It is not whole: what is in it is, what is not might have come.
            Some(Err(failure)) => return if looks.has() { Ok(Success::Up) } else { Err(failure) },
        }
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), Failure> {
    stream.write_all(bytes).await.map_err(|error| closed(&error))?;
    stream.flush().await.map_err(|error| closed(&error))
}

/// What is sent (RFC 9112, 3), with names of fields as everybody writes them: some servers know no other.
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
    Ok(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {AGENT}\r\nConnection: close\r\n\r\n"))
}

/// Reads once, into room that is on the stack, so that checks that wait hold none. What comes of it when the connection is over: whether the
/// answer is whole.
fn read_piece<S: AsyncRead>(
    stream: Pin<&mut S>,
    context: &mut Context<'_>,
    answer: &mut Answer,
    looks: &mut Looks,
) -> Poll<Result<Option<Result<(), Failure>>, Failure>> {
    let mut room = [MaybeUninit::uninit(); PIECE_MAX];
    let mut piece = ReadBuf::uninit(&mut room);
    let read = ready!(stream.poll_read(context, &mut piece));
    Poll::Ready(match (read, piece.filled()) {
        (Err(error), _) => Ok(Some(answer.broke(closed(&error)))),
        (Ok(()), []) => Ok(Some(answer.end())),
        (Ok(()), piece) => answer.take(piece, looks).map(|()| None),
    })
}

/// What is looked for in an answer, and what of it has come.
enum Looks<'a> {
    /// Nothing but its status.
    Nothing,
    Digest {
        of: Md5,
        wanted: [u8; 16],
    },
    For {
        finder: Finder<'a>,
        in_head: bool,
        without: bool,
        wanted: &'a (dyn fmt::Display + Sync),
        /// How the body begins, for people.
        begin: Vec<u8>,
    },
}

/// Of a body, how much may be shown, in bytes.
const SHOWN_MAX: usize = 400;

impl<'a> Looks<'a> {
    fn new(wanted: Option<&'a Body>) -> Self {
        match wanted {
            None => Self::Nothing,
            Some(Body::Digest(wanted)) => Self::Digest { of: Md5::new(), wanted: *wanted },
            Some(Body::Matches(pattern)) => {
                let finder = Finder::new(pattern, 0..=usize::MAX);
                Self::For { finder, in_head: false, without: false, wanted: pattern, begin: Vec::new() }
            }
            Some(Body::Answer(search)) => {
                let finder = Finder::new(&search.pattern, search.begins.clone());
                Self::For {
                    finder,
                    in_head: true,
                    without: search.without,
                    wanted: search,
                    begin: Vec::new(),
                }
            }
        }
    }

    /// What is certain before all has come.
    fn early(&mut self) -> Option<Result<Success, Failure>> {
        match self {
            Self::Nothing => Some(Ok(Success::Up)),
            Self::For { finder, .. } if finder.found() => Some(self.end()),
            _ => None,
        }
    }

    /// Whether a part of an answer has what the whole should have.
    fn has(&mut self) -> bool {
        match self {
            Self::For { without: true, .. } => false,
            _ => self.end().is_ok(),
        }
    }

    /// What comes of it, as all has come.
    fn end(&mut self) -> Result<Success, Failure> {
        match self {
            Self::Nothing => Ok(Success::Up),
            Self::Digest { of, wanted } => {
                let got: [u8; 16] = of.clone().finalize().into();
                if got == *wanted { Ok(Success::Up) } else { Err(Failure::Digest { got, wanted: *wanted }) }
            }
            Self::For { finder, without, wanted, begin, .. } => {
                if finder.end() != *without {
                    return Ok(Success::Up);
                }
                Err(Failure::Unexpected { got: shown(begin), wanted: wanted.to_string() })
            }
        }
    }
}

impl Reader for Looks<'_> {
    fn head(&mut self, bytes: &[u8]) {
        if let Self::For { finder, in_head: true, .. } = self {
            finder.take(bytes);
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::Digest { of, .. } => of.update(bytes),
            Self::For { finder, begin, .. } => {
                begin.extend_from_slice(&bytes[..bytes.len().min(SHOWN_MAX - begin.len())]);
                finder.take(bytes);
            }
        }
    }
}
