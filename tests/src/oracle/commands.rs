//! The shell commands of the recordings: `ip`, `ipvsadm` and a little around them become edits of the plan, each
//! published as a generation of its own, and listings.
//!
//! What is not understood fails by name: a scenario never passes because a command was passed over.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use shunt_dataplane::id::{Mac, NicId, Protocol};
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::service::{Method, Settings, Thresholds};
use shunt_dataplane::snapshot::{NeighbourPlan, Plan, RealPlan, RoutePlan, ServicePlan};
use shunt_dataplane::time::Ticks;

use super::listing;
use crate::director::Director;

/// A command, or a part of one, that the runner does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The whole command.
    pub command: String,
    /// What in it is not known.
    pub what: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command {:?}: {}: the runner does not know it", self.command, self.what)
    }
}

impl std::error::Error for Unknown {}

/// What a command line printed and its exit status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Printed.
    pub output: String,
    /// Exit status.
    pub status: i32,
}

/// Runs a command line: commands divided by `;` and `&&`, each a pipe.
///
/// # Errors
/// When any part of it is not known.
pub fn run(line: &str, director: &mut Director) -> Result<Said, Unknown> {
    let mut said = Said::default();
    let line = line.split_once('#').map_or(line, |(before, _comment)| before);
    for group in line.split(';') {
        for command in group.split("&&") {
            let one = pipe(command.trim(), director)
                .map_err(|what| Unknown { command: line.trim().to_owned(), what })?;
            said.output += &one.output;
            said.status = one.status;
            if one.status != 0 {
                break;
            }
        }
    }
    Ok(said)
}

type Parsed<T> = Result<T, String>;

fn pipe(command: &str, director: &mut Director) -> Parsed<Said> {
    let mut stages = command.split('|').map(|stage| stage.split_whitespace().collect::<Vec<_>>());
    let first = stages.next().unwrap_or_default();
    let mut said = simple(&first, director)?;
    for stage in stages {
        said = filter(&stage, said)?;
    }
    Ok(said)
}

/// What stands behind a `|`.
fn filter(words: &[&str], said: Said) -> Parsed<Said> {
    let mut lines = said.output.lines().collect::<Vec<_>>();
    let mut status = 0;
    match words {
        ["sort"] => lines.sort_unstable(),
        ["tail", "-n", from] => {
            let from = from.strip_prefix('+').and_then(|from| from.parse::<usize>().ok());
            let from = from.ok_or_else(|| words.join(" "))?;
            lines = lines.split_off(from.saturating_sub(1).min(lines.len()));
        }
        ["grep", pattern] if !pattern.contains(['.', '*', '[', '\\', '^', '$']) => {
            lines.retain(|line| line.contains(pattern));
            status = i32::from(lines.is_empty());
        }
        _ => return Err(words.join(" ")),
    }
    let output = lines.into_iter().map(|line| format!("{line}\n")).collect();
    Ok(Said { output, status })
}

/// Settings of the kernel, and the values that this director has by nature.
const AS_IT_IS: [(&str, &str); 1] = [("1", "/proc/sys/net/ipv6/conf/all/forwarding")];

fn simple(words: &[&str], director: &mut Director) -> Parsed<Said> {
    match words {
        [] => {}
        ["sleep", seconds] => director.advance(Duration::from_secs_f64(parse(seconds)?)),
        // What the director does without being asked.
        ["echo", value, file] if AS_IT_IS.contains(&(value, file.trim_start_matches('>'))) => {}
        ["echo", value, file] => {
            let name = file.trim_start_matches('>').strip_prefix("/proc/sys/net/ipv4/vs/");
            let (name, value) = (name.ok_or_else(|| words.join(" "))?, parse(value)?);
            let mut known = false;
            director.publish(|plan| known = plan.sysctls.set(name, value));
            if !known {
                return Err(words.join(" "));
            }
        }
        // No route is remembered from packet to packet.
        ["ip", "route", "flush", "cache"] => {}
        ["ip", "link", "set", nic, "mtu", mtu] => {
            let (nic, mtu) = (nic_id(nic)?, parse(mtu)?);
            director.publish(|plan| plan.nics[nic.index()].mtu = mtu);
        }
        ["ip", "addr", action @ ("add" | "del"), network, "dev", device] => {
            address(*action == "add", parse(network)?, device, director)?;
        }
        ["ip", "route", "add", "default", "via", via] => default_route(parse(via)?, director)?,
        ["ip", "neigh", "add", address, "lladdr", mac, "dev", device, "nud", "permanent"] => {
            let mac = Mac::from_str(mac).map_err(|()| (*mac).to_owned())?;
            let neighbour = NeighbourPlan { nic: nic_id(device)?, address: parse(address)?, mac };
            director.publish(|plan| plan.neighbours.push(neighbour));
        }
        ["ipvsadm", options @ ..] => return ipvsadm(options, director),
        _ => return Err(words.join(" ")),
    }
    Ok(Said::default())
}

fn parse<T: FromStr>(word: &str) -> Parsed<T> {
    word.parse().map_err(|_| word.to_owned())
}

/// `eth0` is NIC 0.
fn nic_id(device: &str) -> Parsed<NicId> {
    let number = device.strip_prefix("eth").and_then(|number| number.parse().ok());
    number.map(NicId).ok_or_else(|| device.to_owned())
}

/// The addresses of `lo` are the VIPs; those of a NIC are the director's own.
fn address(add: bool, network: IpNet, device: &str, director: &mut Director) -> Parsed<()> {
    if device == "lo" {
        director.publish(|plan| {
            plan.vips.retain(|&vip| vip != network.addr());
            if add {
                plan.vips.push(network.addr());
            }
        });
        return Ok(());
    }
    let nic = nic_id(device)?;
    director.publish(|plan| {
        let addresses = &mut plan.nics[nic.index()].addresses;
        addresses.retain(|&own| own != network);
        if add {
            addresses.push(network);
        }
    });
    Ok(())
}

fn default_route(via: IpAddr, director: &mut Director) -> Parsed<()> {
    let holds = |net: &IpNet| net.contains(&via);
    let nic = director.plan().nics.iter().position(|nic| nic.addresses.iter().any(holds));
    let nic = NicId(nic.ok_or_else(|| format!("{via} is in no NIC's network"))? as u8);
    let everything = if via.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
    let route = RoutePlan { to: parse(everything)?, via: Some(via), nic };
    director.publish(|plan| plan.routes.push(route));
    Ok(())
}

/// The options of one `ipvsadm` command.
#[derive(Default)]
struct Options<'a> {
    action: &'a str,
    service: Option<(Protocol, SocketAddr)>,
    real: Option<SocketAddr>,
    scheduler: Option<Scheduler>,
    settings: Settings,
    method: Option<Method>,
    weight: Option<u32>,
    thresholds: Thresholds,
}

impl<'a> Options<'a> {
    fn read(words: &[&'a str]) -> Parsed<Self> {
        let mut options = Self::default();
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} without a value"));
            match word {
                "-A" | "-D" | "-a" | "-e" | "-d" if options.action.is_empty() => options.action = word,
                "-t" => options.service = Some((Protocol::Tcp, parse(value()?)?)),
                "-u" => options.service = Some((Protocol::Udp, parse(value()?)?)),
                "-r" => options.real = Some(parse(value()?)?),
                "-g" => options.method = Some(Method::Dr),
                "-m" => options.method = Some(Method::Nat),
                "-i" => options.method = Some(Method::Tun),
                "-w" => options.weight = Some(parse(value()?)?),
                "-s" => options.scheduler = Some(scheduler(value()?)?),
                "-b" => flags(value()?, &mut options.settings)?,
                "-o" => options.settings.one_packet = true,
                "-x" => options.thresholds.upper = parse(value()?)?,
                "-y" => options.thresholds.lower = parse(value()?)?,
                other => return Err(format!("option {other}")),
            }
        }
        Ok(options)
    }
}

fn scheduler(word: &str) -> Parsed<Scheduler> {
    let mut all = Scheduler::ALL.iter().copied();
    all.find(|scheduler| scheduler.word() == word).ok_or_else(|| format!("scheduler {word}"))
}

/// `-b sh-fallback,sh-port`, and the same of `mh`.
fn flags(list: &str, settings: &mut Settings) -> Parsed<()> {
    for flag in list.split(',') {
        match flag {
            "sh-fallback" | "mh-fallback" => settings.flags.fallback = true,
            "sh-port" | "mh-port" => settings.flags.port = true,
            other => return Err(format!("flag {other}")),
        }
    }
    Ok(())
}

fn ipvsadm(words: &[&str], director: &mut Director) -> Parsed<Said> {
    let listing = match words {
        ["-lnc"] => Some(listing::connections(director)),
        ["-Ln"] => Some(listing::services(director)),
        ["-Sn"] => Some(listing::rules(director)),
        ["-L", "--timeout"] => Some(listing::timeouts(director)),
        ["-Ln", "--thresholds"] => Some(listing::thresholds(director)),
        ["-Ln", "--stats", "--exact"] => Some(listing::statistics(director)),
        _ => None,
    };
    if let Some(output) = listing {
        return Ok(Said { output, status: 0 });
    }
    if let ["--set", tcp, tcp_fin, udp] = words {
        let [tcp, tcp_fin, udp] = [tcp, tcp_fin, udp].map(|word| parse(word).map(Ticks::from_seconds));
        let (tcp, tcp_fin, udp) = (tcp?, tcp_fin?, udp?);
        director.publish(|plan| plan.timeouts = plan.timeouts.clone().with(tcp, tcp_fin, udp));
        return Ok(Said::default());
    }
    let options = Options::read(words)?;
    let mut edited = Err(format!("ipvsadm {}", words.join(" ")));
    director.publish(|plan| edited = edit(plan, &options));
    edited.map(|()| Said::default())
}

/// One edit, as the kernel does it: a service's real servers stay in the order in which they were added.
fn edit(plan: &mut Plan, options: &Options<'_>) -> Parsed<()> {
    let missing = |what: &str| format!("ipvsadm {} without {what}", options.action);
    let (protocol, listen) = options.service.ok_or_else(|| missing("a service"))?;
    let place =
        plan.services.iter().position(|service| service.listen == listen && service.protocol == protocol);
    match (options.action, place) {
        ("-A", None) => {
            let scheduler = options.scheduler.ok_or_else(|| missing("a scheduler"))?;
            let name = format!("{protocol} {listen}");
            let settings = options.settings.clone();
            plan.services.push(ServicePlan {
                name,
                listen,
                protocol,
                scheduler,
                settings,
                reals: Vec::new(),
            });
            return Ok(());
        }
        ("-D", Some(place)) => {
            plan.services.remove(place);
            return Ok(());
        }
        _ => {}
    }
    let address = options.real.ok_or_else(|| missing("a real server"))?;
    let place = place.ok_or_else(|| format!("ipvsadm {} for a service that is not there", options.action))?;
    let reals = &mut plan.services[place].reals;
    let found = reals.iter().position(|real| real.address == address);
    let method = options.method.unwrap_or(Method::Dr);
    let (weight, thresholds) = (options.weight.unwrap_or(1), options.thresholds);
    let new = RealPlan { address, method, weight, thresholds, up: true };
    match (options.action, found) {
        ("-a", None) => reals.push(new),
        ("-e", Some(found)) => reals[found] = new,
        ("-d", Some(found)) => drop(reals.remove(found)),
        (action, Some(_)) => return Err(format!("ipvsadm {action} of a real server that is there")),
        (action, None) => return Err(format!("ipvsadm {action} of a real server that is not there")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn director() -> Director {
        super::super::play::bare_director()
    }

    fn all(director: &mut Director, lines: &[&str]) {
        for line in lines {
            assert_eq!(run(line, director), Ok(Said::default()), "{line}");
        }
    }

    #[test]
    fn edits_reach_the_plan_one_generation_each() {
        let mut director = director();
        let before = director.snapshot().generation.0;
        let lines = [
            "ip addr add 10.0.0.1/24 dev eth0",
            "ip addr add 10.0.0.100/32 dev lo",
            "ip route add default via 10.0.0.254",
            "ip neigh add 10.0.0.254 lladdr 02:00:00:00:c0:01 dev eth0 nud permanent",
            "ipvsadm -A -t 10.0.0.100:80 -s wlc",
            "ipvsadm -a -t 10.0.0.100:80 -r 10.1.0.11:80 -g -w 3",
            "ipvsadm -a -t 10.0.0.100:80 -r 10.1.0.12:81 -m -w 1; ipvsadm -e -t 10.0.0.100:80 -r 10.1.0.11:80 -i -w 0",
        ];
        all(&mut director, &lines);
        assert_eq!(director.snapshot().generation.0, before + lines.len() as u64 + 1);
        let plan = director.plan();
        assert_eq!(plan.vips, ["10.0.0.100".parse::<IpAddr>().unwrap()]);
        assert_eq!(plan.routes[0].nic, NicId(0));
        let reals =
            plan.services[0].reals.iter().map(|real| (real.address.to_string(), real.method, real.weight));
        let want = [("10.1.0.11:80".to_owned(), Method::Tun, 0), ("10.1.0.12:81".to_owned(), Method::Nat, 1)];
        assert_eq!(reals.collect::<Vec<_>>(), want);
        all(
            &mut director,
            &["ipvsadm -d -t 10.0.0.100:80 -r 10.1.0.11:80", "ip addr del 10.0.0.100/32 dev lo"],
        );
        assert_eq!((director.plan().services[0].reals.len(), director.plan().vips.len()), (1, 0));
        all(&mut director, &["ipvsadm -D -t 10.0.0.100:80", "# nothing"]);
        assert_eq!(director.plan().services.len(), 0);
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (line, what) in [
            ("ipvsadm -A -t 10.0.0.100:80 -s hd", "scheduler hd"),
            ("ipvsadm -A -t 10.0.0.100:80 -s rr -p 50", "option -p"),
            ("ipvsadm -Ln --rate", "option -Ln"),
            ("tc qdisc add dev eth0 ingress", "tc qdisc add dev eth0 ingress"),
            ("ipvsadm -lnc | cut -c 1", "cut -c 1"),
            ("ipvsadm -a -t 10.0.0.100:80 -r 10.1.0.11:80", "ipvsadm -a for a service that is not there"),
            (
                "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
                "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
            ),
        ] {
            assert_eq!(run(line, &mut director()).unwrap_err().what, what);
        }
    }

    #[test]
    fn pipes_filter_lines() {
        let said = |output: &str| Said { output: output.to_owned(), status: 0 };
        assert_eq!(filter(&["tail", "-n", "+3"], said("a\nb\nc\nd\n")), Ok(said("c\nd\n")));
        assert_eq!(filter(&["sort"], said("b\na\n")), Ok(said("a\nb\n")));
        assert_eq!(filter(&["grep", ":80"], said("x:80\ny:90\n")), Ok(said("x:80\n")));
        assert_eq!(filter(&["grep", ":81"], said("x:80\n")).unwrap().status, 1);
    }
}
