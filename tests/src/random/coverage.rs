//! What was tried: by method, family and scheduler, and which other things were in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

/// What is in a case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// Of its real servers: `dr`, `nat`, `tun`.
    pub methods: BTreeSet<&'static str>,
    /// Of its services, also those that they were given later.
    pub schedulers: BTreeSet<&'static str>,
    /// Other things in it, in LVS's words.
    pub features: BTreeSet<&'static str>,
    /// Frames that arrive.
    pub packets: usize,
    /// Changes between them.
    pub changes: usize,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |set: &BTreeSet<&'static str>| set.iter().copied().collect::<Vec<_>>().join(" ");
        write!(
            f,
            "{} {}, {}, {}",
            self.family,
            words(&self.methods),
            words(&self.schedulers),
            words(&self.features)
        )
    }
}

/// How many cases held what. A case with several methods or schedulers counts for each.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// Cases.
    pub cases: usize,
    /// Frames that arrived.
    pub packets: usize,
    /// Changes between them.
    pub changes: usize,
    /// By scheduler, then by method and family.
    pub schedulers: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// By other things.
    pub features: BTreeMap<&'static str, usize>,
}

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const METHODS: [&str; 3] = ["dr", "nat", "tun"];

impl Coverage {
    /// One case more.
    pub fn add(&mut self, about: &About) {
        self.cases += 1;
        self.packets += about.packets;
        self.changes += about.changes;
        for scheduler in &about.schedulers {
            for method in &about.methods {
                let place = format!("{method} {}", about.family);
                *self.schedulers.entry(scheduler).or_default().entry(place).or_default() += 1;
            }
        }
        for feature in &about.features {
            *self.features.entry(feature).or_default() += 1;
        }
    }
}

/// A table: schedulers down, methods and families across; other things below it.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = METHODS.iter().flat_map(|method| FAMILIES.map(|family| format!("{method} {family}")));
        let columns = columns.collect::<Vec<_>>();
        write!(f, "SCHEDULER")?;
        columns.iter().try_for_each(|column| write!(f, "  {:>8}", column.to_uppercase()))?;
        writeln!(f)?;
        for (scheduler, places) in &self.schedulers {
            write!(f, "{scheduler:<9}")?;
            columns.iter().try_for_each(|column| write!(f, "  {:>8}", places.get(column).unwrap_or(&0)))?;
            writeln!(f)?;
        }
        let features = self.features.iter().map(|(feature, cases)| format!("{feature} {cases}"));
        writeln!(f, "cases with: {}", features.collect::<Vec<_>>().join(", "))?;
        write!(f, "{} packets, {} changes between them", self.packets, self.changes)
    }
}
