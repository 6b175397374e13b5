//! The connection tables of workers as limits.

use shunt_dataplane::counters::TableCounters;
use shunt_dataplane::reason::Reclaimed;
use shunt_dataplane::worker::Shared;

use crate::api::status::Limit;

/// The tables of one worker as limits, by family and kind.
pub(super) fn limits(number: usize, worker: &Shared, capacity: u64) -> Vec<Limit> {
    let mut limits = Vec::new();
    let families = worker.counters.tables.iter().zip(["IPv4", "IPv6"]);
    for (((counters, family), used), (templates, most)) in
        families.zip(worker.connections()).zip(worker.templates())
    {
        let of_templates = counters.reclaimed.at(Reclaimed::Template as usize).get();
        limits.push(Limit {
            name: format!("worker {number} connections {family}"),
            used,
            most: capacity,
            refused: refused(counters),
            reclaimed: counters.reclaimed.sum() - of_templates,
        });
        if most > 0 {
            limits.push(Limit {
                name: format!("worker {number} templates {family}"),
                used: templates,
                most,
                refused: counters.templates_full.get(),
                reclaimed: of_templates,
            });
        }
    }
    limits
}

/// The memory for fragments of one worker as limits, by family.
pub(super) fn of_fragments(number: usize, worker: &Shared) -> impl Iterator<Item = Limit> {
    let families = worker.counters.fragments.iter().zip(["IPv4", "IPv6"]);
    families.map(move |(counters, family)| Limit {
        name: format!("worker {number} bytes of fragments {family}"),
        used: counters.used.get(),
        most: counters.most.get(),
        refused: 0,
        reclaimed: counters.reclaimed.get(),
    })
}

/// Packets that found no room in a table of connections.
fn refused(counters: &TableCounters) -> u64 {
    counters.full.get() + counters.client_share.get() + counters.service_share.get()
}
