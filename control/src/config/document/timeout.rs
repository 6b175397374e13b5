//! `[timeout]`: how long connections live without a packet, in the words of `ipvsadm --set`.

use shunt_dataplane::connections::Timeouts;
use shunt_dataplane::time::Ticks;
use toml::de::DeTable;

use super::Section;
use super::service::within;
use crate::config::limit;
use crate::config::problem::{Findings, Span};

const KEYS: &[&str] = &["tcp", "tcpfin", "udp"];

/// What holds: the kernel's defaults and what the table says.
pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Timeouts {
    let mut section = Section::new(findings, "timeout", table, at, KEYS, &[]);
    let mut ticks = |key| {
        let read = |text: &str| within(key, text, limit::TIMEOUT_MIN, limit::TIMEOUT_MAX);
        section.parse(key, read).map_or(Ticks(0), |time| Ticks::from_duration(time.value))
    };
    let (tcp, tcp_fin, udp) = (ticks("tcp"), ticks("tcpfin"), ticks("udp"));
    Timeouts::default().with(tcp, tcp_fin, udp)
}
