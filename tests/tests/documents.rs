//! The documents hold what can be counted: links lead somewhere, tables fit a screen, the glossary's words exist.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use shunt_config::Config;
use shunt_config::check::Machine;

/// The characters of a table's cell at most, where a page promises it.
const WIDEST_CELL: usize = 200;
/// Lines of README at most.
const LONGEST_README: usize = 150;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files below a folder whose names end so, without those that a build made.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of a document that are prose: without its blocks of code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        (!code && !fence).then_some((index + 1, line))
    })
}

/// The blocks of code of a language, each with its first line's number.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut inside = None;
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(its), None) => {
                inside = Some(its == language);
                if its == language {
                    found.push((index + 2, String::new()));
                }
            }
            (None, Some(true)) => found.last_mut().unwrap().1.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    found
}

/// The anchors that a reader's link can name: headings as GitHub writes them.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text)
        .filter(|(_, line)| line.starts_with('#'))
        .map(|(_, line)| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// What a line links to: `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

#[test]
fn links_lead_to_what_is_there() {
    let root = repository();
    let mut broken = Vec::new();
    let mut looked_at = 0;
    for file in files(&root, "md") {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in prose(&text) {
            for link in links(line).filter(|link| !link.contains("://")) {
                looked_at += 1;
                let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
                let there = target.exists()
                    && (anchor.is_empty()
                        || anchors(&fs::read_to_string(&target).unwrap_or_default()).contains(anchor));
                if !there {
                    broken.push(format!("{}:{number}: {link}", file.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(looked_at > 50, "{looked_at} links were found");
}

#[test]
fn readme_is_short() {
    let lines = fs::read_to_string(repository().join("README.md")).unwrap().lines().count();
    assert!(
        lines <= LONGEST_README,
        "README.md has {lines} lines: at most {LONGEST_README}: move the rest to docs/"
    );
}

#[test]
fn cells_of_tables_are_short() {
    let mut long = Vec::new();
    let root = repository();
    let mut pages = files(&root.join("docs/zh"), "md");
    pages.extend(
        ["README.md", "README.zh.md", "docs/README.md", "docs/glossary.md"].map(|name| root.join(name)),
    );
    pages.extend(
        ["docs/decisions.md", "docs/configuration.md", "tests/README.md"].map(|name| root.join(name)),
    );
    for page in pages {
        let (name, text) = (page.display(), fs::read_to_string(&page).unwrap());
        for (number, line) in prose(&text).filter(|(_, line)| line.starts_with('|')) {
            let cells = line.trim_matches('|').replace("\\|", "/");
            for cell in cells.split('|').map(str::trim).filter(|cell| cell.chars().count() > WIDEST_CELL) {
                long.push(format!("{name}:{number}: {} characters: {cell}", cell.chars().count()));
            }
        }
    }
    assert!(long.is_empty(), "cells of more than {WIDEST_CELL} characters:\n{}", long.join("\n"));
}

/// A block may be a part of a file: what it lacks is taken from an example.
#[test]
fn configurations_in_documents_are_usable() {
    let root = repository();
    let example = fs::read_to_string(root.join("conf/dr.toml")).unwrap();
    let (nics, service) = example.split_once("[[service]]").unwrap();
    let service = service.split_once("[[service]]").unwrap().0;
    let (before_check, behind_check) = service.split_once("check ").unwrap();
    let behind_check = behind_check.split_once('\n').unwrap().1;

    let folder = tempfile::tempdir().unwrap();
    let keepalived = folder.path().join("keepalived.conf");
    let moving = fs::read_to_string(root.join("docs/zh/migrating.md")).unwrap();
    let shown =
        blocks(&moving, "").into_iter().find(|(_, block)| block.starts_with("vrrp_instance")).unwrap();
    fs::write(&keepalived, shown.1).unwrap();

    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for page in files(&root, "md") {
        let text = fs::read_to_string(&page).unwrap();
        for (number, block) in blocks(&text, "toml") {
            looked_at += 1;
            let block = block.replace("/etc/keepalived/keepalived.conf", &keepalived.display().to_string());
            let whole = if block.contains("[[nic]]") {
                block
            } else if block.starts_with('[') {
                format!("{nics}{block}")
            } else {
                format!("{nics}[[service]]{before_check}{block}{behind_check}")
            };
            if let Err(problems) = Config::check_on("block", &whole, &Machine::default()) {
                wrong.push(format!("{}:{number}: {problems}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(looked_at >= 10, "{looked_at} configurations were found");
}

#[test]
fn each_decision_has_a_date_and_a_line_in_the_index() {
    let text = fs::read_to_string(repository().join("docs/decisions.md")).unwrap();
    let mut index = HashSet::new();
    let mut decisions = 0;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(entry) = line.strip_prefix("  - ") {
            let (date, link) = entry.split_once(" [").unwrap_or_else(|| panic!("{line}: a date and a link"));
            index.insert(format!("*{date}.* {}", link.split_once("](").unwrap().0));
        } else if let Some(title) = line.strip_prefix("### ") {
            let body = lines.by_ref().find(|line| !line.is_empty()).unwrap_or_default();
            let date = body.split_once(' ').unwrap_or_default().0;
            assert!(
                index.remove(&format!("{date} {title}")),
                "{title}: begins with {date}: the index has no such line"
            );
            decisions += 1;
        }
    }
    assert!(index.is_empty(), "in the index alone: {index:?}");
    assert!(decisions > 50, "{decisions} decisions were found");
}

#[test]
fn each_word_of_the_glossary_is_there_once_and_is_one_of_the_code() {
    let root = repository();
    let mut words: HashSet<String> = HashSet::new();
    for room in
        ["control/src", "control/config/src", "control/model/src", "control/protocol/src", "dataplane/src"]
    {
        for file in files(&root.join(room), "rs") {
            let text = fs::read_to_string(file).unwrap();
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
    let glossary = fs::read_to_string(root.join("docs/glossary.md")).unwrap();
    let mut terms = HashSet::new();
    for (number, line) in
        prose(&glossary).filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| term"))
    {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(
            cells.len(),
            4,
            "glossary.md:{number}: a term, its Chinese, its meaning, where it comes from"
        );
        for term in [cells[0].to_lowercase(), cells[1].to_owned()] {
            assert!(terms.insert(term.clone()), "glossary.md:{number}: {term} is there twice");
        }
        for typed in cells[2].split('`').skip(1).step_by(2).flat_map(str::split_whitespace) {
            let known = typed.starts_with('-') || words.contains(typed);
            assert!(known, "glossary.md:{number}: `{typed}` is no word of the code");
        }
    }
    assert!(terms.len() > 100, "{} terms were found", terms.len());
}
