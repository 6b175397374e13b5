//! `[sysctl]`: the kernel's settings under the kernel's names.

use shunt_dataplane::snapshot::Sysctls;
use toml::de::DeTable;

use super::Section;
use crate::config::problem::{Findings, Span};

/// What holds: the kernel's defaults and what the table says.
pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Sysctls {
    let mut section = Section::new(findings, "sysctl", table, at, Sysctls::NAMES, &[]);
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
