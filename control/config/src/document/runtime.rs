//! `[runtime]`: cores, memory, the socket, limits.

use std::path::PathBuf;
use std::time::Duration;

use shunt_model::fault::{At, Fault, Span};
use shunt_model::limit;
use toml::de::DeTable;

use super::Section;
use super::service::within;
use crate::problem::Findings;
use crate::{Hugepages, Idle};

/// `[runtime]` as written.
#[derive(Debug, Default)]
pub struct RuntimeDocument {
    /// Where the table begins; none when there is no such table.
    pub at: Option<Span>,
    /// `control_core`.
    pub control_core: Option<At<u16>>,
    /// `workers`.
    pub workers: Option<At<Vec<At<u16>>>>,
    /// `idle`.
    pub idle: Option<At<Idle>>,
    /// `hugepages`.
    pub hugepages: Option<At<Hugepages>>,
    /// `memory`, in MiB.
    pub memory: Option<At<u32>>,
    /// `socket`.
    pub socket: Option<At<PathBuf>>,
    /// `connections`.
    pub connections: Option<At<u32>>,
    /// `fragments`.
    pub fragments: Option<At<u32>>,
    /// `replies`.
    pub replies: Option<At<u32>>,
    /// `neighbours`.
    pub neighbours: Option<At<u32>>,
    /// `reload_removes`, in percent.
    pub reload_removes: Option<At<u8>>,
    /// `client_share`, in percent.
    pub client_share: Option<At<u8>>,
    /// `adopt`.
    pub adopt: Option<At<Duration>>,
    /// `reset_after`.
    pub reset_after: Option<At<Duration>>,
}

const KEYS: &[&str] = &[
    "control_core",
    "workers",
    "idle",
    "hugepages",
    "memory",
    "socket",
    "connections",
    "fragments",
    "replies",
    "neighbours",
    "reload_removes",
    "client_share",
    "adopt",
    "reset_after",
];

impl RuntimeDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: &Span) -> Self {
        let mut section = Section::new(findings, "runtime", table, at, KEYS, &[]);
        let workers = section.raw("workers");
        if let Some(value) =
            workers.filter(|value| value.get_ref().as_array().is_some_and(|list| list.is_empty()))
        {
            let fault = Fault::new("no worker", "at least one core polls", "name one, such as workers = [1]");
            section.error(&value.span(), fault);
        }
        let time = |section: &mut Section<'_, '_, '_, '_>, key: &str, most: Duration| {
            section.parse(key, |text| within(key, text, Duration::ZERO, most))
        };
        Self {
            at: Some(at.clone()),
            control_core: section.integer("control_core", 0..=limit::CORE_MAX, "(a core's number)"),
            workers: section.integers("workers", 0..=limit::CORE_MAX, "(a core's number)"),
            idle: section.word("idle", &[("adaptive", Idle::Adaptive), ("busy", Idle::Busy)], &[]),
            hugepages: section.word(
                "hugepages",
                &[("auto", Hugepages::Auto), ("always", Hugepages::Always), ("never", Hugepages::Never)],
                &[],
            ),
            memory: section.integer("memory", limit::MEMORY_MIN..=limit::MEMORY_MAX, "MiB"),
            socket: section.parse("socket", socket),
            connections: section.integer(
                "connections",
                limit::CONNECTIONS_MIN..=limit::CONNECTIONS_MAX,
                "connections for each worker",
            ),
            fragments: section.integer(
                "fragments",
                limit::FRAGMENTS_MIN..=limit::FRAGMENTS_MAX,
                "bytes for the fragments of each worker and family",
            ),
            replies: section.integer("replies", 0..=limit::REPLIES_MAX, "replies a second for each worker"),
            neighbours: section.integer(
                "neighbours",
                limit::NEIGHBOURS_MIN..=limit::NEIGHBOURS_MAX,
                "neighbours of each NIC",
            ),
            reload_removes: section.integer("reload_removes", 0..=100, "percent"),
            client_share: section.integer("client_share", limit::SHARES, "percent of a connection table"),
            adopt: time(&mut section, "adopt", limit::TIMEOUT_MAX),
            reset_after: time(&mut section, "reset_after", limit::RESET_AFTER_MAX),
        }
    }
}

/// The path of a Unix socket (unix(7): 107 bytes and a zero).
fn socket(text: &str) -> Result<PathBuf, Fault> {
    if text.starts_with('/') && !text.ends_with('/') && text.len() <= 107 && !text.contains('\0') {
        return Ok(PathBuf::from(text));
    }
    Err(Fault::new(
        "not the path of a socket",
        "an absolute path of at most 107 bytes",
        "write one such as \"/run/shunt.sock\"",
    ))
}
