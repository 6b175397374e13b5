//! What happened to real servers and quorums, told to whoever wants to know.

use std::collections::HashMap;
use std::sync::Arc;

use shunt_config::{Config, Service};
use shunt_model::health::ServiceKey;
use shunt_model::notify::What;
use shunt_model::script::Script;
use shunt_protocol::health::Change;

use crate::notify;
use crate::notify::{Condition, Notifier};
use crate::publish::compile::State;
use crate::publish::quorum::QuorumChange;
use crate::publish::schedule::Place;

fn known(config: &Config) -> HashMap<ServiceKey, &Service> {
    config.services.iter().map(|service| (service.key(), service)).collect()
}

fn scripts(script: Option<&Arc<Script>>) -> Vec<Script> {
    script.map(|script| Script::clone(script)).into_iter().collect()
}

/// Real servers that came up or went down.
pub fn tell_reals(config: &Config, changes: &[Change], notifier: &Notifier) {
    let mut services = None;
    for change in changes.iter().filter(|change| change.turned) {
        let services = services.get_or_insert_with(|| known(config));
        // The configuration may have gone on.
        let Some(service) = services.get(&change.key.service()) else { continue };
        let Some(real) = service.reals.iter().find(|real| real.address == change.key.address) else {
            continue;
        };
        let (what, script) = match change.verdict.up {
            true => (What::RealUp, real.notify.up.as_ref()),
            false => (What::RealDown, real.notify.down.as_ref()),
        };
        let address = Some(change.key.address.to_string());
        notifier.tell(notify::event(what, &service.name, address, change.to_string()), scripts(script));
    }
}

/// Services that gained or lost their quorum.
pub fn tell_quorums(config: &Config, changes: &[QuorumChange], notifier: &Notifier) {
    if changes.is_empty() {
        return;
    }
    let services = known(config);
    for change in changes {
        // The quorum of nobody is nothing to tell of.
        let Some(service) = services.get(&change.key).filter(|service| !service.reals.is_empty()) else {
            continue;
        };
        let (what, script) = match change.holds {
            true => (What::QuorumUp, service.pool.quorum_up.as_ref()),
            false => (What::QuorumDown, service.pool.quorum_down.as_ref()),
        };
        notifier.tell(notify::event(what, &service.name, None, change.to_string()), scripts(script));
    }
}

/// Services without a real server that is up and has weight.
pub fn tell_no_real(config: &Config, state: &State, notifier: &Notifier) {
    let serves = |place: &Place| place.up && place.weight > 0;
    let refusing =
        |service: &&Service| !state.is_sorry(service) && !state.schedule(service).iter().any(serves);
    let found = config.services.iter().filter(refusing).map(|service| {
        let text = format!(
            "service \"{}\": no real server is up and has weight: new clients are refused: bring one back, or give one weight",
            service.name
        );
        (service.name.clone(), text)
    });
    let over = |name: &str| match config.services.iter().any(|service| service.name == name) {
        true => format!("service \"{name}\": a real server is up and has weight again"),
        false => format!("service \"{name}\": it is gone"),
    };
    notifier.found(Condition::NoReal, found, over);
}

/// The director stops: services with `omega` tell their scripts that all is down.
pub fn farewell(config: &Config, state: &State, notifier: &Notifier) {
    for service in config.services.iter().filter(|service| service.pool.omega) {
        for real in &service.reals {
            let key = service.real_key(real.address);
            if let (true, Some(script)) = (state.verdict(&key).up, &real.notify.down) {
                let text = format!("{key}: the director stops");
                let event = notify::event(What::RealDown, &service.name, Some(key.address.to_string()), text);
                notifier.tell(event, scripts(Some(script)));
            }
        }
        if let (false, Some(script)) = (state.lost.contains(&service.key()), &service.pool.quorum_down) {
            let text = format!("service \"{}\": the director stops", service.name);
            notifier.tell(notify::event(What::QuorumDown, &service.name, None, text), scripts(Some(script)));
        }
    }
}
