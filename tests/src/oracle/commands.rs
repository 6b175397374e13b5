//! The shell commands of the recordings: `ip`, `ipvsadm` and a little around them become edits of the plan, each
//! published as a generation of its own, and listings.
//!
//! What is not understood fails by name: a scenario never passes because a command was passed over.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::service::mark::{Mark, MarkRule};
use shunt_dataplane::snapshot::{NeighbourPlan, RoutePlan};

use super::{ipvsadm, proc};
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
        // What a firewall mark's service takes is the director's, wherever it is for.
        ["ip", "rule", "add", "fwmark", _, "lookup", "100"]
        | ["ip", "-6", "rule", "add", "fwmark", _, "lookup", "100"]
        | ["ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100"]
        | ["ip", "-6", "route", "add", "local", "::/0", "dev", "lo", "table", "100"] => {}
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
        ["ip", "route", "add", to, "via", via, "dev", device] => {
            let route = RoutePlan { to: parse(to)?, via: Some(parse(via)?), nic: nic_id(device)? };
            director.publish(|plan| plan.routes.push(route));
        }
        ["ip", "neigh", "add", address, "lladdr", mac, "dev", device, "nud", "permanent"] => {
            let mac = Mac::from_str(mac).map_err(|()| (*mac).to_owned())?;
            let neighbour = NeighbourPlan { nic: nic_id(device)?, address: parse(address)?, mac };
            director.publish(|plan| plan.neighbours.push(neighbour));
        }
        ["tc", "qdisc", "add", "dev", device, "ingress"] => drop(nic_id(device)?),
        ["tc", "filter", "add", "dev", device, "ingress", "matchall", "action", "skbedit", "mark", mark] => {
            let (nic, mark) = (nic_id(device)?, Mark::new(parse(mark)?).ok_or_else(|| (*mark).to_owned())?);
            let ports = 0..=u16::MAX;
            let rule = MarkRule { mark, to: None, from: None, protocol: None, ports, nic: Some(nic) };
            director.publish(|plan| plan.marks.push(rule));
        }
        ["grep", ".", "/proc/sys/net/ipv4/vs/*"] => {
            return Ok(Said { output: proc::sysctls(director.plan().sysctls), status: 0 });
        }
        ["cat", "/proc/net/ip_vs"] => {
            return Ok(Said { output: proc::ip_vs(&ipvsadm::table(director)), status: 0 });
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

fn ipvsadm(words: &[&str], director: &mut Director) -> Parsed<Said> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Ok(ipvsadm::run(&words, &mut ipvsadm::Target::new(director)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_dataplane::service::Method;

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
            ("tc qdisc add dev eth0 root", "tc qdisc add dev eth0 root"),
            ("ipvsadm -lnc | cut -c 1", "cut -c 1"),
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
