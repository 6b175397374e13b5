//! What `ipvsadm -Lc` prints, line by line.

use std::net::SocketAddr;
use std::time::Duration;

use super::listing::written;
use super::names::Names;
use super::table::Protocol;

/// The lines above the connections; `engines` says that the data of persistence engines are shown.
#[must_use]
pub const fn head(engines: bool) -> &'static str {
    if engines {
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination        pe name          pe_data\n"
    } else {
        "IPVS connection entries\npro expire state       source             virtual            destination\n"
    }
}

/// A connection.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// Its protocol; none for a template of a firewall mark.
    pub protocol: Option<Protocol>,
    /// Until it ends without a packet.
    pub left: Duration,
    /// Its state.
    pub state: &'a str,
    /// The client.
    pub client: SocketAddr,
    /// VIP and port.
    pub vip: SocketAddr,
    /// The real server.
    pub real: SocketAddr,
}

/// The line of a connection. `names` is none for numbers.
#[must_use]
pub fn line(connection: &Connection<'_>, names: Option<&dyn Names>) -> String {
    let Connection { protocol, left, state, client, vip, real } = *connection;
    let seconds = left.as_secs();
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let word = protocol.map_or_else(|| "IP".to_owned(), |protocol| protocol.word().to_uppercase());
    let [client, vip, real] = [client, vip, real].map(|address| written(address, protocol, names));
    format!("{word:<3} {minutes:02}:{seconds:02}  {state:<11} {client:<18} {vip:<18} {real}\n")
}
