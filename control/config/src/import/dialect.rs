//! Whose file it is.

use std::path::{Path, PathBuf};

use shunt_model::fault::Fault;

use super::files::Files;
use super::interfaces::{self, Interfaces};
use super::note::Kind;
use super::writer::{Imported, Writer};
use super::{dpvs, heartbeat, keepalived, ldirectord, nginx, piranha, rules};

/// A program whose set-up can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// keepalived.conf
    Keepalived,
    /// Piranha's lvs.cf
    Piranha,
    /// heartbeat's ha.cf, haresources and authkeys
    Heartbeat,
    /// ldirectord's ldirectord.cf
    Ldirectord,
    /// nginx.conf with upstream blocks
    Nginx,
    /// rules of ipvsadm and iptables, as they are saved or as a script makes them
    Ipvsadm,
    /// DPVS's dpvs.conf
    Dpvs,
}

/// Whether a line begins with one of these words, with a brace behind it or on the next line.
fn opens(text: &str, words: &[&str]) -> bool {
    let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.any(|line| {
        let word = line.split('{').next().unwrap_or_default().trim_end();
        words.contains(&word)
    })
}

/// The names that files have where their programs look for them.
const NAMES: [(&str, Dialect); 9] = [
    ("keepalived.conf", Dialect::Keepalived),
    ("lvs.cf", Dialect::Piranha),
    ("ha.cf", Dialect::Heartbeat),
    ("haresources", Dialect::Heartbeat),
    ("authkeys", Dialect::Heartbeat),
    ("ldirectord.cf", Dialect::Ldirectord),
    ("nginx.conf", Dialect::Nginx),
    ("ipvsadm.rules", Dialect::Ipvsadm),
    ("dpvs.conf", Dialect::Dpvs),
];

/// What stands in the names of copies and parts of such files.
const PARTS_OF_NAMES: [(&str, Dialect); 4] = [
    ("dpvs", Dialect::Dpvs),
    ("ldirectord", Dialect::Ldirectord),
    ("keepalived", Dialect::Keepalived),
    ("nginx", Dialect::Nginx),
];

impl Dialect {
    /// The program that a file is of: by the name that it has where its program looks for it, else by what it holds, else by what stands in
    /// its name.
    #[must_use]
    pub fn of(path: &Path, text: &str) -> Option<Self> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let full = NAMES.iter().find(|(known, _)| *known == name).map(|(_, dialect)| *dialect);
        let part =
            || PARTS_OF_NAMES.iter().find(|(part, _)| name.contains(part)).map(|(_, dialect)| *dialect);
        full.or_else(|| Self::of_text(text)).or_else(part)
    }

    /// The program that a text is of, where it holds what no other program's does.
    fn of_text(text: &str) -> Option<Self> {
        let begins = |words: &[&str]| {
            let mut lines = text.lines().map(|line| line.trim_start_matches('\u{feff}').trim_start());
            lines.any(|line| words.iter().any(|word| line.starts_with(word)))
        };
        let assigns = |words: &[&str]| {
            let mut keys = text.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
            keys.any(|key| words.contains(&key))
        };
        let is_script = text.starts_with("#!");
        let calls = ["ipvsadm -", "IPVSADM -", "IPVSADM} -"].iter().any(|call| text.contains(call));
        if is_script {
            Some(Self::Ipvsadm)
        } else if begins(&["netif_defs", "worker_defs", "ipvs_defs", "<init> worker_defs"]) {
            Some(Self::Dpvs)
        } else if assigns(&["virtual", "virtual6", "checktimeout", "checkinterval"]) {
            Some(Self::Ldirectord)
        } else if begins(&["virtual_server", "vrrp_", "global_defs"]) {
            Some(Self::Keepalived)
        } else if calls || begins(&["-A -", "-a -", "*nat", "*mangle", "*filter"]) {
            Some(Self::Ipvsadm)
        } else if begins(&["upstream "]) || opens(text, &["http", "stream", "events"]) {
            Some(Self::Nginx)
        } else if begins(&["virtual ", "serial_no"]) {
            Some(Self::Piranha)
        } else {
            None
        }
    }

    /// The files of programs that a folder holds: one such as /etc/keepalived, or one that has those, such as /etc.
    #[must_use]
    pub fn files_in(folder: &Path) -> Vec<(Self, PathBuf)> {
        let known = [
            (Self::Keepalived, "keepalived/keepalived.conf"),
            (Self::Piranha, "sysconfig/ha/lvs.cf"),
            (Self::Piranha, "ha/lvs.cf"),
            (Self::Heartbeat, "ha.d/haresources"),
            (Self::Ldirectord, "ha.d/ldirectord.cf"),
            (Self::Nginx, "nginx/nginx.conf"),
            (Self::Ipvsadm, "sysconfig/ipvsadm"),
            (Self::Ipvsadm, "ipvsadm.rules"),
        ];
        let mut found = Vec::new();
        for (dialect, path) in known {
            let name = path.rsplit('/').next().unwrap_or(path);
            let paths = [folder.join(name), folder.join(path)];
            if let Some(path) = paths.into_iter().find(|path| path.is_file()) {
                if found.iter().all(|(_, other)| *other != path) {
                    found.push((dialect, path));
                }
            }
        }
        // heartbeat starts ldirectord, whose file it names.
        if found.iter().any(|(dialect, _)| *dialect == Self::Heartbeat) {
            found.retain(|(dialect, _)| *dialect != Self::Ldirectord);
        }
        found
    }

    /// Reads a file of this program; `config_id` is what keepalived's lines after `@` are chosen by, and who
    /// heartbeat's resources belong to. Where it names no interface, the NICs of this machine are written that lead to its addresses.
    #[must_use]
    pub fn import(self, path: &Path, files: &dyn Files, config_id: &str) -> Imported {
        let imported = match self {
            Self::Keepalived => keepalived::import(path, files, config_id, Interfaces::default()),
            Self::Piranha => piranha::import(path, files, config_id, Interfaces::default()),
            Self::Heartbeat => heartbeat::import(path, files, config_id, Interfaces::default()),
            Self::Ldirectord => ldirectord::import(path, files),
            Self::Nginx => nginx::import(path, files),
            Self::Ipvsadm => rules::import(path, files),
            Self::Dpvs => dpvs::import(path, files),
        };
        if !imported.is_usable() || imported.text.contains("[[nic]]\n") {
            return imported;
        }
        let mut head = Writer::of(path);
        // keepalived runs a file that has neither virtual servers nor virtual routers.
        if self != Self::Keepalived && !imported.text.contains("[[") {
            tell_that_nothing_was_taken(&mut head);
        }
        interfaces::write_unnamed(&imported.text, files, &mut head);
        head.append(imported.into());
        head.finish()
    }
}

/// Reads a file of a program that nothing tells: it is keepalived's, if keepalived would not ignore all of it.
#[must_use]
pub fn import_unknown(path: &Path, files: &dyn Files, config_id: &str) -> Imported {
    let imported = keepalived::import(path, files, config_id, Interfaces::default());
    if imported.text.is_empty() && imported.notes.iter().any(|note| note.kind == Kind::Ignored) {
        let mut none = Writer::of(path);
        tell_that_nothing_was_taken(&mut none);
        return none.finish();
    }
    Dialect::Keepalived.import(path, files, config_id)
}

fn tell_that_nothing_was_taken(writer: &mut Writer) {
    let Some(origin) = writer.origin_of_file() else { return };
    let fault = Fault::new(
        "nothing was taken",
        "virtual servers become services, virtual routers become [[vrrp]]",
        "name the file that has them, and the program whose file it is: --as PROGRAM",
    );
    writer.refuse(&origin, "file", fault);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_full_name_its_text_or_a_part_of_its_name() {
        let upstream = "upstream a {\n  server 10.0.0.1:80;\n}\n";
        for (name, text, of) in [
            ("keepalived.conf", upstream, Dialect::Keepalived),
            ("before-keepalived.conf", upstream, Dialect::Nginx),
            ("dpvs-nginx", "events {}\nstream { upstream a { server 10.0.0.1:80; } }\n", Dialect::Nginx),
            ("keepalived.sh", "#!/bin/sh\nipvsadm -A -t 192.0.2.1:80\n", Dialect::Ipvsadm),
            ("real.sh", "#!/bin/bash\nifconfig lo:0 192.0.2.1\n", Dialect::Ipvsadm),
            ("x", "checktimeout = 3\nvirtual=192.0.2.1:80\n", Dialect::Ldirectord),
            ("x", "vrrp_script a {\n}\n", Dialect::Keepalived),
            ("x", "serial_no = 1\n", Dialect::Piranha),
            ("x", "<init> worker_defs {\n", Dialect::Dpvs),
            ("dpvs.conf.sample", "! nothing\n", Dialect::Dpvs),
            ("nginx-old", "worker_processes 1;\n", Dialect::Nginx),
            ("x", "\u{feff}virtual_server 192.0.2.1 80 {\n", Dialect::Keepalived),
        ] {
            assert_eq!(Dialect::of(Path::new(name), text), Some(of), "{name}: {text}");
        }
        assert_eq!(Dialect::of(Path::new("x"), "package main\n"), None);
    }
}
