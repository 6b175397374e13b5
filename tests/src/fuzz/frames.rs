//! Frames by the bytes: what hosts around a director send, what they send about what it sent, and damage of all kinds.

use std::net::IpAddr;

use shunt_dataplane::id::{Mac, NicId, Protocol};

use super::bytes::Bytes;
use crate::director::{Arrival, Outcome};
use crate::network::{BACK, FRONT, Form, REALS, ROUTER, nic_mac, real_mac};
use crate::packets::{Ip, ethernet, frame, mend_ipv4, number};
use crate::traffic::{fragment_of, put_options, segment};

/// Flags of TCP, and with them the chunks of SCTP.
const FLAGS: [&str; 10] = ["S", "A", "PA", "FA", "SA", "R", "RA", "F", "", "SF"];
/// Bytes of data: none, some, and about what a NIC takes with a tunnel around it or without.
const SIZES: [usize; 12] = [0, 1, 8, 100, 1212, 1232, 1400, 1428, 1436, 1444, 1460, 1472];
/// Bytes of the longest noise.
const NOISE_MAX: u16 = 300;

/// What came and what left last.
#[derive(Debug, Default)]
pub struct Frames {
    last: Option<Arrival>,
    sent: Option<(NicId, Vec<u8>)>,
}

/// Two ends of a connection by the bytes.
struct Ends {
    form: Form,
    protocol: Protocol,
    client: String,
    client_port: u16,
}

impl Ends {
    fn of(bytes: &mut Bytes<'_>) -> Self {
        let form = bytes.one_of(&Form::BOTH);
        Self {
            form,
            protocol: bytes.one_of(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
            client: form.client(1 + bytes.below(4)),
            client_port: 40_000 + u16::from(bytes.below(3)),
        }
    }
}

impl Frames {
    /// Adds the next frame to a burst.
    pub fn next(&mut self, kind: u8, bytes: &mut Bytes<'_>, burst: &mut Vec<Arrival>) {
        let arrival = match kind % 9 {
            0 => noise(bytes),
            1 | 2 => to_vip(bytes),
            3 => from_real(bytes),
            4 => fragment(bytes),
            5 => other(bytes),
            6 => self.error(bytes),
            _ => self.damaged(bytes),
        };
        self.last = Some(arrival.clone());
        burst.push(arrival);
    }

    /// Takes note of what left.
    pub fn saw(&mut self, outcome: &Outcome) {
        if let Some((nic, frame)) = outcome.all_sent().last() {
            self.sent = Some((nic, frame.to_vec()));
        }
    }

    /// An ICMP error about what left last, from whom it was sent to or from a router on the way.
    fn error(&self, bytes: &mut Bytes<'_>) -> Arrival {
        let Some((nic, sent)) = &self.sent else { return to_vip(bytes) };
        let Some((source, destination)) = addresses(sent) else { return to_vip(bytes) };
        let form = if source.is_ipv4() { Form::V4 } else { Form::V6 };
        let from = if bytes.flag() { form.client(250) } else { destination.to_string() };
        let (kind, code) = match form {
            Form::V4 => bytes.one_of(&[(3_u8, 4_u8), (3, 3), (11, 0), (11, 1), (5, 1), (12, 0)]),
            Form::V6 => bytes.one_of(&[(2, 0), (1, 4), (3, 0), (137, 0), (4, 1)]),
        };
        let rest = u32::from(bytes.one_of(&[1300_u16, 1280, 0, 576, 68, 9000]));
        let mut about = sent[14..].to_vec();
        about.truncate(bytes.one_of(&[1200, 28, 48, 100, 20, 7]));
        let mut packet = Ip::new(&from, &source.to_string()).icmp(kind, code, rest, &about);
        change(bytes, &mut packet);
        let mut frame = ethernet(nic_mac(*nic), ROUTER, &packet);
        mend_ipv4(&mut frame);
        Arrival { nic: *nic, frame }
    }

    /// The last frame, as it is or over a bad wire.
    fn damaged(&self, bytes: &mut Bytes<'_>) -> Arrival {
        let Some(Arrival { nic, frame }) = &self.last else { return to_vip(bytes) };
        let (mut nic, mut frame) = (*nic, frame.clone());
        match bytes.below(8) {
            0 => nic = NicId(nic.0 ^ 1),
            1 => frame.truncate(usize::from(bytes.word()) % (frame.len() + 1)),
            2 => frame.extend(bytes.take(40)),
            3 => {
                let length = 1 + usize::from(bytes.below(20));
                put_options(&mut frame, bytes.take(length));
            }
            _ => {
                change(bytes, &mut frame);
                change(bytes, &mut frame);
            }
        }
        if bytes.below(4) != 0 {
            mend_ipv4(&mut frame);
        }
        Arrival { nic, frame }
    }
}

/// One byte near the beginning becomes another one, or none does.
fn change(bytes: &mut Bytes<'_>, of: &mut [u8]) {
    let (at, by) = (bytes.byte(), bytes.byte());
    if let Some(byte) = of.get_mut(usize::from(at) & 127) {
        *byte ^= by;
    }
}

/// Source and destination of a frame with an IP packet.
fn addresses(frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| frame.get(at..at + 4)?.try_into().ok().map(|octets: [u8; 4]| IpAddr::from(octets));
    let v6 = |at: usize| frame.get(at..at + 16)?.try_into().ok().map(|octets: [u8; 16]| IpAddr::from(octets));
    match frame.get(12..14)? {
        [8, 0] => Some((v4(26)?, v4(30)?)),
        [0x86, 0xdd] => Some((v6(22)?, v6(38)?)),
        _ => None,
    }
}

fn shaped(bytes: &mut Bytes<'_>, source: &str, destination: &str) -> Ip {
    let ip = Ip::new(source, destination);
    let (ttl, tos) = (bytes.one_of(&[64, 2, 1, 0]), bytes.one_of(&[0, 1, 2, 3, 0xb8]));
    Ip { dont_fragment: bytes.flag(), ..ip.ttl(ttl).tos(tos) }
}

fn noise(bytes: &mut Bytes<'_>) -> Arrival {
    let how = bytes.byte();
    let nic = NicId(how & 1);
    let length = bytes.word() % NOISE_MAX;
    let mut frame = bytes.take(length.into()).to_vec();
    match frame.get_mut(..6) {
        Some(destination) if how & 2 != 0 => destination.copy_from_slice(&nic_mac(nic).0),
        _ => {}
    }
    if how & 4 != 0 {
        mend_ipv4(&mut frame);
    }
    Arrival { nic, frame }
}

fn to_vip(bytes: &mut Bytes<'_>) -> Arrival {
    let ends = Ends::of(bytes);
    let ip = shaped(bytes, &ends.client, ends.form.vip());
    let ports = (ends.client_port, bytes.one_of(&[80, 81, 82, 83]));
    let packet = segment(&ip, ends.protocol, ports, bytes.one_of(&FLAGS), bytes.one_of(&SIZES));
    Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, &packet) }
}

/// As NAT's answers go.
fn from_real(bytes: &mut Bytes<'_>) -> Arrival {
    let ends = Ends::of(bytes);
    let real = 1 + bytes.below(REALS);
    let ip = shaped(bytes, &ends.form.real(real), &ends.client);
    let ports = (bytes.one_of(&[8080, 8081, 8082, 80, 81]), ends.client_port);
    let packet = segment(&ip, ends.protocol, ports, bytes.one_of(&FLAGS), bytes.one_of(&SIZES));
    Arrival { nic: BACK, frame: ethernet(nic_mac(BACK), real_mac(real), &packet) }
}

/// One of the two parts of a datagram, to the VIP or from a real server.
fn fragment(bytes: &mut Bytes<'_>) -> Arrival {
    let ends = Ends::of(bytes);
    let (later, dont_fragment) = (bytes.flag(), bytes.flag());
    let size = bytes.one_of(&[100, 2000, 1800, 2900]);
    let (nic, ip, ports) = if bytes.flag() {
        let real = ends.form.real(1 + bytes.below(REALS));
        (BACK, Ip::new(&real, &ends.client), (8080, ends.client_port))
    } else {
        (FRONT, Ip::new(&ends.client, ends.form.vip()), (ends.client_port, bytes.one_of(&[80, 81, 82])))
    };
    let packet = fragment_of(&Ip { dont_fragment, ..ip }, ends.protocol, ports, size, later);
    Arrival { nic, frame: ethernet(nic_mac(nic), ROUTER, &packet) }
}

/// Pings, packets to be routed, for the director itself, of other protocols, ARP.
fn other(bytes: &mut Bytes<'_>) -> Arrival {
    let Ends { form, protocol, client, client_port } = Ends::of(bytes);
    let echo = if form == Form::V6 { 128 } else { 8 };
    let data = vec![7; bytes.one_of(&SIZES)];
    let to = match bytes.below(5) {
        0 => form.vip().to_owned(),
        1 => form.own(FRONT).to_owned(),
        2 => form.own(BACK).to_owned(),
        3 => form.real(1 + bytes.below(REALS)),
        _ => form.real(99),
    };
    let ip = shaped(bytes, &client, &to);
    let packet = match bytes.below(6) {
        0 => ip.icmp(echo, 0, 1, &data),
        1 => segment(&ip, protocol, (client_port, 80), "S", data.len()),
        2 => ip.carry(99, &data),
        3 => ip.carry(bytes.one_of(&[number::IPV4, number::IPV6, 47]), &data),
        4 => Ip::new(form.vip(), form.vip()).udp(1, 80, &data),
        _ => {
            let arp = frame(Mac::BROADCAST, ROUTER, 0x0806, bytes.take(46));
            return Arrival { nic: FRONT, frame: arp };
        }
    };
    Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, &packet) }
}
