//! VIPs at the MAC of their virtual router instead of the NIC's (RFC 9568, 7.3; keepalived: `use_vmac`).
//!
//! The neighbour machine knows one MAC for each NIC. What frames about such VIPs say is put in place here, on their way out and
//! in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::wire::{checksum, ethernet, ipv6};
use shunt_model::vrrp::Instance;
use shunt_protocol::neighbour::message::Message;

/// Offsets in frames of neighbours.
mod at {
    use super::{ethernet, ipv6};

    /// Of an ARP packet: the sender's MAC and its address.
    pub const ARP_MAC: usize = ethernet::HEADER + 8;
    pub const ARP_ADDRESS: usize = ARP_MAC + 6;
    /// Of an ICMPv6 message.
    pub const ICMP: usize = ethernet::HEADER + ipv6::HEADER;
    pub const ICMP_CHECKSUM: usize = ICMP + 2;
    /// Of an advertisement: its address, and the option behind it that tells the MAC.
    pub const TARGET: usize = ICMP + 8;
    pub const OPTION: usize = TARGET + 16;
    pub const OPTION_MAC: usize = OPTION + 2;
    /// Its type, and that of the option (RFC 4861, 4.4 and 4.6.1).
    pub const ADVERTISEMENT: u8 = 136;
    pub const TARGET_MAC: u8 = 2;
}

/// A frame of a neighbour, for the neighbour machine.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// As it is.
    Same,
    /// Sent to a virtual MAC: the same to the NIC's own.
    Moved(Vec<u8>),
    /// Another director says that the VIP is at the virtual MAC: so it is, whoever is master.
    Agreed,
}

/// Which VIPs are at which virtual MAC.
#[derive(Debug, Default)]
pub struct VirtualMacs(HashMap<(NicId, IpAddr), Mac>);

impl VirtualMacs {
    /// Those of these virtual routers.
    pub fn new(instances: &[Instance]) -> Self {
        let with_mac = instances.iter().filter_map(|one| Some((one, one.virtual_mac?.mac)));
        let vips = with_mac.flat_map(|(one, mac)| one.vips().map(move |vip| ((one.nic, vip), mac)));
        Self(vips.collect())
    }

    /// The virtual MAC of a VIP; none when it is at the NIC's.
    pub fn of(&self, nic: NicId, vip: IpAddr) -> Option<Mac> {
        self.0.get(&(nic, vip)).copied()
    }

    /// Says the virtual MAC in a frame of the director's that tells where its VIP is.
    pub fn outgoing(&self, nic: NicId, frame: &mut [u8]) {
        if self.0.is_empty() {
            return;
        }
        match ethernet::ethertype(frame) {
            Some(ethernet::ARP) => {
                let sender = frame.get(at::ARP_ADDRESS..).and_then(<[u8]>::first_chunk::<4>);
                let sender = sender.map(|&octets| Ipv4Addr::from(octets));
                if let Some(mac) = sender.and_then(|sender| self.of(nic, sender.into())) {
                    put(frame, ethernet::field::SOURCE, mac);
                    put(frame, at::ARP_MAC, mac);
                }
            }
            Some(ethernet::IPV6) if frame.get(at::ICMP) == Some(&at::ADVERTISEMENT) => {
                let target = frame.get(at::TARGET..).and_then(<[u8]>::first_chunk::<16>);
                let target = target.map(|&octets| Ipv6Addr::from(octets));
                let Some(mac) = target.and_then(|target| self.of(nic, target.into())) else { return };
                put(frame, ethernet::field::SOURCE, mac);
                if frame.get(at::OPTION) == Some(&at::TARGET_MAC) {
                    put(frame, at::OPTION_MAC, mac);
                    mend_checksum(frame);
                }
            }
            _ => {}
        }
    }

    /// What the neighbour machine has to make of a frame that arrived on a NIC with this MAC of its own.
    pub fn incoming(&self, nic: NicId, own: Mac, frame: &[u8]) -> Incoming {
        if self.0.is_empty() {
            return Incoming::Same;
        }
        let moved = self.moved(nic, own, frame);
        let said = match Message::parse(moved.as_deref().unwrap_or(frame), own) {
            Ok(Message::Request { sender, sender_mac, .. }) => sender_mac.map(|mac| (sender, mac)),
            Ok(Message::Reply { address, mac, .. }) => mac.map(|mac| (address, mac)),
            Err(_) => None,
        };
        match said {
            Some((address, mac)) if self.of(nic, address) == Some(mac) => Incoming::Agreed,
            _ => moved.map_or(Incoming::Same, Incoming::Moved),
        }
    }

    /// A frame that was sent to a virtual MAC, as if it had been sent to the NIC's own; none when it was not.
    pub fn moved(&self, nic: NicId, own: Mac, frame: &[u8]) -> Option<Vec<u8>> {
        let to = ethernet::destination(frame)?;
        self.0.iter().find(|((at, _), mac)| *at == nic && **mac == to)?;
        let mut moved = frame.to_vec();
        put(&mut moved, ethernet::field::DESTINATION, own);
        Some(moved)
    }
}

fn put(frame: &mut [u8], at: usize, Mac(mac): Mac) {
    if let Some(place) = frame.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = mac;
    }
}

/// Sums an ICMPv6 message anew. What the director sends has nothing behind it.
fn mend_checksum(frame: &mut [u8]) {
    let address = |at: usize| {
        let octets = frame.get(ethernet::HEADER + at..).and_then(<[u8]>::first_chunk::<16>);
        octets.map_or(Ipv6Addr::UNSPECIFIED, |&octets| Ipv6Addr::from(octets))
    };
    let (source, destination) = (address(8), address(24));
    let Some(field) = frame.get_mut(at::ICMP_CHECKSUM..at::ICMP_CHECKSUM + 2) else { return };
    field.fill(0);
    let Some(message) = frame.get(at::ICMP..) else { return };
    let protocol = <Ipv6Addr as shunt_dataplane::wire::IpVersion>::ICMP_PROTOCOL;
    let sum = checksum::pseudo_header(source, destination, protocol, message.len() as u32);
    let sum = sum.bytes(message).checksum();
    frame[at::ICMP_CHECKSUM..at::ICMP_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_protocol::neighbour::message::{Speaker, announcement, reply, request};

    const OWN: Mac = Mac([2, 0, 0, 0, 0xd0, 1]);
    const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 9]);
    const NIC: NicId = NicId(0);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn macs(vip: &str) -> (VirtualMacs, Mac) {
        let vip = ip(vip);
        let mac = shunt_model::vrrp::Vrid(51).mac(shunt_dataplane::address::Family::of(vip));
        (VirtualMacs(HashMap::from([((NIC, vip), mac)])), mac)
    }

    #[test]
    fn neighbours_are_told_the_virtual_mac() {
        for (vip, own, client, text) in [
            ("192.0.2.10", "192.0.2.2", "192.0.2.9", "00:00:5e:00:01:33"),
            ("2001:db8::10", "2001:db8::2", "2001:db8::9", "00:00:5e:00:02:33"),
        ] {
            let (macs, mac) = macs(vip);
            assert_eq!(mac.to_string(), text);
            let from = |address: &str| Speaker { mac: OWN, address: ip(address) };
            for build in
                [|from: Speaker, client: IpAddr| reply(from, client, CLIENT), |from, _| announcement(from)]
            {
                let mut frame = build(from(vip), ip(client));
                macs.outgoing(NIC, &mut frame);
                // As if the virtual MAC had been the NIC's.
                assert_eq!(frame, build(Speaker { mac, address: ip(vip) }, ip(client)));
                let mut other = build(from(own), ip(client));
                macs.outgoing(NIC, &mut other);
                assert_eq!(other, build(from(own), ip(client)));
                // The other master says the same.
                assert_eq!(macs.incoming(NIC, CLIENT, &frame), Incoming::Agreed);
            }
        }
    }

    #[test]
    fn questions_to_the_virtual_mac_are_questions_to_the_director() {
        for (vip, client) in [("192.0.2.10", "192.0.2.9"), ("2001:db8::10", "2001:db8::9")] {
            let (macs, mac) = macs(vip);
            let from = Speaker { mac: CLIENT, address: ip(client) };
            let asked = request(from, ip(vip), Some(mac));
            let want = request(from, ip(vip), Some(OWN));
            let same_but_for_target = |frame: &[u8]| frame[..ethernet::HEADER].to_vec();
            let Incoming::Moved(moved) = macs.incoming(NIC, OWN, &asked) else { panic!("{asked:x?}") };
            assert_eq!(same_but_for_target(&moved), same_but_for_target(&want));
            assert_eq!(Message::parse(&moved, OWN), Message::parse(&want, OWN));
            assert_eq!(macs.incoming(NicId(1), OWN, &asked), Incoming::Same);
            assert_eq!(macs.incoming(NIC, OWN, &want), Incoming::Same);
            for length in 0..asked.len() {
                let mut cut = asked[..length].to_vec();
                macs.outgoing(NIC, &mut cut);
                let _ = macs.incoming(NIC, OWN, &cut);
            }
        }
    }
}
