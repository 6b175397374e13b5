//! Random rules: the network of the recordings, services on its VIP, and real servers.
//!
//! What is left out by design:
//! - `twos` and `drop_entry` draw at random.
//! - One address is always one method, but for those behind routers: the kernel mixes up routes of different methods to one
//!   address on the link.
//! - The last service stays where there is NAT: without any the kernel lets answers of open connections through as they are,
//!   which docs/differences.md tells of.
//! - Persistence ends in 5 s, so that templates end apart from pauses (see [`super::trace`]).

use super::coverage::About;
use super::numbers::Numbers;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// One address or the other.
    pub fn address(self, v4: &str, v6: &str) -> String {
        if self == Self::V4 { v4.to_owned() } else { v6.to_owned() }
    }

    /// A VIP; there are [`VIPS`].
    #[must_use]
    pub fn vip(self, number: usize) -> String {
        self.address(&format!("10.0.0.{}", 100 + number), &format!("2001:db8::{}", 100 + number))
    }

    /// Bytes of a header without options.
    #[must_use]
    pub const fn header(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// A client's address; there are 12.
    #[must_use]
    pub fn client(self, number: usize) -> String {
        self.address(&format!("198.51.100.{number}"), &format!("2001:db8:c::{number:x}"))
    }

    /// A real server's address.
    #[must_use]
    pub fn real(self, number: usize) -> String {
        self.address(&format!("10.1.0.{}", 10 + number), &format!("2001:db8:1::{}", 10 + number))
    }

    fn with_port(self, address: &str, l4_port: u16) -> String {
        self.address(&format!("{address}:{l4_port}"), &format!("[{address}]:{l4_port}"))
    }
}

/// VIPs: of a firewall mark; services by address have the first one.
pub const VIPS: usize = 3;
/// Real servers that there may be, 1 to this.
pub const REALS: usize = 7;
/// The port of FTP's commands: its service has the ports of data, too.
pub const FTP: u16 = 21;
/// The port of IKE: its clients' ESP and AH follow it.
pub const IKE: u16 = 500;
/// The port that FTP's data comes from: nothing from it is scheduled.
pub const FTP_DATA: u16 = 20;
/// A feature: real servers that are not of their service's family.
pub const CROSSING: &str = "tunnels of the other family";
/// All schedulers that choose the same for the same history.
const SCHEDULERS: [&str; 13] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf"];
const TUNNELS: [&str; 8] = [
    "",
    " --tun-type ipip",
    " --tun-type gre --tun-nocsum",
    " --tun-type gre --tun-csum",
    " --tun-type gue --tun-port 5555 --tun-nocsum",
    " --tun-type gue --tun-port 5555 --tun-csum",
    " --tun-type gue --tun-port 5555 --tun-remcsum",
    " --tun-type gue --tun-port 5555",
];

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Direct routing.
    Dr,
    /// Network address translation.
    Nat,
    /// A tunnel of this kind, as options of ipvsadm.
    Tun(&'static str),
    /// A tunnel to a real server of the other family.
    Crossing(&'static str),
}

impl Method {
    fn random(numbers: &mut Numbers) -> Self {
        match numbers.weighted(&[(4, 'g'), (4, 'm'), (3, 'i'), (1, 'x')]) {
            'g' => Self::Dr,
            'm' => Self::Nat,
            'i' => Self::Tun(numbers.pick(&TUNNELS)),
            _ => Self::Crossing(numbers.pick(&TUNNELS)),
        }
    }

    fn of_its_family(numbers: &mut Numbers) -> Self {
        match numbers.below(3) {
            0 => Self::Dr,
            1 => Self::Nat,
            _ => Self::Tun(numbers.pick(&TUNNELS)),
        }
    }

    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Dr => "dr",
            Self::Nat => "nat",
            Self::Tun(_) | Self::Crossing(_) => "tun",
        }
    }

    fn tell(self, about: &mut About) {
        about.methods.insert(self.word());
        if matches!(self, Self::Crossing(_)) {
            about.features.insert(CROSSING);
        }
    }

    fn options(self) -> String {
        match self {
            Self::Dr => "-g".to_owned(),
            Self::Nat => "-m".to_owned(),
            Self::Tun(kind) | Self::Crossing(kind) => format!("-i{kind}"),
        }
    }
}

/// What a service listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port of TCP; 0 is all.
    Tcp(u16),
    /// A port of UDP; 0 is all.
    Udp(u16),
    /// A port of SCTP; 0 is all.
    Sctp(u16),
    /// A firewall mark.
    Mark,
}

impl Listen {
    const fn l4_port(self) -> u16 {
        match self {
            Self::Tcp(l4_port) | Self::Udp(l4_port) | Self::Sctp(l4_port) => l4_port,
            Self::Mark => 0,
        }
    }
}

/// A service and its real servers.
#[derive(Clone, Debug)]
pub struct Service {
    /// What it listens for.
    pub listen: Listen,
    family: Family,
    scheduler: &'static str,
    options: String,
    /// The port of its NAT real servers.
    real_port: u16,
    /// The numbers of its real servers.
    pub reals: Vec<usize>,
    /// The weight that each was given last.
    weights: [usize; REALS + 1],
    /// The service is there.
    pub there: bool,
}

/// All rules.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Of the VIP.
    pub family: Family,
    /// Of each real server's address.
    pub methods: [Method; REALS + 1],
    /// Each real server stands behind a router of its own, so that the kernel has one route to it whatever the method is, and
    /// methods change.
    pub routed: bool,
    /// Services.
    pub services: Vec<Service>,
}

impl Rules {
    /// Random ones.
    #[must_use]
    pub fn random(numbers: &mut Numbers) -> Self {
        let family = if numbers.percent(55) { Family::V4 } else { Family::V6 };
        let all = Method::random(numbers);
        let mixed = numbers.percent(20);
        let methods = std::array::from_fn(|_| if mixed { Method::random(numbers) } else { all });
        let first = numbers.weighted(&[
            (40, Listen::Tcp(80)),
            (18, Listen::Udp(53)),
            (14, Listen::Sctp(9)),
            (15, Listen::Mark),
            (8, Listen::Tcp(0)),
            (5, Listen::Udp(0)),
            (10, Listen::Tcp(FTP)),
            (6, Listen::Udp(IKE)),
        ]);
        let routed = numbers.percent(30);
        let mut listens = vec![first];
        if first == Listen::Tcp(FTP) && numbers.percent(40) {
            listens.push(Listen::Tcp(0));
        } else if first != Listen::Mark && numbers.percent(40) {
            let second = numbers.pick(&[Listen::Tcp(443), Listen::Udp(5060), Listen::Sctp(2905)]);
            listens.push(second);
        }
        let services = listens.into_iter().map(|listen| Service::random(family, listen, numbers));
        let mut services: Vec<Service> = services.collect();
        if let [first, second] = &mut services[..]
            && numbers.percent(30)
        {
            second.real_port = first.real_port;
        }
        Self { family, methods, routed, services }
    }

    /// What is in them.
    #[must_use]
    pub fn about(&self) -> About {
        let mut about =
            About { family: if self.family == Family::V4 { "IPv4" } else { "IPv6" }, ..About::default() };
        if self.routed {
            about.features.insert("behind routers");
        }
        for service in &self.services {
            for &real in &service.reals {
                self.methods[real].tell(&mut about);
            }
            service.tell(&mut about);
        }
        about
    }

    /// The commands that set them up.
    #[must_use]
    pub fn setup(&mut self, numbers: &mut Numbers) -> Vec<String> {
        let crosses = self.methods.iter().any(|method| matches!(method, Method::Crossing(_)));
        let mut lines = network(self.family == Family::V6 || crosses, self.routed);
        if self.services.iter().any(|service| service.listen == Listen::Mark) {
            lines.extend((1..VIPS).map(|vip| {
                let bits = self.family.address("32", "128");
                format!("ip addr add {}/{bits} dev lo", self.family.vip(vip))
            }));
            lines.push("tc qdisc add dev eth0 ingress".to_owned());
            lines.push("tc filter add dev eth0 ingress matchall action skbedit mark 7".to_owned());
        }
        for (percent, name, values) in SYSCTLS {
            if numbers.percent(percent) {
                lines.push(sysctl(name, numbers.pick(values)));
            }
        }
        if numbers.percent(15) {
            lines.push(timeouts(numbers));
        }
        for service in &mut self.services {
            lines.extend(service.all(&self.methods, numbers));
        }
        lines
    }
}

/// Settings, how often they are set in a hundred, and to what.
const SYSCTLS: [(usize, &str, &[u8]); 10] = [
    (20, "expire_nodest_conn", &[1]),
    (50, "am_droprate", &[2, 3, 7]),
    (12, "drop_packet", &[3]),
    (15, "expire_quiescent_template", &[1]),
    (20, "sloppy_tcp", &[1]),
    (20, "sloppy_sctp", &[1]),
    (15, "nat_icmp_send", &[1]),
    (10, "pmtu_disc", &[0]),
    (15, "schedule_icmp", &[1]),
    (35, "conn_reuse_mode", &[0, 2, 3]),
];

fn sysctl(name: &str, value: u8) -> String {
    format!("echo {value} >/proc/sys/net/ipv4/vs/{name}")
}

/// One setting changed.
pub fn random_sysctl(numbers: &mut Numbers) -> String {
    // The first counts when a real server is deleted, which docs/differences.md tells of; the kernel looks at the second one once
    // a second.
    let (_, name, values) = numbers.pick(&SYSCTLS[2..]);
    let value = numbers.pick(values);
    sysctl(name, if numbers.percent(40) { 1 - value.min(1) } else { value })
}

/// `--set`.
pub fn timeouts(numbers: &mut Numbers) -> String {
    let (tcp, tcpfin, udp) =
        (numbers.pick(&[0, 70, 250]), numbers.pick(&[0, 30, 50]), numbers.pick(&[0, 30, 70]));
    format!("ipvsadm --set {tcp} {tcpfin} {udp}")
}

/// Addresses, routes and neighbours, so that there is no ARP. IPv4 is always there.
fn network(with_ipv6: bool, routed: bool) -> Vec<String> {
    let mut lines = vec![
        "ip addr add 10.0.0.1/24 dev eth0".to_owned(),
        "ip addr add 10.1.0.1/24 dev eth1".to_owned(),
        "ip addr add 10.0.0.100/32 dev lo".to_owned(),
        "ip route add default via 10.0.0.254".to_owned(),
        neighbour("10.0.0.254", "c0:01", 0),
    ];
    let mut families = vec![Family::V4];
    if with_ipv6 {
        families.push(Family::V6);
        lines.extend([
            "ip addr add 2001:db8::1/64 dev eth0".to_owned(),
            "ip addr add 2001:db8:1::1/64 dev eth1".to_owned(),
            "ip addr add 2001:db8::100/128 dev lo".to_owned(),
            "ip route add default via 2001:db8::254".to_owned(),
            neighbour("2001:db8::254", "c0:01", 0),
        ]);
    }
    for number in 1..=REALS {
        for family in &families {
            let mut next = family.real(number);
            if routed {
                let (real, bits) = (next, family.address("32", "128"));
                next = family
                    .address(&format!("10.1.0.{}", 210 + number), &format!("2001:db8:1::{}", 210 + number));
                lines.push(format!("ip route add {real}/{bits} via {next} dev eth1"));
            }
            lines.push(neighbour(&next, &format!("b0:{}", 10 + number), 1));
        }
    }
    if with_ipv6 {
        lines.push("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding".to_owned());
    }
    lines
}

fn neighbour(address: &str, mac: &str, nic: u8) -> String {
    format!("ip neigh add {address} lladdr 02:00:00:00:{mac} dev eth{nic} nud permanent")
}

impl Service {
    fn random(family: Family, listen: Listen, numbers: &mut Numbers) -> Self {
        let count = numbers.pick(&[0, 1, 2, 2, 3, 3, 4, 5]);
        let real_port = match listen.l4_port() {
            0 if numbers.percent(40) => 8080,
            0 => 0,
            l4_port if numbers.percent(40) => 8000 + l4_port,
            l4_port => l4_port,
        };
        let mut service = Self {
            listen,
            family,
            scheduler: "",
            options: String::new(),
            real_port,
            reals: (1..=count).collect(),
            weights: [usize::MAX; REALS + 1],
            there: true,
        };
        service.schedule(numbers);
        service
    }

    /// Takes another scheduler and other options.
    fn schedule(&mut self, numbers: &mut Numbers) {
        self.scheduler = numbers.pick(&SCHEDULERS);
        self.options = String::new();
        if matches!(self.scheduler, "sh" | "mh") && numbers.percent(60) {
            let flags = ["-b {}-fallback", "-b {}-port", "-b {}-fallback,{}-port"];
            self.options += &format!(" {}", numbers.pick(&flags).replace("{}", self.scheduler));
        }
        let all_ports = self.listen.l4_port() == 0 && self.listen != Listen::Mark;
        if all_ports || numbers.percent(25) {
            self.options += &format!(" -p {}", numbers.pick(&[35, 55, 75]));
            if numbers.percent(40) {
                let masks =
                    [("255.255.255.0", "112"), ("255.255.255.252", "126"), ("255.255.255.254", "127")];
                let (v4, v6) = numbers.pick(&masks);
                self.options += &format!(" -M {}", self.family.address(v4, v6));
            }
        }
        if matches!(self.listen, Listen::Udp(_) | Listen::Mark) && numbers.percent(15) {
            self.options += " -o";
        }
    }

    fn tell(&self, about: &mut About) {
        about.schedulers.insert(self.scheduler);
        about.features.insert(match self.listen {
            Listen::Tcp(0) | Listen::Udp(0) | Listen::Sctp(0) => "all ports",
            Listen::Tcp(FTP) => "ftp",
            Listen::Tcp(_) => "tcp",
            Listen::Udp(IKE) => "ike",
            Listen::Udp(_) => "udp",
            Listen::Sctp(_) => "sctp",
            Listen::Mark => "fwmark",
        });
        if self.real_port != self.listen.l4_port() {
            about.features.insert("real ports of their own");
        }
        for (option, feature) in [("-p", "persistent"), ("-o", "one-packet"), ("-b", "scheduler flags")] {
            if self.options.contains(&format!(" {option}")) {
                about.features.insert(feature);
            }
        }
    }

    /// Its options of ipvsadm.
    fn key(&self) -> String {
        let at = |l4_port| self.family.with_port(&self.family.vip(0), l4_port);
        match self.listen {
            Listen::Tcp(l4_port) => format!("-t {}", at(l4_port)),
            Listen::Udp(l4_port) => format!("-u {}", at(l4_port)),
            Listen::Sctp(l4_port) => format!("--sctp-service {}", at(l4_port)),
            Listen::Mark => format!("-f 7{}", self.family.address("", " -6")),
        }
    }

    fn real(&self, number: usize, method: Method) -> String {
        let crosses = matches!(method, Method::Crossing(_));
        let family = if crosses { self.family.other() } else { self.family };
        family.with_port(&family.real(number), self.real_port)
    }

    /// The commands that make it and its real servers.
    #[must_use]
    pub fn all(&mut self, methods: &[Method], numbers: &mut Numbers) -> Vec<String> {
        let mut lines = vec![format!("ipvsadm -A {} -s {}{}", self.key(), self.scheduler, self.options)];
        let reals = self.reals.clone();
        lines.extend(reals.into_iter().map(|number| self.put('a', number, methods, numbers)));
        lines
    }

    /// The command that adds (`a`) or edits (`e`) a real server.
    fn put(&mut self, how: char, number: usize, methods: &[Method], numbers: &mut Numbers) -> String {
        let weight = match numbers.pick(&[0, 1, 1, 1, 2, 3, 4, 5, 10, 100]) {
            // An edit that changes nothing moves the kernel's wrr, which docs/differences.md tells of.
            weight if weight == self.weights[number] => weight + 6,
            weight => weight,
        };
        self.weights[number] = weight;
        let (upper, lower) = (numbers.pick(&[2, 3, 5]), numbers.pick(&[0, 1, 2]));
        let thresholds = if numbers.percent(15) { format!(" -x {upper} -y {lower}") } else { String::new() };
        let options = methods[number].options();
        let real = self.real(number, methods[number]);
        format!("ipvsadm -{how} {} -r {real} {options} -w {weight}{thresholds}", self.key())
    }

    /// A random change of it, as a command.
    pub fn change(
        &mut self,
        (methods, routed): (&mut [Method], bool),
        is_last: bool,
        about: &mut About,
        numbers: &mut Numbers,
    ) -> String {
        if !self.there {
            self.there = true;
            return self.all(methods, numbers).join("; ");
        }
        let absent = (1..=REALS).filter(|number| !self.reals.contains(number)).collect::<Vec<_>>();
        let what = numbers.weighted(&[(40, 'e'), (20, 'd'), (25, 'a'), (10, 'E'), (5, 'D'), (4, 'Z')]);
        match what {
            'e' if !self.reals.is_empty() => {
                about.features.insert("real server edited");
                let number = numbers.pick(&self.reals);
                if routed && !matches!(methods[number], Method::Crossing(_)) && numbers.percent(50) {
                    about.features.insert("method edited");
                    methods[number] = Method::of_its_family(numbers);
                    methods[number].tell(about);
                }
                self.put('e', number, methods, numbers)
            }
            'd' if !self.reals.is_empty() => {
                about.features.insert("real server deleted");
                let number = self.reals.remove(numbers.below(self.reals.len()));
                format!("ipvsadm -d {} -r {}", self.key(), self.real(number, methods[number]))
            }
            'E' => {
                about.features.insert("service edited");
                self.schedule(numbers);
                self.tell(about);
                format!("ipvsadm -E {} -s {}{}", self.key(), self.scheduler, self.options)
            }
            'D' if !(is_last && (routed || methods.contains(&Method::Nat))) => {
                about.features.insert("service deleted");
                self.there = false;
                format!("ipvsadm -D {}", self.key())
            }
            // The kernel adds its counters up every 2 s, and zeroes what they were then.
            'Z' => {
                about.features.insert("counters zeroed");
                format!("sleep 2.1; ipvsadm -Z {}", self.key())
            }
            _ if absent.is_empty() => "sleep 2.1; ipvsadm -Z".to_owned(),
            _ => {
                about.features.insert("real server added");
                let number = numbers.pick(&absent);
                self.reals.push(number);
                methods[number].tell(about);
                self.put('a', number, methods, numbers)
            }
        }
    }
}
