//! An HTTP/1.1 answer to a GET, as it comes in pieces (RFC 9112). No I/O: whoever reads gives it what came.

use httparse::{EMPTY_HEADER, Header, Response, Status};

use crate::health::Failure;

/// The longest head of an answer, those of interim answers before it included, in bytes; also that of all trailers.
pub const HEAD_MAX: usize = 64 << 10;
/// The longest body that is read, in bytes; a longer one is a failure where the body matters.
pub const BODY_MAX: usize = 4 << 20;
/// The most fields of a head.
const FIELDS_MAX: usize = 100;
/// The longest line with a chunk's size and its extensions, in bytes.
const CHUNK_LINE_MAX: usize = 4 << 10;
/// The bytes of `HTTP/1.1 200 `: what is no status line is told while that is still short.
const STATUS_LINE_MIN: usize = 13;

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub struct Answer {
    /// What has come and is not understood yet.
    waiting: Vec<u8>,
    /// The bytes of interim answers, or of trailers, that came before that.
    passed: usize,
    status: Option<u16>,
    /// The head, where it is asked for.
    head: Option<Vec<u8>>,
    body: Vec<u8>,
    /// What comes next after the head.
    next: Next,
}

/// What comes next (RFC 9112, 6.3 and 7.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    /// The body until the connection is closed.
    #[default]
    UntilClosed,
    /// So many bytes of the body, which are its last ones.
    Rest(usize),
    /// The line before a chunk.
    ChunkLine,
    /// So many bytes of a chunk.
    Chunk(usize),
    /// The line end after a chunk.
    ChunkEnd,
    /// Fields after the last chunk.
    Trailers,
    /// Nothing: the body is whole.
    Nothing,
}

impl Answer {
    /// One whose head matters beyond its status, or does not.
    #[must_use]
    pub fn new(keeps_head: bool) -> Self {
        Self { head: keeps_head.then(Vec::new), ..Self::default() }
    }

    /// The head, as soon as it is whole; empty where nobody asked for it.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        self.head.as_deref().unwrap_or_default()
    }

    /// Takes what came.
    ///
    /// # Errors
    /// [`Failure::NotHttp`] and [`Failure::TooLong`]: nothing good can come of it any more.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.status.is_some() {
            return self.read_body(piece);
        }
        if self.waiting.is_empty() {
            return self.read_heads(piece);
        }
        let tell = self.waiting.len() < STATUS_LINE_MIN || piece.contains(&b'\n');
        let mut all = std::mem::take(&mut self.waiting);
        all.extend_from_slice(piece);
        if tell {
            return self.read_heads(&all);
        }
        self.waiting = all;
        self.bound_head()
    }

    /// The server closed the connection.
    ///
    /// # Errors
    /// [`Failure::Closed`] when the answer is not whole, [`Failure::NotHttp`] when it is none.
    pub fn end(&mut self) -> Result<(), Failure> {
        if self.status.is_none() {
            let head = std::mem::take(&mut self.waiting);
            self.read_heads(&head)?;
        }
        match (self.status, self.next) {
            (Some(_), Next::UntilClosed) => self.next = Next::Nothing,
            (Some(_), Next::Nothing) => {}
            (None, _) if self.waiting.is_empty() => {
                return Err(Failure::Closed("the server closed it".into()));
            }
            _ => return Err(Failure::Closed("the server closed it in the middle of one".into())),
        }
        Ok(())
    }

    /// The status, as soon as the head is whole.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// The body, as soon as it is whole.
    #[must_use]
    pub fn body(&self) -> Option<&[u8]> {
        (self.status.is_some() && self.next == Next::Nothing).then_some(&self.body)
    }

    /// Reads heads until one is that of the answer itself (RFC 9110, 15.2).
    fn read_heads(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let mut fields = [EMPTY_HEADER; FIELDS_MAX];
            let mut head = Response::new(&mut fields);
            let Status::Complete(length) = head.parse(bytes).map_err(|error| not_http(&error.to_string()))?
            else {
                self.waiting.extend_from_slice(bytes);
                return self.bound_head();
            };
            self.passed += length;
            self.bound_head()?;
            let status = head.code.unwrap_or_default();
            // 101 would be the last one, though nobody asked for another protocol.
            if matches!(status, 100 | 102..=199) {
                bytes = &bytes[length..];
                continue;
            }
            self.next = after_head(status, head.headers)?;
            if let Some(kept) = &mut self.head {
                kept.extend_from_slice(&bytes[..length]);
            }
            (self.status, self.passed) = (Some(status), 0);
            return self.read_body(&bytes[length..]);
        }
        Ok(())
    }

    fn bound_head(&self) -> Result<(), Failure> {
        if self.passed + self.waiting.len() > HEAD_MAX {
            return Err(not_http(&format!("its head has more than {HEAD_MAX} bytes")));
        }
        Ok(())
    }

    fn read_body(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            let used = self.read_pieces(piece)?;
            self.waiting.extend_from_slice(&piece[used..]);
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.waiting);
        all.extend_from_slice(piece);
        let used = self.read_pieces(&all)?;
        all.drain(..used);
        self.waiting = all;
        Ok(())
    }

    /// Reads what can be read; how much that was, in bytes.
    fn read_pieces(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let step = match self.next {
                // What comes after the answer is nobody's.
                Next::Nothing => return Ok(bytes.len()),
                _ if rest.is_empty() => return Ok(used),
                Next::UntilClosed => self.keep(rest, rest.len())?,
                Next::Rest(left) => {
                    let step = self.keep(rest, left)?;
                    self.next = if step == left { Next::Nothing } else { Next::Rest(left - step) };
                    step
                }
                Next::Chunk(left) => {
                    let step = self.keep(rest, left)?;
                    self.next = if step == left { Next::ChunkEnd } else { Next::Chunk(left - step) };
                    step
                }
                Next::ChunkEnd if !b"\r\n".starts_with(&rest[..rest.len().min(2)]) => {
                    return Err(not_http("a chunk is longer than it says"));
                }
                Next::ChunkEnd if rest.len() < 2 => return Ok(used),
                Next::ChunkEnd => {
                    self.next = Next::ChunkLine;
                    2
                }
                Next::ChunkLine => match self.chunk_line(rest)? {
                    Some(step) => step,
                    None => return Ok(used),
                },
                Next::Trailers => match self.trailer(rest)? {
                    Some(step) => step,
                    None => return Ok(used),
                },
            };
            used += step;
        }
    }

    /// Keeps so many bytes of the body, or as many as there are.
    fn keep(&mut self, bytes: &[u8], most: usize) -> Result<usize, Failure> {
        let step = bytes.len().min(most);
        if self.body.len() + step > BODY_MAX {
            return Err(Failure::TooLong(BODY_MAX));
        }
        self.body.extend_from_slice(&bytes[..step]);
        Ok(step)
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let wrong = || not_http("a chunk begins without its size");
        if !bytes.first().is_some_and(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        match httparse::parse_chunk_size(bytes).map_err(|_| wrong())? {
            Status::Complete((length, size)) => {
                let size = usize::try_from(size).ok().filter(|size| *size <= BODY_MAX - self.body.len());
                let size = size.ok_or(Failure::TooLong(BODY_MAX))?;
                self.next = if size == 0 { Next::Trailers } else { Next::Chunk(size) };
                Ok(Some(length))
            }
            Status::Partial if bytes.len() > CHUNK_LINE_MAX => Err(wrong()),
            Status::Partial => Ok(None),
        }
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        if self.passed + end.unwrap_or(bytes.len()) > HEAD_MAX {
            return Err(not_http(&format!("its trailers have more than {HEAD_MAX} bytes")));
        }
        let Some(end) = end else { return Ok(None) };
        if matches!(&bytes[..end], b"" | b"\r") {
            self.next = Next::Nothing;
        }
        self.passed += end + 1;
        Ok(Some(end + 1))
    }
}

/// How the body of an answer ends that begins so (RFC 9112, 6.3).
fn after_head(status: u16, fields: &[Header]) -> Result<Next, Failure> {
    if matches!(status, 101 | 204 | 304) {
        return Ok(Next::Nothing);
    }
    let values = |name: &'static str| {
        fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).flat_map(|field| {
            field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|value| !value.is_empty())
        })
    };
    if let Some(last) = values("transfer-encoding").last() {
        return Ok(if last.eq_ignore_ascii_case(b"chunked") { Next::ChunkLine } else { Next::UntilClosed });
    }
    let mut lengths = values("content-length");
    let Some(length) = lengths.next() else { return Ok(Next::UntilClosed) };
    if lengths.any(|other| other != length) {
        return Err(not_http("it has two different lengths"));
    }
    if !length.iter().all(u8::is_ascii_digit) {
        let shown = super::shown(length);
        return Err(not_http(&format!("its Content-Length is {shown:?}, which is no number")));
    }
    // Longer than any number: longer than any body that is read.
    let length =
        std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()).unwrap_or(usize::MAX);
    Ok(if length == 0 { Next::Nothing } else { Next::Rest(length) })
}

fn not_http(words: &str) -> Failure {
    Failure::NotHttp(words.to_owned())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
