//! Random traffic for the network of [`crate::network`]: what clients, real servers and nobody in particular might send,
//! and what becomes of frames on bad wires.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use shunt_dataplane::id::{Mac, Protocol};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::ServicePlan;

use crate::director::Arrival;
use crate::network::{BACK, FRONT, Form, REALS, ROUTER, nic_mac, real_mac, real_port, service};
use crate::packets::{Ip, Tcp, ethernet, frame, mend_ipv4, number};

/// The ports of [`services`], by method.
const PORTS: [(u16, Method); 3] = [(80, Method::Dr), (81, Method::Nat), (82, Method::Tun)];
/// Clients and their ports are few, so that packets meet connections.
const CLIENTS: u8 = 6;
const CLIENT_PORTS: u16 = 4;
/// Bytes of data that fill the MTU in one method or another.
const SIZES: [usize; 8] = [0, 1, 100, 1400, 1420, 1440, 1460, 1480];

/// A service for each family, protocol and method, with `reals` real servers each.
#[must_use]
pub fn services(scheduler: Scheduler, reals: u8) -> Vec<ServicePlan> {
    let mut services = Vec::new();
    for form in Form::BOTH {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            let of = |(l4_port, method)| service(form, protocol, l4_port, scheduler, method, reals);
            services.extend(PORTS.map(of));
        }
    }
    services
}

/// A packet of TCP, UDP or SCTP between ports, or an echo request, in this header.
pub(crate) fn segment(ip: &Ip, protocol: Protocol, ports: (u16, u16), flags: &str, size: usize) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => ip.tcp(&Tcp::new(ports.0, ports.1, flags).numbers(1, 1).data(&vec![7; size])),
        Protocol::Udp => ip.udp(ports.0, ports.1, &vec![7; size]),
        Protocol::Sctp => {
            let chunk = match flags {
                "S" => 1,
                "SA" => 2,
                "A" => 10,
                "R" | "RA" => 6,
                "FA" => 7,
                "F" => 8,
                "P" => 14,
                _ => 0,
            };
            let mut packet = vec![0; 16 + size];
            packet[..2].copy_from_slice(&ports.0.to_be_bytes());
            packet[2..4].copy_from_slice(&ports.1.to_be_bytes());
            packet[12] = chunk;
            packet[14..16].copy_from_slice(&(4 + size as u16).to_be_bytes());
            ip.carry(Protocol::Sctp.number(), &packet)
        }
        Protocol::Icmp => {
            let ask = if ip.source.is_ipv4() { 8 } else { 128 };
            ip.icmp(ask, 0, u32::from(ports.0) << 16, &vec![7; size])
        }
    }
}

fn flags() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just("S"), 6 => Just("A"), 3 => Just("PA"), 2 => Just("FA"), 1 => select(vec!["SA", "R", "RA", "F", "P", "", "SF", "SR"])]
}

/// Both families and protocols, a client, its port.
fn client() -> impl Strategy<Value = (Form, Protocol, u8, u16)> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    (select(Form::BOTH.to_vec()), protocol, 1..=CLIENTS, 40000..40000 + CLIENT_PORTS)
}

/// TTL, data and DF.
fn shape() -> impl Strategy<Value = (u8, usize, bool)> {
    let ttl = prop_oneof![8 => Just(64), 1 => 0_u8..3];
    let size = prop_oneof![6 => 0_usize..4, 2 => select(SIZES.to_vec())];
    (ttl, size, any::<bool>())
}

/// From a client to the VIP: mostly to a service.
fn to_vip() -> impl Strategy<Value = Arrival> {
    let port = prop_oneof![12 => select(vec![80_u16, 81, 82]), 1 => Just(83)];
    (client(), port, flags(), shape()).prop_map(
        |((form, protocol, client, client_port), port, flags, shape)| {
            let ip = shaped(Ip::new(&form.client(client), form.vip()), shape);
            let packet = segment(&ip, protocol, (client_port, port), flags, shape.1);
            Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, &packet) }
        },
    )
}

/// From a real server to a client, as NAT's answers go.
fn from_real() -> impl Strategy<Value = Arrival> {
    (client(), 1..=REALS, flags(), shape()).prop_map(
        |((form, protocol, client, client_port), real, flags, shape)| {
            let ip = shaped(Ip::new(&form.real(real), &form.client(client)), shape);
            let port = real_port(Method::Nat, 81);
            let packet = segment(&ip, protocol, (port, client_port), flags, shape.1);
            Arrival { nic: BACK, frame: ethernet(nic_mac(BACK), real_mac(real), &packet) }
        },
    )
}

/// ICMP errors about packets of either side and about tunnels, from who sent them, from routers and from nobody, with too
/// little of the packet now and then.
fn error() -> impl Strategy<Value = Arrival> {
    let kind = select(vec![(3_u8, 4_u8, 2_u8, 0_u8), (3, 3, 1, 4), (11, 0, 3, 0), (5, 1, 137, 0)]);
    let quote = prop_oneof![3 => Just(usize::MAX), 1 => 0_usize..80];
    (client(), select(vec![80_u16, 81, 82]), 1..=REALS, 0..4, kind, (shape(), quote)).prop_map(
        |((form, protocol, client, client_port), port, real, about, (k4, c4, k6, c6), (shape, quote))| {
            let (kind, code) = if form == Form::V4 { (k4, c4) } else { (k6, c6) };
            let (client, router, real) = (form.client(client), form.client(250), form.real(real));
            let ports = (client_port, port);
            let inner = |source: &str, destination: &str, ports| {
                segment(&shaped(Ip::new(source, destination), shape), protocol, ports, "A", shape.1)
            };
            let (nic, ip, mut about) = match about {
                0 => (FRONT, Ip::new(&client, form.vip()), inner(form.vip(), &client, (port, client_port))),
                1 => (FRONT, Ip::new(&router, form.vip()), inner(form.vip(), &client, (port, client_port))),
                2 => {
                    let port = real_port(Method::Nat, 81);
                    (BACK, Ip::new(&real, &client), inner(&client, &real, (client_port, port)))
                }
                _ => {
                    let inside = inner(&client, form.vip(), ports);
                    let kind = if form == Form::V4 { number::IPV4 } else { number::IPV6 };
                    let outer = Ip::new(form.own(BACK), &real).carry(kind, &inside);
                    (BACK, Ip::new(&real, form.own(BACK)), outer)
                }
            };
            about.truncate(quote.min(1200));
            let packet = shaped(ip, shape).icmp(kind, code, 1300, &about);
            Arrival { nic, frame: ethernet(nic_mac(nic), ROUTER, &packet) }
        },
    )
}

/// A fragment of one of a few datagrams of two parts, to the VIP or from a NAT real server: with luck the other comes too.
fn fragment() -> impl Strategy<Value = Arrival> {
    let port = prop_oneof![6 => select(vec![80_u16, 81, 82]), 1 => Just(83)];
    let size = prop_oneof![4 => select(vec![100_usize, 2000]), 1 => select(vec![1800, 2900])];
    (client(), port, any::<bool>(), size, any::<bool>(), 0..REALS * 3).prop_map(
        |((form, protocol, client, client_port), port, later, size, dont_fragment, real)| {
            let (nic, ip, ports) = if real < REALS {
                let ip = Ip::new(&form.real(real + 1), &form.client(client));
                (BACK, ip, (real_port(Method::Nat, 81), client_port))
            } else {
                (FRONT, Ip::new(&form.client(client), form.vip()), (client_port, port))
            };
            let packet = fragment_of(&Ip { dont_fragment, ..ip }, protocol, ports, size, later);
            Arrival { nic, frame: ethernet(nic_mac(nic), ROUTER, &packet) }
        },
    )
}

/// One of the two parts of a datagram.
pub(crate) fn fragment_of(
    ip: &Ip,
    protocol: Protocol,
    ports: (u16, u16),
    size: usize,
    later: bool,
) -> Vec<u8> {
    let whole = segment(ip, protocol, ports, "S", size);
    let header = if ip.source.is_ipv6() { 40 } else { 20 };
    let cut = (size / 2 + 15) & !7;
    let data = if later { &whole[header + cut..] } else { &whole[header..header + cut] };
    let word = if later { cut as u16 } else { 1 };
    if ip.source.is_ipv6() {
        let [high, low] = word.to_be_bytes();
        let header = [protocol.number(), 0, high, low, 0, 0, 0, 7];
        return ip.carry(number::FRAGMENT, &[&header, data].concat());
    }
    let fragment = if later { word / 8 } else { 0x2000 };
    Ip { fragment, id: size as u16, ..ip.clone() }.carry(protocol.number(), data)
}

fn shaped(ip: Ip, (ttl, _, dont_fragment): (u8, usize, bool)) -> Ip {
    Ip { dont_fragment, ..ip.ttl(ttl) }
}

/// Pings, packets to be routed, for the director itself, of other protocols, ARP.
fn other() -> impl Strategy<Value = Arrival> {
    let form = select(Form::BOTH.to_vec());
    (form, 0..7, 1..=CLIENTS, shape()).prop_map(|(form, kind, client, shape)| {
        let from = |destination: &str| shaped(Ip::new(&form.client(client), destination), shape);
        let echo = if form == Form::V6 { 128 } else { 8 };
        let data = vec![7; shape.1];
        let packet = match kind {
            0 => from(form.vip()).icmp(echo, 0, 1, &data),
            1 => from(form.own(FRONT)).icmp(echo, 0, 1, &data),
            2 => from(&form.real(1)).udp(1, 2, &data),
            3 => from(&form.real(99)).udp(1, 2, &data),
            4 => from(form.vip()).carry(99, &data),
            5 => Ip::new(form.vip(), form.vip()).udp(1, 80, &data),
            _ => return Arrival { nic: FRONT, frame: frame(Mac::BROADCAST, ROUTER, 0x0806, &[0; 46]) },
        };
        Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, &packet) }
    })
}

/// A frame as its sender meant it.
pub fn good() -> impl Strategy<Value = Arrival> {
    prop_oneof![8 => to_vip(), 4 => from_real(), 2 => error(), 2 => fragment(), 2 => other()]
}

/// What happens to a frame.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Longer(Vec<u8>),
    Byte(Index, u8),
    Word(Index, u16),
    Swap(Index, Index),
    /// IPv4 options are put in.
    Options(Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    let options = proptest::collection::vec(select(vec![0_u8, 1, 7, 4, 3, 8, 0x44, 0x83, 0x89, 255]), 1..=10);
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        proptest::collection::vec(any::<u8>(), 1..64).prop_map(Damage::Longer),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (any::<Index>(), any::<u16>()).prop_map(|(at, word)| Damage::Word(at, word)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Swap(a, b)),
        options.prop_map(Damage::Options),
    ]
}

/// Headers are where damage shows.
const HEADERS: usize = 74;

impl Damage {
    fn to(&self, frame: &mut Vec<u8>) {
        let headers = frame.len().min(HEADERS);
        if headers < 2 {
            return;
        }
        match self {
            Self::Cut(at) => frame.truncate(at.index(frame.len())),
            Self::Longer(more) => frame.extend(more),
            Self::Byte(at, byte) => frame[at.index(headers)] = *byte,
            Self::Word(at, word) => {
                let at = at.index(headers - 1);
                frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
            }
            Self::Swap(a, b) => frame.swap(a.index(headers), b.index(headers)),
            Self::Options(options) => put_options(frame, options),
        }
    }
}

/// Puts options into an IPv4 header and makes it right again, lengths and checksum, so that they are read.
pub(crate) fn put_options(frame: &mut Vec<u8>, options: &[u8]) {
    if frame.get(12..15) != Some(&[8, 0, 0x45]) || frame.len() < 34 {
        return;
    }
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    frame[14] += (options.len() / 4) as u8;
    let length = u16::from_be_bytes([frame[16], frame[17]]).wrapping_add(options.len() as u16);
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame.splice(34..34, options.iter().copied());
    mend_ipv4(frame);
}

/// A frame that came over a bad wire, or was made with bad intent, or is noise; its IPv4 header checksum may be right
/// again.
pub fn bad() -> impl Strategy<Value = Arrival> {
    let damaged = (good(), proptest::collection::vec(damage(), 1..4), any::<bool>());
    let damaged = damaged.prop_map(|(arrival, damages, mend)| {
        let mut frame = arrival.frame;
        damages.iter().for_each(|damage| damage.to(&mut frame));
        if mend {
            mend_ipv4(&mut frame);
        }
        Arrival { nic: arrival.nic, frame }
    });
    let noise = (select(vec![FRONT, BACK]), proptest::collection::vec(any::<u8>(), 0..120), 0..3);
    let noise = noise.prop_map(|(nic, mut frame, kind)| {
        if frame.len() > 14 && kind > 0 {
            frame[..6].copy_from_slice(&nic_mac(nic).0);
            let head: [u8; 3] = if kind == 1 { [8, 0, 0x45] } else { [0x86, 0xdd, 0x60] };
            frame[12..15].copy_from_slice(&head);
        }
        Arrival { nic, frame }
    });
    prop_oneof![6 => damaged, 1 => noise]
}

/// Any frame.
pub fn any_frame() -> impl Strategy<Value = Arrival> {
    prop_oneof![5 => good(), 2 => bad()]
}
