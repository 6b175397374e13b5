//! Files of other programs: what becomes of them, and of every keyword.
//!
//! `tests/import/PROGRAM/NAME.conf` becomes `NAME.toml`, and tells `NAME.notes`; `SHUNT_BLESS=1` writes those files anew,
//! and the table of docs/keepalived.md.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use proptest::prelude::*;
use shunt::machine::Disk;
use shunt_config::Config;
use shunt_config::check::{Checked, Machine};
use shunt_config::import::keepalived::keywords::{BLOCKS, Block};
use shunt_config::import::{Dialect, Fate, Files, import_unknown};
use shunt_model::fault::Severity;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// Compares a text with a file, or writes it there when that is asked for.
fn is_as_written(path: &Path, found: &str) -> Result<(), String> {
    if std::env::var_os("SHUNT_BLESS").is_some() {
        std::fs::write(path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(path).unwrap_or_default();
    if wanted == found {
        Ok(())
    } else {
        Err(format!("{}:\n--- wanted\n{wanted}--- found\n{found}", path.display()))
    }
}

#[test]
fn every_keyword_of_the_manual_page_has_its_fate() {
    let manual = std::fs::read_to_string(folder().join("keepalived-keywords.txt")).unwrap();
    let mut count = 0;
    for line in manual.lines() {
        let (block, words) = line.split_once(": ").unwrap();
        let known =
            BLOCKS.iter().find(|(name, _)| *name == block).unwrap_or_else(|| panic!("no block {block}")).0;
        for word in words.split(' ') {
            assert!(Block(known).fate(word).is_ok(), "{word} of {block}");
            count += 1;
        }
    }
    assert!(count > 350, "{count}");
    for (block, _) in BLOCKS {
        let mut words: Vec<&str> = Block(block).keywords().into_iter().map(|(word, _)| word).collect();
        words.sort_unstable();
        let all = words.len();
        words.dedup();
        assert_eq!(words.len(), all, "{block} has a keyword twice");
    }
}

#[test]
fn the_documentation_has_every_keyword_with_its_fate() {
    let mut table = String::new();
    for (block, _) in BLOCKS {
        let title = if *block == "file" {
            "The file".to_owned()
        } else {
            format!("`{}`", block.replace(", ", "`, `"))
        };
        let _ = write!(table, "\n### {title}\n\n| keyword | fate | what holds here |\n|---|---|---|\n");
        for (word, fate) in Block(block).keywords() {
            let (fate, words) = match fate {
                Fate::Supported(words) => ("supported", words),
                Fate::Instead(words) => ("notice", words),
                Fate::Differs(words) => ("differs", words),
                Fate::Ignored(words) => ("ignored", words),
                Fate::Refused(words) => ("refused", words),
            };
            let _ = writeln!(table, "| `{word}` | {fate} | {words} |");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/keepalived.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = "<!-- the table: written by the tests -->\n";
    let head = text.split_once(mark).unwrap().0;
    is_as_written(&path, &format!("{head}{mark}{table}")).unwrap();
}

/// The disk, the names that tests look up, and every script that a file names but those called `gone`.
struct Names;

impl Files for Names {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        Disk.read(path)
    }

    fn matching(&self, pattern: &str, braces: bool) -> Vec<PathBuf> {
        Disk.matching(pattern, braces)
    }

    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "app.example.org" => vec!["10.0.0.31".parse().unwrap(), "10.0.0.32".parse().unwrap()],
            "vip.example.org" => vec!["192.0.2.12".parse().unwrap()],
            "real.example.org" => vec!["192.0.2.31".parse().unwrap()],
            _ => Vec::new(),
        }
    }

    fn is_program(&self, path: &Path) -> bool {
        !path.display().to_string().contains("gone")
    }
}

fn files_become_toml(program: &str, dialect: Dialect, least: usize) {
    let mut different = Vec::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder().join(program)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension().is_some_and(|extension| ["conf", "cf"].iter().any(|known| *known == extension))
    });
    files.sort();
    for path in &files {
        assert_eq!(Dialect::of(path, &Disk.read(path).unwrap()), Some(dialect), "{}", path.display());
        let imported = dialect.import(path, &Names, "main");
        let folder = format!("{}/", path.parent().unwrap().display());
        let notes: String =
            imported.notes.iter().map(|note| format!("{note}\n").replace(&folder, "")).collect();
        different.extend(is_as_written(&path.with_extension("toml"), &imported.text).err());
        different.extend(is_as_written(&path.with_extension("notes"), &notes).err());
        if imported.is_usable() {
            different.extend(problems(path, &imported.text));
        }
    }
    assert!(files.len() >= least, "only {} files", files.len());
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// What keeps TOML that was written from being a configuration, but for what only the operator knows: his addresses.
fn problems(path: &Path, text: &str) -> Option<String> {
    let text = text.replace("\"0.0.0.0:", "\"192.0.2.99:");
    let text = if text.contains("[[service]]") {
        text
    } else {
        format!(
            "{text}\n[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\n\
                 real = [{{ address = \"192.0.2.21\" }}]\n"
        )
    };
    let (front, back) =
        ("addresses = [\"192.0.2.2/24\", \"2001:db8::2/64\"]", "addresses = [\"10.0.0.2/24\"]");
    let nic = |name: &str, addresses: &str| {
        format!("[[nic]]\nname = \"{name}\"\ndevice = \"af_packet:{name}\"\n{addresses}\n")
    };
    // lan0 comes before wan0, and back0 before front0.
    let first = if text.contains("lan0") || text.contains("back0") { back } else { front };
    let text = text.replacen("addresses = []", first, 1).replacen("addresses = []", front, 1);
    let text = match text.lines().filter(|line| *line == "[[nic]]").count() {
        0 => format!("{text}\n{}{}", nic("front", front), nic("back", back)),
        1 => format!("{text}\n{}", nic("back", back)),
        _ => text,
    };
    let problems = Config::check("imported", &text).err()?;
    let lines = problems.list.iter().map(|problem| problems.line(problem)).collect::<Vec<_>>();
    Some(format!("{}: what was written is not usable:\n{}\n{text}", path.display(), lines.join("\n")))
}

#[test]
fn keepalived_files_become_toml() {
    files_become_toml("keepalived", Dialect::Keepalived, 5);
}

#[test]
fn piranha_files_become_toml() {
    files_become_toml("piranha", Dialect::Piranha, 5);
}

#[test]
fn heartbeat_files_become_toml() {
    files_become_toml("heartbeat", Dialect::Heartbeat, 1);
}

#[test]
fn ldirectord_files_become_toml() {
    files_become_toml("ldirectord", Dialect::Ldirectord, 4);
    files_become_toml("heartbeat-ldirectord", Dialect::Heartbeat, 1);
}

#[test]
fn rules_of_ipvsadm_become_toml() {
    files_become_toml("ipvsadm", Dialect::Ipvsadm, 4);
    files_become_toml("dpvs", Dialect::Dpvs, 1);
}

#[test]
fn nginx_files_become_toml() {
    files_become_toml("nginx", Dialect::Nginx, 8);
}

const OWN: &str = "[import]\nkeepalived = \"k.conf\"\nconfig_id = \"one\"\n[[nic]]\nname = \"front\"\ndevice = \"af_packet:wan0\"\n\
                   addresses = [\"192.0.2.2/24\"]\n";

/// A configuration beside a `k.conf`.
fn load(own: &str, keepalived: &str) -> (tempfile::TempDir, Result<Checked, String>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shunt.toml"), own).unwrap();
    std::fs::write(folder.path().join("k.conf"), keepalived).unwrap();
    let loaded =
        Config::load(&folder.path().join("shunt.toml"), &Machine { host: Some(&Disk), ..Machine::default() });
    let prefix = format!("{}/", folder.path().display());
    let loaded = loaded.map_err(|problems| problems.to_string().replace(&prefix, ""));
    (folder, loaded)
}

#[test]
fn keepalived_conf_can_stay_the_source() {
    let text = "@one virtual_server 192.0.2.10 80 {\n@two virtual_server 192.0.2.11 80 {\n  lvs_sched rr\n  lvs_method DR\n  protocol TCP\n  \
                real_server 192.0.2.21 80 {\n  }\n}\n";
    let (_folder, loaded) = load(OWN, text);
    let checked = loaded.unwrap();
    let services: Vec<String> = checked.config.services.iter().map(|service| service.subject()).collect();
    assert_eq!(services, ["tcp 192.0.2.10:80"]);
    // What runs can be checked again where the file of keepalived is not there.
    assert_eq!(Config::check("running", &checked.text).unwrap().config, checked.config);
}

#[test]
fn problems_are_told_at_the_lines_of_keepalived_conf() {
    let text = "global_defs {\n  router_id X\n}\nvirtual_server 192.0.2.10 80 {\n  protocol TCP\n  lvs_method DR\n  \
                real_server 198.51.100.7 80 {\n    weigth 3\n  }\n}\n";
    let (_folder, loaded) = load(OWN, text);
    assert_eq!(
        loaded.unwrap_err(),
        "k.conf:7:3: service \"tcp-192.0.2.10:80\", real \"198.51.100.7\": no way to the real server (\"198.51.100.7\"): it is in no network of a \
         NIC and no route leads there: add an address to a NIC, a gateway or a [[route]]\n\
         k.conf:2:3: warning: global_defs: router_id X has no equal: the host name names this director: nothing needs to be done\n\
         k.conf:8:5: warning: virtual_server 192.0.2.10 80, real_server 198.51.100.7 80: unknown keyword weigth: keepalived ignores the line; docs/keepalived.md lists the \
         keywords of real_server: did you mean weight?"
    );
    let (_folder, loaded) = load(&OWN.replace("k.conf", "none.conf"), "");
    assert!(loaded.unwrap_err().contains("none.conf cannot be read"));
}

/// A keepalived.conf of so many virtual servers, each of ten real servers with a check.
fn many(count: u16) -> String {
    let mut text = String::new();
    for l4_port in 1..=count {
        let _ = writeln!(text, "virtual_server 192.0.2.10 {l4_port} {{\n  lvs_method DR\n  protocol TCP");
        for real in 20..30 {
            let _ = writeln!(
                text,
                "  real_server 192.0.2.{real} {l4_port} {{\n    weight 1\n    TCP_CHECK {{\n      connect_timeout 3\n    }}\n  }}"
            );
        }
        text += "}\n";
    }
    text
}

/// Processor time, which other programs do not lengthen.
fn processor_time() -> Duration {
    let used = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let microseconds = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    Duration::from_micros(microseconds as u64)
}

/// A reload of 5,000 virtual servers takes about a second; nothing in it grows faster than the file.
#[test]
fn many_virtual_servers_take_as_many_times_as_long() {
    let took = |count: u16| {
        let text = many(count);
        let begin = processor_time();
        let (_folder, loaded) = load(OWN, &text);
        assert_eq!(loaded.unwrap().config.services.len(), usize::from(count));
        processor_time() - begin
    };
    let few = took(150);
    let many = took(600);
    assert!(many < 8 * few, "four times as many took {many:?} instead of {few:?}");
}

/// One file, by whatever name it is asked for.
struct One(String);

impl Files for One {
    fn read(&self, _: &Path) -> std::io::Result<String> {
        Ok(self.0.clone())
    }

    fn matching(&self, _: &str, _: bool) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// The same on a machine whose interfaces have these addresses.
struct On(One, Vec<(&'static str, &'static str)>);

impl Files for On {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        self.0.read(path)
    }

    fn matching(&self, pattern: &str, braces: bool) -> Vec<PathBuf> {
        self.0.matching(pattern, braces)
    }

    fn interfaces(&self) -> Vec<(String, ipnet::IpNet)> {
        self.1.iter().map(|(interface, own)| ((*interface).to_owned(), own.parse().unwrap())).collect()
    }
}

/// Own addresses are this machine's only where the file may be for it.
#[test]
fn another_machines_addresses_are_not_the_directors() {
    let text = "vrrp_instance VI_1 {\ninterface eth0\nvirtual_router_id 51\npriority 100\n\
                virtual_ipaddress {\n192.0.2.10\n}\n}\n";
    let import = |own| {
        let here = On(One(text.to_owned()), vec![("eth0", own)]);
        let imported = Dialect::Keepalived.import(Path::new("any"), &here, "main");
        let told = imported.notes.iter().any(|note| note.to_string().contains("no address of the file"));
        (imported.text.contains(&format!("addresses = [\"{own}\"]")), told)
    };
    assert_eq!(import("192.0.2.2/24"), (true, false));
    assert_eq!(import("198.51.100.2/24"), (false, true));
}

/// The NICs that come of a text where the machine has these interfaces.
fn nics(dialect: Dialect, text: &str, own: &[(&'static str, &'static str)]) -> Vec<String> {
    let imported = dialect.import(Path::new("any"), &On(One(text.to_owned()), own.to_vec()), "main");
    assert!(imported.is_usable(), "{text}");
    let checked = Config::check_imported(&imported);
    assert!(
        checked.list.iter().all(|problem| problem.severity != Severity::Error),
        "{text}\n{:?}",
        checked.list
    );
    let mut lines = imported.text.lines();
    let mut nics = Vec::new();
    while lines.any(|line| line == "[[nic]]") {
        nics.push(lines.next().unwrap().replace("name = ", ""));
    }
    nics
}

#[test]
fn every_import_has_the_nics_that_its_addresses_want() {
    let keepalived = "virtual_server 192.0.2.10 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.21 80 {\n}\n}\n";
    let vrrp =
        "vrrp_instance A {\ninterface front\nvirtual_router_id 1\nvirtual_ipaddress {\n192.0.2.10\n}\n}\n";
    let ldirectord = "virtual=192.0.2.10:80\n    real=10.0.0.21:80 gate\n";
    let rules = "-A -t 192.0.2.10:80\n-a -t 192.0.2.10:80 -r 10.0.0.21:80 -g\n";
    let nginx =
        "stream { upstream a { server 10.0.0.21:80; } server { listen 192.0.2.10:80; proxy_pass a; } }\n";
    let both = [("back", "10.0.0.2/24"), ("front", "192.0.2.2/24"), ("third", "203.0.113.2/24")];
    for (dialect, text) in [
        (Dialect::Keepalived, keepalived),
        (Dialect::Keepalived, &format!("{vrrp}{keepalived}")),
        (Dialect::Ldirectord, ldirectord),
        (Dialect::Ipvsadm, rules),
        (Dialect::Nginx, nginx),
    ] {
        let mut found = nics(dialect, text, &both);
        found.sort();
        assert_eq!(found, ["\"back\"", "\"front\""], "{text}");
    }
    // On another machine: it has another interface in a network of the file, or none in that of DR's real servers.
    assert_eq!(nics(Dialect::Keepalived, vrrp, &[("eth0", "192.0.2.9/24")]), ["\"front\""]);
    assert_eq!(nics(Dialect::Ldirectord, ldirectord, &[("wlan0", "203.0.113.2/24")]), ["\"eth0\""]);
    assert_eq!(nics(Dialect::Keepalived, "global_defs {\n}\n", &[]), ["\"eth0\""]);
}

#[test]
fn a_file_of_nobody_is_not_taken() {
    for text in ["package main\nfunc main() {\n}\n", "#include <stdio.h>\nint main(void) { }\n"] {
        assert_eq!(Dialect::of(Path::new("any"), text), None);
        assert!(!import_unknown(Path::new("any"), &One(text.to_owned()), "main").is_usable(), "{text}");
    }
    // Which no dialect but keepalived's says by itself.
    let text = "static_routes {\n10.0.0.0/8 via 192.0.2.1\n}\n";
    assert!(import_unknown(Path::new("any"), &One(text.to_owned()), "main").is_usable());
    for (dialect, text) in [
        (Dialect::Nginx, "http {\n server { listen 80; root /srv; }\n}\n"),
        (Dialect::Ipvsadm, "#!/bin/sh\nifconfig lo:0 192.0.2.1\n"),
        (Dialect::Ldirectord, "checktimeout=3\n"),
    ] {
        let imported = dialect.import(Path::new("any"), &One(text.to_owned()), "main");
        assert!(!imported.is_usable(), "{text}");
    }
}

const DIALECTS: [Dialect; 7] = [
    Dialect::Keepalived,
    Dialect::Piranha,
    Dialect::Heartbeat,
    Dialect::Ldirectord,
    Dialect::Nginx,
    Dialect::Ipvsadm,
    Dialect::Dpvs,
];

/// Imports a text as each dialect: every line of what comes out has its origin, and what was not refused is TOML.
fn digest(text: &str) {
    for dialect in DIALECTS {
        let imported = dialect.import(Path::new("any"), &One(text.to_owned()), "main");
        assert_eq!(imported.text.lines().count(), imported.origins.len(), "{dialect:?}: {text}");
        if let Err(problems) = Config::check("any", &imported.text) {
            let broken = problems.list.iter().find(|problem| problem.place == "TOML");
            assert!(broken.is_none(), "{dialect:?}: {text}\n{}\n{broken:?}", imported.text);
        }
    }
}

fn all_texts() -> Vec<String> {
    let folders = ["keepalived", "piranha", "ldirectord", "nginx", "ipvsadm", "dpvs"]
        .map(|program| folder().join(program));
    let files = folders.into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "conf" || e == "cf"));
    files.map(|path| Disk.read(&path).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in "\\PC*") {
        digest(&text);
    }

    #[test]
    fn a_damaged_file_gets_an_answer(
        which in 0_usize..1000,
        at in 0_usize..4000,
        length in 0_usize..40,
        insert in "[\\PC\"'\\\\${}~@#!;=\n]{0,6}",
    ) {
        let texts = all_texts();
        let mut characters: Vec<char> = texts[which % texts.len()].chars().collect();
        let at = at % (characters.len() + 1);
        let end = (at + length).min(characters.len());
        characters.splice(at..end, insert.chars());
        digest(&characters.into_iter().collect::<String>());
    }
}

/// What names the NICs of a file that is imported does not hold where the configuration names its own.
const OF_NICS: &[&str] = &[
    "no interface is named",
    "no address of the file is in a network of this machine",
    "which the file does not name",
];

/// `[import]` tells what `shunt import` tells, line by line.
#[test]
fn a_file_that_is_named_tells_what_one_that_is_imported_tells() {
    let (mut different, mut count) = (Vec::new(), 0);
    for entry in std::fs::read_dir(folder().join("keepalived")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "conf") {
            continue;
        }
        let imported = Dialect::Keepalived.import(&path, &Disk, "main");
        let mut nics: String = imported
            .text
            .split("\n\n")
            .filter(|part| part.contains("[[nic]]"))
            .map(|part| format!("{part}\n"))
            .collect();
        if nics.is_empty() {
            nics = "[[nic]]\nname = \"eth0\"\ndevice = \"af_packet:eth0\"\naddresses = []\n".to_owned();
        }
        let nics = nics.replacen("addresses = []", "addresses = [\"192.0.2.2/24\", \"2001:db8::2/64\"]", 1);
        let own = format!("[import]\nkeepalived = \"{}\"\nconfig_id = \"main\"\n{nics}", path.display());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), own).unwrap();
        let told = match Config::load(file.path(), &Machine { host: Some(&Disk), ..Machine::default() }) {
            Ok(checked) => checked.warnings,
            Err(problems) => problems,
        };
        let told: Vec<String> = told.list.iter().map(|problem| told.line(problem)).collect();
        for note in imported.notes {
            let line = note.to_string();
            if OF_NICS.iter().any(|words| line.contains(words)) {
                continue;
            }
            count += 1;
            if !told.contains(&line) {
                different.push(line);
            }
        }
    }
    assert!(count > 100, "only {count} notes");
    assert!(different.is_empty(), "not told by [import]:\n{}", different.join("\n"));
}
