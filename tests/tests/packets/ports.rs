//! What ports do to new connections: port 20 of clients, the ports of FTP's data, and which services keep the port that was asked
//! for though their real servers have one (kernel: `ip_vs_schedule`, `ip_vs_service_find`, `ip_vs_sched_persist`).

use std::net::SocketAddr;

use shunt_dataplane::address::Family;
use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{NicId, Protocol};
use shunt_dataplane::reason::ReplyKind;
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Persistence};
use shunt_dataplane::snapshot::{Plan, ServicePlan};
use shunt_dataplane::time::Ticks;
use shunt_tests::network::{self, Form, real_port};
use shunt_tests::packets::{Ip, Tcp};

use crate::case::{Case, SENT_BACK, SENT_FRONT, from_front, from_real, to_front, to_real, word};

/// The service that a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    OnePacket,
    Persistent,
    Marked,
    PersistentMarked,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::Plain, Self::OnePacket, Self::Persistent, Self::Marked, Self::PersistentMarked];

    const fn is_persistent(self) -> bool {
        matches!(self, Self::Persistent | Self::PersistentMarked)
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for form in Form::BOTH {
        for kind in Kind::ALL {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                cases.extend(client_port(form, kind, protocol));
                cases.extend([80, 0].map(|asked| kept_port(form, kind, protocol, asked)));
            }
        }
        cases.extend(
            [(20, true), (1024, true), (65_535, true), (1023, false), (0, false)].into_iter().flat_map(
                |(asked, is_data)| {
                    [false, true].map(|persistent| ftp(form, Protocol::Tcp, asked, persistent, is_data))
                },
            ),
        );
        cases.extend([Protocol::Udp, Protocol::Sctp].map(|protocol| ftp(form, protocol, 1024, true, false)));
        cases.extend([data_answer(form), data_without_real(form), all_ports_by_the_template_of_ftp(form)]);
    }
    cases
}

fn persistence(form: Form) -> Persistence {
    Persistence { timeout: Ticks::from_seconds(300), netmask: if form == Form::V4 { 32 } else { 128 } }
}

/// A packet that begins a connection.
fn first(ip: &Ip, protocol: Protocol, ports: (u16, u16)) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => ip.tcp(&Tcp::new(ports.0, ports.1, "S").numbers(1, 0)),
        Protocol::Udp => ip.udp(ports.0, ports.1, b"odd"),
        Protocol::Sctp => ip.sctp(ports.0, ports.1, &[1, 0, 0, 4]),
        Protocol::Icmp => unreachable!("no service is of ICMP"),
    }
}

fn to_vip(form: Form, ttl: u8) -> Ip {
    Ip::new(&form.client(1), form.vip()).ttl(ttl)
}

/// Real server 2, to which the first client goes, rewritten.
fn to_nat(form: Form) -> Ip {
    Ip::new(&form.client(1), &form.real(2)).ttl(63)
}

/// A service over two real servers, at `l4_port` unless it is of all ports or of a mark.
fn plan(form: Form, kind: Kind, protocol: Protocol, method: Method, l4_port: u16) -> Plan {
    let mut service = network::service(form, protocol, l4_port, Scheduler::Rr, method, 2);
    service.settings.one_packet = kind == Kind::OnePacket;
    service.settings.persistence = kind.is_persistent().then(|| persistence(form));
    let mark = Mark::new(7).unwrap();
    let is_marked = matches!(kind, Kind::Marked | Kind::PersistentMarked);
    if is_marked {
        service.listen = mark.listen(if form == Form::V4 { Family::V4 } else { Family::V6 });
    }
    let mut plan = network::plan(vec![service]);
    if is_marked {
        let ports = 0..=u16::MAX;
        plan.marks = vec![MarkRule { mark, to: None, from: None, protocol: None, ports, nic: None }];
    }
    plan
}

/// What the host that the director is says to a packet for no service of it.
const fn refusal(protocol: Protocol) -> Verdict {
    Verdict::Reply(
        NicId(0),
        match protocol {
            Protocol::Tcp => ReplyKind::Reset,
            Protocol::Udp | Protocol::Icmp => ReplyKind::PortUnreachable,
            Protocol::Sctp => ReplyKind::ProtocolUnreachable,
        },
    )
}

/// Nothing that comes from port 20 is scheduled; what comes from port 21 is.
fn client_port(form: Form, kind: Kind, protocol: Protocol) -> Vec<Case> {
    [(20, refusal(protocol)), (21, SENT_BACK)]
        .map(|(port, verdict)| {
            let name = format!("{protocol} from port {port}, {kind:?}, {}", word(form));
            let packet = first(&to_vip(form, 64), protocol, (port, 53));
            Case::new(name, plan(form, kind, protocol, Method::Dr, 53), from_front(&packet), verdict)
                .any_out()
        })
        .to_vec()
}

/// A persistent service keeps ports that it does not listen at, though its real servers have one.
fn kept_port(form: Form, kind: Kind, protocol: Protocol, asked: u16) -> Case {
    let mut plan = plan(form, kind, protocol, Method::Nat, 80);
    let service = &mut plan.services[0];
    let is_marked = Mark::of(service.listen).is_some();
    if kind == Kind::Persistent {
        service.listen.set_port(0);
    } else if !is_marked {
        service.listen.set_port(asked.max(1));
    }
    let asked = if kind == Kind::Persistent || is_marked { asked } else { asked.max(1) };
    let reached = if kind.is_persistent() && asked != 0 { asked } else { real_port(Method::Nat, 80) };
    let name = format!("{protocol} for port {asked} by NAT, {kind:?}, {}", word(form));
    let packet = first(&to_vip(form, 64), protocol, (40_000, asked));
    let out = to_real(2, &first(&to_nat(form), protocol, (40_000, reached)));
    Case::new(name, plan, from_front(&packet), SENT_BACK).out(out)
}

fn ftp_plan(form: Form, protocol: Protocol, persistent: bool) -> Plan {
    let kind = if persistent { Kind::Persistent } else { Kind::Plain };
    plan(form, kind, protocol, Method::Nat, 21)
}

/// FTP's data goes to a real server where the service is persistent, by its own port; else the host answers.
fn ftp(form: Form, protocol: Protocol, asked: u16, persistent: bool, is_data: bool) -> Case {
    let name = format!(
        "{protocol} for port {asked} beside {} FTP, {}",
        if persistent { "persistent" } else { "plain" },
        word(form)
    );
    let packet = from_front(&first(&to_vip(form, 64), protocol, (40_000, asked)));
    let plan = ftp_plan(form, protocol, persistent);
    if is_data && persistent {
        let out = to_real(2, &first(&to_nat(form), protocol, (40_000, asked)));
        return Case::new(name, plan, packet, SENT_BACK).out(out);
    }
    Case::new(name, plan, packet, refusal(protocol)).any_out()
}

/// The answer comes back from the port that was kept.
fn data_answer(form: Form) -> Case {
    let answer = |source: &str, ttl| {
        Ip::new(source, &form.client(1)).ttl(ttl).tcp(&Tcp::new(5000, 40_000, "SA").numbers(8, 2))
    };
    let asked = from_front(&first(&to_vip(form, 64), Protocol::Tcp, (40_000, 5000)));
    let packet = from_real(2, &answer(&form.real(2), 64));
    let name = format!("answer of FTP's data, {}", word(form));
    Case::new(name, ftp_plan(form, Protocol::Tcp, true), packet, SENT_FRONT)
        .after(vec![asked])
        .out(to_front(&answer(form.vip(), 63)))
}

/// FTP's data that no real server takes is the host's, though FTP itself is told that nobody takes it.
fn data_without_real(form: Form) -> Case {
    let mut plan = ftp_plan(form, Protocol::Tcp, true);
    plan.services[0].reals.iter_mut().for_each(|real| real.weight = 0);
    let packet = from_front(&first(&to_vip(form, 64), Protocol::Tcp, (40_000, 5000)));
    let name = format!("FTP's data that no real server takes, {}", word(form));
    Case::new(name, plan, packet, refusal(Protocol::Tcp)).any_out()
}

/// A client that persists at a real server of FTP goes there by the service of all ports too.
fn all_ports_by_the_template_of_ftp(form: Form) -> Case {
    let mut plan = ftp_plan(form, Protocol::Tcp, true);
    let mut all = network::service(form, Protocol::Tcp, 80, Scheduler::Rr, Method::Dr, 3);
    all.listen.set_port(0);
    all.settings.persistence = Some(persistence(form));
    let remote = |real: &mut shunt_dataplane::snapshot::RealPlan| {
        real.address = SocketAddr::new(form.real(3).parse().unwrap(), 0);
    };
    all.reals.truncate(1);
    all.reals.iter_mut().for_each(remote);
    plan.services.push(ServicePlan { name: "all ports".to_owned(), ..all });
    let control = from_front(&first(&to_vip(form, 64), Protocol::Tcp, (40_000, 21)));
    let packet = from_front(&first(&to_vip(form, 64), Protocol::Tcp, (40_001, 80)));
    let out = to_real(2, &first(&to_nat(form), Protocol::Tcp, (40_001, 80)));
    let name = format!("all ports by the template of FTP, {}", word(form));
    Case::new(name, plan, packet, SENT_BACK).after(vec![control]).out(out)
}
