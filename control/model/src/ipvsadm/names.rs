//! Names of hosts and services, both ways.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::table::Protocol;

/// Where names are looked up.
pub trait Names {
    /// The IPv4 address of a host.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;

    /// The name of an address.
    fn host(&self, address: IpAddr) -> Option<String>;

    /// The port of a service.
    fn port(&self, service: &str, protocol: Protocol) -> Option<u16>;

    /// The name of a port.
    fn service(&self, l4_port: u16, protocol: Protocol) -> Option<String>;
}

impl Protocol {
    /// Its word in `/etc/services`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol of that word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.word() == word)
    }
}

/// What `/etc/services` or a text like it says (services(5)): the first line that fits counts.
#[derive(Clone, Debug, Default)]
pub struct Services {
    ports: HashMap<(String, String), u16>,
    names: HashMap<(u16, String), String>,
}

impl Services {
    /// Reads a text; lines that are not understood are passed over.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut services = Self::default();
        for line in text.lines() {
            services.line(line.split('#').next().unwrap_or_default());
        }
        services
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        let name = words.next()?;
        let (l4_port, protocol) = words.next()?.split_once('/')?;
        let l4_port: u16 = l4_port.parse().ok()?;
        self.names.entry((l4_port, protocol.to_owned())).or_insert_with(|| name.to_owned());
        for alias in std::iter::once(name).chain(words) {
            self.ports.entry((alias.to_owned(), protocol.to_owned())).or_insert(l4_port);
        }
        Some(())
    }

    /// The port of a service.
    #[must_use]
    pub fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        self.ports.get(&(service.to_owned(), protocol.word().to_owned())).copied()
    }

    /// The name of a port.
    #[must_use]
    pub fn name(&self, l4_port: u16, protocol: Protocol) -> Option<String> {
        self.names.get(&(l4_port, protocol.word().to_owned())).cloned()
    }
}
