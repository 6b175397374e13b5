//! Whose file it is.

use std::path::{Path, PathBuf};

use super::files::Files;
use super::interfaces::Interfaces;
use super::writer::Imported;
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

/// Whether a line is one of these words, with the brace behind it or on the next line.
fn opens(text: &str, words: &[&str]) -> bool {
    let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.any(|line| {
        let word = line.strip_suffix('{').unwrap_or(line).trim_end();
        words.contains(&word)
    })
}

impl Dialect {
    /// The program that a file is of: by its name, else by what it holds; keepalived when neither tells.
    #[must_use]
    pub fn of(path: &Path, text: &str) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let begins = |words: &[&str]| {
            let mut lines = text.lines().map(str::trim_start);
            lines.any(|line| words.iter().any(|word| line.starts_with(word)))
        };
        let assigns = |words: &[&str]| {
            let mut keys = text.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key.trim());
            keys.any(|key| words.contains(&key))
        };
        let calls = ["ipvsadm -", "IPVSADM -", "IPVSADM} -"].iter().any(|call| text.contains(call));
        if name.contains("dpvs") || begins(&["netif_defs", "worker_defs", "ipvs_defs", "<init> worker_defs"])
        {
            Self::Dpvs
        } else if name.contains("ldirectord")
            || assigns(&["virtual", "virtual6", "checktimeout", "checkinterval"])
        {
            Self::Ldirectord
        } else if name.contains("keepalived") || begins(&["virtual_server", "vrrp_instance", "global_defs"]) {
            Self::Keepalived
        } else if calls || begins(&["-A -", "-a -", "*nat", "*mangle", "*filter"]) {
            Self::Ipvsadm
        } else if ["ha.cf", "haresources", "authkeys"].contains(&name.as_str()) {
            Self::Heartbeat
        } else if name.contains("nginx") || begins(&["upstream "]) || opens(text, &["http", "stream"]) {
            Self::Nginx
        } else if name == "lvs.cf" || begins(&["virtual ", "serial_no"]) {
            Self::Piranha
        } else {
            Self::Keepalived
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
    /// heartbeat's resources belong to.
    #[must_use]
    pub fn import(self, path: &Path, files: &dyn Files, config_id: &str) -> Imported {
        match self {
            Self::Keepalived => keepalived::import(path, files, config_id, Interfaces::default()),
            Self::Piranha => piranha::import(path, files, config_id, Interfaces::default()),
            Self::Heartbeat => heartbeat::import(path, files, config_id, Interfaces::default()),
            Self::Ldirectord => ldirectord::import(path, files),
            Self::Nginx => nginx::import(path, files),
            Self::Ipvsadm => rules::import(path, files),
            Self::Dpvs => dpvs::import(path, files),
        }
    }
}
