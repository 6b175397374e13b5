//! Random packets and what changes between them.
//!
//! The trace is made while this director plays it, so that real servers answer the connections that they have, and
//! errors quote packets that were sent. Pauses are whole multiples of 110 s: every timeout of the kernel, and how late its
//! timers may be, then ends between two of them, not beside one.

mod cuts;
mod errors;
mod extensions;
mod lies;
mod odd;

use std::net::IpAddr;

use shunt_dataplane::id::Mac;

use super::coverage::About;
use super::numbers::Numbers;
use super::rules::{CROSSING, FTP, FTP_DATA, Family, IKE, Listen, Rules, VIPS, random_sysctl, timeouts};
use super::{CHANGES, PACKETS};
use crate::oracle::commands::Unknown;
use crate::oracle::play::{Player, STEP};
use crate::oracle::scenario::{Hex, Scenario, Step, StepResult};
use crate::packets::{Ip, Tcp, ethernet, number};

const CONNECTIONS: &str = "ipvsadm -lnc | tail -n +3 | sort";
const STATISTICS: &str = "sleep 2.1; ipvsadm -Ln --stats --exact";
/// What fits into the MTU with the longest headers.
const FULL: usize = 1400;
/// The port of GUE tunnels.
const GUE: u16 = 5555;
const ROUTER: Mac = Mac([2, 0, 0, 0, 0xc0, 1]);
/// Chunk types (RFC 9260, 3.2): INIT, COOKIE ECHO, DATA and what ends an association.
const CHUNKS: [u8; 10] = [0, 1, 2, 10, 11, 7, 8, 14, 9, 6];

/// Adds steps and the questions at the end.
///
/// # Errors
/// When the runner does not know a command that was made.
pub fn add(
    scenario: &mut Scenario,
    rules: Rules,
    about: &mut About,
    numbers: &mut Numbers,
    pauses: bool,
) -> Result<(), Unknown> {
    let player = Player::set_up(scenario, STEP)?;
    let mut trace = Trace {
        rules,
        player,
        about,
        numbers,
        flows: Vec::new(),
        steps: Vec::new(),
        paused: 0,
        incomplete: false,
    };
    while trace.about.packets < PACKETS {
        // The last chances for the changes that there must be.
        let due = CHANGES * trace.about.packets / (PACKETS - 8);
        if trace.about.changes < due {
            trace.change()?;
        }
        trace.random(pauses)?;
    }
    scenario.steps = trace.steps;
    let end = [
        CONNECTIONS,
        "ipvsadm -Ln",
        "ipvsadm -Sn",
        "ipvsadm -Ln --persistent-conn",
        "ipvsadm -Ln --thresholds",
    ];
    scenario.end = end.map(str::to_owned).to_vec();
    // A real server that comes back counts anew, which is a deliberate difference.
    // So does a real server that FTP's persistent service and another one share, to which the kernel books data of FTP's.
    let counted_apart = ["real server deleted", "service deleted", "ftp"];
    if !counted_apart.iter().any(|feature| about.features.contains(feature)) {
        scenario.end.push(STATISTICS.to_owned());
    }
    Ok(())
}

/// What a client uses a service by.
#[derive(Clone, Debug)]
struct Flow {
    client: usize,
    client_port: u16,
    vip: usize,
    vip_port: u16,
    protocol: u8,
    /// The last of its packets that left towards a real server.
    sent: Option<Sent>,
}

/// A packet that left towards a real server.
#[derive(Clone, Debug)]
struct Sent {
    real: Mac,
    packet: Vec<u8>,
}

struct Trace<'a> {
    rules: Rules,
    player: Player,
    about: &'a mut About,
    numbers: &'a mut Numbers,
    flows: Vec<Flow>,
    steps: Vec<Step>,
    /// Long pauses so far.
    paused: usize,
    /// A datagram lacks a fragment, since the last of them.
    incomplete: bool,
}

impl Trace<'_> {
    fn random(&mut self, pauses: bool) -> Result<(), Unknown> {
        let kinds = [
            (34, 'n'),
            (5, 'e'),
            (4, 'q'),
            (3, 'g'),
            (3, 'p'),
            (3, 's'),
            (24, 'c'),
            (16, 'r'),
            (8, 'x'),
            (4, 'l'),
            (5, 'i'),
            (3, 'b'),
            (5, 'o'),
            (4, 'f'),
            (3, 'w'),
        ];
        match self.numbers.weighted(&kinds) {
            'c' if !self.flows.is_empty() => self.continued(),
            'r' if !self.flows.is_empty() => self.answered(),
            'x' => self.change(),
            'l' => {
                let lists = [CONNECTIONS, "ipvsadm -Ln", "ipvsadm -Ln --thresholds", "ipvsadm -L --timeout"];
                let list = self.numbers.pick(&lists);
                self.command(list.to_owned())
            }
            'i' if !self.flows.is_empty() => self.error_from_client(),
            'b' if !self.flows.is_empty() => self.error_from_behind(),
            'e' if !self.flows.is_empty() => self.error_between_any(),
            'q' if !self.flows.is_empty() => self.lying(),
            'g' if !self.flows.is_empty() => self.longer_than_mtu(),
            'p' => self.malformed_options(),
            's' => self.ipsec(),
            'o' => self.odd(),
            'f' if !self.flows.is_empty() && self.numbers.percent(30) => self.fragmented_answer(),
            'f' if !self.flows.is_empty() => self.fragmented(),
            // A template that is extended again and again is a little late each time in the kernel.
            'w' if pauses && self.paused < 1 + self.at_most() => {
                self.about.features.insert("long pause");
                let wait = if self.at_most() == 0 {
                    110.0
                } else {
                    self.numbers.pick(&[110.0, 110.0, 220.0, 330.0])
                };
                self.paused += 1;
                self.incomplete = false;
                self.step(Step::Wait { wait }).map(drop)
            }
            _ => self.begun(),
        }
    }

    /// Long pauses that there may be beside the first.
    fn at_most(&self) -> usize {
        if self.about.features.contains("persistent") { 0 } else { PACKETS }
    }

    fn step(&mut self, step: Step) -> Result<StepResult, Unknown> {
        let result = self.player.step(&step)?.clone();
        self.steps.push(step);
        Ok(result)
    }

    fn command(&mut self, cmd: String) -> Result<(), Unknown> {
        self.step(Step::Command { cmd }).map(drop)
    }

    fn change(&mut self) -> Result<(), Unknown> {
        self.about.changes += 1;
        let line = match self.numbers.below(10) {
            0 => random_sysctl(self.numbers),
            1 if self.numbers.percent(40) => timeouts(self.numbers),
            _ => {
                let which = self.numbers.below(self.rules.services.len());
                let Rules { services, methods, routed, .. } = &mut self.rules;
                let is_last = services.iter().filter(|service| service.there).count() == 1;
                services[which].change((methods, *routed), is_last, self.about, self.numbers)
            }
        };
        self.command(line)
    }

    /// A frame from the client side, and where it went.
    fn client_sends(&mut self, packet: &[u8], new: bool, note: &str) -> Result<Option<Sent>, Unknown> {
        self.about.packets += 1;
        let mut frame = ethernet(Mac([2, 0, 0, 0, 0xd0, 0]), ROUTER, packet);
        self.trail(&mut frame);
        let step = Step::Frame { nic: 0, frame: Hex(frame), new, note: note.to_owned() };
        let out = self.step(step)?.out;
        let behind = out.iter().find(|out| out.nic.0 == 1 && out.frame.0.len() > 14);
        Ok(behind.map(|out| Sent {
            real: Mac(std::array::from_fn(|at| out.frame.0[at])),
            packet: out.frame.0[14..].to_vec(),
        }))
    }

    fn real_sends(&mut self, real: Mac, packet: &[u8], note: &str) -> Result<(), Unknown> {
        self.about.packets += 1;
        let mut frame = ethernet(Mac([2, 0, 0, 0, 0xd0, 1]), real, packet);
        self.trail(&mut frame);
        self.step(Step::Frame { nic: 1, frame: Hex(frame), new: false, note: note.to_owned() }).map(drop)
    }

    fn is_marked(&self) -> bool {
        self.rules.services.iter().any(|service| service.listen == Listen::Mark)
    }

    const fn family(&self) -> Family {
        self.rules.family
    }

    /// What follows the packet in its frame: nothing, what fills it up to the least length of Ethernet, or something odd.
    fn trail(&mut self, frame: &mut Vec<u8>) {
        match self.numbers.below(20) {
            0 => frame.extend([0xee; 7]),
            1..=10 => frame.resize(frame.len().max(60), 0),
            _ => {}
        }
    }

    /// A header, of every tenth packet an odd one; without options that the kernel's own answers carry back.
    fn header(&mut self, source: &str, destination: &str) -> Ip {
        let ip = Ip::new(source, destination).id(self.numbers.below(1 << 16) as u16);
        match self.numbers.below(60) {
            0 => ip.ttl(1),
            1 => ip.ttl(2),
            2 | 3 => {
                let tos = self.numbers.below(256) as u8;
                ip.tos(tos)
            }
            4 => ip.ttl(255).tos(0x10),
            5 if ip.source.is_ipv4() => ip.options(&[1, 1, 1, 0]),
            6..=15 => ip.df(),
            _ => ip,
        }
    }

    fn data(&mut self) -> Vec<u8> {
        let length = self.numbers.weighted(&[(60, 0), (20, 5), (10, 100), (5, FULL), (5, FULL + 40)]);
        (0..length).map(|at| at as u8).collect()
    }

    /// A packet of a flow; `flags` are of TCP.
    fn packet(&mut self, flow: &Flow, flags: &str, chunk: u8) -> Vec<u8> {
        let (client, vip) = (self.family().client(flow.client), self.family().vip(flow.vip));
        let ip = self.header(&client, &vip);
        let data = if flags == "S" { Vec::new() } else { self.data() };
        let packet = transport(&ip, flow.protocol, (flow.client_port, flow.vip_port), (flags, chunk), &data);
        self.varied(packet)
    }

    /// A client begins.
    fn begun(&mut self) -> Result<(), Unknown> {
        let which = self.numbers.below(self.rules.services.len());
        let listen = self.rules.services[which].listen;
        let some = [80, 443, 22];
        let (protocol, vip_port) = match listen {
            Listen::Tcp(0) => (number::TCP, self.numbers.pick(&some)),
            Listen::Udp(0) => (number::UDP, self.numbers.pick(&some)),
            Listen::Tcp(FTP) => {
                (number::TCP, self.numbers.pick(&[FTP, FTP, FTP, FTP_DATA, 1023, 1024, 50_000]))
            }
            Listen::Tcp(l4_port) => (number::TCP, l4_port),
            Listen::Udp(l4_port) => (number::UDP, l4_port),
            Listen::Sctp(l4_port) => (number::SCTP, l4_port),
            Listen::Mark => (
                self.numbers.pick(&[number::TCP, number::TCP, number::UDP, number::SCTP]),
                self.numbers.pick(&some),
            ),
        };
        let client = 1 + self.numbers.below(12);
        let mut client_port = 50_000 + self.numbers.below(40) as u16;
        if self.numbers.percent(4) {
            client_port = FTP_DATA;
            self.about.features.insert("client port 20");
        }
        if listen == Listen::Udp(IKE) {
            client_port = IKE;
        }
        let vip = if listen == Listen::Mark { self.numbers.below(VIPS) } else { 0 };
        let mut flow = Flow { client, client_port, vip, vip_port, protocol, sent: None };
        let packet = self.packet(&flow, "S", 1);
        flow.sent = self.client_sends(&packet, true, "begins")?;
        if flow.protocol == number::TCP && self.numbers.percent(50) {
            if flow.sent.is_some() && self.numbers.percent(70) {
                self.answer(&flow, "SA", 2)?;
            }
            let packet = self.packet(&flow, "A", 0);
            flow.sent = self.client_sends(&packet, false, "")?.or(flow.sent);
        }
        self.flows.push(flow);
        Ok(())
    }

    /// A client goes on.
    fn continued(&mut self) -> Result<(), Unknown> {
        let which = self.numbers.below(self.flows.len());
        let mut flow = self.flows[which].clone();
        let flags = self
            .numbers
            .pick(&["A", "A", "PA", "PA", "FA", "FA", "R", "RA", "S", "SA", "SF", "SR", "P", "", "FPU"]);
        let chunk = self.numbers.pick(&CHUNKS);
        let mut packet = self.packet(&flow, flags, chunk);
        if self.numbers.percent(3) {
            let last = packet.len() - 1;
            packet[last] ^= 0x55;
            self.about.features.insert("wrong checksum");
        }
        let sent = self.client_sends(&packet, false, "")?;
        flow.sent = sent.or(flow.sent);
        self.flows[which] = flow;
        Ok(())
    }

    /// A real server answers.
    fn answered(&mut self) -> Result<(), Unknown> {
        let which = self.numbers.below(self.flows.len());
        let flow = self.flows[which].clone();
        let flags = self.numbers.pick(&["SA", "SA", "A", "A", "PA", "PA", "FA", "FA", "R", "RA", "S"]);
        let chunk = self.numbers.pick(&CHUNKS);
        self.answer(&flow, flags, chunk)
    }

    /// Where NAT sent the packet: the real server's own address answers. Others answer by another way, or, now and then, by this
    /// one, as they should not.
    fn answer(&mut self, flow: &Flow, flags: &str, chunk: u8) -> Result<(), Unknown> {
        let Some(sent) = flow.sent.clone() else { return Ok(()) };
        let Some((_, destination, protocol, at)) = addresses(&sent.packet) else { return Ok(()) };
        let real_port =
            sent.packet.get(at + 2..at + 4).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let is_nat = destination.to_string() != self.family().vip(flow.vip)
            && protocol == flow.protocol
            && real_port != GUE;
        // For a firewall mark they move the kernel's states, which docs/differences.md tells of.
        if !is_nat && (self.is_marked() || self.numbers.percent(95)) {
            return Ok(());
        }
        let real = if is_nat { destination.to_string() } else { self.family().vip(flow.vip) };
        let real_port = if is_nat { real_port } else { flow.vip_port };
        let client = self.family().client(flow.client);
        let (mut ip, data) = (self.header(&real, &client), self.data());
        // The kernel tells the VIP of one that ends here, which docs/differences.md tells of.
        if !is_nat && self.family() == Family::V6 {
            ip.ttl = ip.ttl.max(2);
        }
        let packet = transport(&ip, flow.protocol, (real_port, flow.client_port), (flags, chunk), &data);
        let packet = self.varied(packet);
        self.about.features.insert(if is_nat { "nat answers" } else { "answers by way of the director" });
        self.real_sends(sent.real, &packet, "answer")
    }
}

/// A packet of TCP, UDP or SCTP.
fn transport(
    ip: &Ip,
    protocol: u8,
    (from, to): (u16, u16),
    (flags, chunk): (&str, u8),
    data: &[u8],
) -> Vec<u8> {
    match protocol {
        number::TCP => {
            let numbers = if flags == "S" { (0, 0) } else { (1, 1) };
            ip.tcp(&Tcp::new(from, to, flags).numbers(numbers.0, numbers.1).data(data))
        }
        number::UDP => ip.udp(from, to, data),
        _ => {
            let length = (4 + data.len().max(4)) as u16;
            let mut chunks = [&[chunk, 0][..], &length.to_be_bytes(), data].concat();
            chunks.resize(usize::from(length).next_multiple_of(4), 1);
            ip.sctp(from, to, &chunks)
        }
    }
}

/// Source, destination, protocol, and where the header ends.
fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    match packet.first()? >> 4 {
        4 => Some((v4(12)?, v4(16)?, packet[9], usize::from(packet[0] & 15) * 4)),
        // Behind destination options.
        _ if packet[6] == 60 => Some((v6(8)?, v6(24)?, *packet.get(40)?, 48)),
        _ => Some((v6(8)?, v6(24)?, packet[6], 40)),
    }
}
