//! Says something and looks for something in what comes.

use shunt_model::health::kind::Pattern;
use shunt_model::health::{Failure, Success};
use shunt_model::secret::without_sent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{closed, shown};

/// The most that is read, in bytes.
const ANSWER_MAX: usize = 64 << 10;

pub async fn run(mut stream: TcpStream, send: &str, expect: &Pattern) -> Result<Success, Failure> {
    stream.write_all(send.as_bytes()).await.map_err(|error| closed(&error))?;
    let mut answer = Vec::new();
    loop {
        let read = stream.read_buf(&mut answer).await.map_err(|error| closed(&error))?;
        if expect.is_in(&answer) {
            return Ok(Success::Up);
        }
        if read == 0 || answer.len() >= ANSWER_MAX {
            return Err(Failure::Unexpected {
                got: without_sent(&shown(&answer), send),
                wanted: expect.to_string(),
            });
        }
    }
}
