//! Random commands of ipvsadm(8): each of its commands with its options in any order, pairs and triples of options that belong to it or not,
//! ordinary and odd values; the table is listed in between.
//!
//! Left out: the persistence engine `sip`, which the director does not have, netmasks whose bits are not together, names of hosts, which a guest asks the network for, `-R`, which reads a file, and the synchronisation daemon.

use super::Case;
use super::coverage::About;
use super::numbers::Numbers;
use super::rules::Family;
use crate::oracle::scenario::{Scenario, Step};

/// Commands of a case, without the listings in between.
pub const COMMANDS: usize = 50;
/// Commands from one listing to the next.
const LISTED_EVERY: usize = 5;

const SETUP: [&str; 6] = [
    "ip addr add 10.0.0.1/24 dev eth0",
    "ip addr add 10.1.0.1/24 dev eth1",
    "ip addr add 2001:db8::1/64 dev eth0",
    "ip addr add 2001:db8:1::1/64 dev eth1",
    "ip route add default via 10.0.0.254",
    "ip route add default via 2001:db8::fe",
];
const SCHEDULERS: [&str; 15] =
    ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "fo", "ovf", "nosuch", "RR"];
/// Options with their values, ordinary and odd; without a value the one of nothing.
const OPTIONS: [(&str, &[&str]); 32] = [
    ("-s", &["rr", "wlc", "sh", "mh", "", "x"]),
    ("-p", &["", "", "60", "300", "0", "1", "2678400", "2678401", "-1", "x", "5x"]),
    ("-M", &["255.255.255.0", "255.255.255.255", "0.0.0.0", "128", "129", "x"]),
    ("-o", &[""]),
    ("-b", &["sh-port", "sh-fallback", "sh-fallback,sh-port", "mh-port", "flag-1", "flag-1,flag-3", "x", ""]),
    ("--pe", &["x", ""]),
    ("-r", &["10.1.0.11", "10.1.0.12:80", "[2001:db8:1::11]:80", "10.1.0.13:0", "0.0.0.0", "x:y", ""]),
    ("-g", &[""]),
    ("-i", &[""]),
    ("-m", &[""]),
    ("-w", &["0", "1", "7", "65535", "65536", "2147483647", "2147483648", "-1", "x", ""]),
    ("-x", &["0", "10", "4294967295", "-1", "x"]),
    ("-y", &["0", "5", "20", "x"]),
    ("--tun-type", &["ipip", "gre", "gue", "x"]),
    ("--tun-port", &["6080", "0", "65536", "x"]),
    ("--tun-nocsum", &[""]),
    ("--tun-csum", &[""]),
    ("--tun-remcsum", &[""]),
    ("-c", &[""]),
    ("--stats", &[""]),
    ("--rate", &[""]),
    ("--thresholds", &[""]),
    ("--persistent-conn", &[""]),
    ("--timeout", &[""]),
    ("--daemon", &[""]),
    ("--nosort", &[""]),
    ("--sort", &[""]),
    ("--exact", &[""]),
    ("-n", &[""]),
    ("-6", &[""]),
    ("-t", &["10.0.0.100:80", "10.0.0.101:443"]),
    ("-f", &["1", "2"]),
];

/// The commands of a seed.
#[must_use]
pub fn case(seed: u64) -> Case {
    let mut numbers = Numbers::new(seed);
    let setup = SETUP.map(str::to_owned).to_vec();
    let note = format!("random commands, seed {seed}");
    let mut scenario = Scenario { note, setup, ..Scenario::default() };
    let mut step = |cmd: String| scenario.steps.push(Step::Command { cmd });
    for number in 1..=COMMANDS {
        step(command(&mut numbers));
        if number % LISTED_EVERY == 0 {
            step("ipvsadm -Sn".to_owned());
            step("ipvsadm -Ln --thresholds --sort".to_owned());
        }
    }
    let changes = scenario.steps.len();
    let features = ["commands"].into();
    let about = About { family: "IPv4", features, changes, ..About::default() };
    Case { seed, about, scenario }
}

fn command(numbers: &mut Numbers) -> String {
    let mut words: Vec<String> = match numbers.below(16) {
        0..=3 => with(numbers, &["-A", "--add-service"], true, add_service),
        4 => with(numbers, &["-E", "--edit-service"], true, add_service),
        5 => with(numbers, &["-D", "--delete-service"], true, |_| Vec::new()),
        6..=9 => with(numbers, &["-a", "--add-server"], true, add_server),
        10 => with(numbers, &["-e", "--edit-server"], true, add_server),
        11 => with(numbers, &["-d", "--delete-server"], true, |numbers| vec![server(numbers)]),
        12 => with(numbers, &["-Z", "--zero"], false, |_| Vec::new()),
        13 => vec![format!("--set {} {} {}", timeout(numbers), timeout(numbers), timeout(numbers))],
        14 => with(numbers, &["-L", "-l", "--list"], false, |_| vec!["-n".to_owned()]),
        _ if numbers.percent(20) => vec!["-C".to_owned()],
        _ => with(numbers, &["-S", "--save"], false, |_| vec!["-n".to_owned()]),
    };
    // Options that do not belong to it, or stand twice.
    for _ in 0..numbers.weighted(&[(6, 0), (3, 1), (2, 2), (1, 3)]) {
        let (option, values) = numbers.pick(&OPTIONS);
        let place = 1 + numbers.below(words.len());
        words.insert(place.min(words.len()), format!("{option} {}", numbers.pick(values)));
    }
    if numbers.percent(10) {
        let first = words.remove(0);
        words.insert(numbers.below(words.len() + 1), first);
    }
    format!("ipvsadm {}", words.join(" ")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A command with its service, where it has one, and what belongs to it, in any order.
fn with(
    numbers: &mut Numbers,
    names: &[&str],
    always: bool,
    belongs: impl Fn(&mut Numbers) -> Vec<String>,
) -> Vec<String> {
    let mut rest = belongs(numbers);
    if numbers.percent(if always { 97 } else { 30 }) {
        rest.push(service(numbers));
    }
    for place in (1..rest.len()).rev() {
        rest.swap(place, numbers.below(place + 1));
    }
    rest.insert(0, numbers.pick(names).to_owned());
    rest
}

fn service(numbers: &mut Numbers) -> String {
    let family = numbers.pick(&[Family::V4, Family::V4, Family::V6]);
    let vip = family.vip(numbers.below(2));
    let port =
        numbers.weighted(&[(8, "80"), (4, "443"), (2, "0"), (1, "65535"), (1, "65536"), (1, "x"), (1, "")]);
    let address = family.address(&vip, &format!("[{vip}]"));
    match numbers.below(10) {
        0..=5 => {
            format!("{} {address}:{port}", numbers.pick(&["-t", "-u", "--sctp-service", "--tcp-service"]))
        }
        6 => format!("-t {address}"),
        _ => {
            let mark = numbers.weighted(&[
                (8, "1"),
                (8, "2"),
                (1, "0"),
                (1, "16777215"),
                (1, "4294967296"),
                (1, "x"),
            ]);
            format!("-f {mark}{}", numbers.pick(&["", "", " -6"]))
        }
    }
}

fn add_service(numbers: &mut Numbers) -> Vec<String> {
    let mut words = Vec::new();
    if numbers.percent(70) {
        words.push(format!("-s {}", numbers.pick(&SCHEDULERS)));
    }
    some(numbers, 0..6, &mut words);
    words
}

fn add_server(numbers: &mut Numbers) -> Vec<String> {
    let mut words = vec![server(numbers)];
    if numbers.percent(70) {
        words.push(numbers.pick(&["-g", "-i", "-m"]).to_owned());
    }
    some(numbers, 10..18, &mut words);
    words
}

/// Up to three of these options.
fn some(numbers: &mut Numbers, of: std::ops::Range<usize>, words: &mut Vec<String>) {
    for _ in 0..numbers.below(4) {
        let (option, values) = numbers.pick(&OPTIONS[of.clone()]);
        words.push(format!("{option} {}", numbers.pick(values)));
    }
}

fn server(numbers: &mut Numbers) -> String {
    let family = numbers.pick(&[Family::V4, Family::V4, Family::V6]);
    let address = family.real(1 + numbers.below(3));
    let address = family.address(&address, &format!("[{address}]"));
    let port = numbers.weighted(&[(4, ""), (8, ":80"), (2, ":8080"), (1, ":0"), (1, ":65536"), (1, ":x")]);
    format!("{} {address}{port}", numbers.pick(&["-r", "--real-server"]))
}

fn timeout(numbers: &mut Numbers) -> &'static str {
    numbers.pick(&["0", "1", "300", "900", "2147483", "2147484", "-1", "x"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_the_same_commands_of_every_kind() {
        assert_eq!(case(7).scenario.steps, case(7).scenario.steps);
        let all: Vec<Step> = (0..40).flat_map(|seed| case(seed).scenario.steps).collect();
        let has = |word: &str| {
            let holds = |step: &Step| matches!(step, Step::Command { cmd } if cmd.split(' ').any(|other| other == word));
            all.iter().any(holds)
        };
        let options = OPTIONS.map(|(option, _)| option);
        for word in
            ["-A", "-E", "-D", "-C", "-a", "-e", "-d", "-L", "-Z", "-S", "--set"].iter().chain(&options)
        {
            assert!(has(word), "{word}");
        }
    }
}
