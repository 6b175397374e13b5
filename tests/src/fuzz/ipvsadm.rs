//! The command line of ipvsadm, and the rules that `ipvsadm -R` reads: nothing panics, and what is saved can be restored.

use std::collections::BTreeSet;

use shunt::ipvsadm::convert;
use shunt_config::Config;

use crate::director::Director;
use crate::oracle::commands::Said;
use crate::oracle::ipvsadm::{self, Target, table};
use crate::{network, oracle};

/// A file in front of which the services are checked.
const FILE: &str = "[[nic]]\nname = \"front\"\ndevice = \"af_packet:eth0\"\n\
    addresses = [\"10.0.0.1/24\", \"2001:db8::1/64\"]\ngateway = [\"10.0.0.254\", \"2001:db8::254\"]\n\
    [[nic]]\nname = \"back\"\ndevice = \"af_packet:eth1\"\naddresses = [\"10.1.0.1/24\", \"2001:db8:1::1/64\"]\n";
/// What is listed in the end.
const LISTS: [&str; 7] = [
    "-Ln",
    "-L --stats --exact",
    "-Ln --rate --sort",
    "-Lnc --persistent-conn",
    "-Ln --thresholds",
    "-L --timeout",
    "-L --daemon",
];

/// Command lines: words of bytes, divided by blanks, one command to a line.
pub fn command_lines(input: &[u8]) {
    let mut director = director();
    for line in String::from_utf8_lossy(input).lines() {
        let said = typed(line, "", &mut director);
        assert!(said.status == 0 || !said.output.is_empty(), "{line:?}: {said:?}");
    }
    look(&mut director);
}

/// Rules for `ipvsadm -R`.
pub fn rules(input: &[u8]) {
    let mut director = director();
    typed("-R", &String::from_utf8_lossy(input), &mut director);
    look(&mut director);
}

fn director() -> Director {
    Director::new(1, 16, network::plan(Vec::new()))
}

fn typed(line: &str, input: &str, director: &mut Director) -> Said {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    ipvsadm::run_with(&words, &mut input.as_bytes(), &mut Target::new(director))
}

/// Lists everything, and brings what is there to another director by `-S` and `-R`.
fn look(director: &mut Director) {
    for list in LISTS {
        let said = typed(list, "", director);
        assert_eq!(said.status, 0, "{list}: {said:?}");
    }
    let _ = oracle::proc::ip_vs(&table(director));
    let rules = typed("-Sn", "", director).output;
    let mut other = self::director();
    let restored = typed("-R", &rules, &mut other);
    assert_eq!((restored.status, restored.output.as_str()), (0, ""), "{rules}");
    // ipvsadm's order can go round in a circle, and depends then on what was added first.
    let lines = |rules: &str| rules.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(lines(&typed("-Sn", "", &mut other).output), lines(&rules));
    let services: Vec<_> = table(director)
        .services
        .iter()
        .filter_map(|service| convert::configured(service, None).ok())
        .collect();
    if let Err(problems) = Config::check_services("shunt.toml", FILE, &services) {
        assert!(problems.errors() > 0 && !problems.with_excerpts().is_empty());
    }
}
