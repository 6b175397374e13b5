//! What keepalived makes of a file, and what an import makes of it, field by field.
//!
//! A difference is explained by a notice of the import alone: one about the same part of the file that says the word of the field.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Serialize;
use shunt::machine::Disk;
use shunt_config::Config;
use shunt_config::import::{Dialect, Files, Imported, Kind, Note, Summary};
use shunt_model::fault::Severity;

use super::real::Keepalived;
use super::{Objects, checks, dump, taken};

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Of what: `vrrp_instance VI_1`.
    pub object: String,
    /// Which of its fields; none: that it is there at all.
    pub field: String,
    /// keepalived's value.
    pub keepalived: Option<String>,
    /// This director's.
    pub shunt: Option<String>,
    /// The notice that explains it.
    pub notice: Option<String>,
}

/// A file, as keepalived and an import take it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Compared {
    /// Its name.
    pub file: String,
    /// The exit code of keepalived's `--config-test`.
    pub test: Option<i32>,
    /// Why keepalived does not run it.
    pub ends: Option<String>,
    /// Whether keepalived's dump breaks off, so that there is nothing to compare with: it ends while it prints some data.
    pub silent: bool,
    /// Why `shunt import` does not take it: what is refused.
    pub refused: Vec<String>,
    /// NICs whose own addresses are left to the operator.
    pub left: usize,
    /// What `shunt check` says of what was printed, with own addresses of the networks that it names where some are left.
    pub check: Vec<String>,
    /// What the import tells of lines that differ in effect, and that are ignored.
    pub notices: Vec<String>,
    /// What differs.
    pub differences: Vec<Difference>,
}

impl Compared {
    /// Whether something differs that no notice explains.
    #[must_use]
    pub fn differs(&self) -> bool {
        let runs = self.ends.is_none();
        let takes = self.refused.is_empty();
        // What keepalived does not run may be taken.
        runs && !takes || !self.check.is_empty() || self.unexplained().next().is_some()
    }

    /// Whether it is refused for keywords that have no equal here, each of which docs/keepalived.md lists.
    #[must_use]
    pub fn is_refused_by_name(&self) -> bool {
        let named = |note: &String| note.contains("is not supported");
        self.ends.is_none() && !self.refused.is_empty() && self.refused.iter().all(named)
    }

    /// The differences that no notice explains.
    pub fn unexplained(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|difference| difference.notice.is_none())
    }

    /// As lines for people: all that differs, or, with `unexplained`, what no notice explains.
    #[must_use]
    pub fn lines(&self, unexplained: bool) -> Vec<String> {
        let mut lines = Vec::new();
        match (&self.ends, self.refused.is_empty()) {
            (Some(words), true) if !unexplained => {
                lines.push(format!("keepalived ends ({words}), shunt import takes it"));
            }
            (None, false) => lines
                .extend(self.refused.iter().map(|note| format!("keepalived runs it, refused here: {note}"))),
            _ => {}
        }
        lines.extend(
            self.check.iter().map(|problem| format!("shunt check refuses what was printed: {problem}")),
        );
        for difference in self.differences.iter().filter(|one| !unexplained || one.notice.is_none()) {
            let Difference { object, field, .. } = difference;
            let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
            let (keepalived, shunt) = (word(&difference.keepalived), word(&difference.shunt));
            let notice = difference.notice.as_ref().map_or_else(String::new, |notice| format!(": {notice}"));
            lines.push(format!("{object}: {field}: keepalived {keepalived}, shunt {shunt}{notice}"));
        }
        lines
    }
}

/// The disk, on a machine without interfaces: what is compared is the file.
struct Bare;

impl Files for Bare {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        Disk.read(path)
    }

    fn matching(&self, pattern: &str, braces: bool) -> Vec<std::path::PathBuf> {
        Disk.matching(pattern, braces)
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        Disk.addresses(name)
    }

    fn has_user(&self, name: &str) -> bool {
        Disk.has_user(name)
    }

    fn is_program(&self, path: &Path) -> bool {
        Disk.is_program(path)
    }
}

/// Compares what becomes of a file.
///
/// # Errors
/// What kept keepalived from reading it.
pub fn compare(keepalived: &Keepalived, file: &Path, config_id: &str) -> Result<Compared, String> {
    let verdict = keepalived.reads(file, config_id)?;
    let imported = Dialect::Keepalived.import(file, &Bare, config_id);
    let mut compared = Compared {
        file: file.display().to_string(),
        test: verdict.test,
        ends: verdict.why().map(str::to_owned),
        ..Compared::default()
    };
    let checked = Config::of_import(&imported);
    let problems = Config::check_imported(&imported);
    let errors = problems.list.iter().filter(|problem| problem.severity == Severity::Error);
    let refused = imported.notes.iter().filter(|note| note.kind == Kind::Refused);
    compared.refused = refused.map(|note| short(note, file)).collect();
    if compared.refused.is_empty() {
        compared.refused = errors.map(|problem| problems.line(problem)).collect();
    }
    let told = imported.notes.iter().filter(|note| matches!(note.kind, Kind::Differs | Kind::Ignored));
    compared.notices = told.map(|note| short(note, file)).collect();
    compared.left = Summary::of(&imported, &[]).without_addresses.len();
    if compared.refused.is_empty() {
        let config = checked.map(|checked| checked.config);
        if let Ok(config) = &config {
            compared.check = check(&imported, config);
        }
        if compared.ends.is_none() {
            let ours = config.map_or_else(|_| Objects::new(), |config| taken::objects(&config));
            if verdict.is_silent() {
                compared.silent = true;
                return Ok(compared);
            }
            let theirs = dump::objects(&verdict);
            let ours = paired(&theirs, ours);
            compared.differences = differences(&theirs, &ours, &imported, file);
        }
    }
    Ok(compared)
}

/// A notice without the folder of its file.
fn short(note: &Note, file: &Path) -> String {
    let folder = file.parent().map(|folder| format!("{}/", folder.display())).unwrap_or_default();
    note.to_string().replace(&folder, "")
}

/// What `shunt check` says when the operator has filled in own addresses: one in each network that the file names.
fn check(imported: &Imported, config: &Config) -> Vec<String> {
    let has_services = imported.text.contains("[[service]]") || imported.text.contains("[[nic]]");
    if !has_services {
        return Vec::new();
    }
    let text = filled(&imported.text, config);
    match Config::check("filled", &text) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            let errors = problems.list.iter().filter(|problem| problem.severity == Severity::Error);
            let errors = errors.filter(|problem| !OF_OWN_ADDRESSES.contains(&problem.wrong.as_str()));
            errors.map(|problem| problems.line(problem)).collect()
        }
    }
}

/// What is wrong with the addresses that were filled in rather than with what was printed: which ones fit, its operator knows.
const OF_OWN_ADDRESSES: &[&str] = &[
    "overlapping networks",
    "router behind another NIC",
    "not an own address",
    "a VIP that is an own address",
    "an own address as real server",
];

/// The text with own addresses for the NICs that have none.
fn filled(text: &str, config: &Config) -> String {
    let mut named: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let first = config.nics.first().map(|nic| nic.name.clone()).unwrap_or_default();
    let mut taken: BTreeSet<IpAddr> = BTreeSet::new();
    let mut own: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for vrrp in &config.vrrp {
        let nic = config.nic_name(vrrp.nic);
        taken.extend(vrrp.vips().map(|(_, vip)| vip).chain(vrrp.peers.iter().copied()));
        let networks = named.entry(nic.clone()).or_default();
        networks.extend(vrrp.vips().map(|(_, vip)| vip));
        networks.extend(vrrp.peers.iter().copied());
        own.entry(nic).or_default().extend(vrrp.source);
    }
    let rest = named.entry(first).or_default();
    for service in &config.services {
        let checks = service.reals.iter().flat_map(|real| real.checks.iter());
        rest.extend(service.servers().map(|real| real.address.ip()));
        rest.extend(checks.filter_map(|check| check.address));
        taken.insert(service.listen.ip());
    }
    for route in &config.routes {
        named.entry(config.nic_name(route.nic)).or_default().extend(route.via);
    }
    taken.extend(named.values().flatten().copied());
    let mut lines = Vec::new();
    let mut name = String::new();
    let mut table = "";
    for line in text.lines() {
        if line.starts_with('[') {
            table = line;
        }
        if let Some(said) = line.strip_prefix("name = ") {
            said.trim_matches('"').clone_into(&mut name);
        }
        if line != "addresses = []" || table != "[[nic]]" {
            lines.push(line.to_owned());
            continue;
        }
        let mut addresses: Vec<IpNet> = Vec::new();
        for address in own.get(&name).into_iter().flatten() {
            addresses.extend(IpNet::new(*address, if address.is_ipv4() { 24 } else { 64 }).ok());
        }
        for address in named.get(&name).into_iter().flatten() {
            addresses.extend(near(*address, &addresses, &mut taken));
        }
        if addresses.is_empty() {
            let number = lines.len() % 250;
            addresses.extend(format!("198.18.{number}.2/24").parse::<IpNet>());
        }
        let words: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        lines.push(format!("addresses = [{}]", words.join(", ")));
    }
    lines.join("\n") + "\n"
}

/// An address beside one, where none of these is in its network already.
fn near(address: IpAddr, known: &[IpNet], taken: &mut BTreeSet<IpAddr>) -> Option<IpNet> {
    let network = IpNet::new(address, if address.is_ipv4() { 24 } else { 64 }).ok()?.trunc();
    if known.iter().any(|known| known.trunc() == network) || address.is_loopback() {
        return None;
    }
    let free = network.hosts().find(|host| *host != network.addr() && !taken.contains(host))?;
    taken.insert(free);
    IpNet::new(free, network.prefix_len()).ok()
}

/// Fields that are compared only where both have them: keepalived says what is usual there, too, or does not tell.
const WHERE_SAID: &[&str] =
    &["interface", "warmup", "smtp_helo_name", "smtp_alert_vrrp", "smtp_alert_checker", "down_timer_adverts"];

/// Whether a field says the same.
fn is_same(keepalived: Option<&String>, shunt: Option<&String>) -> bool {
    keepalived == shunt || keepalived.is_some_and(|value| value == checks::NOT_TOLD)
}

/// The two that differ least: by how much, and where they are.
fn nearest(
    theirs: &[(String, &super::Fields)],
    ours: &[super::Fields],
    distance: impl Fn(&super::Fields, &super::Fields) -> usize,
) -> Option<(usize, usize, usize)> {
    let pairs = theirs.iter().enumerate().flat_map(|(at, (_, one))| {
        let distance = &distance;
        ours.iter().enumerate().map(move |(other_at, other)| (distance(one, other), at, other_at))
    });
    pairs.min()
}

/// Ours, with the checks of a real server called as those of theirs that they are the same as: their order says nothing.
fn paired(theirs: &Objects, mut ours: Objects) -> Objects {
    let of = |name: &str| {
        name.rsplit_once(' ').filter(|(of, _)| of.matches(", ").count() == 2).map(|(of, _)| of.to_owned())
    };
    let distance = |theirs: &super::Fields, ours: &super::Fields| {
        let fields: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        fields.into_iter().filter(|field| !is_same(theirs.get(*field), ours.get(*field))).count()
    };
    let checks: BTreeSet<String> = ours.keys().filter_map(|name| of(name)).collect();
    for check in checks {
        let names = |objects: &Objects| -> Vec<String> {
            objects.keys().filter(|name| of(name).as_ref() == Some(&check)).cloned().collect()
        };
        let (wanted, own) = (names(theirs), names(&ours));
        let mut left: Vec<super::Fields> = own.iter().filter_map(|name| ours.remove(name)).collect();
        let mut wanted: Vec<(String, &super::Fields)> =
            wanted.into_iter().filter_map(|name| theirs.get(&name).map(|fields| (name, fields))).collect();
        // Those that are the same first, then the nearest ones.
        while let (false, Some((_, of_theirs, of_ours))) =
            (left.is_empty(), nearest(&wanted, &left, distance))
        {
            ours.insert(wanted.remove(of_theirs).0, left.remove(of_ours));
        }
        let further = own.into_iter().filter(|name| !theirs.contains_key(name));
        ours.extend(further.zip(left));
    }
    ours
}

fn differences(theirs: &Objects, ours: &Objects, imported: &Imported, file: &Path) -> Vec<Difference> {
    let mut found = Vec::new();
    let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
    let none = super::Fields::new();
    let is_there = |name: &str| theirs.contains_key(name) && ours.contains_key(name);
    for name in names {
        // Checks of a real server that only one of them has are no difference of their own.
        let parts: Vec<&str> = name.split(", ").collect();
        if parts.len() == 3 && !is_there(&parts[..2].join(", ")) {
            continue;
        }
        let mut push = |field: &str, keepalived: Option<String>, shunt: Option<String>| {
            let notice = explains(name, field, &imported.notes).map(|note| short(note, file));
            found.push(Difference {
                object: name.clone(),
                field: field.to_owned(),
                keepalived,
                shunt,
                notice,
            });
        };
        let there = (theirs.get(name), ours.get(name));
        let is_always_there = ["global_defs", "routes"].contains(&name.as_str());
        if let (false, (Some(_), None) | (None, Some(_))) = (is_always_there, there) {
            let word = |there: Option<&super::Fields>| there.map(|_| "there".to_owned());
            push("", word(there.0), word(there.1));
            continue;
        }
        let (theirs, ours) = (there.0.unwrap_or(&none), there.1.unwrap_or(&none));
        let fields: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for field in fields {
            let (keepalived, shunt) = (theirs.get(field), ours.get(field));
            let one_sided = keepalived.is_none() || shunt.is_none();
            if !(is_same(keepalived, shunt) || one_sided && WHERE_SAID.contains(&field.as_str())) {
                push(field, keepalived.cloned(), shunt.cloned());
            }
        }
    }
    found
}

/// Words of notices that are about a field, beside its own.
const ABOUT: &[(&str, &[&str])] = &[
    ("script", &["vrrp_script", "track_script"]),
    ("sorry_server lvs_method", &["sorry"]),
    ("connect", &["connect_ip", "connect_port", "port"]),
    ("accept", &["vrrp_strict"]),
    ("misc_timeout", &["delay_loop"]),
    ("delay_before_retry", &["retry", "delay_loop"]),
    ("auth_pass", &["authentication", "password"]),
    ("auth_type", &["authentication"]),
    ("weight", &["weights"]),
    ("lb_algo", &["scheduler"]),
    ("persistence_timeout", &["persistence"]),
    ("quorum", &["weights"]),
    ("down_timer_adverts", &["vrrp_down_timer_adverts"]),
    ("track_interface", &["fault"]),
    ("garp_master_delay", &["vrrp_garp_master_delay"]),
    ("garp_master_repeat", &["vrrp_garp_master_repeat"]),
    ("garp_master_refresh", &["vrrp_garp_master_refresh"]),
    ("garp_master_refresh_repeat", &["vrrp_garp_master_refresh_repeat"]),
];

/// The notice that explains why a field differs.
fn explains<'n>(object: &str, field: &str, notes: &'n [Note]) -> Option<&'n Note> {
    let own = if field.is_empty() { kind_of(object) } else { field.split(' ').next().unwrap_or(field) };
    let further = ABOUT.iter().find(|(known, _)| *known == field).map_or(&[][..], |(_, words)| *words);
    let says = |note: &Note| {
        let text = format!("{} {}", note.fault.wrong, note.fault.holds);
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-');
        words.any(|word| word == own || further.contains(&word))
    };
    // What is ignored there and here explains no difference.
    let mut told = notes.iter().filter(|note| note.kind != Kind::Ignored);
    told.find(|note| is_about(object, &note.place) && says(note))
}

/// The keyword of an object: `virtual_server`, `real_server`, `TCP_CHECK`.
fn kind_of(object: &str) -> &str {
    let last = object.rsplit(", ").next().unwrap_or(object);
    last.split(' ').next().unwrap_or(last)
}

/// Whether a part of the file has made an object.
fn is_about(object: &str, place: &str) -> bool {
    let words: Vec<&str> = object.split([' ', ',']).collect();
    match words.as_slice() {
        ["virtual_server", _, listen, ..] => {
            let address =
                listen.rsplit_once(':').map_or(*listen, |(address, _)| address.trim_matches(['[', ']']));
            let ours = ["fwmark", "group", address].iter().any(|word| place.contains(word));
            place == "file" || place.starts_with("virtual_server") && ours
        }
        ["vrrp_instance", name, ..] => {
            place == format!("vrrp_instance {name}")
                || place.starts_with(&format!("vrrp_instance {name},"))
                || ["vrrp_sync_group", "global_defs"].iter().any(|word| place.starts_with(word))
        }
        ["vrrp_sync_group", ..] => place.starts_with("vrrp_"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use shunt_model::fault::Fault;
    use shunt_model::fault::Origin;

    use super::*;

    fn note(kind: Kind, place: &str, wrong: &str) -> Note {
        let origin = Origin { file: Path::new("k.conf").into(), line: 1, column: 1 };
        Note { kind, origin, place: place.to_owned(), fault: Fault::new(wrong, "it holds", "see") }
    }

    #[test]
    fn only_a_notice_of_the_same_part_and_field_explains() {
        let object = "virtual_server tcp 192.0.2.10:80, real_server 192.0.2.21:80";
        let place = "virtual_server 192.0.2.10 80, real_server 192.0.2.21 80";
        for (kind, place, wrong, explains_it) in [
            (Kind::Differs, place, "weight 70000", true),
            (Kind::Ignored, place, "weight 70000", false),
            (Kind::Differs, "virtual_server 192.0.2.11 80", "weight 70000", false),
            (Kind::Differs, "vrrp_instance VI_1", "weight 70000", false),
            (Kind::Differs, place, "quorum 7", false),
        ] {
            let notes = [note(kind, place, wrong)];
            assert_eq!(explains(object, "weight", &notes).is_some(), explains_it, "{kind:?} {place} {wrong}");
        }
    }

    #[test]
    fn every_field_that_differs_is_told() {
        let objects = |weight: &str| {
            let fields = [("weight", weight), ("lvs_method", "nat")];
            let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
            Objects::from([("virtual_server tcp 192.0.2.10:80".to_owned(), fields.into())])
        };
        let found = |theirs: &Objects, ours: &Objects| {
            differences(theirs, ours, &Imported::default(), Path::new("k.conf"))
        };
        assert!(found(&objects("1"), &objects("1")).is_empty());
        let told = found(&objects("1"), &objects("2"));
        assert_eq!((told.len(), told[0].field.as_str(), &told[0].notice), (1, "weight", &None));
        assert_eq!(found(&objects("1"), &Objects::new()).len(), 1);
        assert_eq!(found(&Objects::new(), &objects("1")).len(), 1);
    }
}
