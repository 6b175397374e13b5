//! keepalived.conf as the live source: what it says holds, and a reload takes what it says now.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use shunt::api::Status;
use shunt::machine::Disk;
use shunt_config::import::Dialect;
use shunt_tests::topology::arms::{Arms, ROUTER, Running, real_mac};
use shunt_tests::topology::frames::{Packet, Transport, at};

/// The director's own file: its NICs, and where the rest stands.
fn configuration(arms: &Arms) -> String {
    let keepalived = arms.lab.path("keepalived.conf");
    format!("{}\n[import]\nkeepalived = \"{}\"\n", arms.configuration(""), keepalived.display())
}

/// A virtual server with these lines of real servers.
fn virtual_server(reals: &str) -> String {
    format!(
        "! the operator's own file\nglobal_defs {{\n    router_id LVS\n}}\nvirtual_server 192.0.2.10 80 {{\n    lvs_sched wrr\n    \
         lvs_method DR\n    protocol TCP\n{reals}}}\n"
    )
}

fn real(number: u8, inner: &str) -> String {
    format!("    real_server 10.1.0.{number} 80{{\n{inner}    }}\n")
}

/// Where a client's SYN goes.
fn way(arms: &Arms, running: &Running, client: &str) -> u8 {
    let syn =
        Packet::new(Transport::Tcp("S"), [ROUTER, running.front], at(client), at("192.0.2.10:80")).bytes();
    arms.front.send(&syn);
    let sent = |frame: &[u8]| Packet::read(frame).filter(|it| it.source == at(client)).map(|it| it.to);
    let to = arms.back.expect("the SYN at a real server", sent);
    assert_eq!(to, real_mac(to[5]));
    to[5]
}

fn weights(status: &Status) -> Vec<(String, u32)> {
    let service = status.services.iter().find(|service| service.listen == "192.0.2.10:80");
    let reals = service.map(|service| service.reals.as_slice()).unwrap_or_default();
    reals.iter().map(|real| (real.address.clone(), real.weight)).collect()
}

#[test]
fn a_reload_takes_what_keepalived_conf_says_now() {
    let arms = Arms::new();
    let write = |text: &str| arms.lab.write("keepalived.conf", text);
    write(&virtual_server(&(real(11, "        weight 1\n") + "    include *.reals\n")));
    arms.lab.write("one.reals", &real(12, "        weight 0\n"));
    let running = Running::of_director(&arms, &configuration(&arms));
    let listed = |pairs: &[(u8, u32)]| -> Vec<(String, u32)> {
        pairs.iter().map(|(number, weight)| (format!("10.1.0.{number}:80"), *weight)).collect()
    };
    assert_eq!(weights(&running.director.status()), listed(&[(11, 1), (12, 0)]));
    assert_eq!(way(&arms, &running, "198.51.100.1:40000"), 11);

    // Another real server in the file, another weight in the one that it includes.
    write(&virtual_server(&(real(13, "        weight 0\n") + "    include *.reals\n")));
    arms.lab.write("one.reals", &real(12, "        weight 7\n"));
    let told = running.director.command(&arms.lab, &["reload"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    for line in ["real 10.1.0.13:80", "- service", "weight 0 -> 7"] {
        assert!(told.out.contains(line), "wanted {line}\nsaid {}", told.out);
    }
    let status = running.director.wait_resolved();
    assert_eq!(weights(&status), listed(&[(13, 0), (12, 7)]));
    assert_eq!(way(&arms, &running, "198.51.100.2:40000"), 12);

    // What is refused is told with its place, and nothing changes.
    write(&virtual_server(&real(13, "        weight 3\n")).replace(" DR\n", " FNAT\n"));
    let told = running.director.command(&arms.lab, &["reload"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    let (place, words) = ("keepalived.conf:7:5: ", "FULLNAT is not supported yet");
    assert!(told.err.contains(place) && told.err.contains(words), "{}", told.err);
    assert_eq!(weights(&running.director.status()), listed(&[(13, 0), (12, 7)]));
    assert_eq!(way(&arms, &running, "198.51.100.3:40000"), 12);

    // What keepalived ignores is ignored, and told.
    write(&virtual_server(&real(13, "        weigth 3\n")));
    let told = running.director.command(&arms.lab, &["reload"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    let place = "keepalived.conf:10:9: warning: ";
    assert!(told.err.contains(place) && told.err.contains("did you mean weight?"), "{}", told.err);
    assert_eq!(weights(&running.director.status()), listed(&[(13, 1)]));
}

/// An instance of the file follows the number in a file and the processes of the host.
#[test]
fn an_instance_follows_files_and_processes() {
    let arms = Arms::new();
    let load = arms.lab.write("load", "0");
    let text = format!(
        "track_file load {{\n    file \"{}\"\n    weight -2\n}}\nvrrp_track_process none {{\n    process \
         no-such-program\n    weight 20 reverse\n}}\nvrrp_track_process director {{\n    process shunt\n    weight 10\n}}\n\
         vrrp_instance VI_1 {{\n    interface front\n    version 3\n    virtual_router_id 51\n    priority 100\n    advert_int \
         0.1\n    virtual_ipaddress {{\n        192.0.2.10\n    }}\n    track_file {{\n        load\n    }}\n    track_process \
         {{\n        director\n        none\n    }}\n}}\n{}",
        load.display(),
        virtual_server(&real(11, ""))
    );
    arms.lab.write("keepalived.conf", &text);
    let running = Running::of_director(&arms, &configuration(&arms));
    let wait = |role: &str, priority: u8| {
        running.director.wait_until(&format!("{role} with priority {priority}"), |status| {
            let router = &status.vrrp[0];
            (router.name.as_str(), router.role.as_str(), router.priority) == ("VI_1", role, priority)
        });
    };
    // The director itself runs, and the other program does not, which with `reverse` changes nothing.
    wait("master", 110);
    arms.lab.write("load", "15\n");
    wait("master", 80);
    arms.lab.write("load", "127\n");
    running.director.wait_until("fault", |status| status.vrrp[0].role == "fault");
    std::fs::remove_file(&load).unwrap();
    wait("master", 110);
    running.director.wait_logged("tracked \"load\" passes: -30 for the priority");
}

/// What begins the names of the keywords that nobody knows and files are told by.
const MARK: &str = "mark_";

/// A file with a keyword that nobody knows, and a virtual server of its own.
fn marked(port: usize) -> String {
    format!(
        "{MARK}{port}\nvirtual_server 192.0.2.10 {port} {{\n protocol TCP\n real_server 192.0.2.21 80 {{\n  weight 1\n }}\n}}\n"
    )
}

/// The files that keepalived includes by this line, in its order, each once.
fn included_by_keepalived(main: &Path) -> Vec<String> {
    let mut command = Command::new("keepalived");
    let said = command.args(["--config-test", "--log-console", "-f"]).arg(main).output().expect("keepalived");
    let said = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    let marks = said.split('\'').filter_map(|word| word.strip_prefix(MARK));
    let mut files: Vec<String> = Vec::new();
    for mark in marks.take_while(|mark| *mark != "end") {
        if files.iter().all(|file| file != mark) {
            files.push(mark.to_owned());
        }
    }
    assert!(said.contains("mark_end"), "keepalived said:\n{said}");
    files
}

/// The same by an import.
fn included_here(main: &Path) -> Vec<String> {
    let imported = Dialect::Keepalived.import(main, &Disk, "main");
    let listens = imported.text.lines().filter_map(|line| line.strip_prefix("listen = \"192.0.2.10:"));
    listens.map(|listen| listen.trim_end_matches('"').to_owned()).collect()
}

#[test]
fn include_finds_what_keepalived_finds() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let names = [
        "a.conf",
        "b.conf",
        "B.conf",
        "c1.conf",
        "c-d.conf",
        "c].conf",
        ".hidden.conf",
        "e[1].conf",
        "f{x}.conf",
        "g\\h.conf",
        "i j.conf",
        "x.conf",
        "{b,a.conf",
        "[b.conf",
    ];
    for (number, name) in names.iter().enumerate() {
        std::fs::write(path(name), marked(8000 + number)).unwrap();
    }
    std::fs::set_permissions(path("x.conf"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(path("d.conf")).unwrap();
    std::fs::write(path("d.conf/s.conf"), marked(8100)).unwrap();
    symlink("a.conf", path("l.conf")).unwrap();
    symlink("nowhere", path("k.conf")).unwrap();
    // What the name of an including file's folder has in it is no pattern.
    std::fs::create_dir(path("o[d]d")).unwrap();
    std::fs::write(path("o[d]d/inner"), "include p?{conf,none}\n").unwrap();
    std::fs::write(path("o[d]d/p.conf"), marked(8200)).unwrap();
    let main = path("main");
    let mut found = 0;
    for pattern in [
        "*.conf",
        "?.conf",
        "[ab].conf",
        "[!a].conf",
        "[^a].conf",
        "[^[:lower:]].conf",
        "[a-c].conf",
        "[[:upper:]].conf",
        "[[:alpha:]][[:digit:]].conf",
        "[[:nonsense:]].conf",
        "{b,a}.conf",
        "{b,b}.conf",
        "{b,[[:upper:]]}.conf",
        "{a,{c1,b}}.conf",
        "{,a}.conf",
        "{a}.conf",
        "{b,a.conf",
        "\\{b,a.conf",
        "f{x}.conf",
        "f\\{x\\}.conf",
        "\\a.conf",
        "e[1].conf",
        "e\\[1\\].conf",
        "e[[]1].conf",
        "g\\h.conf",
        "g\\\\h.conf",
        "g[\\]h.conf",
        "g[\\\\]h.conf",
        ".*.conf",
        "[.]hidden.conf",
        "?hidden.conf",
        "c[-1]*.conf",
        "c[1-]*.conf",
        "c[]-]*.conf",
        "[b.conf",
        "\\[b.conf",
        "*/*.conf",
        "d.con?/s.conf",
        "d?conf",
        "{d.conf/s,a}.conf",
        "./a.conf",
        "i j.conf",
        "x.conf",
        "k.conf",
        "~/a.conf",
        "**.conf",
        "none*.conf",
        "o\\[d\\]d/inner",
        "a.conf b.conf",
    ] {
        std::fs::write(&main, format!("include {pattern}\n{MARK}end\n")).unwrap();
        let wanted = included_by_keepalived(&main);
        assert_eq!(included_here(&main), wanted, "{pattern}");
        found += wanted.len();
    }
    assert!(found >= 50, "only {found} files were included");
}
