//! Posts events to a web server as JSON: `{"events":[…]}`.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use shunt_model::health::kind::Tls;
use shunt_model::notify::{Event, Webhook};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::health::check::tls::Connectors;

/// A request's body.
#[derive(serde::Serialize)]
struct Posted<'a> {
    events: &'a [Event],
}

/// Posts them; what went wrong in words.
pub async fn post(webhook: &Webhook, events: &[Event], tls: &Connectors) -> Result<(), String> {
    let work = timeout(webhook.timeout, deliver(webhook, events, tls)).await;
    work.unwrap_or_else(|_| Err(format!("timeout after {:?}", webhook.timeout)))
}

async fn deliver(webhook: &Webhook, events: &[Event], tls: &Connectors) -> Result<(), String> {
    let url = &webhook.url;
    let body = serde_json::to_string(&Posted { events }).map_err(|error| error.to_string())?;
    let stream =
        TcpStream::connect((url.host.as_str(), url.l4_port)).await.map_err(|error| error.to_string())?;
    if !url.secure {
        return exchange(stream, webhook, body).await;
    }
    let address = stream.peer_addr().map_err(|error| error.to_string())?.ip();
    let settings = Tls { name: None, verify: webhook.verify, ca: webhook.ca.clone() };
    let stream =
        tls.secure(stream, &settings, &url.host, address).await.map_err(|error| error.to_string())?;
    exchange(stream, webhook, body).await
}

async fn exchange<S>(stream: S, webhook: &Webhook, body: String) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let url = &webhook.url;
    let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
    let request = hyper::Request::post(url.path.expose())
        .header(HOST, format!("{host}:{}", url.l4_port))
        .header(USER_AGENT, concat!("shunt/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        // Some servers know names of fields only as everybody writes them.
        http1::Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string());
    connection.abort();
    let status = answer?.status();
    if status.is_success() { Ok(()) } else { Err(format!("HTTP status {status}")) }
}
