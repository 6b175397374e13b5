//! The real keepalived, which reads a file and says what it has read.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// The exit codes of `hold.c`, in keepalived's words.
const READ: &str = "exited with status 77";
const NOTHING: i32 = 78;
/// The time in front of each line of the log, in characters.
const TIME: usize = 26;
/// For so long keepalived may read, in seconds: a file may have it write out a million lines.
const PATIENCE: &str = "60";

/// What became of one of keepalived's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It read all, and would run.
    Runs,
    /// The file has nothing for it.
    Nothing,
    /// It broke down while it printed its data; it would run without printing them.
    Silent,
    /// It ended, after these words.
    Ends(String),
}

/// One of keepalived's processes: what it said, without the time, and what became of it.
#[derive(Clone, Debug)]
pub struct Said {
    /// What became of it.
    pub end: End,
    /// Log and dump.
    pub lines: Vec<String>,
}

/// What keepalived made of a file.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The process that speaks VRRP.
    pub vrrp: Said,
    /// The process that checks real servers.
    pub checkers: Said,
    /// The exit code of `--config-test`: 0 where nothing is to be said of the file.
    pub test: Option<i32>,
}

impl Verdict {
    /// Whether keepalived runs it; of a file without anything to run, it does.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.why().is_none()
    }

    /// Why it does not.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        [&self.vrrp, &self.checkers].into_iter().find_map(|said| match &said.end {
            End::Ends(words) => Some(words.as_str()),
            End::Runs | End::Nothing | End::Silent => None,
        })
    }

    /// Whether one of its processes could not print its data.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.vrrp.end == End::Silent || self.checkers.end == End::Silent
    }
}

/// The real keepalived, held at the end of its reading, with an answering IPVS.
#[derive(Debug)]
pub struct Keepalived {
    folder: TempDir,
}

impl Keepalived {
    /// Makes the library that holds it.
    ///
    /// # Errors
    /// What is missing.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let sources = ["src/topology/ipvs.c", "src/keepalived/hold.c"]
            .map(|source| Path::new(env!("CARGO_MANIFEST_DIR")).join(source));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-o"]).arg(folder.path().join("hold.so")).args(sources);
        match command.status() {
            Ok(status) if status.success() => Ok(Self { folder }),
            _ => Err("hold.c does not compile: run scripts/install.sh".to_owned()),
        }
    }

    /// What it makes of a file, for the director of this name. The thread is in a network namespace of its own afterwards, with
    /// the interfaces that the file names.
    ///
    /// # Errors
    /// What kept it from reading.
    pub fn reads(&self, file: &Path, config_id: &str) -> Result<Verdict, String> {
        let file = std::fs::canonicalize(file).map_err(|error| format!("{}: {error}", file.display()))?;
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("a network namespace: {error}"))?;
        let mut there = BTreeSet::new();
        add_interfaces(&["eth0".to_owned(), "eth1".to_owned()], &mut there)?;
        // Those of the file, as keepalived calls them that lacks them; some are told when others are there.
        for _ in 0..3 {
            let output = self.run(&["--config-test"], &file, config_id)?;
            let missing: Vec<String> = missing(&text(&output)).filter(|name| !there.contains(name)).collect();
            if missing.is_empty() {
                let vrrp = self.said("--vrrp", &file, config_id)?;
                let checkers = self.said("--check", &file, config_id)?;
                return Ok(Verdict { vrrp, checkers, test: output.status.code() });
            }
            add_interfaces(&missing, &mut there)?;
        }
        let vrrp = self.said("--vrrp", &file, config_id)?;
        let checkers = self.said("--check", &file, config_id)?;
        let test = self.run(&["--config-test"], &file, config_id)?.status.code();
        Ok(Verdict { vrrp, checkers, test })
    }

    fn said(&self, which: &str, file: &Path, config_id: &str) -> Result<Said, String> {
        let arguments = [which, "--dump-conf", "-D", "-R", "-n", "-l", "-G"];
        let output = self.run(&arguments, file, config_id)?;
        let text = text(&output);
        let stamped = |line: &&str| line.get(TIME - 2..TIME) == Some(": ");
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            match (stamped(&line), lines.last_mut()) {
                (true, _) => lines.push(line[TIME..].to_owned()),
                // A value that goes on.
                (false, Some(last)) => *last += &format!("\n{line}"),
                (false, None) => lines.push(line.to_owned()),
            }
        }
        let end = if lines.iter().any(|line| line.ends_with(READ)) {
            End::Runs
        } else if output.status.code() == Some(NOTHING) {
            End::Nothing
        } else if lines.iter().any(|line| line.contains("exited due to")) {
            if lines.iter().any(|line| line.contains("------< ")) {
                End::Silent
            } else {
                End::Ends("it breaks down while it reads the file".to_owned())
            }
        } else {
            End::Ends(last_words(&lines))
        };
        Ok(Said { end, lines })
    }

    fn run(&self, arguments: &[&str], file: &Path, config_id: &str) -> Result<Output, String> {
        let [main, vrrp, checkers, bfd] = ["main", "vrrp", "checkers", "bfd"].map(|name| self.pid_file(name));
        let mut command = Command::new("timeout");
        command
            .args(["--signal", "KILL", PATIENCE, "keepalived"])
            .args(arguments)
            .args(["-i", config_id, "-f"])
            .arg(file)
            .args([Path::new("-p"), &main, Path::new("-r"), &vrrp])
            .args([Path::new("-c"), &checkers, Path::new("-b"), &bfd])
            .env("LD_PRELOAD", self.folder.path().join("hold.so"))
            .env("TZ", "UTC")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command.output().map_err(|error| format!("keepalived: {error}: run scripts/install.sh"))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{}", nix::unistd::gettid()))
    }
}

/// What both streams say; files may be in any encoding, and what is no UTF-8 is taken for Latin-1, as by an import.
fn text(output: &Output) -> String {
    let decode = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect())
    };
    decode(&output.stdout) + &decode(&output.stderr)
}

/// The interfaces that keepalived looked for.
fn missing(text: &str) -> impl Iterator<Item = String> + '_ {
    let gone =
        text.lines().filter(|line| line.contains("doesn't exist") || line.contains("unknown interface"));
    gone.filter_map(|line| {
        let (_, rest) = line.rsplit_once("interface ")?;
        let name = rest.split([' ', ',']).next()?;
        let usual = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        (!name.is_empty() && name.len() < 16 && name.chars().all(usual)).then(|| name.to_owned())
    })
}

/// What was said of the file last, before it ended.
fn last_words(lines: &[String]) -> String {
    // What the process that started it says meanwhile is not about the file.
    let of_ending = [
        "Stopped",
        "pid ",
        "CPU usage",
        "Stopping",
        "Shutting",
        "Terminate",
        "Startup complete",
        "Starting ",
        "Keepalived_",
    ];
    let words = lines.iter().rev().find(|line| {
        !line.starts_with(' ')
            && !line.starts_with('-')
            && !of_ending.iter().any(|word| line.starts_with(word))
    });
    words.cloned().unwrap_or_default()
}

fn add_interfaces(names: &[String], there: &mut BTreeSet<String>) -> Result<(), String> {
    let mut batch = String::from("link set lo up\n");
    for name in names {
        let number = there.len();
        batch += &format!(
            "link add {name} type veth peer name shunt{number}\nlink set {name} up\nlink set shunt{number} up\n"
        );
        batch += &format!("addr add 198.18.{number}.2/24 dev {name}\n");
        there.insert(name.clone());
    }
    let mut ip = Command::new("ip");
    ip.args(["-force", "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = ip.spawn().map_err(|error| format!("ip: {error}"))?;
    let mut input = child.stdin.take().ok_or("ip takes no commands")?;
    input.write_all(batch.as_bytes()).map_err(|error| format!("ip: {error}"))?;
    drop(input);
    child.wait().map(drop).map_err(|error| format!("ip: {error}"))
}
