//! Files of keepalived beside the real keepalived: what it makes of each of them, and what an import makes of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use shunt_tests::keepalived::compare::{Compared, compare};
use shunt_tests::keepalived::real::Keepalived;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("keepalived")
}

/// The files of tests/keepalived/files, in order, each compared.
fn compared() -> Vec<Compared> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder().join("files")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    let keepalived = Keepalived::new().unwrap();
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A thread goes to other network namespaces.
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let compared = compare(&keepalived, file, "main").unwrap();
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(compared);
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.sort_by(|a, b| a.file.cmp(&b.file));
    all
}

/// A row of the table, and one for each notice that explains a difference.
fn rows(compared: &Compared) -> String {
    let name = Path::new(&compared.file).file_name().unwrap().to_string_lossy();
    let theirs = match (&compared.ends, compared.silent) {
        (Some(words), _) => format!("ends: {words}"),
        (None, true) => "runs, and breaks down printing its data".to_owned(),
        (None, false) => "runs".to_owned(),
    };
    let theirs = theirs.replace(&format!("{}/files/", folder().display()), "");
    let test = compared.test.map_or_else(|| "none".to_owned(), |code| code.to_string());
    let ours = if compared.refused.is_empty() { "taken" } else { "refused" };
    let mut rows = format!("{name}: keepalived {theirs} (--config-test {test}); shunt {ours}\n");
    for note in &compared.refused {
        let _ = writeln!(rows, "    {note}");
    }
    for note in &compared.notices {
        let _ = writeln!(rows, "    {note}");
    }
    for difference in &compared.differences {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let (keepalived, shunt) = (value(&difference.keepalived), value(&difference.shunt));
        let notice = difference.notice.clone().unwrap_or_else(|| "NO NOTICE".to_owned());
        let _ = writeln!(
            rows,
            "    {}: {}: keepalived {keepalived}, shunt {shunt}, by the notice {notice}",
            difference.object, difference.field
        );
    }
    rows.replace(&format!("{}/files/", folder().display()), "")
}

/// Each file gives what keepalived makes of it, or a notice says what differs; tests/keepalived/files.table has it for every file.
/// `SHUNT_BLESS=1` writes that table anew.
#[test]
fn files_are_taken_as_keepalived_takes_them() {
    let all = compared();
    let table: String = all.iter().map(rows).collect();
    let path = folder().join("files.table");
    if std::env::var_os("SHUNT_BLESS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    let changed: Vec<&str> =
        table.lines().filter(|line| !wanted.lines().any(|other| other == *line)).collect();
    assert!(
        table == wanted,
        "tests/keepalived/files.table has other lines than these:\n{}",
        changed.join("\n")
    );
    assert!(all.len() >= 100, "only {} files", all.len());
    let unexplained: Vec<String> = all
        .iter()
        .filter(|one| one.unexplained().next().is_some() || !one.check.is_empty())
        .flat_map(|one| one.lines(true).into_iter().map(|line| format!("{}: {line}", one.file)))
        .collect();
    assert!(unexplained.is_empty(), "no notice explains this:\n{}", unexplained.join("\n"));
}
