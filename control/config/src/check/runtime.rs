//! Cores that are named twice or that the machine does not have.

use shunt_dataplane::connections::Share;
use shunt_model::fault::{At, Fault};
use shunt_model::limit;

use super::packets::{Key, Packets};
use super::{Machine, Needed, Seen};
use crate::document::RuntimeDocument;
use crate::problem::Findings;
use crate::{Idle, Nic, Runtime};

/// Checks `[runtime]` and fills in what it leaves out.
pub fn check(document: &RuntimeDocument, machine: &Machine, findings: &mut Findings<'_>) -> Runtime {
    let default = Runtime::default();
    let value = |number: &Option<At<u32>>, default| number.as_ref().map_or(default, |number| number.value);
    let runtime = Runtime {
        control_core: document.control_core.as_ref().map_or(default.control_core, |core| core.value),
        workers: document
            .workers
            .as_ref()
            .map_or(default.workers, |workers| workers.value.iter().map(|core| core.value).collect()),
        idle: document.idle.as_ref().map_or(default.idle, |idle| idle.value),
        hugepages: document.hugepages.as_ref().map_or(default.hugepages, |hugepages| hugepages.value),
        memory: document.memory.as_ref().map(|memory| memory.value),
        socket: document.socket.as_ref().map_or(default.socket, |socket| socket.value.clone()),
        connections: value(&document.connections, default.connections),
        fragments: value(&document.fragments, default.fragments),
        replies: value(&document.replies, default.replies),
        neighbours: value(&document.neighbours, default.neighbours),
        reload_removes: document
            .reload_removes
            .as_ref()
            .map_or(default.reload_removes, |percent| percent.value),
        client_share: document.client_share.as_ref().map_or(default.client_share, |share| Share(share.value)),
        adopt: document.adopt.as_ref().map_or(default.adopt, |adopt| adopt.value),
        reset_after: document.reset_after.as_ref().map_or(default.reset_after, |time| time.value),
    };
    if let Some(workers) = &document.workers {
        check_workers(workers, &runtime, findings);
    }
    check_cores(document, &runtime, machine, findings);
    runtime
}

fn check_workers(workers: &At<Vec<At<u16>>>, runtime: &Runtime, findings: &mut Findings<'_>) {
    if workers.value.len() > limit::WORKERS_MAX {
        let wrong = format!("{} workers are too many", workers.value.len());
        let holds = format!("there are at most {}", limit::WORKERS_MAX);
        findings.missing("runtime", &workers.at, Fault::new(wrong, holds, "name fewer cores"));
    }
    let mut seen = Seen::new();
    for core in &workers.value {
        if seen.again(core.value, &core.at, findings).is_some() {
            let fault = Fault::new(
                "two workers on one core",
                "each worker has a core of its own",
                "name another core",
            );
            findings.error("runtime", &core.at, fault);
        }
        if core.value == runtime.control_core && runtime.idle == Idle::Busy {
            let fault = Fault::new(
                "a worker that always polls shares the control core",
                "health checks and ARP wait for the scheduler then",
                "choose another core, or idle = \"adaptive\"",
            );
            findings.warn("runtime", &core.at, fault);
        }
    }
}

/// Warns of connection tables and packets that are larger than this machine's memory.
pub fn check_memory(
    document: &RuntimeDocument,
    (runtime, nics): (&Runtime, &[Nic]),
    machine: &Machine,
    findings: &mut Findings<'_>,
) {
    let packets = Packets::of(runtime, nics, machine.interfaces.as_ref());
    for (key, fault) in packets.faults(machine) {
        let at = match key {
            Key::Hugepages => document.hugepages.as_ref().map(|hugepages| &hugepages.at),
            Key::Memory => document.memory.as_ref().map(|memory| &memory.at),
        };
        match at {
            Some(at) => findings.warn("runtime", at, fault),
            None => findings.warn_missing("runtime", &document.at.clone().unwrap_or(0..0), fault),
        }
    }
    let ordinary = machine.hugepages.map_or(0, |reserved| packets.ordinary(reserved.free));
    let Some((wrong, holds, advice)) = Needed::of(runtime).too_much(ordinary, machine.memory) else { return };
    match &document.connections {
        Some(connections) => findings.warn("runtime", &connections.at, Fault::new(wrong, holds, advice)),
        None => {
            let at = document.at.clone().unwrap_or(0..0);
            findings.warn_missing("runtime", &at, Fault::new(wrong, holds, advice));
        }
    }
}

fn check_cores(
    document: &RuntimeDocument,
    runtime: &Runtime,
    machine: &Machine,
    findings: &mut Findings<'_>,
) {
    let Some(present) = &machine.cores else { return };
    let missing = |wrong: String| {
        let holds = format!("its cores are {}", list(present));
        Fault::new(wrong, holds, "name one of these if the director is to run here")
    };
    if let Some(core) = document.control_core.as_ref().filter(|core| !present.contains(&core.value)) {
        findings.warn("runtime", &core.at, missing("this machine has no such core".to_owned()));
    }
    let absent: Vec<u16> = runtime.workers.iter().copied().filter(|core| !present.contains(core)).collect();
    if absent.is_empty() {
        return;
    }
    match &document.workers {
        Some(workers) => {
            findings.warn(
                "runtime",
                &workers.at,
                missing(format!("this machine has no core {}", list(&absent))),
            );
        }
        None => {
            let wrong =
                format!("workers is missing, and this machine has no core {}, its default", list(&absent));
            findings.warn_missing("runtime", &document.at.clone().unwrap_or(0..0), missing(wrong));
        }
    }
}

/// Some cores, at most eight by number.
fn list(cores: &[u16]) -> String {
    let shown = cores.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if cores.len() > 8 { format!("{shown} and {} more", cores.len() - 8) } else { shown }
}
