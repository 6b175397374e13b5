//! `[sysctl]`: the kernel's settings under the kernel's names.

use shunt_dataplane::snapshot::Sysctls;
use shunt_model::fault::Span;
use toml::de::DeTable;

use super::Section;
use crate::problem::Findings;

/// Settings of state synchronisation.
const LATER: &[(&str, &str)] = &[
    ("sync_threshold", SYNC),
    ("sync_refresh_period", SYNC),
    ("sync_retries", SYNC),
    ("sync_version", SYNC),
    ("sync_ports", SYNC),
    ("sync_persist_mode", SYNC),
    ("sync_qlen_max", SYNC),
    ("sync_sock_size", SYNC),
];
const SYNC: &str = "remove it; it belongs to state synchronisation, which is not there yet";

/// What holds: the kernel's defaults and what the table says.
pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Sysctls {
    let mut section = Section::new(findings, "sysctl", table, at, Sysctls::NAMES, LATER);
    let mut sysctls = Sysctls::default();
    for name in Sysctls::NAMES {
        let (most, unit) = Sysctls::bounds(name);
        if let Some(value) = section.integer::<u32>(name, 0..=most, unit) {
            let known = sysctls.set(name, value.value);
            debug_assert!(known, "{name} is one of the names");
        }
    }
    sysctls
}
