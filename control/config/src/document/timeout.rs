//! `[timeout]`, and `timeout` of a service: how long connections live without a packet, in the words of `ipvsadm --set`.

use shunt_dataplane::service::ServiceTimeouts;
use shunt_dataplane::time::Ticks;
use shunt_model::fault::Span;
use shunt_model::limit;
use toml::de::DeTable;

use super::Section;
use super::service::within;
use crate::problem::Findings;

const KEYS: &[&str] = &["tcp", "tcpfin", "udp"];

/// What the table says, of all services or of the one that `place` names; what it does not say is 0.
pub(super) fn read(
    findings: &mut Findings<'_>,
    place: &str,
    table: &DeTable<'_>,
    at: &Span,
) -> ServiceTimeouts {
    let mut section = Section::new(findings, place, table, at, KEYS, &[]);
    let mut ticks = |key| {
        let read = |text: &str| within(key, text, limit::TIMEOUT_MIN, limit::TIMEOUT_MAX);
        section.parse(key, read).map_or(Ticks(0), |time| Ticks::from_duration(time.value))
    };
    ServiceTimeouts { tcp: ticks("tcp"), tcp_fin: ticks("tcpfin"), udp: ticks("udp") }
}
