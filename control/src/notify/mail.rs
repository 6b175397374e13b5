//! Sends a mail by SMTP (RFC 5321), without TLS and without a password, as keepalived does.

use std::fmt::Write as _;

use shunt_model::notify::Mail;
use shunt_protocol::notify::digest::Digest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The most bytes of one reply with all its lines.
const REPLY_MAX: u64 = 16 << 10;

/// Sends it; what went wrong in words.
pub async fn send(mail: &Mail, digest: &Digest) -> Result<(), String> {
    let work = timeout(mail.timeout, deliver(mail, digest)).await;
    work.unwrap_or_else(|_| Err(format!("timeout after {:?}", mail.timeout)))
}

async fn deliver(mail: &Mail, digest: &Digest) -> Result<(), String> {
    let stream = TcpStream::connect(&mail.server).await.map_err(|error| error.to_string())?;
    let mut stream = BufReader::new(stream);
    reply(&mut stream, "220").await?;
    let host = hostname();
    let mut say = vec![(format!("EHLO {}", mail.helo.as_deref().unwrap_or(&host)), "250")];
    say.push((format!("MAIL FROM:<{}>", mail.from), "250"));
    say.extend(mail.to.iter().map(|to| (format!("RCPT TO:<{to}>"), "25")));
    say.push(("DATA".to_owned(), "354"));
    say.push((message(mail, digest, &host), "250"));
    say.push(("QUIT".to_owned(), "221"));
    for (command, wanted) in say {
        stream.write_all(command.as_bytes()).await.map_err(|error| error.to_string())?;
        stream.write_all(b"\r\n").await.map_err(|error| error.to_string())?;
        reply(&mut stream, wanted).await?;
    }
    Ok(())
}

/// The message with its last line (RFC 5322; dots are doubled as in RFC 5321, 4.5.2).
fn message(mail: &Mail, digest: &Digest, host: &str) -> String {
    let mut text = String::new();
    let subject: String =
        format!("[{host}] {}", digest.subject).chars().filter(char::is_ascii).take(200).collect();
    let headers = [
        ("From", mail.from.clone()),
        ("To", mail.to.join(", ")),
        ("Subject", subject),
        ("X-Mailer", concat!("shunt/", env!("CARGO_PKG_VERSION")).to_owned()),
        ("MIME-Version", "1.0".to_owned()),
        ("Content-Type", "text/plain; charset=utf-8".to_owned()),
        ("Content-Transfer-Encoding", "8bit".to_owned()),
    ];
    for (name, value) in headers {
        let _ = write!(text, "{name}: {}\r\n", value.replace(['\r', '\n'], " "));
    }
    text.push_str("\r\n");
    for line in digest.text.lines() {
        let dot = if line.starts_with('.') { "." } else { "" };
        let _ = write!(text, "{dot}{line}\r\n");
    }
    text.push('.');
    text
}

fn hostname() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

async fn reply(stream: &mut BufReader<TcpStream>, wanted: &str) -> Result<(), String> {
    let mut limited = stream.take(REPLY_MAX);
    loop {
        let mut line = String::new();
        limited.read_line(&mut line).await.map_err(|error| error.to_string())?;
        if !line.starts_with(wanted) {
            return Err(match line.trim_end() {
                "" => "the mail server closed the connection".to_owned(),
                line => format!("the mail server says {line:?}, wanted {wanted}"),
            });
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_message_cannot_be_broken_out_of() {
        let mail = Mail {
            server: "127.0.0.1:25".into(),
            helo: None,
            from: "shunt@example.org".into(),
            to: vec!["ops@example.org".into(), "boss@example.org".into()],
            gather: Duration::ZERO,
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            events: None,
        };
        let digest = Digest { subject: "down\r\nBcc: x".into(), text: "one\n.\n.two\n".into() };
        let text = message(&mail, &digest, "director");
        assert!(
            text.contains("To: ops@example.org, boss@example.org\r\nSubject: [director] down  Bcc: x\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\none\r\n..\r\n..two\r\n."), "{text}");
    }
}
