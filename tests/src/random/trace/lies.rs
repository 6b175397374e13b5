//! Packets that say of themselves what is not so, that are longer than a frame should be, or that come from the director.

use shunt_dataplane::id::Mac;

use super::odd::shortened;
use super::{Trace, addresses, transport};
use crate::oracle::commands::Unknown;
use crate::packets::{Ip, ethernet, mend_ipv4, number};
use crate::random::rules::{Family, IKE, REALS};
use crate::text::{checksum, pseudo_header};

/// Of the NICs: the longest packet that should arrive, and one that offloads let through.
const MTU: usize = 1500;
const LONGEST: usize = MTU + 40;
/// ESP and AH (IANA).
const IPSEC: [u8; 2] = [50, 51];
/// Record route, timestamp, and source routes, which the kernel carries back where they are well formed.
const CARRIED: [u8; 4] = [7, 68, 131, 137];
/// Others: end, security, stream, router alert, one that nobody knows.
const OTHERS: [u8; 5] = [0, 130, 136, 148, 0x55];

impl Trace<'_> {
    /// A length or an offset that cannot be: of IP, of UDP, of TCP's header, of an SCTP chunk.
    pub(super) fn lying(&mut self) -> Result<(), Unknown> {
        let Some(flow) = self.some_flow() else { return Ok(()) };
        let flags = self.numbers.pick(&["S", "A", "PA", "FA"]);
        let (client, vip) = (self.family().client(flow.client), self.family().vip(flow.vip));
        let (ip, header) = (Ip::new(&client, &vip), self.family().header());
        let ports = (flow.client_port, flow.vip_port);
        let packet = transport(&ip, flow.protocol, ports, (flags, 1), b"what there is of data");
        let packet = match self.numbers.below(5) {
            // The frame is longer than its packet, which ends within its data.
            0 => {
                let length = packet.len() - 1 - self.numbers.below(21);
                let whole = packet.clone();
                let mut packet = shortened(packet, length);
                packet.extend(&whole[length..]);
                packet
            }
            // The packet is longer than its frame.
            1 => {
                let more = self.numbers.pick(&[1, 8, 1000]);
                let frame = packet.len();
                let mut packet = shortened([packet, vec![0; more]].concat(), frame + more);
                packet.truncate(frame);
                packet
            }
            2 if self.family() == Family::V6 => with_word(packet, 4, 0),
            _ => match flow.protocol {
                number::TCP => {
                    let offset = self.numbers.below(16) as u8;
                    let mut packet = packet;
                    packet[header + 12] = offset << 4;
                    packet
                }
                number::UDP => {
                    let length = self.numbers.pick(&[0, 1, 7, 8, 9, 20, 28, 30, 1000, 0xffff]);
                    with_word(packet, header + 4, length)
                }
                _ => {
                    let length = self.numbers.pick(&[0, 3, 4, 16, 1000]);
                    with_word(packet, header + 14, length)
                }
            },
        };
        let packet = if self.numbers.percent(50) { resummed(packet) } else { packet };
        self.about.features.insert("lengths that lie");
        self.client_sends(&packet, false, "a length that lies").map(drop)
    }

    /// A packet that is longer than the MTU of the NIC that it comes by.
    pub(super) fn longer_than_mtu(&mut self) -> Result<(), Unknown> {
        let Some(flow) = self.some_flow() else { return Ok(()) };
        let length = MTU + 1 + self.numbers.below(LONGEST - MTU);
        let (client, vip) = (self.family().client(flow.client), self.family().vip(flow.vip));
        let ports = (flow.client_port, flow.vip_port);
        let is_df = self.numbers.percent(50);
        let of = |source: &str, destination: &str, ports: (u16, u16)| {
            let ip = Ip::new(source, destination);
            let ip = if is_df { ip.df() } else { ip };
            let least = transport(&ip, flow.protocol, ports, ("PA", 0), &[]).len();
            transport(&ip, flow.protocol, ports, ("PA", 0), &vec![7; length - least])
        };
        self.about.features.insert("longer than the MTU");
        let nat = flow.sent.as_ref().and_then(|sent| {
            let (_, real, protocol, at) = addresses(&sent.packet)?;
            let port = sent.packet.get(at + 2..at + 4)?;
            let is_nat = real.to_string() != vip && protocol == flow.protocol;
            (is_nat && real.is_ipv4() == (self.family() == Family::V4))
                .then(|| (sent.real, real.to_string(), u16::from_be_bytes([port[0], port[1]])))
        });
        match nat {
            Some((mac, real, real_port)) if self.numbers.percent(40) => {
                let packet = of(&real, &client, (real_port, flow.client_port));
                self.real_sends(mac, &packet, "longer than the MTU")
            }
            _ => self.client_sends(&of(&client, &vip, ports), false, "longer than the MTU").map(drop),
        }
    }

    /// Options of IPv4 that cannot be, or that nobody knows.
    pub(super) fn malformed_options(&mut self) -> Result<(), Unknown> {
        if self.family() == Family::V6 {
            if self.numbers.percent(70) {
                return self.extended();
            }
            return self.no_next_header();
        }
        let carried = self.numbers.percent(60);
        let kind = if carried { self.numbers.pick(&CARRIED) } else { self.numbers.pick(&OTHERS) };
        let (length, pointer) = (self.numbers.below(14) as u8, self.numbers.below(14) as u8);
        let mut options = [&[kind, length, pointer][..], &[0; 9]].concat();
        options.truncate(usize::from(length).clamp(4, 12).next_multiple_of(4));
        if self.numbers.percent(30) {
            options.splice(0..0, [1, 1, 1, 1]);
        }
        if carried && !is_refused(kind, length, pointer, &options) {
            options = vec![kind, 2, 0, 0];
        }
        let (client, vip) = (self.family().client(1 + self.numbers.below(12)), self.some_vip());
        let real = self.family().real(1 + self.numbers.below(REALS));
        let flow = self.some_flow();
        self.about.features.insert("malformed options");
        let (mut to, ports) = flow.as_ref().map_or((vip.clone(), (50_400, 81)), |flow| {
            (self.family().vip(flow.vip), (flow.client_port, flow.vip_port))
        });
        let protocol = flow.as_ref().map_or(number::UDP, |flow| flow.protocol);
        let client = flow.as_ref().map_or(client, |flow| self.family().client(flow.client));
        match self.numbers.below(4) {
            0 => {
                let ip = Ip::new(&real, &client).options(&options);
                let packet = transport(&ip, protocol, (ports.1, ports.0), ("A", 0), b"x");
                let mac = flow.and_then(|flow| flow.sent).map(|sent| sent.real);
                return self.real_sends(mac.unwrap_or(Mac([2, 0, 0, 0, 0xb0, 0x11])), &packet, "options");
            }
            1 if !self.is_marked() => to = real,
            _ => {}
        }
        let packet = transport(&Ip::new(&client, &to).options(&options), protocol, ports, ("A", 0), b"x");
        self.client_sends(&packet, false, "options").map(drop)
    }

    /// Nothing follows the header of IPv6 (RFC 8200, 4.7).
    fn no_next_header(&mut self) -> Result<(), Unknown> {
        let (client, vip) = (self.family().client(1 + self.numbers.below(12)), self.some_vip());
        self.about.features.insert("no next header");
        let packet = Ip::new(&client, &vip).carry(59, b"behind it");
        self.client_sends(&packet, false, "no next header").map(drop)
    }

    /// ESP and AH: to a VIP, from a real server, past the services; of clients that have a connection by IKE's port or none.
    pub(super) fn ipsec(&mut self) -> Result<(), Unknown> {
        // AH inside IPv6 is read by the kernel itself.
        let protocol = if self.family() == Family::V4 { self.numbers.pick(&IPSEC) } else { IPSEC[0] };
        let flow = self.flows.iter().rev().find(|flow| flow.vip_port == IKE).cloned();
        let client = flow.as_ref().map_or_else(|| 1 + self.numbers.below(12), |flow| flow.client);
        let (client, vip) = (self.family().client(client), self.some_vip());
        let number = 1 + self.numbers.below(REALS);
        let real = self.family().real(number);
        self.about.features.insert("ipsec");
        let payload = [0, 0, 1, 0, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
        match self.numbers.below(5) {
            0 => {
                let mac = Mac([2, 0, 0, 0, 0xb0, 0x10 + number as u8]);
                self.real_sends(mac, &Ip::new(&real, &client).carry(protocol, &payload), "ipsec")
            }
            1 if !self.is_marked() => self
                .client_sends(&Ip::new(&client, &real).carry(protocol, &payload), false, "ipsec")
                .map(drop),
            _ => {
                self.client_sends(&Ip::new(&client, &vip).carry(protocol, &payload), false, "ipsec").map(drop)
            }
        }
    }

    /// A packet whose source is the director's own. What is for its own addresses is its host's to answer, and the host is another
    /// one here.
    pub(super) fn director_speaks(&mut self) -> Result<(), Unknown> {
        let family = self.family();
        let number = 1 + self.numbers.below(REALS);
        let (client, real) = (family.client(1 + self.numbers.below(12)), family.real(number));
        let own = [
            family.address("10.0.0.1", "2001:db8::1"),
            family.address("10.1.0.1", "2001:db8:1::1"),
            self.some_vip(),
        ];
        let own = &own[self.numbers.below(own.len())];
        let mac = Mac([2, 0, 0, 0, 0xb0, 0x10 + number as u8]);
        let protocol = self.numbers.pick(&[number::TCP, number::UDP, number::SCTP]);
        self.about.features.insert("from the director itself");
        let flow = self.some_flow();
        let vip_port = flow.map_or(81, |flow| flow.vip_port);
        let vip = self.some_vip();
        let to = [&real, &client, &vip];
        let to = to[self.numbers.below(to.len())];
        let ports = (50_500, self.numbers.pick(&[81, vip_port]));
        let packet = transport(&Ip::new(own, to), protocol, ports, ("S", 1), b"");
        if self.numbers.percent(30) {
            return self.client_sends(&packet, false, "from the director").map(drop);
        }
        self.real_sends(mac, &packet, "from the director")
    }
}

/// True when a host refuses the option by an ICMP error (RFC 791, 3.1).
fn is_refused(kind: u8, length: u8, pointer: u8, options: &[u8]) -> bool {
    let room = options.iter().filter(|&&byte| byte != 1).count().max(usize::from(length > 12) * 12);
    if length < 2 || usize::from(length) > room {
        return true;
    }
    let least = if kind == 68 { (4, 5) } else { (3, 4) };
    length < least.0 || pointer < least.1
}

fn with_word(mut packet: Vec<u8>, at: usize, word: u16) -> Vec<u8> {
    packet[at..at + 2].copy_from_slice(&word.to_be_bytes());
    packet
}

/// With checksums that hold for what there is.
fn resummed(packet: Vec<u8>) -> Vec<u8> {
    let mut frame = ethernet(Mac([0; 6]), Mac([0; 6]), &packet);
    mend_ipv4(&mut frame);
    let mut packet = frame.split_off(14);
    let Some((source, destination, protocol, at)) = addresses(&packet) else { return packet };
    let field = match protocol {
        number::TCP => at + 16,
        number::UDP => at + 6,
        _ => return packet,
    };
    let said = if packet[0] >> 4 == 4 { 2 } else { 4 };
    let said = usize::from(u16::from_be_bytes([packet[said], packet[said + 1]]));
    let end = if packet[0] >> 4 == 4 { said } else { said + 40 };
    let (Some(segment), bytes) = (
        packet.get(at..end.min(packet.len())),
        [source, destination].map(|address| match address {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        }),
    ) else {
        return packet;
    };
    let mut segment = segment.to_vec();
    let Some(sum) = segment.get_mut(field - at..field - at + 2) else { return packet };
    sum.fill(0);
    let sum = checksum(&[&pseudo_header(&bytes[0], &bytes[1], protocol, segment.len()), &segment]);
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    packet
}
