//! Packets that are odd, that belong to no service, or that come in another shape than most.

use shunt_dataplane::id::Mac;

use super::{Flow, ROUTER, Trace, addresses, transport};
use crate::oracle::commands::Unknown;
use crate::oracle::scenario::{Hex, Step};
use crate::packets::{Ip, Tcp, ethernet, mend_ipv4, number};
use crate::random::rules::{Family, REALS, VIPS};

/// Destination options (RFC 8200, 4.6): padding alone.
const DESTINATION_OPTIONS: u8 = 60;
/// Of the NICs: the longest packet that arrives.
const MTU: usize = 1500;
/// ESP, and one for experiments: what no host of the recordings takes.
const NOBODYS: [u8; 2] = [50, 253];

impl Trace<'_> {
    /// The packet as it is, or now and then without a checksum of UDP, or with destination options of IPv6.
    pub(super) fn varied(&mut self, mut packet: Vec<u8>) -> Vec<u8> {
        let Some((_, _, protocol, at)) = addresses(&packet) else { return packet };
        if protocol == number::UDP && self.numbers.percent(12) {
            self.about.features.insert("UDP without checksum");
            packet[at + 6..at + 8].fill(0);
        }
        let fits = packet.len() + 8 <= MTU;
        if packet[0] >> 4 == 6 && fits && self.numbers.percent(3) {
            self.about.features.insert("destination options");
            let length = u16::from_be_bytes([packet[4], packet[5]]) + 8;
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            packet[6] = DESTINATION_OPTIONS;
            packet.splice(40..40, [protocol, 0, 1, 4, 0, 0, 0, 0]);
        }
        packet
    }

    /// What is about no service, comes from where it should not, or is no whole packet.
    pub(super) fn odd(&mut self) -> Result<(), Unknown> {
        match self.numbers.below(12) {
            0..=4 => self.ask_the_vip(),
            // What a firewall mark's service takes is the director's, wherever it is for.
            5 if !self.is_marked() => self.ask_a_real_server(),
            5..=7 => self.real_server_speaks(),
            8 => self.nobody_speaks(),
            9 | 10 => self.director_speaks(),
            _ => self.misshapen(),
        }
    }

    pub(super) fn some_vip(&mut self) -> String {
        let vips = if self.is_marked() { VIPS } else { 1 };
        self.family().vip(self.numbers.below(vips))
    }

    /// Ping, ports of no service, protocols that nobody takes.
    fn ask_the_vip(&mut self) -> Result<(), Unknown> {
        let (client, vip) = (self.family().client(1 + self.numbers.below(12)), self.some_vip());
        let ip = self.header(&client, &vip);
        let (kind, code) = if self.family() == Family::V4 { (8, 0) } else { (128, 0) };
        let flags = self.numbers.pick(&["S", "A", "FA", "R", ""]);
        let data = self.data();
        let packet = match self.numbers.below(6) {
            0 => ip.icmp(kind, code, 0x1_0001, b"ping"),
            1 => ip.icmp(kind, code, 0x1_0002, &data),
            2 => ip.udp(50_100, 81, b"nobody"),
            3 => ip.tcp(&Tcp::new(50_100, 80, flags).numbers(7, 8)),
            4 => ip.carry(self.numbers.pick(&NOBODYS), &[7; 24]),
            _ => ip.tcp(&Tcp::new(50_100, 81, flags).numbers(7, 8).data(&data)),
        };
        self.about.features.insert("of no service");
        self.client_sends(&packet, false, "odd").map(drop)
    }

    /// A packet between a client and a real server that no service is in the way of.
    fn passing(&mut self, source: &str, destination: &str, ports: (u16, u16)) -> Vec<u8> {
        let ip = self.header(source, destination);
        let flags = self.numbers.pick(&["S", "SA", "A", "FA", "R"]);
        let protocol = self.numbers.pick(&[number::TCP, number::UDP, number::SCTP]);
        let data = self.data();
        self.about.features.insert("past the services");
        if self.numbers.percent(15) {
            let kind = if self.family() == Family::V4 { 8 } else { 128 };
            return ip.icmp(kind, 0, 0x1_0003, &data);
        }
        transport(&ip, protocol, ports, (flags, 0), &data)
    }

    fn ask_a_real_server(&mut self) -> Result<(), Unknown> {
        let (client, real) = (1 + self.numbers.below(12), 1 + self.numbers.below(REALS));
        let (client, real) = (self.family().client(client), self.family().real(real));
        let l4_port = self.numbers.pick(&[80, 8080, 22]);
        let packet = self.passing(&client, &real, (50_200, l4_port));
        self.client_sends(&packet, false, "to a real server").map(drop)
    }

    fn real_server_speaks(&mut self) -> Result<(), Unknown> {
        let (client, number) = (1 + self.numbers.below(12), 1 + self.numbers.below(REALS));
        let (client, real) = (self.family().client(client), self.family().real(number));
        let l4_port = self.numbers.pick(&[80, 8080, 53, 8053, 22]);
        let packet = self.passing(&real, &client, (l4_port, 50_200));
        let mac = Mac([2, 0, 0, 0, 0xb0, 0x10 + number as u8]);
        self.real_sends(mac, &packet, "of a real server's own")
    }

    /// A source that no client has.
    fn nobody_speaks(&mut self) -> Result<(), Unknown> {
        let vip = self.some_vip();
        let source = match self.family() {
            Family::V4 => self.numbers.pick(&[
                "10.0.0.1",
                "10.0.0.100",
                "127.0.0.1",
                "0.0.0.0",
                "224.0.0.9",
                "255.255.255.255",
            ]),
            Family::V6 => self.numbers.pick(&["2001:db8::1", "2001:db8::100", "::1", "ff02::9"]),
        };
        let flow = self.flows.last().cloned();
        let (protocol, vip_port) = flow.map_or((number::TCP, 80), |flow| (flow.protocol, flow.vip_port));
        let ip = Ip::new(source, &vip);
        let packet = transport(&ip, protocol, (50_300, vip_port), ("S", 1), b"");
        self.about.features.insert("sources that no client has");
        self.client_sends(&packet, false, "from nowhere").map(drop)
    }

    /// A packet that is cut short or says something wrong of itself, or a frame for another host.
    fn misshapen(&mut self) -> Result<(), Unknown> {
        let Some(flow) = self.some_flow() else { return self.ask_the_vip() };
        let mut packet = self.packet(&flow, "A", 0);
        let header = self.family().header();
        let mut mac = Mac([2, 0, 0, 0, 0xd0, 0]);
        match self.numbers.below(7) {
            // Shorter than its ports, or with little behind its header. One that ends between passes the kernel where its connection is
            // open, which docs/differences.md tells of.
            0 if flow.protocol == number::TCP => {
                packet = shortened(packet, header + self.numbers.pick(&[0, 3]))
            }
            0 => packet = shortened(packet, header + self.numbers.pick(&[0, 3, 12, 19])),
            // Less than it says.
            1 => packet.truncate(packet.len() - 1),
            2 if self.family() == Family::V4 => packet[10] ^= 0x11,
            3 => mac = Mac([2, 0, 0, 0, 0xd0, 9]),
            4 => mac = Mac([0xff; 6]),
            // A length of IPv4 that is wrong, or a version.
            5 if self.family() == Family::V4 => packet[0] = 0x44,
            _ => packet[0] = packet[0] & 0x0f | 0x50,
        }
        self.about.features.insert("misshapen");
        self.about.packets += 1;
        let frame = Hex(ethernet(mac, ROUTER, &packet));
        self.step(Step::Frame { nic: 0, frame, new: false, note: "misshapen".to_owned() }).map(drop)
    }

    pub(super) fn some_flow(&mut self) -> Option<Flow> {
        let which = self.numbers.below(self.flows.len());
        self.flows.get(which).cloned()
    }
}

/// Its first bytes, of which the header says so.
pub(super) fn shortened(mut packet: Vec<u8>, length: usize) -> Vec<u8> {
    packet.truncate(length);
    let length = packet.len() as u16;
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&length.to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&(length - 40).to_be_bytes());
    }
    let mut frame = [&[0; 12][..], &[8, 0], &packet].concat();
    if packet[0] >> 4 == 4 {
        mend_ipv4(&mut frame);
    }
    frame.split_off(14)
}
