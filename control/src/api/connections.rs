//! The connection table as operators see it, and which part of it they want.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `tcp`, `udp`, `sctp`; `icmp` for an echo of a masqueraded host; `ip` for the persistence template of a firewall mark.
    pub protocol: String,
    /// CIP and port; port 0 for a persistence template.
    pub client: SocketAddr,
    /// VIP and port.
    pub vip: SocketAddr,
    /// RIP and port.
    pub real: SocketAddr,
    /// The state in `ipvsadm`'s word.
    pub state: String,
    /// Seconds until it ends without a packet.
    pub expires_in: u64,
    /// The worker that owns it.
    pub worker: u8,
    /// True for one of a masqueraded host: who it asks is the client, what others know it as the VIP, the host the real server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub masquerade: bool,
}

/// Which connections are wanted: all that meet every given part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// `tcp` or `udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The state's word, in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<u8>,
    /// Where the client is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Place>,
    /// Where the VIP is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip: Option<Place>,
    /// Where the real server is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub real: Option<Place>,
    /// Where any of the three is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Place>,
}

impl Filter {
    /// Reads a filter as it is typed: `tcp`, `udp`, an address, a network, an address with port, `client=…`, `vip=…`,
    /// `real=…`, `state=…`, `worker=…`.
    ///
    /// # Errors
    /// A word that is none of these.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut filter = Self::default();
        for word in words {
            filter.add(word).map_err(|what| format!("{word}: {what}"))?;
        }
        Ok(filter)
    }

    fn add(&mut self, word: &str) -> Result<(), String> {
        match word.split_once('=') {
            None if matches!(word, "tcp" | "udp" | "sctp" | "icmp") => self.protocol = Some(word.to_owned()),
            None => self.any = Some(word.parse()?),
            Some(("client", place)) => self.client = Some(place.parse()?),
            Some(("vip", place)) => self.vip = Some(place.parse()?),
            Some(("real", place)) => self.real = Some(place.parse()?),
            Some(("state", state)) => self.state = Some(state.to_owned()),
            Some(("worker", worker)) => {
                self.worker =
                    Some(worker.parse().map_err(|_| "a worker's number: 0 to 63: write one of these")?);
            }
            Some(_) => {
                return Err("not a filter: tcp, udp, an address, client=, vip=, real=, state= or worker=: \
                            write one of these"
                    .to_owned());
            }
        }
        Ok(())
    }

    /// True for a connection that is wanted.
    #[must_use]
    pub fn wants(&self, connection: &Connection) -> bool {
        let at = |place: &Option<Place>, address| place.as_ref().is_none_or(|place| place.holds(address));
        let Connection { client, vip, real, .. } = connection;
        self.protocol.as_ref().is_none_or(|protocol| *protocol == connection.protocol)
            && self.state.as_ref().is_none_or(|state| state.eq_ignore_ascii_case(&connection.state))
            && self.worker.is_none_or(|worker| worker == connection.worker)
            && at(&self.client, client)
            && at(&self.vip, vip)
            && at(&self.real, real)
            && [client, vip, real].iter().any(|address| at(&self.any, address))
    }
}

/// An address, a network, or an address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Every address of a network, at any port.
    Net(IpNet),
    /// One address and port.
    Socket(SocketAddr),
}

impl Place {
    fn holds(&self, address: &SocketAddr) -> bool {
        match self {
            Self::Net(net) => net.contains(&address.ip()),
            Self::Socket(socket) => socket == address,
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let whole = || bare.parse::<IpAddr>().ok().map(IpNet::from);
        if let Ok(socket) = text.parse() {
            return Ok(Self::Socket(socket));
        }
        text.parse().ok().or_else(whole).map(Self::Net).ok_or_else(|| {
            "not an address: 192.0.2.1, 192.0.2.0/24, 192.0.2.1:80 or [2001:db8::1]:80: write one of these".to_owned()
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Socket(socket) => socket.fmt(f),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            protocol: "tcp".to_owned(),
            client: "198.51.100.7:40000".parse().unwrap(),
            vip: "192.0.2.10:80".parse().unwrap(),
            real: "10.1.0.11:8080".parse().unwrap(),
            state: "ESTABLISHED".to_owned(),
            expires_in: 899,
            worker: 1,
            masquerade: false,
        }
    }

    #[test]
    fn filters() {
        for (words, wanted) in [
            ("", true),
            ("tcp", true),
            ("udp", false),
            ("198.51.100.7", true),
            ("10.1.0.0/16", true),
            ("10.1.0.11:8080", true),
            ("10.1.0.11:80", false),
            ("client=10.1.0.11", false),
            ("vip=192.0.2.10 real=10.1.0.0/24", true),
            ("state=established worker=1", true),
            ("worker=0", false),
            ("2001:db8::/32", false),
            ("[2001:db8::1]:80", false),
        ] {
            let list: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            assert_eq!(Filter::parse(&list).unwrap().wants(&connection()), wanted, "{words}");
        }
        for wrong in ["http", "client=", "colour=red", "worker=x", "10.1.0.11:99999"] {
            assert!(Filter::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }
}
