//! ICMP errors.

use shunt_dataplane::id::Mac;

use super::{Flow, Trace, addresses, transport};
use crate::oracle::commands::Unknown;
use crate::packets::{Ip, number};
use crate::random::rules::{Family, REALS};

impl Trace<'_> {
    /// A client, or a router before it, sends an error about an answer.
    pub(super) fn error_from_client(&mut self) -> Result<(), Unknown> {
        let which = self.numbers.below(self.flows.len());
        let flow = self.flows[which].clone();
        let (vip, client) = (self.family().vip(flow.vip), self.family().client(flow.client));
        let mut quoted = transport(
            &Ip::new(&vip, &client).ttl(60),
            flow.protocol,
            (flow.vip_port, flow.client_port),
            ("A", 0),
            b"some data",
        );
        if self.numbers.percent(40) {
            quoted.truncate(self.family().header() + self.numbers.pick(&[8, 8, 8, 12, 4]));
        }
        let router = self.family().address("192.0.2.7", "2001:db8:7::7");
        let source = if self.numbers.percent(50) { router } else { client };
        let packet = self.error(self.family(), &source, &vip, &quoted);
        self.about.features.insert("icmp from clients");
        self.client_sends(&packet, false, "error").map(drop)
    }

    /// A real server, or a router before it, sends an error about a packet.
    pub(super) fn error_from_behind(&mut self) -> Result<(), Unknown> {
        let which = self.numbers.below(self.flows.len());
        let Some(sent) = self.flows[which].sent.clone() else { return Ok(()) };
        let Some((source, destination, protocol, _)) = addresses(&sent.packet) else { return Ok(()) };
        let length = sent.packet.len().min(self.numbers.pick(&[28 + 40, 100, 500]));
        // An error comes from an address of its own, which a DR real server's reply does not have.
        // docs/differences.md tells of what the kernel learns from one about GUE over IPv4.
        let crosses = source.is_ipv4() && self.family() == Family::V6;
        if crosses && protocol == number::UDP
            || destination.to_string() == self.family().vip(self.flows[which].vip)
        {
            return Ok(());
        }
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        let packet =
            self.error(family, &destination.to_string(), &source.to_string(), &sent.packet[..length]);
        self.about.features.insert("icmp from real servers");
        self.real_sends(sent.real, &packet, "error")
    }

    fn error(&mut self, family: Family, source: &str, destination: &str, quoted: &[u8]) -> Vec<u8> {
        let (kind, code, rest) = match family {
            Family::V4 => {
                self.numbers.pick(&[(3, 1, 0), (3, 3, 0), (3, 4, 1400), (11, 0, 0), (12, 0, 0), (4, 0, 0)])
            }
            Family::V6 => self.numbers.pick(&[(1, 0, 0), (1, 4, 0), (2, 0, 1400), (3, 0, 0), (4, 0, 0)]),
        };
        Ip::new(source, destination).tos(0xc0).icmp(kind, code, rest, quoted)
    }
    /// An error from any party to any other, about any packet of a connection: most make no sense to a director.
    pub(super) fn error_between_any(&mut self) -> Result<(), Unknown> {
        let Some(flow) = self.some_flow() else { return Ok(()) };
        let Some(quoted) = self.quoted(&flow) else { return Ok(()) };
        let Some((source, _, _, _)) = addresses(&quoted) else { return Ok(()) };
        let family = if source.is_ipv4() { Family::V4 } else { Family::V6 };
        if family != self.family() {
            return Ok(());
        }
        let (client, vip) = (family.client(flow.client), family.vip(flow.vip));
        let real = family.real(1 + self.numbers.below(REALS));
        let front = family.address("10.0.0.1", "2001:db8::1");
        let behind = family.address("10.1.0.1", "2001:db8:1::1");
        let router = family.address("192.0.2.7", "2001:db8:7::7");
        let from_behind = self.numbers.percent(60);
        let sources = if from_behind { [&real, &real, &vip] } else { [&client, &router, &router] };
        let from = self.numbers.below(sources.len());
        let to = [&client, &vip, &real, &front, &behind];
        let to = to[self.numbers.below(to.len())];
        // Nothing goes back to where it came from, which would be a redirect's or a spoofer's. docs/differences.md tells of those from
        // the front to real servers, whose TTL the kernel lowers twice.
        // So do those about answers that go to the client: forwarded, and then passed to the real server.
        let comes_back = from_behind && *to == client && source.to_string() == vip;
        if comes_back
            || sources[from] == to
            || !from_behind && [&client, &real].contains(&to)
            || from_behind && *to == real
        {
            return Ok(());
        }
        let packet = self.error(family, sources[from], to, &quoted);
        self.about.features.insert("icmp between any");
        if from_behind {
            let mac = flow.sent.map_or(Mac([2, 0, 0, 0, 0xb0, 0x11]), |sent| sent.real);
            return self.real_sends(mac, &packet, "error");
        }
        self.client_sends(&packet, false, "error").map(drop)
    }

    /// A packet of a connection: as it came, as it left, or an answer as it came or left; or a part of it.
    fn quoted(&mut self, flow: &Flow) -> Option<Vec<u8>> {
        let (client, vip) = (self.family().client(flow.client), self.family().vip(flow.vip));
        let real = self.family().real(1 + self.numbers.below(REALS));
        let data = b"some data";
        let of = |source: &str, destination: &str, ports: (u16, u16)| {
            let ip = Ip::new(source, destination).ttl(60);
            Some(transport(&ip, flow.protocol, ports, ("A", 0), data))
        };
        let quoted = match self.numbers.below(4) {
            0 => flow.sent.as_ref().map(|sent| sent.packet.clone()),
            1 => of(&client, &vip, (flow.client_port, flow.vip_port)),
            2 => of(&vip, &client, (flow.vip_port, flow.client_port)),
            _ => of(&real, &client, (flow.vip_port, flow.client_port)),
        };
        let mut quoted = quoted?;
        let header = self.family().header();
        quoted.truncate(self.numbers.pick(&[header + 8, header + 20, 100, 500]));
        Some(quoted)
    }
}
