//! The profiles for Pktgen-DPDK in `scripts/pktgen/` are commands that it has, and speak of what the configurations in
//! `conf/` forward. Pktgen itself is not run here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use shunt::config::Config;
use shunt::config::check::Machine;
use shunt_dataplane::id::Protocol;

/// The commands that profiles use, from the command tables of Pktgen-DPDK 24.10: `P` ports, `N` a number, `M` a MAC, `A` an
/// address with or without prefix length, `B` a mask of bits.
const COMMANDS: &[&str] = &[
    "start P",
    "stop P",
    "sleep N",
    "enable P process",
    "set P count N",
    "set P burst N",
    "set P rate N",
    "set P size N",
    "set P sport N",
    "set P dport N",
    "set P seq_cnt N",
    "set P dst mac M",
    "set P src ip A",
    "set P dst ip A",
    "set P type ipv4",
    "set P type ipv6",
    "set P proto udp",
    "set P proto tcp",
    "set P tcp flag clr all",
    "set P tcp flag set syn",
    "set P tcp flag set ack",
    "set P rnd N N B",
    "seq N P M M A A N N ipv4 udp N N",
];

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

fn is_command(words: &[String]) -> bool {
    COMMANDS.iter().any(|form| {
        let form: Vec<_> = form.split(' ').collect();
        form.len() == words.len()
            && form.iter().zip(words).all(|(want, have)| match *want {
                "P" => ["0", "1", "all"].contains(&have.as_str()),
                "N" => have.parse::<u32>().is_ok(),
                "M" => {
                    have.split(':').count() == 6
                        && have.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok())
                }
                "A" => address(have).is_some(),
                "B" => have.len() <= 32 && have.chars().all(|bit| "01.X".contains(bit)),
                other => other == have,
            })
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
    assert!(profiles.len() >= 7, "{profiles:?}");
    for profile in profiles {
        for words in commands(&[&profile]) {
            assert!(is_command(&words), "{profile}: {}", words.join(" "));
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
                ["set", "0", "rnd", "0", offset, mask] => {
                    let source = address(&set["src"]).unwrap();
                    assert_eq!(offset, if source.is_ipv4() { "26" } else { "34" }, "{profile}");
                    clients.extend(reach(source, mask));
                }
                ["seq", _, _, _, _, destination, source, _, port, ..] => {
                    sent.push((address(destination).unwrap(), port.parse().unwrap(), Protocol::Udp));
                    clients.push(address(source).unwrap());
                }
                _ => {}
            }
        }
        if sent.is_empty() {
            let protocol = if set["proto"] == "tcp" { Protocol::Tcp } else { Protocol::Udp };
            sent.push((address(&set["dst"]).unwrap(), set["dport"].parse().unwrap(), protocol));
            assert_eq!(set["type"], if sent[0].0.is_ipv4() { "ipv4" } else { "ipv6" }, "{profile}");
        }
        for config in ["dr", "nat", "tun"].map(configuration) {
            for (address, port, protocol) in &sent {
                let is_it = |service: &shunt::config::Service| {
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
