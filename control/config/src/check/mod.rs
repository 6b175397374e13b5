//! Every problem of a configuration at once: what needs more than one value to be seen.

mod forwards;
mod health;
mod imports;
mod machine;
mod marks;
mod masquerades;
mod memory;
mod networks;
mod nics;
pub mod packets;
mod passive;
pub mod pci;
mod pool;
mod runtime;
mod scripts;
mod secrets;
mod services;
mod tunnels;
mod vrrp;
mod ways;
mod written;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use shunt_model::fault::{At, Fault, Span};
use shunt_model::interface::Interfaces;
use shunt_model::limit;
use shunt_model::script::Objection;

use super::document::Document;
use super::problem::{Findings, Problems};
use super::{Config, Service};
use crate::import::{Files, Imported, without_addresses};
pub use machine::mtu_differs;
pub use memory::{Needed, Size, available};
use networks::Networks;
pub use networks::everything;
use packets::Reserved;

/// A configuration and what might still be wrong with it.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// Warnings only.
    pub warnings: Problems,
    /// The text that it was read from.
    pub text: String,
}

/// What is known of the machine that the configuration is for.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Its cores; none when unknown.
    pub cores: Option<Vec<u16>>,
    /// The interfaces of this network namespace; none when unknown.
    pub interfaces: Option<Interfaces>,
    /// Who is asked about it; without one nothing is imported and no script looked at.
    pub host: Option<&'static dyn Host>,
    /// True when scripts are to be looked at: the files and users of this machine are those that the director will find.
    pub scripts: bool,
    /// Bytes of memory that are available; none when unknown.
    pub memory: Option<u64>,
    /// Its hugepages; none when unknown.
    pub hugepages: Option<Reserved>,
}

impl Machine {
    /// This machine, of which `host` is asked and which has these interfaces.
    #[must_use]
    pub fn of(host: &'static dyn Host, interfaces: Option<Interfaces>) -> Self {
        Self {
            cores: online_cores(),
            interfaces,
            host: Some(host),
            scripts: true,
            memory: memory::available(),
            hugepages: Some(Reserved::here()),
        }
    }
}

/// Who is asked about the machine that a configuration is for: its files, and what only a socket or a database of names can tell.
pub trait Host: Files + fmt::Debug + Sync {
    /// Why nothing can run as this user, and this group where one is named behind it; none when it can.
    fn unknown_user(&self, user: Option<&str>) -> Option<String>;

    /// What stands against starting a command; the worst comes first.
    fn objections(&self, command: &[String]) -> Vec<Objection>;
}

/// Where nobody is to be asked there is no file.
struct NoHost;

impl Files for NoHost {
    fn read(&self, _path: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }

    fn matching(&self, _pattern: &str, _braces: bool) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The cores of this machine; none when unknown.
#[must_use]
pub fn online_cores() -> Option<Vec<u16>> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").ok();
    online.and_then(|text| cores(text.trim()))
}

/// Reads the kernel's list of cores, `0-3,8`.
fn cores(text: &str) -> Option<Vec<u16>> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<u16>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

impl Config {
    /// Checks the text of a file. `file` is the name that problems show.
    ///
    /// # Errors
    /// Every problem of the file, warnings included, in the order of the file.
    pub fn check(file: &str, text: &str) -> Result<Checked, Problems> {
        Self::check_on(file, text, &Machine::default())
    }

    /// Checks the text of a file for a machine; what does not fit the machine is a warning.
    ///
    /// # Errors
    /// Every problem of the file, warnings included, in the order of the file.
    pub fn check_on(file: &str, text: &str, machine: &Machine) -> Result<Checked, Problems> {
        Self::check_findings(Findings::new(file, text), machine, Vec::new(), true)
    }

    /// Everything that is wrong with what an import wrote, told at the lines of the imported file. Where an interface has no
    /// address on this machine, what depends on that is left to the operator.
    #[must_use]
    pub fn check_imported(imported: &Imported) -> Problems {
        Self::of_import(imported).map_or_else(|problems| problems, |checked| checked.warnings)
    }

    /// What an import wrote, as a configuration: checked as [`Self::check_imported`] does.
    ///
    /// # Errors
    /// Every problem of it.
    pub fn of_import(imported: &Imported) -> Result<Checked, Problems> {
        let findings = Findings::new("", &imported.text).with_imported(0, &imported.origins);
        let known = imported.text.contains("[[nic]]\n") && without_addresses(&imported.text).is_empty();
        Self::check_findings(findings, &Machine::default(), Vec::new(), known)
    }

    /// `exposed`: what is wrong with the files themselves; `addresses`: whether the NICs' own addresses are known.
    fn check_findings(
        mut findings: Findings<'_>,
        machine: &Machine,
        exposed: Vec<Fault>,
        addresses: bool,
    ) -> Result<Checked, Problems> {
        let text = findings.text();
        let mut document = Document::read(&mut findings);
        document.networks_known &= addresses;
        if !document.complete {
            return Err(findings.finish());
        }
        let runtime = runtime::check(&document.runtime, machine, &mut findings);
        let networks = Networks::gather(&document);
        let nics = nics::check(&document, &networks, machine, &mut findings);
        if let Some(nics) = &nics {
            runtime::check_memory(&document.runtime, (&runtime, nics), machine, &mut findings);
        }
        let routes = nics::check_routes(&document, &networks, &mut findings);
        let services = services::check(&document, &networks, &mut findings);
        let marks = marks::check(&document, &mut findings);
        let masquerades = masquerades::check(&document, &mut findings);
        let forwards = forwards::check(&document, &mut findings);
        let vrrp = vrrp::check(&document, &networks, &mut findings);
        let groups = vrrp::check_groups(&document, &mut findings);
        for fault in exposed {
            findings.warn_missing("file", &(0..0), fault);
        }
        if let Some(host) = machine.host.filter(|_| machine.scripts) {
            scripts::check(&mut findings, host);
        }
        count(&document, &mut findings);
        let usable = findings.is_usable();
        let problems = findings.finish();
        let (marks, routers) = (marks.zip(masquerades), vrrp.zip(groups));
        let routes = routes.zip(forwards);
        match (usable, nics, routes, marks, services, routers) {
            (
                true,
                Some(nics),
                Some((routes, forwards)),
                Some((marks, masquerades)),
                Some(services),
                Some((vrrp, vrrp_groups)),
            ) => Ok(Checked {
                config: Self {
                    runtime,
                    timeouts: document.timeouts,
                    sysctls: document.sysctls,
                    nics,
                    routes,
                    marks,
                    masquerades,
                    forwards,
                    notify: document.notify,
                    services,
                    vrrp,
                    vrrp_groups,
                },
                warnings: problems,
                text: text.to_owned(),
            }),
            _ => Err(problems),
        }
    }

    /// Checks services as if they stood in this file in the place of its own; what they should listen at, and how their
    /// real servers are reached, is checked as always.
    ///
    /// # Errors
    /// Every problem of these services; their places are names, since they stand in no file.
    pub fn check_services(file: &str, text: &str, services: &[Service]) -> Result<(), Problems> {
        let mut document = Document::read(&mut Findings::new(file, text));
        document.services = services.iter().map(written::service).collect();
        let mut findings = Findings::new(file, text);
        let networks = Networks::gather(&document);
        services::check(&document, &networks, &mut findings);
        count(&document, &mut findings);
        let usable = findings.is_usable();
        if usable { Ok(()) } else { Err(findings.finish()) }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every problem of the file; one problem when it cannot be read.
    pub fn load(path: &Path, machine: &Machine) -> Result<Checked, Problems> {
        let file = path.display().to_string();
        let text = read(path).map_err(|fault| {
            let mut findings = Findings::new(&file, "");
            findings.missing("file", &(0..0), fault);
            findings.finish()
        })?;
        let Some(expanded) = imports::expand(path, &text, machine) else {
            let exposed = secrets::check(path, &text, machine).into_iter().collect();
            return Self::check_findings(Findings::new(&file, &text), machine, exposed, true);
        };
        let findings = Findings::new(&file, &expanded.text);
        let findings = findings.with_imported(expanded.lines, &expanded.origins);
        let mut exposed: Vec<_> = secrets::check(path, &text, machine).into_iter().collect();
        let origins: BTreeSet<&Path> =
            expanded.origins.iter().flatten().map(|origin| &*origin.file).collect();
        for origin in origins {
            exposed.extend(read(origin).ok().and_then(|text| secrets::check(origin, &text, machine)));
        }
        let checked = Self::check_findings(findings, machine, exposed, true);
        expanded.tell(checked)
    }
}

/// The text of a file.
fn read(path: &Path) -> Result<String, Fault> {
    let cannot = |error: std::io::Error| {
        Fault::new(
            format!("cannot be read ({error})"),
            "the configuration is a readable file",
            "name another file",
        )
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(limit::FILE_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > limit::FILE_MAX {
        let holds = format!("a configuration has at most {} bytes", limit::FILE_MAX);
        return Err(Fault::new("too long", holds, "name another file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let wrong = format!("byte {} is not UTF-8", error.utf8_error().valid_up_to());
        Fault::new(wrong, "TOML is UTF-8", "save the file as UTF-8")
    })
}

/// A file is not without NICs, and a director without services is probably not what was meant.
fn count(document: &Document, findings: &mut Findings<'_>) {
    if document.nics.is_empty() && (!document.has_nics || findings.is_usable()) {
        let holds = "a director has at least one NIC";
        findings.missing(
            "file",
            &(0..0),
            Fault::new("no [[nic]]", holds, "add a [[nic]] with name and device"),
        );
    }
    if document.services.is_empty() && !document.has_services {
        let fault = Fault::new(
            "no [[service]]",
            "without services the director only routes",
            "add a [[service]] with name, listen, protocol and real",
        );
        findings.warn_missing("file", &(0..0), fault);
    }
    for (word, number, most, at) in [
        ("nic", document.nics.len(), limit::NICS_MAX, document.nics.last().map(|last| &last.at)),
        ("route", document.routes.len(), limit::ROUTES_MAX, document.routes.last().map(|last| &last.at)),
        ("mark", document.marks.len(), limit::MARKS_MAX, document.marks.last().map(|last| &last.at)),
        ("vrrp", document.vrrp.len(), limit::VRRP_MAX, document.vrrp.last().map(|last| &last.at)),
        (
            "masquerade",
            document.masquerades.len(),
            limit::MASQUERADES_MAX,
            document.masquerades.last().map(|last| &last.at),
        ),
        (
            "forward",
            document.forwards.len(),
            limit::FORWARDS_MAX,
            document.forwards.last().map(|last| &last.at),
        ),
        (
            "service",
            document.services.len(),
            limit::SERVICES_MAX,
            document.services.last().map(|last| &last.at),
        ),
    ] {
        if let Some(at) = at.filter(|_| number > most) {
            let fault = Fault::new(
                format!("{number} [[{word}]] tables are too many"),
                format!("there are at most {most}"),
                "remove some",
            );
            findings.missing("file", at, fault);
        }
    }
}

/// Finds values that are there twice.
pub(super) struct Seen<K> {
    first: HashMap<K, usize>,
}

impl<K: Hash + Eq> Seen<K> {
    pub(super) fn new() -> Self {
        Self { first: HashMap::new() }
    }

    /// Notes a value; when it was there before, the line of its first place.
    pub(super) fn again(&mut self, key: K, at: &Span, findings: &Findings<'_>) -> Option<usize> {
        let line = findings.line_of(at);
        match self.first.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Some(*entry.get()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(line);
                None
            }
        }
    }
}

/// Reports names that are there twice.
fn unique_names<'d>(
    what: &str,
    names: impl Iterator<Item = (&'d str, &'d Option<At<String>>)>,
    findings: &mut Findings<'_>,
) {
    let mut seen = Seen::new();
    for (place, name) in names {
        let Some(name) = name else { continue };
        if let Some(line) = seen.again(name.value.as_str(), &name.at, findings) {
            let wrong = format!("this name belongs to two {what}");
            findings.error(
                place,
                &name.at,
                Fault::new(wrong, format!("the first is at line {line}"), "rename one"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cores;

    #[test]
    fn lists_of_cores() {
        assert_eq!(cores("0-2,8"), Some(vec![0, 1, 2, 8]));
        assert_eq!(cores("0"), Some(vec![0]));
        assert_eq!(cores(""), None);
        assert_eq!(cores("a-b"), None);
    }
}
