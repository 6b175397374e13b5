//! Two workers on two queues, one of them on the control core's CPU: af_packet's fanout scatters flows over the queues
//! without asking who owns them, and every packet meets its connection all the same.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use shunt_tests::topology::PATIENCE;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_address, real_mac};
use shunt_tests::topology::director::real;
use shunt_tests::topology::frames::{Packet, Transport, at};
use shunt_tests::topology::wire::Wire;

/// A multiple of the weights' sum.
const CLIENTS: u16 = 240;
const WEIGHTS: [(u8, u64); 3] = [(11, 3), (12, 2), (13, 1)];

struct Case {
    method: &'static str,
    v6: bool,
    udp: bool,
    vip: SocketAddr,
}

impl Case {
    fn new(method: &'static str, v6: bool, udp: bool) -> Self {
        let vip = at(if v6 { "[2001:db8:f::10]:80" } else { "192.0.2.10:80" });
        Self { method, v6, udp, vip }
    }

    fn real(&self, number: u8) -> SocketAddr {
        SocketAddr::new(real_address(number, self.v6), if self.method == "nat" { 8080 } else { 80 })
    }

    fn service(&self) -> String {
        let reals = WEIGHTS
            .map(|(number, weight)| format!("{{ address = \"{}\", weight = {weight} }}", self.real(number)));
        format!(
            "[[service]]\nname = \"s\"\nlisten = \"{}\"\nprotocol = \"{}\"\nscheduler = \"wrr\"\nforward = \"{}\"\nreal = [{}]\n",
            self.vip,
            if self.udp { "udp" } else { "tcp" },
            self.method,
            reals.join(", ")
        )
    }

    fn client(&self, number: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        let address: IpAddr = if self.v6 {
            std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, number + 1).into()
        } else {
            [198, 51, 100 + high, low].into()
        };
        SocketAddr::new(address, 40_000 + number)
    }

    /// The packet that a real server sees, out of the frame that came.
    fn at_real(&self, frame: &[u8]) -> Option<Packet> {
        if self.method != "tun" {
            return Packet::read(frame);
        }
        let outer = if self.v6 { 40 } else { 20 };
        let inside = frame.get(14 + outer..)?;
        Packet::read(&[frame.get(..14)?, inside].concat())
    }

    /// Every client sends once; which real server (by MAC) each packet arrived at.
    fn round(&self, arms: &Arms, running: &Running, transport: &Transport) -> HashMap<SocketAddr, [u8; 6]> {
        for number in 0..CLIENTS {
            let macs = [ROUTER, running.front];
            arms.front.send(&Packet::new(transport.clone(), macs, self.client(number), self.vip).bytes());
        }
        let mut met = HashMap::new();
        collect(&arms.back, CLIENTS.into(), |frame| {
            let packet = self.at_real(frame)?;
            let destination = if self.method == "nat" { self.real(packet.to[5]) } else { self.vip };
            assert_eq!(
                (packet.from, packet.destination, packet.ttl, &packet.transport),
                (running.back, destination, 63, transport)
            );
            assert!(met.insert(packet.source, packet.to).is_none(), "twice: {packet:?}");
            Some(())
        });
        met
    }

    /// Real servers answer; every client gets its answer from the VIP.
    fn answers(&self, arms: &Arms, running: &Running, met: &HashMap<SocketAddr, [u8; 6]>) {
        let transport = if self.udp { Transport::Udp } else { Transport::Tcp("SA") };
        for (client, mac) in met {
            let macs = [*mac, running.back];
            arms.back.send(&Packet::new(transport.clone(), macs, self.real(mac[5]), *client).bytes());
        }
        let mut answered = HashSet::new();
        collect(&arms.front, CLIENTS.into(), |frame| {
            let packet = Packet::read(frame)?;
            assert_eq!((packet.from, packet.to, packet.source), (running.front, ROUTER, self.vip));
            assert!(answered.insert(packet.destination), "twice: {packet:?}");
            Some(())
        });
        assert!(met.keys().all(|client| answered.contains(client)));
    }

    fn run(&self) {
        let arms = Arms::with_workers(2);
        let running = arms.start(&self.service());
        let status = running.director.status();
        assert!(status.workers.iter().any(|worker| worker.core == 0), "one shares the control core");
        let told =
            |nic: &shunt::api::status::Nic| nic.placement == "hand-over" && !nic.placement_reason.is_empty();
        assert!(status.nics.iter().all(told), "{status:#?}");
        let (first, then) = if self.udp {
            (Transport::Udp, Transport::Udp)
        } else {
            (Transport::Tcp("S"), Transport::Tcp("A"))
        };
        let met = self.round(&arms, &running, &first);
        if self.method == "nat" {
            self.answers(&arms, &running, &met);
        }
        assert_eq!(self.round(&arms, &running, &then), met, "each packet meets its connection");

        let status = running.director.settled();
        assert_eq!(running.director.reasons(), [""; 0]);
        assert!(
            status.workers.iter().all(|worker| worker.connections > 0 && worker.received > 0),
            "{status:#?}"
        );
        assert!(status.workers.iter().map(|worker| worker.handed_over).sum::<u64>() > 0, "{status:#?}");
        assert_eq!(status.workers.iter().map(|worker| worker.connections).sum::<u64>(), u64::from(CLIENTS));
        let weights: u64 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        for (number, weight) in WEIGHTS {
            let got = real(&status, &self.real(number).to_string()).connections_total;
            let fair = u64::from(CLIENTS) * weight / weights;
            // Each worker begins its own round.
            assert!(got.abs_diff(fair) <= 2 * 2, "real {number}: {got} connections, {fair} are fair");
            assert_eq!(met.values().filter(|mac| **mac == real_mac(number)).count() as u64, got);
        }
    }
}

/// Waits for so many frames that `take` takes.
fn collect(wire: &Wire, count: usize, mut take: impl FnMut(&[u8]) -> Option<()>) {
    let deadline = Instant::now() + PATIENCE;
    let mut taken = 0;
    while taken < count {
        assert!(Instant::now() < deadline, "{taken} of {count} packets came");
        let Some(frame) = wire.receive() else { continue };
        taken += usize::from(take(&frame).is_some());
    }
}

macro_rules! cases {
    ($($name:ident: $method:literal $v6:literal $udp:literal)*) => {
        $(#[test]
        fn $name() {
            Case::new($method, $v6, $udp).run();
        })*
    };
}

cases! {
    nat_tcp_ipv4: "nat" false false
    nat_udp_ipv6: "nat" true true
    dr_tcp_ipv4: "dr" false false
    dr_tcp_ipv6: "dr" true false
    tun_udp_ipv4: "tun" false true
    tun_tcp_ipv6: "tun" true false
}
