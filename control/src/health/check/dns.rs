//! A query over UDP (RFC 1035), and whether its answer is free of errors (keepalived: `check_dns.c`).

use std::hash::{BuildHasher, RandomState};

use shunt_model::health::kind::QueryType;
use shunt_model::health::{Failure, Success};
use tokio::net::UdpSocket;

use super::closed;

/// Bytes of a header (RFC 1035, 4.1.1).
const HEADER: usize = 12;
/// The class of the Internet.
const CLASS_IN: u16 = 1;
/// Recursion desired.
const RECURSION_DESIRED: u8 = 0x01;
/// The bit of an answer.
const ANSWER: u8 = 0x80;

pub async fn run(socket: &UdpSocket, name: &str, query: QueryType) -> Result<Success, Failure> {
    // Nobody who does not see the query can guess it.
    let id = RandomState::new().hash_one(0) as u16;
    let asked = encode(id, name, query)?;
    socket.send(&asked).await.map_err(|error| closed(&error))?;
    let mut answer = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut answer).await.map_err(|error| closed(&error))?;
        // A late answer to another query from the same port is nothing to this one.
        if answer[..length].starts_with(&id.to_be_bytes()) || length < 2 {
            return judge(&answer[..length], &asked);
        }
    }
}

/// A query.
///
/// # Errors
/// [`Failure::Request`] when the name is none; the configuration does not let that through.
fn encode(id: u16, name: &str, query: QueryType) -> Result<Vec<u8>, Failure> {
    let mut asked = Vec::with_capacity(HEADER + name.len() + 6);
    asked.extend(id.to_be_bytes());
    asked.extend([RECURSION_DESIRED, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| *length < 64);
        asked.push(length.ok_or_else(|| Failure::Request(format!("{name} is no name")))?);
        asked.extend(label.as_bytes());
    }
    asked.push(0);
    asked.extend(query.0.to_be_bytes());
    asked.extend(CLASS_IN.to_be_bytes());
    Ok(asked)
}

fn judge(answer: &[u8], asked: &[u8]) -> Result<Success, Failure> {
    let Some(header) = answer.get(..HEADER) else { return Err(Failure::NotDns("it is too short")) };
    if header[2] & ANSWER == 0 {
        return Err(Failure::NotDns("it is a query"));
    }
    if header[3] & 0x0f != 0 {
        return Err(Failure::Rcode(header[3] & 0x0f));
    }
    let question = &asked[HEADER..];
    match answer.get(HEADER..HEADER + question.len()) {
        Some(repeated) if repeated.eq_ignore_ascii_case(question) => Ok(Success::Up),
        _ => Err(Failure::NotDns("it answers another question")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_as_the_rfc_has_it() {
        let asked = encode(0x1234, "www.example.org", QueryType(28)).unwrap();
        let want =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x1c\x00\x01";
        assert_eq!(asked, want);
        assert_eq!(encode(0, "", QueryType(6)).unwrap()[HEADER..], [0, 0, 6, 0, 1]);
        assert!(encode(0, &"a".repeat(64), QueryType(1)).is_err());
    }

    #[test]
    fn answers_are_told_from_everything_else() {
        let asked = encode(7, "example.org", QueryType(1)).unwrap();
        let mut answer = asked.clone();
        assert_eq!(judge(&answer, &asked), Err(Failure::NotDns("it is a query")));
        answer[2] |= ANSWER;
        assert_eq!(judge(&answer, &asked), Ok(Success::Up));
        for (code, words) in [(3, "DNS error NXDOMAIN"), (5, "DNS error REFUSED"), (15, "DNS error 15")] {
            answer[3] = 0x80 | code;
            assert_eq!(judge(&answer, &asked).unwrap_err().to_string(), words);
        }
        answer[3] = 0;
        answer[HEADER + 1] = b'x';
        assert_eq!(judge(&answer, &asked), Err(Failure::NotDns("it answers another question")));
        for length in 0..answer.len() {
            assert!(judge(&answer[..length], &asked).is_err(), "{length}");
        }
    }
}
