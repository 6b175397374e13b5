//! How a command speaks to the running director: HTTP over its Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shunt_config::check::Machine;
use shunt_config::{Config, SOCKET_DEFAULT};
use tokio::net::UnixStream;

use super::Outcome;
use super::output::complain;
use crate::api::{Refusal, UNREAD_MAX};

/// How long a director may take to begin its answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The variable of the environment that names a director's socket.
pub const SOCKET_VARIABLE: &str = "SHUNT_SOCKET";

/// Which director is meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Target {
    /// The director's socket [default: $SHUNT_SOCKET, else /run/shunt.sock]
    #[arg(short, long, value_name = "PATH", conflicts_with = "config")]
    pub socket: Option<PathBuf>,
    /// Take the socket from this configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Target {
    /// The path of the socket.
    pub fn path(&self) -> Result<PathBuf, Failure> {
        let Some(file) = &self.config else {
            return Ok(self.socket.clone().or_else(socket_named).unwrap_or_else(|| SOCKET_DEFAULT.into()));
        };
        match Config::load(file, &Machine { host: Some(&crate::machine::Disk), ..Machine::default() }) {
            Ok(checked) => Ok(checked.config.runtime.socket),
            Err(problems) => Err(Failure {
                outcome: Outcome::WrongUse,
                text: format!(
                    "{problems}\nshunt: {}: not usable: name the socket with --socket",
                    problems.file
                ),
            }),
        }
    }
}

/// The socket that the environment names.
fn socket_named() -> Option<PathBuf> {
    std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Why a command did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How the command ends.
    pub outcome: Outcome,
    /// What is told.
    pub text: String,
}

impl Failure {
    /// The answer is no.
    pub fn no(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::No, text: text.into() }
    }

    /// The command was used wrongly.
    pub fn wrong_use(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::WrongUse, text: text.into() }
    }
}

/// Runs a command that speaks to a director; what goes wrong is told on standard error.
pub fn run(target: &Target, command: impl AsyncFnOnce(&mut Client) -> Result<(), Failure>) -> Outcome {
    let result = target.path().and_then(|path| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::no(format!("shunt: no runtime ({error})")))?;
        runtime.block_on(async {
            let mut client = Client::connect(&path).await?;
            command(&mut client).await
        })
    });
    match result {
        Ok(()) => Outcome::Done,
        Err(failure) => {
            complain(&failure.text);
            failure.outcome
        }
    }
}

/// A connection to a director.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// No director is there, or it is not this user's.
    pub async fn connect(path: &Path) -> Result<Self, Failure> {
        Ok(Self { path: path.to_owned(), sender: open(path).await? })
    }

    /// Asks, and gives the answer's head when it is a good one.
    ///
    /// # Errors
    /// The director refuses, or is silent.
    pub async fn ask(&mut self, method: Method, uri: &str) -> Result<Response<Incoming>, Failure> {
        self.ask_with(method, uri, Bytes::new()).await
    }

    /// As [`Self::ask`], with a JSON body.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn ask_with(
        &mut self,
        method: Method,
        uri: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "shunt")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::wrong_use(format!("shunt: {uri}: cannot be asked ({error})")))?;
        // The director ends connections that ask nothing for a while.
        if self.sender.ready().await.is_err() {
            self.sender = open(&self.path).await?;
        }
        let response = tokio::time::timeout(PATIENCE, self.sender.send_request(request))
            .await
            .map_err(|_elapsed| self.silent())?
            .map_err(|error| broken(&self.path, &error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let body = self.collect(response).await?;
        let refusal = serde_json::from_slice::<Refusal>(&body)
            .unwrap_or_else(|_| Refusal::new(String::from_utf8_lossy(&body).into_owned()));
        Err(Failure::no(refusal.to_string()))
    }

    /// Asks for the whole answer as it came.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn bytes(&mut self, method: Method, uri: &str) -> Result<Bytes, Failure> {
        let response = self.ask(method, uri).await?;
        self.collect(response).await
    }

    /// Asks for a typed answer.
    ///
    /// # Errors
    /// As [`Self::ask`]; an answer of another version.
    pub async fn get<T: DeserializeOwned>(&mut self, uri: &str) -> Result<T, Failure> {
        let bytes = self.bytes(Method::GET, uri).await?;
        self.read(&bytes)
    }

    /// Asks with a JSON body for a typed answer.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        uri: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Failure::wrong_use(format!("shunt: {uri}: cannot be asked ({error})")))?;
        let response = self.ask_with(Method::POST, uri, body.into()).await?;
        let bytes = self.collect(response).await?;
        self.read(&bytes)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// An answer of another version.
    pub fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(bytes).map_err(|error| {
            Failure::no(format!(
                "shunt: {}: the answer is not understood ({error}): command and director are of one version: \
                 use the director's own shunt",
                self.path.display()
            ))
        })
    }

    /// The next piece of a long answer; none at its end.
    ///
    /// # Errors
    /// The director went away.
    pub async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
        match body.frame().await {
            None => Ok(None),
            Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
            Some(Err(error)) => Err(broken(&self.path, &error)),
        }
    }

    /// The director's socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, Failure> {
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect());
        let body = body.await.map_err(|_elapsed| self.silent())?;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| broken(&self.path, &error))
    }

    fn silent(&self) -> Failure {
        Failure::no(format!(
            "shunt: {}: no answer within {} s: the director is there and does not answer: look at its log",
            self.path.display(),
            PATIENCE.as_secs()
        ))
    }
}

async fn open(path: &Path) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let stream = UnixStream::connect(path).await.map_err(|error| unreachable(path, &error))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(path, &error))?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::no(match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => format!(
            "no director at {path}: start one with `shunt run -c FILE`, or name its socket with --socket or {SOCKET_VARIABLE}"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{path}: not this user's ({error}): only the user that runs the director may speak to it: use sudo"
        ),
        _ => format!(
            "{path}: no connection ({error}): a director listens at a Unix socket: name its socket with --socket"
        ),
    })
}

fn broken(path: &Path, error: &hyper::Error) -> Failure {
    let path = path.display();
    Failure::no(format!(
        "{path}: the connection broke ({error}): the director went away (look at its log), or what it said was not read for {} s",
        UNREAD_MAX.as_secs()
    ))
}

/// A path with a query whose values are escaped (RFC 3986, 2.1).
#[must_use]
pub fn uri(path: &str, query: &[(&str, String)]) -> String {
    let mut uri = path.to_owned();
    for (number, (key, value)) in query.iter().enumerate() {
        uri.push(if number == 0 { '?' } else { '&' });
        uri.push_str(key);
        uri.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
                uri.push(char::from(byte));
            } else {
                uri.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let query = [("client", "[2001:db8::1]:80".to_owned()), ("state", "a&b=é".to_owned())];
        assert_eq!(uri("/v1/x", &query), "/v1/x?client=%5B2001:db8::1%5D:80&state=a%26b%3D%C3%A9");
        assert_eq!(uri("/v1/x", &[]), "/v1/x");
    }
}
