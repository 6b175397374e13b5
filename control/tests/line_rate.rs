//! The profiles for Pktgen-DPDK in `scripts/pktgen/` are commands that it has, and speak of what the configurations in
//! `conf/` forward. `scripts/pktgen/try.sh` runs them where pktgen is installed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use shunt_config::Config;
use shunt_config::check::Machine;
use shunt_dataplane::id::Protocol;

/// Commands of Pktgen-DPDK 24.10.3, by what its maps of commands take: `P` ports, `N` a number, `R` a part in percent, `M` a MAC, `4` and `6`
/// addresses with or without prefix length, `B` a mask of bits, `F` flags of TCP.
const COMMANDS: &[&str] = &[
    "start P",
    "stop P",
    "sleep N",
    "quit",
    "port N",
    "page main|range|cpu|system|sys|next|sequence|seq|rnd|log|latency|lat|stats|xstats",
    "enable P process|mac_from_arp|garp|range|latency|pcap|icmp|vlan|random|capture",
    "latency P rate N",
    "latency P entropy N",
    "set P count|size|burst|tx_cycles|sport|dport|prime|dump|vlan|vlanid|seq_cnt N",
    "set P rate R",
    "set P type arp|ipv4|ipv6|ip4|ip6|vlan",
    "set P proto udp|tcp|icmp",
    "set P src|dst mac M",
    "set P src|dst ip 4",
    "set P src|dst ip 6",
    "set P tcp flag|flags F",
    "set P rnd N N B",
    "seq|sequence N P M M 4 4 N N ipv4|ipv6 udp|tcp|icmp N N",
    "seq|sequence N P tcp flag|flags F",
    "range P src|dst mac M M M M",
    "range P src|dst ip 4 4 4 4",
    "range P src|dst ip 6 6 6 6",
    "range P src|dst port N N N N",
    "range P size N N N N",
    "range P proto tcp|udp",
    "range P type ipv4|ipv6",
    "range P tcp flag|flags F",
];
/// The flags of TCP that it knows; it passes over others without a word.
const TCP_FLAGS: [&str; 9] = ["cwr", "ece", "urg", "ack", "psh", "rst", "syn", "fin", "clr"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The commands of profiles, as pktgen gets them.
fn commands(profiles: &[&str]) -> Vec<Vec<String>> {
    let output = Command::new(repository().join("scripts/pktgen/run.sh"))
        .args(profiles)
        .args(["--front", "02:00:00:00:d0:00", "--back", "02:00:00:00:d0:01", "--print"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn address(word: &str) -> Option<IpAddr> {
    word.split('/').next()?.parse().ok()
}

fn takes(form: &str, word: &str) -> bool {
    match form {
        "P" => ["0", "1", "all"].contains(&word),
        "N" => word.parse::<u32>().is_ok(),
        "R" => word.parse::<f64>().is_ok_and(|percent| percent <= 100.0),
        "M" => {
            word.split(':').count() == 6 && word.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok())
        }
        "4" => address(word).is_some_and(|address| address.is_ipv4()),
        "6" => address(word).is_some_and(|address| address.is_ipv6()),
        "B" => word.len() <= 32 && word.chars().all(|bit| "01.X".contains(bit)),
        "F" => word.split(',').all(|flag| TCP_FLAGS.contains(&flag)),
        choice => choice.split('|').any(|one| one == word),
    }
}

fn is_command(words: &[String]) -> bool {
    COMMANDS.iter().any(|form| {
        let form: Vec<_> = form.split(' ').collect();
        form.len() == words.len() && form.iter().zip(words).all(|(form, word)| takes(form, word))
    })
}

fn profiles() -> Vec<String> {
    let files = std::fs::read_dir(repository().join("scripts/pktgen")).unwrap();
    let names =
        files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".pkt")?.to_owned()));
    names.filter(|name| name != "ports").collect()
}

fn configuration(method: &str) -> Config {
    let name = format!("conf/line-rate-{method}.toml");
    let text = std::fs::read_to_string(repository().join(&name)).unwrap();
    let checked =
        Config::check_on(&name, &text, &Machine { cores: Some(vec![0, 1, 2, 3]), ..Machine::default() });
    let checked = checked.unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(checked.warnings.to_string(), "", "{name}");
    checked.config
}

#[test]
fn profiles_are_commands_that_pktgen_has() {
    let profiles = profiles();
    assert!(profiles.len() >= 9, "{profiles:?}");
    for profile in profiles {
        for words in commands(&[&profile]) {
            assert!(is_command(&words), "{profile}: {}", words.join(" "));
        }
    }
    // What pktgen itself refused.
    for refused in ["set 0 tcp flag clr all", "set 0 tcp flag set syn", "set 0 bogus 3"] {
        assert!(!is_command(&refused.split(' ').map(str::to_owned).collect::<Vec<_>>()), "{refused}");
    }
}

/// Pktgen draws the bits of what `rnd` said before the packets were set up, and not of what it says after that; and it mends no checksum, so
/// that what is drawn is no part of the IPv4 header.
#[test]
fn bits_are_drawn_before_packets_are_set_up_and_behind_the_ipv4_header() {
    for profile in profiles() {
        let commands = commands(&[&profile]);
        let place = |word: &str| commands.iter().position(|words| words.iter().any(|have| have == word));
        let Some(rnd) = place("rnd") else { continue };
        let is_ipv6 = commands.iter().any(|words| words.contains(&"ipv6".to_owned()));
        let offset: usize = commands[rnd][4].parse().unwrap();
        assert!(is_ipv6 || offset >= 34, "{profile}: {offset}");
        for set_up in ["seq", "range"].into_iter().filter_map(place) {
            assert!(rnd < set_up, "{profile}");
        }
    }
}

/// The first and the last address that a mask of random bits makes of an address.
fn reach(address: IpAddr, mask: &str) -> [IpAddr; 2] {
    ['0', '1'].map(|random| {
        let low = match address {
            IpAddr::V4(address) => address.to_bits(),
            IpAddr::V6(address) => address.to_bits() as u32,
        };
        let low = mask.chars().enumerate().fold(low, |low, (place, bit)| {
            let one = 0x8000_0000 >> place;
            match if bit == 'X' { random } else { bit } {
                '0' => low & !one,
                '1' => low | one,
                _ => low,
            }
        });
        match address {
            IpAddr::V4(_) => IpAddr::V4(low.into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 32 << 32 | u128::from(low)).into()),
        }
    })
}

fn of(protocol: &str) -> Protocol {
    if protocol == "tcp" { Protocol::Tcp } else { Protocol::Udp }
}

#[test]
fn what_profiles_send_is_for_a_service_of_every_configuration() {
    for profile in profiles().iter().filter(|profile| *profile != "answers") {
        let mut set = HashMap::new();
        let mut sent: Vec<(IpAddr, u16, Protocol)> = Vec::new();
        let mut clients = Vec::new();
        for words in commands(&[profile]) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["set", "0", key, value] => drop(set.insert(key.to_owned(), value.to_owned())),
                ["set", "0", way @ ("src" | "dst"), "ip", value] => {
                    drop(set.insert(way.to_owned(), value.to_owned()))
                }
                // The last four bytes of the source address, in either family.
                ["set", "0", "rnd", "0", "34", mask]
                    if set.get("type").is_some_and(|kind| kind == "ipv6") =>
                {
                    clients.extend(reach(address(&set["src"]).unwrap(), mask));
                }
                // The client's port.
                ["set", "0", "rnd", "0", offset, _] => assert_eq!(offset, "34", "{profile}"),
                ["seq", _, _, _, _, destination, source, _, port, _, protocol, ..] => {
                    sent.push((address(destination).unwrap(), port.parse().unwrap(), of(protocol)));
                    clients.push(address(source).unwrap());
                }
                ["range", "0", "src", "ip", _, first, last, _] => {
                    clients.extend([first, last].map(|client| address(client).unwrap()));
                }
                ["range", "0", "dst", "ip", destination, ..] => {
                    drop(set.insert("dst".to_owned(), destination.to_owned()))
                }
                ["range", "0", "dst", "port", port, ..] => {
                    drop(set.insert("dport".to_owned(), port.to_owned()))
                }
                ["range", "0", "proto", protocol] => {
                    drop(set.insert("proto".to_owned(), protocol.to_owned()))
                }
                _ => {}
            }
        }
        if sent.is_empty() {
            sent.push((address(&set["dst"]).unwrap(), set["dport"].parse().unwrap(), of(&set["proto"])));
            let kind = if sent[0].0.is_ipv4() { "ipv4" } else { "ipv6" };
            assert_eq!(set.get("type").map_or("ipv4", String::as_str), kind, "{profile}");
        }
        for config in ["dr", "nat", "tun"].map(configuration) {
            for (address, port, protocol) in &sent {
                let is_it = |service: &shunt_config::Service| {
                    (service.listen.ip(), service.listen.port(), service.protocol)
                        == (*address, *port, *protocol)
                };
                assert!(config.services.iter().any(is_it), "{profile}: {protocol} {address}:{port}");
            }
        }
        for client in clients {
            let net: ipnet::IpNet =
                if client.is_ipv4() { "10.64.0.0/10" } else { "2001:db8:c::/64" }.parse().unwrap();
            assert!(net.contains(&client), "{profile}: {client} is no client");
        }
    }
}
