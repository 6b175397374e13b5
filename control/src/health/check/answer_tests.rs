//! Answers of every shape, in pieces of every length.

use proptest::prelude::*;

use super::*;

/// What becomes of an answer that comes in these pieces, and whether it is over when all have come.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    closed: bool,
) -> Result<(u16, Option<Vec<u8>>), String> {
    let mut answer = Answer::default();
    for piece in pieces {
        answer.take(piece).map_err(|failure| failure.to_string())?;
    }
    if closed {
        answer.end().map_err(|failure| failure.to_string())?;
    }
    Ok((answer.status().unwrap_or_default(), answer.body().map(<[u8]>::to_vec)))
}

/// Whole, and byte by byte: both give the same.
fn whole(bytes: &[u8], closed: bool) -> Result<(u16, Option<Vec<u8>>), String> {
    let got = read([bytes], closed);
    assert_eq!(read(bytes.chunks(1), closed), got, "{}", String::from_utf8_lossy(bytes));
    got
}

#[test]
fn a_body_ends_where_its_head_says() {
    for (bytes, status, body) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more"[..], 200, Some("hello")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\ncontent-length: 5\r\n\r\nhello", 200, Some("hello")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, Some("")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", 200, None),
        (b"HTTP/1.0 404\nServer: old\n\nno such page", 404, None),
        // These have no body, whatever they say.
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, Some("")),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, Some("")),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, Some("")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
            200,
            Some(""),
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 1\r\n\r\nabc", 200, None),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n",
            0,
            None,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", 503, Some("no")),
    ] {
        let body = body.map(|body| body.as_bytes().to_vec());
        assert_eq!(whole(bytes, false), Ok((status, body)), "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(
        whole(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", true),
        Ok((200, Some(b"until the end".to_vec())))
    );
}

#[test]
fn chunks_become_a_body() {
    let chunked = |chunks: &str, closed| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        whole(format!("{head}{chunks}").as_bytes(), closed).map(|(_, body)| body)
    };
    let body = |text: &str| Ok(Some(text.as_bytes().to_vec()));
    assert_eq!(chunked("5\r\nhello\r\n0\r\n\r\n", false), body("hello"));
    assert_eq!(
        chunked("5;a=\"b;c\"\r\nhello\r\n00A ;x\r\n and\r\nmore\r\n0;last\r\nX: y\r\nZ: \r\n\r\n", false),
        body("hello and\r\nmore")
    );
    for unfinished in
        ["", "5", "5\r\nhell", "5\r\nhello", "5\r\nhello\r", "5\r\nhello\r\n", "0\r\n", "0\r\nX: y\r\n"]
    {
        assert_eq!(chunked(unfinished, false), Ok(None), "{unfinished:?}");
        let failure = chunked(unfinished, true).unwrap_err();
        assert_eq!(failure, "connection lost before an answer: the server closed it in the middle of one");
    }
    for (wrong, words) in [
        ("x\r\n", "a chunk begins without its size"),
        ("\r\n", "a chunk begins without its size"),
        ("11111111111111111\r\n", "a chunk begins without its size"),
        ("5\r\nhellomore", "a chunk is longer than it says"),
    ] {
        assert_eq!(chunked(wrong, false), Err(format!("not an HTTP answer: {words}")), "{wrong:?}");
    }
    assert_eq!(
        chunked("ffffffffffffffff\r\n", false),
        Err(format!("the body has more than {BODY_MAX} bytes"))
    );
}

#[test]
fn heads_that_are_none_are_told_in_words() {
    for (bytes, words) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "invalid HTTP version"),
        (b"HTTP/9.9 200 OK\r\n\r\n", "invalid HTTP version"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "invalid response status"),
        (b"HTTP/1.1 200 OK\r\nno field\r\n\r\n", "invalid header name"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "it has two different lengths",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "its Content-Length is \"-5\", which is no number",
        ),
    ] {
        assert_eq!(whole(bytes, false), Err(format!("not an HTTP answer: {words}")));
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(FIELDS_MAX + 1));
    assert_eq!(read([many.as_bytes()], false), Err("not an HTTP answer: too many headers".into()));
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD_MAX / 20);
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(HEAD_MAX));
    for endless in [interim, long] {
        let got = read(endless.as_bytes().chunks(1000), false);
        assert_eq!(got, Err(format!("not an HTTP answer: its head has more than {HEAD_MAX} bytes")));
    }
    assert_eq!(whole(b"", true), Err("connection lost before an answer: the server closed it".into()));
}

#[test]
fn nothing_is_read_without_a_bound() {
    let too_long = Err(format!("the body has more than {BODY_MAX} bytes"));
    let body = vec![b'x'; BODY_MAX];
    for (head, more) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "x"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", "x"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400000\r\n", "\r\n1\r\n"),
    ] {
        let pieces = [head.as_bytes(), &body, more.as_bytes()];
        assert_eq!(read(pieces, false), too_long, "{head}");
        assert_eq!(read(pieces[..2].iter().copied(), false), Ok((200, None)), "{head}");
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let extension = format!("{chunked}1;{}", "x".repeat(CHUNK_LINE_MAX));
    assert!(read([extension.as_bytes()], false).is_err());
    let trailers = format!("{chunked}0\r\n{}", "a: b\r\n".repeat(HEAD_MAX / 6 + 1));
    assert!(read(trailers.as_bytes().chunks(100), false).is_err());
}

/// Pieces of these bytes, cut at these places.
fn cut<'a>(bytes: &'a [u8], places: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|place| place.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let ends = places.iter().copied().chain([bytes.len()]);
    let begins = [0].into_iter().chain(places.iter().copied());
    begins.zip(ends).map(|(begin, end)| &bytes[begin..end]).collect()
}

proptest! {
    #[test]
    fn wherever_it_is_cut_it_is_the_same(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        shape in 0..3_u8,
        interim in 0..3_usize,
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let body: Vec<u8> = chunks.concat();
        let mut bytes = b"HTTP/1.1 102 Processing\r\nx: y\r\n\r\n".repeat(interim);
        match shape {
            0 => {
                bytes.extend(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    bytes.extend(format!("{:x};e=\"f\"\r\n", chunk.len()).as_bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\nx: y\r\n\r\n");
            }
            1 => bytes.extend(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes()),
            _ => bytes.extend(b"HTTP/1.0 200 OK\r\n\r\n"),
        }
        if shape > 0 {
            bytes.extend(&body);
        }
        prop_assert_eq!(read(cut(&bytes, &places), true), Ok((200, Some(body))));
    }

    #[test]
    fn any_bytes_end_alike_wherever_they_are_cut(
        begin in prop::sample::select(vec![
            "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ]),
        rest in "[0-9a-f:;x \r\n]{0,60}|[ -~\r\n]{0,60}",
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes = format!("{begin}{rest}").into_bytes();
        prop_assert_eq!(read(cut(&bytes, &places), true), read([&bytes[..]], true));
    }
}
