//! The core thread with thousands of real servers.

use std::time::Instant;

use shunt_config::diff::Changes;
use shunt_dataplane::flow::HashKey;
use shunt_dataplane::flow::Owners;
use shunt_dataplane::id::Mac;
use shunt_dataplane::service::Standing;
use shunt_model::health::Failure;
use shunt_protocol::health::gather::Gathering;
use shunt_protocol::health::machine::Machine;

use super::super::changes::By;
use super::super::targets;
use super::*;
use crate::api::Asked;

const SERVICES: u32 = 400;
const REALS: u32 = 10;

fn config() -> Config {
    let mut text = "[[nic]]\nname = \"front\"\ndevice = \"null:\"\naddresses = [\"10.0.0.1/8\"]\n".to_owned();
    for service in 0..SERVICES {
        let reals: Vec<String> = (0..REALS)
            .map(|real| {
                format!("{{ address = \"10.1.{}.{}\" }}", service / 10, service % 10 * REALS + real + 1)
            })
            .collect();
        text += &format!(
            "[[service]]\nname = \"s{service}\"\nlisten = \"10.2.{}.{}:80\"\nprotocol = \"tcp\"\n\
             check = {{ kind = \"tcp\", interval = \"1s\", fall = 1 }}\nreal = [{}]\n",
            service / 100,
            service % 100 + 1,
            reals.join(", ")
        );
    }
    Config::check("test", &text).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// How many generations are published when all real servers die, and what is told meanwhile comes in these steps.
fn publications(config: &Config, step: Duration) -> u64 {
    let owners = Owners { workers: 1, netmask_v4: 32, netmask_v6: 128, key: HashKey::random() };
    let publisher = Publisher::new(owners, vec![Mac::default()], Vec::new(), config);
    let notifier = Notifier::start(shunt_model::notify::Settings::default()).unwrap();
    let core = Core::start(publisher, config.clone(), notifier).unwrap();
    let begin = core.view().load().snapshot.generation.0;
    let (mut machine, mut gathering, mut started) = (Machine::default(), Gathering::default(), Vec::new());
    let start = Instant::now();
    machine.set_targets(start, targets::checks(config, &core.view().load().snapshot));
    let mut now = start;
    while now < start + Duration::from_secs(3) {
        machine.tick(now, &mut started);
        for check in started.drain(..) {
            let change = machine.result(now, check.key, check.serial, Err(Failure::Refused)).pop();
            change.into_iter().for_each(|change| gathering.add(now, change));
        }
        let told = gathering.take(now);
        if !told.is_empty() {
            core.messages().send(Message::Health(told)).unwrap();
            // Until it is published, so that what is counted does not depend on how busy this machine is.
            let (answer, applied) = std::sync::mpsc::sync_channel(1);
            let proposal = Proposal {
                config: config.clone(),
                changes: Changes::default(),
                by: By::Reload,
                asked: Asked::Unknown,
                file: String::new(),
            };
            core.messages().send(Message::Config(Box::new(proposal), Arc::default(), answer)).unwrap();
            applied.recv().unwrap();
        }
        now += step;
    }
    let view = core.view().load();
    assert_eq!(view.state.standings.len(), (SERVICES * REALS) as usize);
    assert!(view.snapshot.reals.iter().flatten().all(|real| real.standing == Standing::Down));
    view.snapshot.generation.0 - begin
}

#[test]
fn thousands_that_fail_at_once_are_one_publication() {
    let config = config();
    // Every check fails in the same step of a second, and then each at its own time within a second.
    assert_eq!(publications(&config, Duration::from_secs(1)), 1);
    let spread = publications(&config, Duration::from_millis(1));
    assert!((1..=3).contains(&spread), "{spread}");
}
