//! Answers of every shape, in pieces of every length.

use proptest::prelude::*;

use super::*;

/// What becomes of an answer that comes in these pieces, and whether it is over when all have come.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    closed: bool,
) -> Result<(u16, Option<Vec<u8>>), String> {
    let (mut answer, mut body) = (Answer::default(), Kept::default());
    for piece in pieces {
        answer.take(piece, &mut body).map_err(|failure| failure.to_string())?;
    }
    if closed {
        answer.end().map_err(|failure| failure.to_string())?;
    }
    Ok((answer.status().unwrap_or_default(), answer.is_whole().then_some(body.0)))
}

/// The body.
#[derive(Default)]
struct Kept(Vec<u8>);

impl Reader for Kept {
    fn head(&mut self, _bytes: &[u8]) {}

    fn body(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
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
    for (odd, read) in [
        (" 5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5   \r\nhello\r\n0\r\n\r\n", "hello"),
        ("00000000000000000000005\nhello\n000\n\n", "hello"),
        // No chunks: it is the body as it stands, from there on.
        ("x\r\n", "x\r\n"),
        ("\r\n5", "\r\n5"),
        ("well, no chunks", "well, no chunks"),
        ("face to face", "face to face"),
        ("facet", "facet"),
        ("5\r\nhellomore", "hellomore"),
    ] {
        let got =
            whole(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{odd}").as_bytes(), false);
        match got.unwrap().1 {
            Some(got) => assert_eq!(got, read.as_bytes(), "{odd:?}"),
            None => assert_eq!(chunked(odd, true), body(read), "{odd:?}"),
        }
    }
    assert_eq!(chunked("fffffffffffffffffffff\r\nhello", false), Ok(None));
}

#[test]
fn heads_of_the_field_are_taken() {
    for (head, status, body) in [
        ("HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\n", 200, Some("well")),
        ("HTTP/2 200\r\nContent-Length: 4\r\n\r\n", 200, Some("well")),
        ("http/1.1 200 ok\r\nContent-Length: 4\r\n\r\n", 200, Some("well")),
        ("\u{feff}HTTP/1.1\t 200 OK\nContent-Length: 4\r\n\n", 200, Some("well")),
        ("\r\n\nHTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\n", 404, Some("well")),
        ("ICY 200 OK\r\n\r\n", 200, None),
        (
            "HTTP/1.1 200 OK\r\nServer : Domino\r\nX: a\r\n  folded\r\nContent-Length\t: 4\r\n\r\n",
            200,
            Some("well"),
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n 4\r\n\r\n", 200, Some("well")),
        (
            "HTTP/1.1 200 OK\r\nno field\r\n: x\r\nX y: \0\u{1}\r\nContent-Length: 4\r\n\r\n",
            200,
            Some("well"),
        ),
        // A length that is none says nothing.
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", 200, None),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 200, None),
        ("HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\n", 200, None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n", 200, None),
    ] {
        let bytes = format!("{head}well");
        let body = body.map(|body: &str| body.as_bytes().to_vec());
        assert_eq!(whole(bytes.as_bytes(), false), Ok((status, body)), "{head}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(3000));
    assert_eq!(read([many.as_bytes()], true), Ok((200, Some(Vec::new()))));
}

#[test]
fn heads_that_are_none_are_told_in_words() {
    for (bytes, begins) in [
        ("SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
        ("220 mail.example.org ESMTP\r\n", "220 mail.example.org ESMTP"),
        ("well\n", "well"),
        ("HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 2x0 OK"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 2000 OK"),
        ("HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 20 OK"),
        ("HTTP/1.1 200OK\r\n\r\n", "HTTP/1.1 200OK"),
        (" 200 OK\r\n\r\n", " 200 OK"),
        ("HTTP/1.1\r\n\r\n", "HTTP/1.1"),
    ] {
        let words = format!("not an HTTP answer: it begins with {begins:?}, not with a status line");
        assert_eq!(whole(bytes.as_bytes(), false), Err(words));
    }
    assert!(
        read([&[b'x'; 100][..]], false).unwrap_err().starts_with("not an HTTP answer: it begins with \"xxx")
    );
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD_MAX / 20);
    let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(HEAD_MAX));
    for endless in [interim, long, "\r\n".repeat(HEAD_MAX)] {
        let got = read(endless.as_bytes().chunks(1000), false);
        assert_eq!(got, Err(format!("not an HTTP answer: its head has more than {HEAD_MAX} bytes")));
    }
    assert_eq!(whole(b"", true), Err("connection lost before an answer: the server closed it".into()));
}

#[test]
fn nothing_is_kept_without_a_bound() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for endless in [
        format!("{chunked}1;{}", "x".repeat(3 * HEAD_MAX)),
        format!("{chunked}{}", " ".repeat(3 * HEAD_MAX)),
        format!("{chunked}0\r\n{}", "a: b\r\n".repeat(HEAD_MAX)),
    ] {
        let (mut answer, mut body) = (Answer::default(), Kept::default());
        for piece in endless.as_bytes().chunks(100) {
            answer.take(piece, &mut body).unwrap();
            assert!(answer.waiting.len() <= CHUNK_LINE_MAX + 100);
        }
    }
    // A reset ends what goes on until the end, and nothing else.
    for (head, whole) in [
        ("HTTP/1.0 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\n", false),
    ] {
        let (mut answer, mut body) = (Answer::default(), Kept::default());
        answer.take(format!("{head}well").as_bytes(), &mut body).unwrap();
        assert_eq!(answer.broke(Failure::Refused).is_ok(), whole, "{head}");
    }
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
