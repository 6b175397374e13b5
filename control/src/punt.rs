//! Sorts what workers hand up: neighbours' talk to the neighbour machine, adverts to VRRP, the director's own traffic to the
//! kernel-side interface, packets without a next hop to where they wait for it.

use std::time::Instant;

use shunt_dataplane::forward::Punt;
use shunt_dataplane::id::{NicId, WorkerId};
use shunt_protocol::neighbour::{Machine, Output};

/// A packet's bytes.
pub trait Frame {
    /// The whole frame from its Ethernet header on.
    fn frame(&self) -> &[u8];
}

impl Frame for Vec<u8> {
    fn frame(&self) -> &[u8] {
        self
    }
}

/// Where a punted packet comes from, and where it goes when it is injected again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The worker that handed it up, which owns its connection.
    pub worker: WorkerId,
    /// The NIC that it arrived at.
    pub nic: NicId,
}

/// A packet and where it comes from.
#[derive(Debug, PartialEq, Eq)]
pub struct Held<P> {
    /// The packet.
    pub packet: P,
    /// Where it comes from.
    pub origin: Origin,
}

/// A packet that a worker handed up.
#[derive(Debug, PartialEq, Eq)]
pub struct Punted<P> {
    /// The packet, unchanged.
    pub held: Held<P>,
    /// Why, and what it waits for.
    pub punt: Punt,
}

/// Where a packet goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Sorted<P> {
    /// To the kernel-side interface of the NIC that it arrived at.
    Kernel(Held<P>),
    /// To VRRP.
    Vrrp(Held<P>),
    /// It waits, or is done with.
    Kept,
}

/// Sorts one packet. What the neighbour machine wants done goes to `out`.
pub fn sort<P: Frame>(
    machine: &mut Machine<Held<P>>,
    now: Instant,
    Punted { held, punt }: Punted<P>,
    out: &mut Vec<Output<Held<P>>>,
) -> Sorted<P> {
    match punt {
        Punt::Local => Sorted::Kernel(held),
        Punt::Vrrp => Sorted::Vrrp(held),
        Punt::Arp | Punt::NeighbourDiscovery => {
            machine.frame(now, held.origin.nic, held.packet.frame(), out);
            Sorted::Kept
        }
        Punt::Unresolved(neighbour) => {
            machine.resolve(now, (neighbour.nic, neighbour.address), held, out);
            Sorted::Kept
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use shunt_dataplane::id::Mac;
    use shunt_dataplane::service::Unresolved;

    use super::*;
    use shunt_protocol::neighbour::Nic;
    use shunt_protocol::neighbour::message::{Speaker, announcement, reply, request};

    const OWN: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
    const REAL: Mac = Mac([2, 0, 0, 0, 0, 0x21]);
    const NIC: NicId = NicId(0);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_packet_goes_where_it_belongs() {
        let now = Instant::now();
        let mut machine = Machine::new(now);
        let mut out = Vec::new();
        let nic = Nic { mac: OWN, addresses: vec!["192.0.2.2/24".parse().unwrap()] };
        machine.set_owned(now, vec![nic], Vec::new(), &mut out);
        let director = ip("192.0.2.2");
        let real = Speaker { mac: REAL, address: ip("192.0.2.21") };
        let unresolved = Punt::Unresolved(Unresolved { nic: NIC, address: real.address });
        for (what, packet, punt, to_kernel, outputs) in [
            ("for the director", vec![1, 2, 3], Punt::Local, true, vec![]),
            ("waits, a question goes out", vec![4, 5, 6], unresolved, false, vec!["transmit"]),
            (
                "the answer lets it go",
                reply(real, director, OWN),
                Punt::Arp,
                false,
                vec!["change", "release 456"],
            ),
            ("a question", request(real, director, None), Punt::Arp, false, vec!["transmit"]),
            ("news", announcement(real), Punt::Arp, false, vec![]),
            ("nonsense", vec![7; 60], Punt::NeighbourDiscovery, false, vec![]),
            ("nothing", vec![], Punt::Arp, false, vec![]),
        ] {
            out.clear();
            let origin = Origin { worker: WorkerId(1), nic: NIC };
            let held = Held { packet: packet.clone(), origin };
            let kernel = sort(&mut machine, now, Punted { held, punt }, &mut out);
            let want = if to_kernel { Sorted::Kernel(Held { packet, origin }) } else { Sorted::Kept };
            assert_eq!(kernel, want, "{what}");
            let words = out.iter().map(|output| match output {
                Output::Transmit { nic, .. } => {
                    assert_eq!(*nic, NIC);
                    "transmit".to_owned()
                }
                Output::Change(_) => "change".to_owned(),
                Output::Release(held) => {
                    assert_eq!(held.origin, origin);
                    format!("release {}", held.packet.iter().map(u8::to_string).collect::<String>())
                }
                Output::Unreachable(_) => "unreachable".to_owned(),
                Output::Event(_) => "event".to_owned(),
            });
            assert_eq!(words.collect::<Vec<_>>(), outputs, "{what}");
        }
    }
}
