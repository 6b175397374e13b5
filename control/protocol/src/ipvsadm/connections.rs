//! What `ipvsadm -Lc` prints, line by line.

use std::net::SocketAddr;
use std::time::Duration;

use shunt_model::ipvsadm::names::Names;
use shunt_model::ipvsadm::table::Protocol;

use super::listing::written;

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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    /// Those of the recording.
    struct Known;

    impl Names for Known {
        fn address(&self, _host: &str) -> Option<Ipv4Addr> {
            None
        }

        fn host(&self, address: IpAddr) -> Option<String> {
            let name = match address.to_string().as_str() {
                "198.51.100.1" => {
                    "a-client-with-a-very-long-name-too-which-does-not-fit.department.example.org"
                }
                "10.0.0.100" => "vip",
                "2001:db8::100" => "vip6.example.org",
                "2001:db8:c::1" => "client6.example.org",
                _ => return None,
            };
            Some(name.to_owned())
        }

        fn port(&self, _service: &str, _protocol: Protocol) -> Option<u16> {
            None
        }

        fn service(&self, l4_port: u16, _protocol: Protocol) -> Option<String> {
            (l4_port == 8080).then(|| "www-alt".to_owned()).or((l4_port == 80).then(|| "http".to_owned()))
        }
    }

    /// Lines of ipvsadm 1.31 about connections that a kernel had, with names and with numbers.
    #[test]
    fn lines_as_recorded() {
        for (client, vip, real, state, named, numeric) in [
            (
                "[2001:db8:c::1]:40000",
                "[2001:db8::100]:80",
                "[2001:db8:1::13]:8080",
                "SYN_RECV",
                "TCP 00:59  SYN_RECV    [client6.example.org]:40000 [vip6.example.org]:http [2001:db8:1::13]:www-alt\n",
                "TCP 00:59  SYN_RECV    [2001:db8:c::1]:40000 [2001:db8::100]:80 [2001:db8:1::13]:8080\n",
            ),
            (
                "198.51.100.1:0",
                "10.0.0.100:80",
                "10.1.0.11:8080",
                "NONE",
                "TCP 00:59  NONE        a-client-with-a-very-long-name-too-which-does-not-fit.depar vip:http           10.1.0.11:www-alt\n",
                "TCP 00:59  NONE        198.51.100.1:0     10.0.0.100:80      10.1.0.11:8080\n",
            ),
        ] {
            let connection = Connection {
                protocol: Some(Protocol::Tcp),
                left: Duration::from_secs(59),
                state,
                client: client.parse().unwrap(),
                vip: vip.parse().unwrap(),
                real: real.parse().unwrap(),
            };
            assert_eq!(line(&connection, Some(&Known)), named);
            assert_eq!(line(&connection, None), numeric);
        }
    }
}
