//! A mail server greets, takes HELO and says goodbye (RFC 5321).

use shunt_model::health::{Failure, Success};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::{closed, shown};

/// The most bytes of one reply with all its lines.
const REPLY_MAX: u64 = 16 << 10;

pub async fn run(stream: TcpStream, helo: Option<&str>) -> Result<Success, Failure> {
    let here = stream.local_addr().map_err(|error| closed(&error))?.ip();
    let named = match helo {
        Some(name) => name.to_owned(),
        // RFC 5321, 4.1.3.
        None if here.is_ipv6() => format!("[IPv6:{here}]"),
        None => format!("[{here}]"),
    };
    let mut stream = BufReader::new(stream);
    reply(&mut stream, "220").await?;
    for (command, wanted) in [(format!("HELO {named}\r\n"), "250"), ("QUIT\r\n".to_owned(), "221")] {
        stream.write_all(command.as_bytes()).await.map_err(|error| closed(&error))?;
        reply(&mut stream, wanted).await?;
    }
    Ok(Success::Up)
}

/// Reads a reply of one or more lines (RFC 5321, 4.2.1), which has to begin with a code.
async fn reply(stream: &mut BufReader<TcpStream>, wanted: &str) -> Result<(), Failure> {
    let mut limited = stream.take(REPLY_MAX);
    loop {
        let mut line = Vec::new();
        limited.read_until(b'\n', &mut line).await.map_err(|error| closed(&error))?;
        if line.is_empty() {
            return Err(Failure::Closed("the server closed it".into()));
        }
        if !line.starts_with(wanted.as_bytes()) {
            return Err(Failure::Unexpected { got: shown(&line), wanted: wanted.to_owned() });
        }
        if line.get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
