//! The crates of `control/`: who may know whom, and what may never enter one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Each crate below the binary and in it, and the crates of this workspace that it may know.
const ARROWS: [(&str, &[&str]); 6] = [
    ("dataplane", &["dpdk-sys"]),
    ("control/model", &["dpdk-sys", "shunt-dataplane"]),
    ("control/config", &["dpdk-sys", "shunt-dataplane", "shunt-model"]),
    ("control/protocol", &["dpdk-sys", "shunt-dataplane", "shunt-model"]),
    ("control", &["dpdk-sys", "shunt-config", "shunt-dataplane", "shunt-model", "shunt-protocol"]),
    ("sys", &[]),
];
/// What never enters a crate that has no socket, whoever brings it; `dpdk-sys` asks the system for much and is looked at by nobody here.
const NEVER: [&str; 8] = ["hyper", "mio", "nix", "rtnetlink", "signal-hook", "socket2", "tokio", "tun-rs"];
/// The crates that it never enters.
const PURE: [&str; 3] = ["shunt-config", "shunt-model", "shunt-protocol"];

/// Which top-level module of a crate names which other one, and where.
type Edges = BTreeMap<String, BTreeMap<String, String>>;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn table(path: &str) -> Table {
    fs::read_to_string(repository().join(path))
        .unwrap()
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All source files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The modules that a line of code names from the root of its crate: `crate::a::b`, and `use crate::{a, b::c}`.
fn named(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in code.split("crate::").skip(1) {
        let Some(list) = part.strip_prefix('{') else {
            names.push(first_word(part));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' | ',' if depth == 0 => {
                    names.push(first_word(list[start..at].trim_start()));
                    start = at + 1;
                    if character == '}' {
                        break;
                    }
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    names
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The code of a file without its comments, each statement on one line.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    lines.collect::<Vec<_>>().join(" ").replace("$crate", "")
}

fn edges(root: &Path) -> Edges {
    let top = |path: &Path| {
        let first = path.strip_prefix(root).unwrap().components().next().unwrap();
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
    };
    let files = sources(root);
    let modules: BTreeSet<String> = files.iter().map(|path| top(path)).collect();
    let mut edges = Edges::new();
    for path in &files {
        let from = top(path);
        if ["lib", "main"].contains(&from.as_str()) {
            continue;
        }
        for to in named(&code(&fs::read_to_string(path).unwrap())) {
            if to != from && modules.contains(&to) {
                let place = path.strip_prefix(root).unwrap().display().to_string();
                edges.entry(from.clone()).or_default().insert(to, place);
            }
        }
    }
    edges
}

/// A way from a module back to itself, if there is one: each step with the file that takes it.
fn circle(edges: &Edges) -> Option<Vec<String>> {
    fn walk(edges: &Edges, at: &str, way: &mut Vec<(String, String)>, done: &mut BTreeSet<String>) -> bool {
        for (to, place) in edges.get(at).into_iter().flatten() {
            if let Some(begin) = way.iter().position(|(module, _)| module == to) {
                way.drain(..begin);
                way.last_mut().unwrap().1 = format!("{at} -> {to} ({place})");
                return true;
            }
            if done.contains(to) {
                continue;
            }
            way.last_mut().unwrap().1 = format!("{at} -> {to} ({place})");
            way.push((to.clone(), String::new()));
            if walk(edges, to, way, done) {
                return true;
            }
            way.pop();
        }
        done.insert(at.to_owned());
        false
    }
    let mut done = BTreeSet::new();
    for module in edges.keys() {
        let mut way = vec![(module.clone(), String::new())];
        if !done.contains(module) && walk(edges, module, &mut way, &mut done) {
            return Some(way.into_iter().map(|(_, step)| step).collect());
        }
    }
    None
}

#[test]
fn no_two_modules_of_a_crate_know_each_other() {
    for (folder, _) in ARROWS.iter().filter(|(folder, _)| folder.starts_with("control")) {
        let edges = edges(&repository().join(folder).join("src"));
        if let Some(circle) = circle(&edges) {
            panic!(
                "{folder}: modules in a circle: {}: move what both need to a module below both",
                circle.join(", ")
            );
        }
    }
}

#[test]
fn a_circle_is_found_where_there_is_one() {
    let edge =
        |from: &str, to: &str| (from.to_owned(), BTreeMap::from([(to.to_owned(), "file.rs".to_owned())]));
    let round = Edges::from([edge("a", "b"), edge("b", "c"), edge("c", "b")]);
    assert_eq!(circle(&round).unwrap(), ["b -> c (file.rs)", "c -> b (file.rs)"]);
    assert_eq!(circle(&Edges::from([edge("a", "b"), edge("b", "c")])), None);
    let text = "use crate::{a, b::{c, d}, e::f}; // crate::g\nlet x = crate::h::i(); $crate::j!();";
    assert_eq!(named(&code(text)), ["a", "b", "e", "h"]);
    // The reading finds the arrows that are there.
    let binary = edges(&repository().join("control/src"));
    assert!(
        binary["director"].contains_key("publish")
            && !binary.get("publish").is_some_and(|to| to.contains_key("director"))
    );
}

#[test]
fn crates_know_those_below_alone() {
    for (folder, allowed) in ARROWS {
        let manifest = table(&format!("{folder}/Cargo.toml"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let names = manifest.get(section).and_then(Value::as_table).into_iter().flat_map(Table::keys);
            for name in names.filter(|name| name.starts_with("shunt") || *name == "dpdk-sys") {
                assert!(
                    allowed.contains(&name.as_str()),
                    "{folder}: [{section}] {name}: may know {allowed:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_pure_brings_no_socket_and_no_runtime() {
    let lock = table("Cargo.lock");
    let packages = lock["package"].as_array().unwrap();
    let name = |package: &Value| package["name"].as_str().unwrap().to_owned();
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let list = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
        // Of two versions the name has its version behind it.
        let list = list.map(|entry| entry.as_str().unwrap().split(' ').next().unwrap().to_owned());
        needs.entry(name(package)).or_default().extend(list);
    }
    for pure in PURE {
        let (mut seen, mut open) = (BTreeSet::new(), vec![pure.to_owned()]);
        while let Some(next) = open.pop() {
            assert!(!NEVER.contains(&next.as_str()), "{pure} brings {next}");
            if next != "dpdk-sys" && seen.insert(next.clone()) {
                open.extend(needs[&next].iter().cloned());
            }
        }
        assert!(seen.contains("shunt-dataplane"), "{pure}: {seen:?}");
    }
}

#[test]
fn what_may_never_enter_is_forbidden() {
    for folder in ["control/model", "control/config", "control/protocol", "control"] {
        let root = fs::read_to_string(repository().join(folder).join("src/lib.rs")).unwrap();
        assert!(root.contains("#![forbid(unsafe_code)]"), "{folder}");
    }
    for (folder, words) in [
        ("control/config", &["Instant::now", "SystemTime::now", "net::UdpSocket"][..]),
        (
            "control/protocol",
            &["Instant::now", "SystemTime::now", "net::UdpSocket", "fs::read", "fs::File"][..],
        ),
    ] {
        let root = fs::read_to_string(repository().join(folder).join("src/lib.rs")).unwrap();
        assert!(root.contains("#![deny(clippy::disallowed_methods, clippy::disallowed_types)]"), "{folder}");
        let disallowed = table(&format!("{folder}/clippy.toml"));
        let paths = ["disallowed-methods", "disallowed-types"].map(|key| disallowed[key].as_array().unwrap());
        let paths: Vec<&str> =
            paths.into_iter().flatten().map(|entry| entry["path"].as_str().unwrap()).collect();
        for word in words {
            assert!(
                paths.contains(&format!("std::{}", with_module(word)).as_str()),
                "{folder}: {word}: {paths:?}"
            );
        }
    }
}

fn with_module(word: &str) -> String {
    if word.starts_with("Instant") || word.starts_with("SystemTime") {
        format!("time::{word}")
    } else {
        word.to_owned()
    }
}
