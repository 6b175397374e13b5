//! `explain`: the packet that is asked about, as a frame for the worker that owns it, and the answer in words.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use shunt_dataplane::forward::{self, Passes, Punt};
use shunt_dataplane::forwarding::RuleNumber;
use shunt_dataplane::id::{L4Port, Mac, NicId};
use shunt_dataplane::service::NextHop;
use shunt_dataplane::wire::build::{self, Ends};
use shunt_dataplane::wire::tcp::Segment;
use shunt_dataplane::wire::{IpVersion, TcpFlags};

use super::Refusal;

/// The packet that is asked about: the first of a flow (for TCP a SYN), or a later one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Its source.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
    /// The name of the NIC that it arrives at; when none is named the one that leads to its source, else the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<String>,
    /// TCP: `syn` (the default), `ack`, `fin` or `rst`; SCTP: INIT, DATA, SHUTDOWN or ABORT by the same words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<String>,
}

/// What would become of the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The generation that was asked.
    pub generation: u64,
    /// The steps of the decision, in order.
    pub steps: Vec<ProbeStep>,
}

/// One step of a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeStep {
    /// What kind of step: `owner`, `connection`, `service`, `persistence`, `real`, `bypass`, `masquerade`, `forward`, `way_back`, `next_hop`, `reply`, `punt`, `hand_over`, `drop`.
    pub step: String,
    /// The word of the value: a worker's number, a name, an address, a reason.
    pub value: String,
    /// A sentence for people.
    pub text: String,
}

impl ProbeStep {
    fn new(step: &str, value: impl ToString, text: impl Into<String>) -> Self {
        Self { step: step.to_owned(), value: value.to_string(), text: text.into() }
    }

    /// A worker's step in words; `nic_name` names a NIC, `rule_text` says what a `[[forward]]` says.
    #[must_use]
    pub fn told(
        step: &forward::Step,
        nic_name: impl Fn(NicId) -> String,
        rule_text: impl Fn(RuleNumber) -> String,
    ) -> Self {
        match step {
            forward::Step::Owner(worker) => {
                Self::new("owner", worker, format!("worker {worker} owns the client's address"))
            }
            forward::Step::Connection { state, from_real } => {
                let way = if *from_real { "its real server's answer" } else { "a packet of its client" };
                Self::new("connection", state, format!("a connection in state {state}; this is {way}"))
            }
            forward::Step::Service { name, scheduler } => {
                let text = format!("no connection: service \"{name}\" asks its scheduler {scheduler}");
                Self::new("service", name, text)
            }
            forward::Step::Persistence { name } => {
                let text =
                    format!("no connection: the client persists at a real server of service \"{name}\"");
                Self::new("persistence", name, text)
            }
            forward::Step::Real { address, method, .. } => {
                Self::new("real", address, format!("real server {address} by {method}"))
            }
            forward::Step::Bypass => Self::new(
                "bypass",
                "cache_bypass",
                "no real server takes it: passed on to its own destination (cache_bypass)",
            ),
            forward::Step::Masquerade { host, address } if host == address => {
                let text =
                    format!("others began with {host}, which is masqueraded otherwise: routed as it is");
                Self::new("masquerade", address, text)
            }
            forward::Step::Masquerade { host, address } => Self::new(
                "masquerade",
                address,
                format!("{host} is masqueraded: others know it as {address}"),
            ),
            forward::Step::Transit(transit) => Self::transit(transit, nic_name, rule_text),
            forward::Step::WayBack { source, from, leads } => {
                let from = nic_name(*from);
                let leads = match leads {
                    Some(nic) => format!("leaves by NIC {}", nic_name(*nic)),
                    None => "is by the default route, or there is none".to_owned(),
                };
                let text = format!("it comes in by NIC {from}, and the way back to {source} {leads}");
                Self::new("way_back", source, text)
            }
            forward::Step::NextHop(NextHop { nic, macs, mtu }) => {
                let destination = macs.destination();
                let text = format!("sent out of NIC {} to {destination} (mtu {mtu})", nic_name(*nic));
                Self::new("next_hop", destination, text)
            }
            forward::Step::Reply(kind, nic) => {
                let text =
                    format!("answered out of NIC {} with {}: {}", nic_name(*nic), kind.word(), kind.help());
                Self::new("reply", kind.word(), text)
            }
            forward::Step::Punt(punt) => Self::new("punt", punt.reason().word(), punt_text(punt, nic_name)),
            forward::Step::HandOver(worker) => Self::new(
                "hand_over",
                worker,
                format!("handed over to worker {worker}, which owns the client"),
            ),
            forward::Step::Gather => Self::new(
                "gather",
                "fragment",
                "kept until the other fragments of its datagram have come".to_owned(),
            ),
            forward::Step::Drop(reason) => {
                Self::new("drop", reason.word(), format!("dropped as {}: {}", reason.word(), reason.help()))
            }
        }
    }
}

impl ProbeStep {
    fn transit(
        transit: &forward::Transit,
        nic_name: impl Fn(NicId) -> String,
        rule_text: impl Fn(RuleNumber) -> String,
    ) -> Self {
        let (source, destination) = transit.addresses;
        let told = |number| format!("[[forward]] number {number} ({})", rule_text(number));
        let none = "no service takes it";
        let to = transit.to.map(&nic_name);
        let (value, text) = match (transit.passes, transit.both) {
            (Some(Passes::Rule(number)), _) => {
                (format!("rule {number}"), format!("{none}: routed, since {} lets it pass", told(number)))
            }
            (Some(Passes::Connection), _) => (
                "connection".to_owned(),
                format!("{none}: routed, since it answers what a connection's client sent"),
            ),
            (None, Some(number)) => (
                "none".to_owned(),
                format!(
                    "{none}, and no [[forward]] lets it pass: {} does so the other way, and lets what answers pass, but this may \
                     begin something: for all packets, say both = true there",
                    told(number)
                ),
            ),
            (None, None) => {
                let from = nic_name(transit.from);
                let (by, nics) = match &to {
                    Some(to) => (
                        format!("from NIC {from} to NIC {to}"),
                        format!(", or by NICs with from = \"{from}\" and to = \"{to}\""),
                    ),
                    None => (format!("from NIC {from}, and no route leads there"), String::new()),
                };
                let advice = format!("from = \"{source}\" and to = \"{destination}\"");
                (
                    "none".to_owned(),
                    format!(
                        "{none}, and no [[forward]] lets it pass {by}: if it shall pass, add one with {advice}{nics}"
                    ),
                )
            }
        };
        Self::new("forward", value, text)
    }
}

fn punt_text(punt: &Punt, nic_name: impl Fn(NicId) -> String) -> String {
    let help = punt.reason().help();
    match punt {
        Punt::Unresolved(neighbour) => {
            let (address, nic) = (neighbour.address, nic_name(neighbour.nic));
            format!("handed to the control core: the MAC of {address} on NIC {nic} is not known. {help}")
        }
        _ => format!("handed to the control core: {help}"),
    }
}

impl Probe {
    /// The packet as an Ethernet frame that arrives at a NIC of this MAC, from a neighbour without a name.
    ///
    /// # Errors
    /// Addresses of two families, an unknown protocol or flag.
    pub fn frame(&self, mac: Mac) -> Result<Box<[u8]>, Refusal> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.build(mac, source, destination),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.build(mac, source, destination),
            _ => {
                let Self { source, destination, .. } = self;
                Err(Refusal::new(format!(
                    "{source} {destination}: two address families: a packet has one: write two addresses of one family"
                )))
            }
        }
    }

    fn build<A: IpVersion>(&self, mac: Mac, source: A, destination: A) -> Result<Box<[u8]>, Refusal> {
        let ends = Ends {
            source_mac: STRANGER,
            destination_mac: mac,
            source,
            destination,
            source_port: L4Port(self.source.port()),
            destination_port: L4Port(self.destination.port()),
        };
        match self.protocol.as_str() {
            "tcp" => {
                let segment = Segment {
                    source_port: ends.source_port,
                    destination_port: ends.destination_port,
                    sequence: 1,
                    acknowledgment: 0,
                    flags: self.flags()?,
                    window: u16::MAX,
                };
                Ok(build::tcp(&ends, segment, &[]).into())
            }
            "udp" => Ok(build::udp(&ends, &[]).into()),
            "sctp" => Ok(build::sctp(&ends, self.flags()?).into()),
            other => {
                let holds = "no such protocol: tcp, udp or sctp: write one of these";
                Err(Refusal::new(format!("{other}: {holds}")))
            }
        }
    }

    /// The flag byte of the TCP header (RFC 9293, 3.1).
    fn flags(&self) -> Result<TcpFlags, Refusal> {
        match self.flag.as_deref() {
            None | Some("syn") => Ok(TcpFlags(0x02)),
            Some("ack") => Ok(TcpFlags(0x10)),
            Some("fin") => Ok(TcpFlags(0x11)),
            Some("rst") => Ok(TcpFlags(0x04)),
            Some(other) => {
                Err(Refusal::new(format!("{other}: no such flag: syn, ack, fin or rst: write one of these")))
            }
        }
    }
}

/// The MAC of the neighbour that the packet comes from: a locally administered one.
const STRANGER: Mac = Mac([2, 0, 0, 0, 0, 1]);

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(protocol: &str, source: &str, destination: &str) -> Probe {
        Probe {
            protocol: protocol.to_owned(),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            nic: None,
            flag: None,
        }
    }

    #[test]
    fn frames_are_what_was_asked() {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let frame = probe("tcp", "198.51.100.7:40000", "192.0.2.10:80").frame(mac).unwrap();
        assert_eq!(frame.len(), 14 + 20 + 20);
        assert_eq!((&frame[..6], &frame[12..14], frame[47]), (&mac.0[..], &[8, 0][..], 2));
        let frame = probe("udp", "[2001:db8::7]:40000", "[2001:db8::10]:53").frame(mac).unwrap();
        assert_eq!(frame.len(), 14 + 40 + 8);
        assert_eq!((&frame[12..14], &frame[56..58]), (&[0x86, 0xdd][..], &[0, 53][..]));
        let sctp = probe("sctp", "198.51.100.7:40000", "192.0.2.10:80");
        let chunks = [None, Some("ack"), Some("fin"), Some("rst")].map(|flag| {
            let frame = Probe { flag: flag.map(str::to_owned), ..sctp.clone() }.frame(mac).unwrap();
            assert_eq!((frame[23], &frame[36..38]), (132, &[0, 80][..]));
            frame[46]
        });
        assert_eq!(chunks, [1, 0, 7, 6]);
    }

    #[test]
    fn probes_that_cannot_be() {
        let mac = Mac::default();
        assert!(probe("tcp", "198.51.100.7:1", "[2001:db8::10]:80").frame(mac).is_err());
        assert!(probe("icmp", "198.51.100.7:1", "192.0.2.10:80").frame(mac).is_err());
        let odd = Probe { flag: Some("urg".to_owned()), ..probe("tcp", "198.51.100.7:1", "192.0.2.10:80") };
        assert!(odd.frame(mac).is_err());
    }
}
