//! The configuration file: whatever it says, every problem of it can be shown, and what is usable can be published.

use shunt::publish::compile::{State, compile};
use shunt_config::check::Checked;
use shunt_config::problem::Problems;
use shunt_config::{Config, diff};

use crate::director::Director;
use crate::network::{FRONT, nic_mac};

/// A file, or two divided by a zero byte, of which the second is a change of the first.
pub fn files(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut before: Option<Config> = None;
    for text in text.splitn(2, '\0') {
        let Ok(Checked { config, warnings, .. }) = Config::check("shunt.toml", text).map_err(|it| told(&it))
        else {
            continue;
        };
        shown(&warnings);
        assert_eq!(warnings.errors(), 0);
        assert!(diff::diff(&config, &config).is_empty());
        if let Some(before) = &before {
            assert_eq!(diff::diff(before, &config).is_empty(), *before == config);
        }
        published(&config);
        before = Some(config);
    }
}

/// A line of `iptables` in a `[[mark]]`.
pub fn iptables(input: &[u8]) {
    let line: String = String::from_utf8_lossy(input).chars().filter(|c| !c.is_control()).collect();
    let line = line.replace('\\', "\\\\").replace('"', "\\\"");
    let file = format!(
        "[[nic]]\nname = \"front\"\ndevice = \"af_packet:eth0\"\naddresses = [\"10.0.0.1/24\"]\n\
         [[mark]]\niptables = \"{line}\"\n"
    );
    match Config::check("shunt.toml", &file) {
        Ok(Checked { config, warnings, .. }) => {
            shown(&warnings);
            assert!(!config.marks.is_empty(), "{line}");
            published(&config);
        }
        Err(problems) => told(&problems),
    }
}

/// A file that is not usable says why.
fn told(problems: &Problems) {
    assert!(problems.errors() > 0);
    shown(problems);
}

fn shown(problems: &Problems) {
    let excerpts = problems.with_excerpts();
    for problem in &problems.list {
        let line = problems.line(problem);
        assert!(!line.contains('\n') && excerpts.contains(&line), "{line:?} {excerpts:?}");
    }
}

/// What the workers would be given takes a frame.
fn published(config: &Config) {
    let macs = vec![nic_mac(FRONT); config.nics.len()];
    let plan = compile(config, &State { macs, ..State::default() });
    let mut director = Director::new(1, 4, plan);
    director.take(FRONT, &[&nic_mac(FRONT).0[..], &[2, 0, 0, 0, 0, 1, 8, 0], &[0x45; 40]].concat());
    assert_eq!(director.held(), 0);
}
