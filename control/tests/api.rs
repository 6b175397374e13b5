//! The command line against an API whose director is a fake: what each command prints, and how it ends.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use shunt::api::asked::Peer;
use shunt::api::director::{CONNECTIONS_QUEUE_MAX, Connections, Director, Later, Refusal, Reloaded, Running};
use shunt::api::ipvsadm::{Change, Changed, Table};
use shunt::api::socket::OwnedListener;
use shunt::api::status::{Books, Count, Drops, Real, RealState, Service, Status, Vip};
use shunt::api::{Asked, Connection, Explanation, Probe, ProbeStep, ReloadOptions, serve};
use shunt::notify::Listening;
use shunt_config::Config;
use shunt_config::diff::diff;
use shunt_model::notify::{Event, What};
use tokio::sync::{mpsc, watch};

const OLD: &str = include_str!("config/good/product.toml");

/// A director of paper.
struct Paper {
    stop: watch::Sender<bool>,
    connections: u32,
    lose_worker: bool,
    bad_file: bool,
    reloads: Arc<AtomicU32>,
    table: Mutex<Table>,
    /// Who asked for what, last.
    asked: Arc<Mutex<Vec<(Asked, ReloadOptions)>>>,
    events: tokio::sync::broadcast::Sender<shunt_model::notify::Event>,
    /// What a question about a packet waits for, and all of the API with it.
    hang: Arc<Mutex<()>>,
}

impl Director for Paper {
    fn status(&self) -> Status {
        let real = Real {
            address: "192.0.2.21:80".to_owned(),
            forward: "dr".to_owned(),
            weight: 3,
            state: RealState::Down,
            since: 5,
            reason: Some("connection refused".to_owned()),
            next_hop: "unresolved".to_owned(),
            ..Real::default()
        };
        Status {
            version: "0".to_owned(),
            role: "active".to_owned(),
            generation: 7,
            vips: vec![Vip { address: "192.0.2.10".to_owned(), owned: true }],
            services: vec![Service {
                name: "web".to_owned(),
                listen: "192.0.2.10:80".to_owned(),
                protocol: "tcp".to_owned(),
                scheduler: "wlc".to_owned(),
                reals: vec![real],
                ..Service::default()
            }],
            books: Books { balanced: true, ..Books::default() },
            ..Status::default()
        }
    }

    fn drops(&self) -> Drops {
        let count = |reason: &str, count| Count {
            reason: reason.to_owned(),
            count,
            help: "What to do.".to_owned(),
            workers: vec![count],
        };
        Drops { drops: vec![count("no_real", 3), count("martian", 0)], ..Drops::default() }
    }

    fn neighbours(&self) -> shunt::api::neighbours::Neighbours {
        shunt::api::neighbours::Neighbours::default()
    }

    fn connections(&self) -> Connections {
        let (queue, connections) = mpsc::channel(CONNECTIONS_QUEUE_MAX);
        let (count, lose_worker) = (self.connections, self.lose_worker);
        tokio::spawn(async move {
            for number in 0..count {
                let client = std::net::Ipv4Addr::from_bits(0x0a00_0000 + number);
                let connection = Connection {
                    protocol: if number % 2 == 0 { "tcp" } else { "udp" }.to_owned(),
                    client: (client, 40_000).into(),
                    vip: "192.0.2.10:80".parse().unwrap(),
                    real: "192.0.2.21:80".parse().unwrap(),
                    state: "ESTABLISHED".to_owned(),
                    expires_in: 899,
                    worker: 0,
                    masquerade: false,
                };
                if queue.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
            if lose_worker {
                let _ = queue.send(Err(Refusal::new("worker 1: no \"answer\""))).await;
            }
        });
        connections
    }

    fn explain(&self, probe: Probe) -> Later<Result<Explanation, Refusal>> {
        let hang = self.hang.clone();
        Box::pin(async move {
            drop(hang.lock().unwrap());
            if probe.nic.as_deref() == Some("nowhere") {
                return Err(Refusal::new("nowhere: no such nic: there are front: name one of these"));
            }
            let text = format!("{} from {} to {}", probe.protocol, probe.source, probe.destination);
            let step = ProbeStep { step: "owner".to_owned(), value: "0".to_owned(), text };
            Ok(Explanation { generation: 7, steps: vec![step] })
        })
    }

    fn configuration(&self) -> Running {
        Running {
            file: "running.toml".to_owned(),
            text: format!("{OLD}# url = \"http://operator:hunter2@192.0.2.9/\"\n"),
            generation: 7,
            not_in_file: vec!["+ service \"x\"".to_owned()],
        }
    }

    fn events(&self, since: Option<u64>) -> Option<Listening> {
        let event = Event {
            at: 1_798_761_600_000,
            ..shunt::notify::event(What::RealDown, "web", None, "web is down")
        };
        let past = since.map_or_else(Vec::new, |_| vec![event]);
        Some(Listening { past, incomplete: false, events: self.events.subscribe() })
    }

    fn reload(&self, asked: Asked, options: ReloadOptions) -> Later<Result<Reloaded, Refusal>> {
        self.asked.lock().unwrap().push((asked, options));
        let (reloads, bad_file) = (self.reloads.fetch_add(1, Ordering::Relaxed), self.bad_file);
        Box::pin(async move {
            if bad_file {
                return Err(Refusal::unusable(Config::check("bad.toml", "[nic]").unwrap_err()));
            }
            let new = Config::check("new", &OLD.replace("weight = 3", "weight = 2")).unwrap().config;
            let changes = diff(&Config::check("old", OLD).unwrap().config, &new);
            Ok(Reloaded { generation: 8 + u64::from(reloads), changes, warnings: Vec::new() })
        })
    }

    fn ipvsadm(&self) -> Later<Result<Table, Refusal>> {
        let table = self.table.lock().unwrap().clone();
        Box::pin(async { Ok(table) })
    }

    fn change_ipvsadm(&self, _: Asked, changes: Vec<Change>) -> Later<Result<Changed, Refusal>> {
        let mut table = self.table.lock().unwrap();
        let refused = changes.iter().map(|change| table.apply(change).err()).collect();
        Box::pin(async { Ok(Changed { generation: 9, refused }) })
    }

    fn stop(&self, _: Asked) {
        self.stop.send_replace(true);
    }
}

/// A running API and the folder of its socket.
struct Api {
    folder: tempfile::TempDir,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Api {
    fn start(paper: impl FnOnce(watch::Sender<bool>) -> Paper) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = OwnedListener::bind(&folder.path().join("shunt.sock")).unwrap();
        let (stop, stopped) = watch::channel(false);
        let paper = Arc::new(paper(stop.clone()));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(listener, paper, stopped)).unwrap();
        });
        Self { folder, stop, thread: Some(thread) }
    }

    fn plain() -> Self {
        Self::start(paper)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("shunt.sock")
    }

    /// Runs `shunt` with this director's socket.
    fn shunt(&self, arguments: &[&str]) -> Answer {
        let socket = self.socket();
        shunt(&[arguments, &["--socket", socket.to_str().unwrap()]].concat())
    }

    /// Runs `shunt ipvsadm` against this director.
    fn shunt_ipvsadm(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
        answer(command.arg("ipvsadm").args(arguments).env("SHUNT_SOCKET", self.socket()).output().unwrap())
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn paper(stop: watch::Sender<bool>) -> Paper {
    let (reloads, table, hang) = (Arc::default(), Mutex::default(), Arc::default());
    let (events, _) = tokio::sync::broadcast::channel(16);
    Paper {
        stop,
        connections: 5,
        lose_worker: false,
        bad_file: false,
        reloads,
        table,
        events,
        hang,
        asked: Arc::default(),
    }
}

/// How a command ended.
struct Answer {
    code: i32,
    out: String,
    error: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

fn shunt(arguments: &[&str]) -> Answer {
    answer(Command::new(env!("CARGO_BIN_EXE_shunt")).args(arguments).output().unwrap())
}

fn answer(Output { status, stdout, stderr }: Output) -> Answer {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Answer { code: status.code().unwrap(), out: text(stdout), error: text(stderr) }
}

/// A disk without room (null(4)).
fn full() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn who_cannot_write_says_so_and_fails() {
    let director = Api::plain();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let keepalived = write(
        "keepalived.conf",
        "virtual_server 192.0.2.10 80 {\n protocol TCP\n lb_algo rr\n lb_kind NAT\n real_server 10.1.0.11 80 {\n }\n}\n",
    );
    let toml = write("shunt.toml", OLD);
    let socket = director.socket();
    assert_eq!(director.shunt_ipvsadm(&["-A", "-t", "192.0.2.10:80", "-s", "rr"]).code, 0);
    let at = |words: &[&'static str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let commands = [
        at(&["status"]),
        at(&["status", "--json"]),
        at(&["status", "--all"]),
        at(&["status", "--down"]),
        at(&["status", "web"]),
        at(&["drops"]),
        at(&["drops", "--json"]),
        at(&["connections"]),
        at(&["connections", "--json"]),
        at(&["neighbours"]),
        at(&["events", "--since", "1h"]),
        at(&["explain", "tcp", "198.51.100.7:40000", "192.0.2.10:80"]),
        at(&["reload"]),
        at(&["reload", "--json"]),
        at(&["--help"]),
        at(&["status", "--help"]),
        at(&["--version"]),
        vec!["import".into(), "--as".into(), "keepalived".into(), keepalived.clone()],
        vec!["import".into(), "--as".into(), "keepalived".into(), "--json".into(), keepalived],
        vec!["check".into(), toml.clone()],
        vec!["check".into(), "--json".into(), toml],
        at(&["ipvsadm", "-Ln"]),
        at(&["ipvsadm", "-Sn"]),
        at(&["ipvsadm", "-Lcn"]),
        at(&["ipvsadm", "-h"]),
    ];
    for words in commands {
        let shunt = |out: Stdio, error: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
            command.args(&words).env("SHUNT_SOCKET", &socket).stdout(out).stderr(error);
            command.spawn().unwrap().wait_with_output().unwrap()
        };
        let there = answer(shunt(Stdio::piped(), Stdio::piped()));
        assert_eq!(there.code, 0, "{words:?}: {}", there.error);
        assert!(!there.out.is_empty(), "{words:?}");
        let no_room = answer(shunt(full(), Stdio::piped()));
        assert_eq!(no_room.code, 1, "{words:?}: {}", no_room.error);
        let told = "shunt: standard output: not all could be written (No space left on device (os error 28)): make room";
        assert_eq!(no_room.error.matches(told).count(), 1, "{words:?}: {}", no_room.error);
        assert_eq!(shunt(full(), full()).status.code(), Some(1), "{words:?}: nothing can be told");
        // A reader that went away is no error.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let gone = answer(shunt(writer.into(), Stdio::piped()));
        assert_eq!(gone.code, 0, "{words:?}: {}", gone.error);
        assert!(!gone.error.contains("standard output"), "{words:?}: {}", gone.error);
    }
    // Wrong use stays wrong use, whoever reads why.
    let mut wrong = Command::new(env!("CARGO_BIN_EXE_shunt"));
    assert_eq!(wrong.args(["status", "--colour"]).stderr(full()).status().unwrap().code(), Some(2));
}

#[test]
fn who_asks_for_a_change_is_known() {
    let asked = Arc::<Mutex<Vec<(Asked, ReloadOptions)>>>::default();
    let director = Api::start(|stop| Paper { asked: asked.clone(), ..paper(stop) });
    for (words, yes) in [(&["reload"][..], false), (&["reload", "--yes"], true)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
        let child =
            command.args(words).env("SHUNT_SOCKET", director.socket()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        child.wait_with_output().unwrap();
        let uid = nix::unistd::getuid().as_raw();
        let last = asked.lock().unwrap().pop().unwrap();
        assert_eq!(last, (Asked::Api(Peer { uid, pid: Some(pid) }), ReloadOptions { yes }));
        assert_eq!(last.0.to_string(), format!("by=api uid={uid} pid={pid}"));
    }
}

#[test]
fn events_have_a_past() {
    let director = Api::plain();
    let answer = director.shunt(&["events", "--since", "10m"]);
    assert_eq!(
        (answer.code, answer.out.as_str()),
        (0, "2027-01-01T00:00:00Z real_down            web is down\n")
    );
    let answer = director.shunt(&["events", "--since", "yesterday"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error.contains("not a length of time"), "{}", answer.error);
}

#[test]
fn status() {
    let director = Api::plain();
    let answer = director.shunt(&["status"]);
    assert_eq!(answer.code, 0, "{}", answer.error);
    assert!(answer.out.contains("down 5s (connection refused)"), "{}", answer.out);
    let json = director.shunt(&["status", "--json"]).json();
    assert_eq!(json["generation"], 7);
    assert_eq!(json["services"][0]["reals"][0]["state"], "down");
    assert_eq!(json["services"][0]["reals"][0]["reason"], "connection refused");
    assert_eq!(json["books"]["balanced"], true);
}

#[test]
fn connections_are_filtered_and_streamed() {
    let director = Api::plain();
    let answer = director.shunt(&["connections"]);
    assert_eq!((answer.code, answer.out.lines().count()), (0, 6), "{}", answer.out);
    assert!(answer.out.contains("TCP 14:59   ESTABLISHED 10.0.0.4:40000"), "{}", answer.out);
    let json = director.shunt(&["connections", "udp", "client=10.0.0.0/30", "--json"]).json();
    assert_eq!(json["connections"].as_array().unwrap().len(), 2);
    assert_eq!(json["connections"][0]["client"], "10.0.0.1:40000");
    let json = director.shunt(&["connections", "198.51.100.1", "--json"]).json();
    assert_eq!(json, serde_json::json!({ "connections": [] }));
    let answer = director.shunt(&["connections", "colour=red"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error.contains("not a filter"), "{}", answer.error);
}

#[test]
fn many_connections_go_through_a_small_queue() {
    let director = Api::start(|stop| Paper { connections: 50_000, ..paper(stop) });
    let json = director.shunt(&["connections", "--json"]).json();
    assert_eq!(json["connections"].as_array().unwrap().len(), 50_000);
    assert_eq!(director.shunt(&["connections", "tcp"]).out.lines().count(), 25_001);
}

#[test]
fn a_list_that_breaks_off_says_so() {
    let director = Api::start(|stop| Paper { lose_worker: true, ..paper(stop) });
    let answer = director.shunt(&["connections"]);
    assert_eq!(answer.code, 1);
    assert_eq!(answer.error, "the list is not complete: worker 1: no \"answer\"\n");
    let json = director.shunt(&["connections", "--json"]).json();
    assert_eq!(
        (json["connections"].as_array().unwrap().len(), &json["error"]),
        (5, &"worker 1: no \"answer\"".into())
    );
}

#[test]
fn drops() {
    let director = Api::plain();
    let answer = director.shunt(&["drops"]);
    assert!(answer.out.contains("no_real      3  What to do."), "{}", answer.out);
    assert!(!answer.out.contains("martian"));
    assert_eq!(director.shunt(&["drops", "--json"]).json()["drops"][0]["count"], 3);
    let answer = shunt(&["drops", "--explain", "no_reel"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error.ends_with("did you mean no_real?\n"), "{}", answer.error);
}

#[test]
fn explain() {
    let director = Api::plain();
    let answer = director.shunt(&["explain", "tcp", "[2001:db8::7]:40000", "[2001:db8::10]:80"]);
    assert_eq!(answer.out, "generation 7\n 1. tcp from [2001:db8::7]:40000 to [2001:db8::10]:80\n");
    let packet = ["explain", "udp", "198.51.100.7:4000", "192.0.2.10:53"];
    assert_eq!(director.shunt(&[&packet[..], &["--json"]].concat()).json()["steps"][0]["step"], "owner");
    let answer = director.shunt(&[&packet[..], &["--nic", "nowhere"]].concat());
    assert_eq!((answer.code, answer.error.lines().count()), (1, 1), "{}", answer.error);
    assert_eq!(director.shunt(&["explain", "tcp", "198.51.100.7", "192.0.2.10:53"]).code, 2);
}

#[test]
fn reload_shows_the_difference() {
    let director = Api::plain();
    let answer = director.shunt(&["reload"]);
    assert_eq!(answer.code, 0);
    let want = "~ service \"web\", real 192.0.2.21:80: weight 3 -> 2\ngeneration 8 runs on every worker\n";
    assert_eq!(answer.out, want);
    let json = director.shunt(&["reload", "--json"]).json();
    assert_eq!((&json["generation"], &json["changes"][0]["needs_restart"]), (&9.into(), &false.into()));
}

#[test]
fn a_bad_file_is_refused_with_all_its_problems() {
    let director = Api::start(|stop| Paper { bad_file: true, ..paper(stop) });
    let answer = director.shunt(&["reload"]);
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    assert!(answer.error.starts_with("bad.toml:1:1: "), "{}", answer.error);
    let last = answer.error.lines().last().unwrap();
    assert_eq!(last, "bad.toml: not usable: the director goes on as before: correct the file");
}

#[test]
fn check_compares_with_what_is_running() {
    let director = Api::plain();
    let new = director.folder.path().join("new.toml");
    std::fs::write(&new, OLD.replace("wlc", "rr")).unwrap();
    let answer = director.shunt(&["check", "--diff", new.to_str().unwrap()]);
    assert_eq!(answer.code, 0, "{}", answer.error);
    assert!(answer.out.contains("~ service \"web\": scheduler wlc -> rr\n"), "{}", answer.out);
    let told = "changed by ipvsadm and not compared, since a reload undoes it:\n  + service \"x\"\n";
    assert_eq!(answer.error, told);
}

#[test]
fn stop_returns_when_the_director_has_stopped() {
    let mut director = Api::plain();
    assert_eq!(director.shunt(&["stop"]).code, 0);
    assert!(!director.socket().exists());
    director.thread.take().unwrap().join().unwrap();
    let answer = director.shunt(&["status"]);
    assert_eq!(answer.code, 1);
    let socket = director.socket();
    let want = format!(
        "no director at {}: start one with `shunt run -c FILE`, or name its socket with --socket or SHUNT_SOCKET\n",
        socket.display()
    );
    assert_eq!(answer.error, want);
}

/// Runs this program linked as `ipvsadm`.
fn ipvsadm(director: &Api, arguments: &[&str], input: &str) -> Answer {
    let link = director.folder.path().join("ipvsadm");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_shunt"), &link).unwrap();
    }
    let mut child = Command::new(link)
        .args(arguments)
        .env("SHUNT_SOCKET", director.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    answer(child.wait_with_output().unwrap())
}

#[test]
fn ipvsadm_changes_and_lists() {
    let director = Api::plain();
    let rules = "-A -t 192.0.2.10:80 -s wrr -p 3\n-a -t 192.0.2.10:80 -r 192.0.2.21:80 -g -w 1\n";
    let answer = ipvsadm(&director, &["-R"], rules);
    assert_eq!((answer.code, answer.error.as_str()), (0, ""));
    assert_eq!(ipvsadm(&director, &["-Sn"], "").out, rules);
    let answer = ipvsadm(&director, &["-A", "-t", "192.0.2.10:80"], "");
    assert_eq!((answer.code, answer.error.as_str()), (255, "Service already exists\n"));
    assert!(ipvsadm(&director, &["-ln"], "").out.contains("TCP  192.0.2.10:80 wrr persistent 3\n"));
    let same = director.shunt_ipvsadm(&["-Ln"]);
    assert_eq!((same.code, same.out), (0, ipvsadm(&director, &["-Ln"], "").out));
    let answer = ipvsadm(&director, &["-lnc"], "");
    let line = "TCP 14:59  ESTABLISHED 10.0.0.0:40000     192.0.2.10:80      192.0.2.21:80\n";
    assert!(answer.out.contains(line) && answer.out.lines().count() == 7, "{}", answer.out);
}

#[test]
fn ipvsadm_without_a_director() {
    let mut director = Api::plain();
    assert_eq!(director.shunt(&["stop"]).code, 0);
    director.thread.take().unwrap().join().unwrap();
    let answer = ipvsadm(&director, &["-Ln"], "");
    assert_eq!(answer.code, 2);
    assert!(answer.error.starts_with("ipvsadm: no director at "), "{}", answer.error);
    // Help and mistakes need none.
    assert_eq!(ipvsadm(&director, &["-h"], "").code, 0);
    assert_eq!(ipvsadm(&director, &["-A"], "").code, 2);
}

#[test]
fn the_socket_of_a_configuration() {
    let director = Api::plain();
    let file = director.folder.path().join("director.toml");
    std::fs::write(&file, OLD.replace("/run/shunt.sock", director.socket().to_str().unwrap())).unwrap();
    assert_eq!(shunt(&["status", "-c", file.to_str().unwrap()]).code, 0);
    std::fs::write(&file, "nonsense").unwrap();
    assert_eq!(shunt(&["status", "-c", file.to_str().unwrap()]).code, 2);
}

/// What a person with a plain HTTP client gets.
fn raw(director: &Api, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(director.socket()).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_running_configuration_has_secrets_for_who_compares_it_alone() {
    let director = Api::plain();
    let masked = raw(&director, "GET /v1/configuration");
    assert!(masked.contains("://****************@192.0.2.9") && !masked.contains("hunter2"), "{masked}");
    assert!(raw(&director, "GET /v1/configuration?secrets=true").contains("operator:hunter2@"));
}

#[test]
fn wrong_requests_are_told_so() {
    let director = Api::plain();
    for (request, status, text) in [
        ("GET /v1/statistics", "404", "no such endpoint"),
        ("GET /v1/reload", "405", "POST"),
        ("GET /v1/connections?colour=red", "400", "colour"),
        ("GET /v1/configuration?secrets=all", "400", "secrets"),
        ("GET /v1/explain?protocol=tcp", "400", "source"),
    ] {
        let answer = raw(&director, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains("\"error\":") && answer.contains(text), "{request}: {answer}");
    }
}

#[path = "api/places.rs"]
mod places;
