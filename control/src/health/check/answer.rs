//! An HTTP/1.1 answer to a GET, as it comes in pieces (RFC 9112). No I/O: whoever reads gives it what came, and takes what is in it.
//!
//! It takes what servers of the field send: any word for the protocol, lines that end with LF alone, folded fields, blanks before a colon, fields
//! that are none, lengths that are no numbers and chunks that are none (then the body is what comes until the end).

use shunt_model::health::Failure;

/// The longest head of an answer, those of interim answers before it included, in bytes; also that of all trailers.
pub const HEAD_MAX: usize = 64 << 10;
/// The longest line with a chunk's size and its extensions, in bytes.
const CHUNK_LINE_MAX: usize = 4 << 10;
/// The longest word before a status, in bytes: what is no status line is told while that is still short.
const PROTOCOL_MAX: usize = 64;

/// Who takes what is in an answer.
pub trait Reader {
    /// The head of the answer itself.
    fn head(&mut self, bytes: &[u8]);
    /// A piece of its body, in order.
    fn body(&mut self, bytes: &[u8]);
}

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub struct Answer {
    /// What has come and is not understood yet.
    waiting: Vec<u8>,
    /// Where the last line of a head begins in it.
    line: usize,
    /// Where nobody has looked for its end yet.
    seen: usize,
    /// The bytes of interim answers, or of trailers, that came before that.
    passed: usize,
    status: Option<u16>,
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
    /// Takes what came.
    ///
    /// # Errors
    /// [`Failure::NotHttp`]: nothing good can come of it any more.
    pub fn take(&mut self, piece: &[u8], reader: &mut impl Reader) -> Result<(), Failure> {
        if self.status.is_some() {
            self.read_body(piece, reader);
            return Ok(());
        }
        self.waiting.extend_from_slice(piece);
        self.read_heads(reader)
    }

    /// The server closed the connection.
    ///
    /// # Errors
    /// [`Failure::Closed`] when the answer is not whole.
    pub fn end(&mut self) -> Result<(), Failure> {
        let words = match self.status {
            None if self.waiting.is_empty() => "the server closed it",
            _ => "the server closed it in the middle of one",
        };
        self.broke(Failure::Closed(words.into()))
    }

    /// The connection is over, by this: a body that goes on until then is whole. Servers that close with a request unread end it by a reset.
    ///
    /// # Errors
    /// That failure when the answer is not whole.
    pub fn broke(&mut self, failure: Failure) -> Result<(), Failure> {
        match (self.status, self.next) {
            (Some(_), Next::UntilClosed | Next::Nothing) => {
                self.next = Next::Nothing;
                Ok(())
            }
            _ => Err(failure),
        }
    }

    /// The status, as soon as the head is whole.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether its body is whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.status.is_some() && self.next == Next::Nothing
    }

    /// Reads heads until one is that of the answer itself (RFC 9110, 15.2).
    fn read_heads(&mut self, reader: &mut impl Reader) -> Result<(), Failure> {
        while let Some((status, length)) = self.head()? {
            let all = std::mem::take(&mut self.waiting);
            let (head, rest) = all.split_at(length);
            (self.line, self.seen) = (0, 0);
            // 101 would be the last one, though nobody asked for another protocol.
            if matches!(status, 100 | 102..=199) {
                self.passed += length;
                self.waiting = rest.to_vec();
                continue;
            }
            reader.head(head);
            (self.status, self.passed, self.next) = (Some(status), 0, after_head(status, head));
            self.read_body(rest, reader);
            return Ok(());
        }
        Ok(())
    }

    /// Status and length of the head that waits, once it is whole.
    fn head(&mut self) -> Result<Option<(u16, usize)>, Failure> {
        while let Some(end) = self.waiting[self.seen..].iter().position(|byte| *byte == b'\n') {
            let next = self.seen + end + 1;
            let line = without_end(&self.waiting[self.line..next]);
            if self.line > 0 && line.is_empty() {
                return Ok(Some((status(&self.waiting)?, next)));
            }
            if self.line == 0 && line.is_empty() {
                // Line ends before it are passed over (RFC 9112, 2.2).
                self.waiting.drain(..next);
                self.passed += next;
                self.seen = 0;
                self.bound_head()?;
                continue;
            }
            if self.line == 0 {
                status(line)?;
            }
            (self.line, self.seen) = (next, next);
        }
        self.seen = self.waiting.len();
        if self.line == 0 && self.seen > PROTOCOL_MAX {
            protocol(&self.waiting)?;
        }
        self.bound_head()?;
        Ok(None)
    }

    fn bound_head(&self) -> Result<(), Failure> {
        if self.passed + self.waiting.len() > HEAD_MAX {
            return Err(not_http(&format!("its head has more than {HEAD_MAX} bytes")));
        }
        Ok(())
    }

    fn read_body(&mut self, piece: &[u8], reader: &mut impl Reader) {
        if self.waiting.is_empty() {
            let used = self.read_pieces(piece, reader);
            self.waiting.extend_from_slice(&piece[used..]);
            return;
        }
        let mut all = std::mem::take(&mut self.waiting);
        all.extend_from_slice(piece);
        let used = self.read_pieces(&all, reader);
        all.drain(..used);
        self.waiting = all;
    }

    /// Reads what can be read; how much that was, in bytes.
    fn read_pieces(&mut self, bytes: &[u8], reader: &mut impl Reader) -> usize {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let step = match self.next {
                // What comes after the answer is nobody's.
                Next::Nothing => return bytes.len(),
                _ if rest.is_empty() => return used,
                Next::UntilClosed => {
                    reader.body(rest);
                    rest.len()
                }
                Next::Rest(left) => {
                    let step = rest.len().min(left);
                    reader.body(&rest[..step]);
                    self.next = if step == left { Next::Nothing } else { Next::Rest(left - step) };
                    step
                }
                Next::Chunk(left) => {
                    let step = rest.len().min(left);
                    reader.body(&rest[..step]);
                    self.next = if step == left { Next::ChunkEnd } else { Next::Chunk(left - step) };
                    step
                }
                Next::ChunkEnd | Next::ChunkLine | Next::Trailers => match self.line_between(rest) {
                    Some(step) => step,
                    None => return used,
                },
            };
            used += step;
        }
    }

    /// Reads a line that is none of the body; its length, or none while it is not whole.
    fn line_between(&mut self, bytes: &[u8]) -> Option<usize> {
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        if self.next == Next::Trailers {
            let length = end.unwrap_or(bytes.len());
            let too_long = self.passed + length > HEAD_MAX;
            if too_long || end.is_some_and(|end| without_end(&bytes[..end]).is_empty()) {
                self.next = Next::Nothing;
                return Some(length);
            }
            self.passed += end?;
            return end;
        }
        let line = without_end(&bytes[..end.unwrap_or(bytes.len())]);
        let next = match (self.next, end) {
            (Next::ChunkEnd, None) if line.is_empty() => return None,
            (Next::ChunkEnd, Some(_)) if line.is_empty() => Some(Next::ChunkLine),
            (Next::ChunkEnd, _) => None,
            (_, None) if bytes.len() <= CHUNK_LINE_MAX && may_be_chunk_line(line) => return None,
            (_, Some(_)) => {
                chunk_size(line).map(|size| if size == 0 { Next::Trailers } else { Next::Chunk(size) })
            }
            (_, None) => None,
        };
        match (next, end) {
            (Some(next), Some(end)) => {
                self.next = next;
                Some(end)
            }
            // Those are no chunks: what is left is the body as it stands.
            _ => {
                self.next = Next::UntilClosed;
                Some(0)
            }
        }
    }
}

/// A line without its end, whole or not.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// How long the word is that a status line begins with.
fn protocol(line: &[u8]) -> Result<usize, Failure> {
    let word = line.iter().take(PROTOCOL_MAX + 1).position(is_blank).filter(|length| *length > 0);
    word.ok_or_else(|| no_status(line))
}

/// The status of a status line, and of what comes behind it: `HTTP/1.1 200 OK`, `HTTP/2 200`, `ICY 200 OK`.
fn status(line: &[u8]) -> Result<u16, Failure> {
    let rest = line[protocol(line)?..].trim_ascii_start();
    let (digits, rest) = rest.split_at_checked(3).ok_or_else(|| no_status(line))?;
    if !digits.iter().all(u8::is_ascii_digit) || rest.first().is_some_and(|byte| !byte.is_ascii_whitespace())
    {
        return Err(no_status(line));
    }
    Ok(digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

fn no_status(line: &[u8]) -> Failure {
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    not_http(&format!("it begins with {:?}, not with a status line", super::shown(line)))
}

/// How the body of an answer ends that has this head (RFC 9112, 6.3).
fn after_head(status: u16, head: &[u8]) -> Next {
    if matches!(status, 101 | 204 | 304) {
        return Next::Nothing;
    }
    let (codings, lengths) = (values(head, b"transfer-encoding"), values(head, b"content-length"));
    if let Some(last) = list(&codings).last() {
        return if last.eq_ignore_ascii_case(b"chunked") { Next::ChunkLine } else { Next::UntilClosed };
    }
    let mut lengths = list(&lengths);
    let Some(length) = lengths.next() else { return Next::UntilClosed };
    if lengths.any(|other| other != length) || !length.iter().all(u8::is_ascii_digit) {
        return Next::UntilClosed;
    }
    match number(length, 10) {
        0 => Next::Nothing,
        length => Next::Rest(length),
    }
}

/// All values of a field, folded or not (RFC 9112, 5.2), one behind the other with commas.
fn values(head: &[u8], name: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut this = false;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        if line.first().is_some_and(is_blank) {
            if this {
                all.extend_from_slice(line);
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        this = colon.is_some_and(|colon| line[..colon].trim_ascii().eq_ignore_ascii_case(name));
        if let (true, Some(colon)) = (this, colon) {
            all.push(b',');
            all.extend_from_slice(&line[colon + 1..]);
        }
    }
    all
}

/// What a list has, without what is empty (RFC 9110, 5.6.1).
fn list(values: &[u8]) -> impl Iterator<Item = &[u8]> {
    values.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|value| !value.is_empty())
}

/// A number of digits; longer than any body where it is larger than fits.
fn number(digits: &[u8], radix: u32) -> usize {
    let digits = digits.iter().filter_map(|digit| char::from(*digit).to_digit(radix));
    digits.fold(0_usize, |number, digit| number.saturating_mul(radix as usize).saturating_add(digit as usize))
}

/// The size that a chunk's line tells (RFC 9112, 7.1).
fn chunk_size(line: &[u8]) -> Option<usize> {
    let line = line.trim_ascii();
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let behind = line[digits..].trim_ascii_start();
    (digits > 0 && behind.first().is_none_or(|byte| *byte == b';')).then(|| number(&line[..digits], 16))
}

/// Whether that may become a chunk's line.
fn may_be_chunk_line(line: &[u8]) -> bool {
    line.trim_ascii().is_empty() || chunk_size(line).is_some()
}

fn not_http(words: &str) -> Failure {
    Failure::NotHttp(words.to_owned())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
