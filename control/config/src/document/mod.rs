//! The file as written: its tables read into typed values, each with its place, whatever else is wrong.
//!
//! serde stops at the first error, so the spanned TOML tree is walked by hand. What can be said about one value alone
//! (its type, its range, its spelling) is said here; what needs two of them is said in `check`.

mod auth;
mod check;
mod forward;
mod import;
mod iptables;
mod iptables_nat;
mod mark;
mod masquerade;
mod nic;
mod notify;
mod runtime;
mod script;
mod section;
mod service;
mod sysctl;
mod timeout;
mod vrrp;

use shunt_dataplane::connections::Timeouts;
use shunt_dataplane::service::ServiceTimeouts;
use shunt_dataplane::snapshot::Sysctls;
use shunt_model::fault::{Fault, Span};
use shunt_model::notify::Settings;
use toml::de::{DeTable, DeValue};

pub use check::CheckDocument;
pub use forward::{EndDocument, ForwardDocument};
pub use import::ImportDocument;
pub use mark::MarkDocument;
pub use masquerade::MasqueradeDocument;
pub use nic::{NicDocument, RouteDocument};
pub use runtime::RuntimeDocument;
pub use section::{Section, nearest};
pub use service::{
    PassiveDocument, PersistenceDocument, PoolDocument, RealDocument, SchedulerFlag, ServiceDocument,
    TunnelKind,
};

pub use vrrp::{TrackDocument, VrrpDocument, VrrpGroupDocument};

use super::problem::Findings;

/// Everything that a file says.
#[derive(Debug, Default)]
pub struct Document {
    /// `[runtime]`.
    pub runtime: RuntimeDocument,
    /// `[import]`.
    pub import: ImportDocument,
    /// `[timeout]`.
    pub timeouts: Timeouts,
    /// `[sysctl]`.
    pub sysctls: Sysctls,
    /// `[[nic]]`, in the order of the file.
    pub nics: Vec<NicDocument>,
    /// `[[route]]`.
    pub routes: Vec<RouteDocument>,
    /// `[[mark]]`, in the order of the file.
    pub marks: Vec<MarkDocument>,
    /// `[[masquerade]]`, in the order of the file.
    pub masquerades: Vec<MasqueradeDocument>,
    /// `[[forward]]`, in the order of the file.
    pub forwards: Vec<ForwardDocument>,
    /// `[notify]`.
    pub notify: Settings,
    /// `[[service]]`.
    pub services: Vec<ServiceDocument>,
    /// `[[vrrp]]`.
    pub vrrp: Vec<VrrpDocument>,
    /// `[[vrrp_group]]`.
    pub vrrp_groups: Vec<VrrpGroupDocument>,
    /// False after a syntax error: something may be missing here that the file has.
    pub complete: bool,
    /// True when every NIC and route could be read, so that what they do not hold cannot be reached.
    pub networks_known: bool,
    /// True when the file has a `nic`, readable or not.
    pub has_nics: bool,
    /// True when the file has a `service`, readable or not.
    pub has_services: bool,
}

const KEYS: &[&str] = &[
    "runtime",
    "import",
    "timeout",
    "sysctl",
    "nic",
    "route",
    "mark",
    "masquerade",
    "forward",
    "notify",
    "service",
    "vrrp",
    "vrrp_group",
];

impl Document {
    /// Reads a file; what is wrong with it goes to `findings`.
    pub fn read(findings: &mut Findings<'_>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(findings.text());
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            findings.error("TOML", &at, syntax(error.message()));
        }
        let broken = findings.count();
        let mut document = Self { complete: broken == 0, ..Self::default() };
        let at = root.span();
        let mut section = Section::new(findings, "file", root.get_ref(), &at, KEYS, &[]);
        if let Some((at, table)) = section.table("runtime") {
            document.runtime = RuntimeDocument::read(section.findings(), table, &at);
        }
        if let Some((at, table)) = section.table("import") {
            document.import = ImportDocument::read(section.findings(), table, &at);
        }
        if let Some((at, table)) = section.table("timeout") {
            let ServiceTimeouts { tcp, tcp_fin, udp } =
                timeout::read(section.findings(), "timeout", table, &at);
            document.timeouts = Timeouts::default().with(tcp, tcp_fin, udp);
        }
        if let Some((at, table)) = section.table("sysctl") {
            document.sysctls = sysctl::read(section.findings(), table, &at);
        }
        if let Some((at, table)) = section.table("notify") {
            document.notify = notify::read(section.findings(), table, &at);
        }
        let before = section.findings().count();
        document.has_nics = section.has("nic");
        document.has_services = section.has("service");
        for (number, (at, table)) in section.tables("nic").into_iter().enumerate() {
            document.nics.push(NicDocument::read(section.findings(), table, at, number));
        }
        for (number, (at, table)) in section.tables("route").into_iter().enumerate() {
            document.routes.push(RouteDocument::read(section.findings(), table, at, number));
        }
        document.networks_known = section.findings().count() == before && !document.nics.is_empty();
        for (number, (at, table)) in section.tables("mark").into_iter().enumerate() {
            document.marks.push(MarkDocument::read(section.findings(), table, at, number));
        }
        for (number, (at, table)) in section.tables("masquerade").into_iter().enumerate() {
            document.masquerades.push(MasqueradeDocument::read(section.findings(), table, at, number));
        }
        for (number, (at, table)) in section.tables("forward").into_iter().enumerate() {
            document.forwards.push(ForwardDocument::read(section.findings(), table, at, number));
        }
        for (number, (at, table)) in section.tables("service").into_iter().enumerate() {
            document.services.push(ServiceDocument::read(section.findings(), table, at, number));
        }
        for (number, (at, table)) in section.tables("vrrp").into_iter().enumerate() {
            document.vrrp.push(VrrpDocument::read(section.findings(), table, at, number));
        }
        for (number, (at, table)) in section.tables("vrrp_group").into_iter().enumerate() {
            document.vrrp_groups.push(VrrpGroupDocument::read(section.findings(), table, at, number));
        }
        if broken > 0 {
            findings.keep_after(broken);
        }
        document
    }
}

/// A message of the TOML parser in our shape.
fn syntax(message: &str) -> Fault {
    match message.split_once(", expected ") {
        _ if message == "duplicate key" => {
            Fault::new("this key is there twice", "a table has each key once", "remove one of the two")
        }
        _ if message.starts_with("string values must be quoted")
            || message.starts_with("invalid boolean") =>
        {
            Fault::new("not a TOML value", "text stands in quotation marks", "write it in quotation marks")
        }
        Some((wrong, expected)) => Fault::new(wrong, format!("TOML expects {expected}"), "correct this line"),
        None => Fault::new(message, "the file has to be TOML (https://toml.io)", "correct this line"),
    }
}

/// The word for a value's type.
pub(super) fn type_word(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The name of a `[[…]]` table for problems: by its name when it has a usable one, else by its number from 1.
fn place(word: &str, table: &DeTable<'_>, key: &str, number: usize) -> String {
    match table.get(key).and_then(|name| name.get_ref().as_str()) {
        Some(name) if !name.is_empty() && name.len() <= NAME_MAX => {
            format!("{word} \"{}\"", shunt_model::fault::printable(name, NAME_MAX))
        }
        _ => format!("{word} number {}", number + 1),
    }
}

/// The longest name of a NIC or service, in bytes.
pub const NAME_MAX: usize = 64;

/// A name that can stand on a command line.
fn name(text: &str) -> Result<String, Fault> {
    if (1..=NAME_MAX).contains(&text.len())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"')
    {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        "not a name",
        "a name has 1 to 64 bytes and neither blanks nor quotation marks",
        "choose a short one, such as \"web\"",
    ))
}

/// A fault about a key that has to be there.
fn required(key: &str, holds: &str, example: &str) -> Fault {
    Fault::new(format!("{key} is missing"), holds, format!("add {example}"))
}

/// A place and the table there.
pub(super) type Placed<'a, 'i> = (Span, &'a DeTable<'i>);
