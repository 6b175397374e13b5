//! The network of the recordings, as a plan: NIC 0 faces a router behind which all clients are, NIC 1 faces the real
//! servers; every address has an IPv4 and an IPv6 form.

use std::net::{IpAddr, SocketAddr};

use shunt_dataplane::connections::Timeouts;
use shunt_dataplane::forwarding::ForwardRule;
use shunt_dataplane::id::{Mac, NicId, Protocol};
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Settings, Thresholds};
use shunt_dataplane::snapshot::{NeighbourPlan, NicPlan, Plan, RealPlan, RoutePlan, ServicePlan};

/// Towards clients.
pub const FRONT: NicId = NicId(0);
/// Towards real servers.
pub const BACK: NicId = NicId(1);
/// The clients' router.
pub const ROUTER: Mac = Mac([2, 0, 0, 0, 0xc0, 1]);
/// How many real servers there are.
pub const REALS: u8 = 4;

/// The two forms of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Form {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// One of two texts.
    const fn of<'a>(self, v4: &'a str, v6: &'a str) -> &'a str {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// The virtual IP address.
    #[must_use]
    pub const fn vip(self) -> &'static str {
        self.of("10.0.0.100", "2001:db8::100")
    }

    /// The director's own address on a NIC.
    #[must_use]
    pub const fn own(self, nic: NicId) -> &'static str {
        if nic.0 == 0 { self.of("10.0.0.1", "2001:db8::1") } else { self.of("10.1.0.1", "2001:db8:1::1") }
    }

    /// The clients' router.
    #[must_use]
    pub const fn router(self) -> &'static str {
        self.of("10.0.0.254", "2001:db8::254")
    }

    /// Client number `number`.
    #[must_use]
    pub fn client(self, number: u8) -> String {
        format!("{}{number}", self.of("198.51.100.", "2001:db8:c::"))
    }

    /// Real server number `number`, from 1 to [`REALS`].
    #[must_use]
    pub fn real(self, number: u8) -> String {
        format!("{}{}", self.of("10.1.0.", "2001:db8:1::"), 10 + number)
    }
}

/// The MAC of a NIC of the director.
#[must_use]
pub const fn nic_mac(nic: NicId) -> Mac {
    Mac([2, 0, 0, 0, 0xd0, nic.0])
}

/// The MAC of a real server.
#[must_use]
pub const fn real_mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0xb0, 0x10 + number])
}

/// The rule of a kernel that is a router (`ip_forward`).
#[must_use]
pub fn everything_passes() -> ForwardRule {
    ForwardRule { both: true, ..ForwardRule::default() }
}

/// The network with these services.
#[must_use]
pub fn plan(services: Vec<ServicePlan>) -> Plan {
    let nic = |nic: NicId, name: &str| NicPlan {
        name: name.to_owned(),
        mac: nic_mac(nic),
        mtu: 1500,
        up: true,
        edition: 0,
        virtual_macs: Vec::new(),
        addresses: vec![
            parse(&format!("{}/24", Form::V4.own(nic))),
            parse(&format!("{}/64", Form::V6.own(nic))),
        ],
        reverse_path: ReversePath::default(),
    };
    let everything = |form: Form| RoutePlan {
        to: parse(form.of("0.0.0.0/0", "::/0")),
        via: Some(parse(form.router())),
        nic: FRONT,
    };
    let mut neighbours = Vec::new();
    for form in Form::BOTH {
        neighbours.push(NeighbourPlan { nic: FRONT, address: parse(form.router()), mac: ROUTER });
        let real =
            |number| NeighbourPlan { nic: BACK, address: parse(&form.real(number)), mac: real_mac(number) };
        neighbours.extend((1..=REALS).map(real));
    }
    Plan {
        nics: vec![nic(FRONT, "front"), nic(BACK, "back")],
        routes: Form::BOTH.map(everything).to_vec(),
        elsewhere: Vec::new(),
        adopting: Vec::new(),
        silent: Vec::new(),
        others: Default::default(),
        not_accepting: Vec::new(),
        link_vips: Vec::new(),
        checked: Vec::new(),
        vips: Form::BOTH.map(|form| parse::<IpAddr>(form.vip())).to_vec(),
        neighbours,
        services,
        marks: Vec::new(),
        masquerades: Vec::new(),
        forwards: Vec::new(),
        timeouts: Timeouts::default(),
        sysctls: Default::default(),
        replies_per_second: 1_000_000,
        client_share: Default::default(),
    }
}

/// A service of the VIP with the first `reals` real servers at weight 1. NAT reaches them at port 8000 and more.
#[must_use]
pub fn service(
    form: Form,
    protocol: Protocol,
    l4_port: u16,
    scheduler: Scheduler,
    method: Method,
    reals: u8,
) -> ServicePlan {
    let real = |number| RealPlan {
        address: SocketAddr::new(parse(&form.real(number)), real_port(method, l4_port)),
        method,
        tunnel: Default::default(),
        weight: 1,
        thresholds: Thresholds::default(),
        up: true,
    };
    ServicePlan {
        name: format!("{protocol} {l4_port} {method}"),
        listen: SocketAddr::new(parse(form.vip()), l4_port),
        protocol,
        scheduler,
        settings: Settings::default(),
        reals: (1..=reals).map(real).collect(),
    }
}

/// The port at which a real server of [`service`] is reached.
#[must_use]
pub const fn real_port(method: Method, l4_port: u16) -> u16 {
    match method {
        Method::Nat => 8000 + l4_port,
        Method::Dr | Method::Tun => l4_port,
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("not what it should be: {text}"))
}
