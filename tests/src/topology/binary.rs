//! Where the binary `shunt` is: beside the test programs, built anew when it is older than its sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The path of `shunt`: what the variable `SHUNT_BINARY` says, else that of the same build as this test program.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn shunt() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("SHUNT_BINARY") {
            return std::path::absolute(path).expect("a path");
        }
        let program = std::env::current_exe().expect("this program's path");
        // Test programs lie in target/PROFILE/deps, others in target/PROFILE.
        let tests = program.ancestors().find(|folder| folder.ends_with("deps"));
        let folder = tests.or(Some(&program)).and_then(Path::parent).expect("a folder of its own");
        let shunt = folder.join("shunt");
        // `cargo test --workspace` has built it; `cargo test -p shunt-tests` has not.
        if modified(&shunt) < newest_source() {
            build(folder);
        }
        assert!(shunt.exists(), "{}: not there: cargo build -p shunt", shunt.display());
        shunt
    })
}

fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(std::ffi::OsStr::to_str) {
        None | Some("debug") => "dev",
        Some(other) => other,
    };
    // The whole workspace is named, so that dependencies have the features that they have in `cargo test --workspace`.
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--locked", "--workspace", "--bin", "shunt"])
        .args(["--profile", profile, "--target-dir"])
        .arg(folder.parent().expect("the target folder"))
        .current_dir(workspace())
        .status();
    assert!(status.as_ref().is_ok_and(|status| status.success()), "cargo build -p shunt: {status:?}");
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn newest_source() -> SystemTime {
    let rooms = [
        "sys",
        "dataplane/src",
        "control/src",
        "control/config/src",
        "control/model/src",
        "control/protocol/src",
    ]
    .map(|room| workspace().join(room));
    rooms.iter().map(|room| newest(room)).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn newest(folder: &Path) -> SystemTime {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let times = entries.map(|path| match path.extension().and_then(std::ffi::OsStr::to_str) {
        None if path.is_dir() => newest(&path),
        Some("rs" | "c" | "h") => modified(&path),
        _ => SystemTime::UNIX_EPOCH,
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
