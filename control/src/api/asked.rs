//! Who asks for a change.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

/// Who asks for a change of the running director.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// A client of the API (unix(7), SO_PEERCRED).
    Api(Peer),
    /// SIGHUP, SIGTERM or SIGINT.
    Signal(&'static str),
    /// Nobody is known.
    #[default]
    Unknown,
}

/// A client of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user, when it connected.
    pub uid: u32,
    /// Its process, when it connected.
    pub pid: Option<i32>,
}

/// As the log has it: `by=api uid=0 pid=77`, `by=SIGHUP`.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(Peer { uid, pid: Some(pid) }) => write!(f, "by=api uid={uid} pid={pid}"),
            Self::Api(Peer { uid, pid: None }) => write!(f, "by=api uid={uid}"),
            Self::Signal(signal) => write!(f, "by={signal}"),
            Self::Unknown => f.write_str("by=unknown"),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_default())
    }
}
