//! What the director starts, and what it is itself once it runs: descriptors, environment, parents, users, capabilities.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use shunt_tests::topology::arms::{Arms, Running};
use shunt_tests::topology::wait_for;

/// Every kind of script, each as a process that tells what it has, and then hangs, or leaves one behind that does.
const KINDS: [&str; 6] = ["check", "tracked", "master", "notify", "quorum_down", "notify_down"];

/// Tells what the process has in a file of its own; holds the pipe open.
const FACTS: &str = r#"#!/bin/sh
folder=$1 kind=$2
{
    echo "uid $(id -u) groups $(id -G)"
    echo "parent $(cat /proc/$PPID/comm)"
    ls -l /proc/$$/fd | sed -n 's/.* \([0-9]*\) -> \(.*\)/fd \1 \2/p' | grep -v '^fd 1[0-9]'
    tr '\0' '\n' </proc/$$/environ | sed 's/^/env /'
    sed -n 's/^\(Cap[A-Z][a-z]*\|SigIgn\|SigBlk\|NoNewPrivs\):[[:space:]]*/status \1 /p' /proc/self/status
    echo "group $(ps -o pgid= -p $$ | tr -d ' ') of $$"
    echo "umask $(umask)"
    echo "nice $(ps -o ni= -p $$ | tr -d ' ') $(ps -o cls= -p $$ | tr -d ' ')"
} >"$folder/$kind.$$" 2>&1
exec 3<>"$folder/pipe"
mv "$folder/$kind.$$" "$folder/facts.$kind"
case $kind in
    check) sleep 3600 ;;
    tracked) setsid sh -c 'trap "" TERM HUP INT; sleep 3600; true'; true ;;
    *) setsid sleep 3600 & ;;
esac
"#;

/// A folder where everybody's scripts may leave files, with a pipe that they all hold open.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
        nix::unistd::mkfifo(&out.join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        fs::set_permissions(out.join("pipe"), fs::Permissions::from_mode(0o666)).unwrap();
        let script = folder.path().join("facts");
        fs::write(&script, FACTS).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn command(&self, kind: &str) -> String {
        format!(
            "[\"{}\", \"{}\", \"{kind}\"]",
            self.folder.path().join("facts").display(),
            self.out().display()
        )
    }

    /// A service that loses its quorum at once, and a virtual router that is master at once.
    fn services(&self) -> String {
        let [check, tracked, master, notify, quorum_down, notify_down] = KINDS.map(|kind| self.command(kind));
        format!(
            r#"
[[service]]
name = "web"
listen = "192.0.2.10:80"
protocol = "tcp"
quorum = 1
quorum_down = {quorum_down}
check = {{ kind = "tcp", interval = "100ms", timeout = "100ms", fall = 1 }}
notify_down = {notify_down}
real = [{{ address = "10.1.0.11:80" }}]
[[service]]
name = "scripts"
listen = "192.0.2.11:80"
protocol = "tcp"
check = {{ kind = "script", command = {check}, user = "nobody nogroup", interval = "60s", timeout = "60s" }}
real = [{{ address = "10.1.0.12:80" }}]
[[vrrp]]
name = "V"
nic = "front"
vrid = 51
interval = "100ms"
addresses = ["192.0.2.12"]
notify_master = {{ command = {master}, user = "nobody nogroup" }}
notify = {notify}
[[vrrp]]
name = "T"
nic = "front"
vrid = 52
addresses = ["192.0.2.13"]
track = [{{ name = "tracked", check = {{ kind = "script", command = {tracked}, interval = "60s", timeout = "60s" }} }}]
"#
        )
    }

    /// The facts of every kind of script.
    fn facts(&self) -> BTreeMap<&'static str, String> {
        KINDS
            .into_iter()
            .map(|kind| {
                let file = self.out().join(format!("facts.{kind}"));
                (kind, wait_for(&format!("{kind} to run"), || fs::read_to_string(&file)))
            })
            .collect()
    }
}

fn lines<'t>(facts: &'t str, word: &'t str) -> Vec<&'t str> {
    facts.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' ')).collect()
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn descriptors(pid: u32) -> Vec<String> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    // One that was closed meanwhile is none.
    let mut all: Vec<_> =
        all.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string())).collect();
    all.sort();
    all
}

#[test]
fn what_is_started_inherits_nothing_and_ends_with_the_director() {
    let arms = Arms::new();
    let stage = Stage::new();
    let Running { director, .. } = arms.start_unresolved(&stage.services());
    let facts = stage.facts();
    for (kind, facts) in &facts {
        let of_nobody = ["check", "master"].contains(kind);
        assert_eq!(lines(facts, "parent"), ["shunt-starter"], "{kind}: {facts}");
        let open = lines(facts, "fd");
        assert!(
            open.iter().all(|line| line.split_once(' ').is_some_and(|(number, what)| {
                what == "/dev/null"
                    || what.ends_with("/facts")
                    || ["1", "2"].contains(&number) && what.contains("/out/")
            })),
            "{kind}: {facts}"
        );
        assert!(open.len() <= 4, "{kind}: {facts}");
        for name in lines(facts, "env").iter().map(|line| line.split('=').next().unwrap()) {
            let known = ["PATH", "LANG", "LC_ALL", "TZ", "HOME", "USER", "LOGNAME", "SHELL"].contains(&name);
            assert!(known || name.starts_with("SHUNT_"), "{kind}: {name}: {facts}");
        }
        let uid = if of_nobody { "uid 65534 groups 65534" } else { "uid 0" };
        assert!(facts.starts_with(uid), "{kind}: {facts}");
        let status = lines(facts, "status");
        for wanted in [
            "CapInh 0000000000000000",
            "CapAmb 0000000000000000",
            "SigIgn 0000000000000000",
            "SigBlk 0000000000000000",
        ] {
            assert!(status.contains(&wanted), "{kind}: {wanted}: {facts}");
        }
        if of_nobody {
            assert!(
                status.contains(&"CapEff 0000000000000000") && status.contains(&"CapPrm 0000000000000000"),
                "{facts}"
            );
        }
        assert_eq!(lines(facts, "umask"), ["0022"], "{kind}");
        let nice = lines(facts, "nice");
        assert!(nice[0].ends_with(" TS") && !nice[0].starts_with('-'), "{kind}: {nice:?}");
        let group = lines(facts, "group")[0].split_once(" of ").unwrap();
        assert_eq!(group.0, group.1, "{kind}");
    }
    // Who starts them has its connection, and no memory of packets.
    let starters = children(director.pid());
    let [starter] = starters[..] else { panic!("{starters:?}") };
    // While it starts a program it has that one's, too.
    let open = wait_for("the starter to rest", || {
        let open = descriptors(starter);
        if open.len() == 5 { Ok(open) } else { Err(format!("{open:?}")) }
    });
    let known =
        |what: &String| what == "/dev/null" || what.starts_with("socket:") || what.contains("signalfd");
    assert!(open.iter().all(known), "{open:?}");
    let maps = fs::read_to_string(format!("/proc/{starter}/maps")).unwrap();
    assert!(!maps.contains("socket:") && !maps.contains("huge") && !maps.contains("memfd"), "{maps}");
    // All of them hold the pipe: those that hang, those that left their session, those whose parents are gone.
    let mut pipe = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(stage.out().join("pipe"))
        .unwrap();
    fcntl(pipe.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    director.signal(Signal::SIGKILL);
    let ended = std::thread::spawn(move || pipe.read_to_end(&mut Vec::new()));
    wait_for("the end of all scripts", || if ended.is_finished() { Ok(()) } else { Err("the pipe is held") });
    wait_for("the end of the starter", || {
        if Path::new(&format!("/proc/{starter}")).exists() { Err("it is there") } else { Ok(()) }
    });
    director.ended();
}

#[test]
fn the_end_of_the_director_is_the_end_of_what_it_started() {
    let arms = Arms::new();
    let stage = Stage::new();
    let Running { director, .. } = arms.start_unresolved(&stage.services());
    stage.facts();
    let starter = children(director.pid());
    let mut pipe = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(stage.out().join("pipe"))
        .unwrap();
    director.signal(Signal::SIGTERM);
    assert_eq!(director.ended().code(), Some(0));
    // Nobody has it open any more, at once.
    assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
    assert!(!Path::new(&format!("/proc/{}", starter[0])).exists());
}

/// The sets of a thread, by their words in `/proc`.
fn sets(status: &str) -> [u64; 5] {
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(|word| {
        let line = status.lines().find_map(|line| line.strip_prefix(word));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    })
}

#[test]
fn threads_keep_only_the_rights_that_they_need() {
    /// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_IPC_LOCK`, `CAP_SYS_NICE`.
    const KEPT: u64 = 1 << 12 | 1 << 13 | 1 << 14 | 1 << 23;
    /// Threads that read what strangers send, or need nothing.
    const BARE: [&str; 6] =
        ["shunt-health", "shunt-tracking", "shunt-notify", "shunt-scripts", "shunt-log", "shunt-starter"];
    let arms = Arms::new();
    let stage = Stage::new();
    let Running { director, .. } = arms.start_unresolved(&stage.services());
    let look = || {
        let mut seen = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", director.pid())).unwrap() {
            let path = thread.unwrap().path();
            // One that ended meanwhile.
            let Ok(status) = fs::read_to_string(path.join("status")) else { continue };
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned();
            let sets = sets(&status);
            assert!(status.contains("\nNoNewPrivs:\t1"), "{name}: {status}");
            assert!(sets.iter().all(|set| set & !KEPT == 0), "{name}: {sets:x?}");
            if BARE.contains(&name.as_str()) {
                assert_eq!(sets[1..3], [0, 0], "{name}");
                let filtered = status.contains("\nSeccomp:\t2");
                assert!(filtered, "{name}: {status}");
            }
            seen.insert(name, sets);
        }
        for name in BARE {
            assert!(seen.contains_key(name), "{name}: {seen:x?}");
        }
        assert!(seen.len() > BARE.len() + 2, "{seen:x?}");
    };
    look();
    // A reload still reaches the kernel side, checks by their service's way still mark their sockets, pings still leave.
    let more = format!(
        "{}\n[[service]]\nname = \"way\"\nlisten = \"192.0.2.14:80\"\nprotocol = \"tcp\"\nforward = \"dr\"\n\
         check = {{ kind = \"tcp\", way = \"service\", interval = \"100ms\", timeout = \"100ms\" }}\nreal = [{{ address = \"10.1.0.12:80\" }}]\n\
         [[service]]\nname = \"ping\"\nlisten = \"192.0.2.15:80\"\nprotocol = \"tcp\"\n\
         check = {{ kind = \"ping\", interval = \"100ms\", timeout = \"100ms\" }}\nreal = [{{ address = \"10.1.0.13:80\" }}]\n",
        stage.services()
    );
    let configuration =
        arms.configuration(&more).replacen("10.1.0.1/24\", ", "10.1.0.1/24\", \"10.1.0.2/24\", ", 1);
    director.reload(&arms.lab, &configuration);
    let status = director.wait_until("checks to have verdicts", |status| {
        let checked = |name: &str| {
            let service = status.services.iter().find(|service| service.name == name);
            service.is_some_and(|service| {
                service
                    .reals
                    .iter()
                    .all(|real| real.reason.as_deref().is_some_and(|reason| reason.contains("timeout")))
            })
        };
        checked("way") && checked("ping")
    });
    drop(status);
    assert!(!director.log().to_lowercase().contains("not permitted"), "{}", director.log());
    look();
}
