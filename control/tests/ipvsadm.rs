//! What the real ipvsadm 1.31 said in front of a real kernel, and what this one says: recordings in `tests/ipvsadm/`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use serde::Deserialize;
use shunt::ipvsadm::connections::Connection;
use shunt::ipvsadm::names::{Names, Services};
use shunt::ipvsadm::session::{Session, Target};
use shunt::ipvsadm::table::{Change, Protocol, Refused, Table};

#[derive(Deserialize)]
struct Recording {
    sessions: Vec<Vec<Said>>,
}

/// A command and what was said.
#[derive(Debug, Deserialize, PartialEq)]
struct Said {
    args: Vec<String>,
    #[serde(default)]
    stdin: String,
    rc: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
}

/// A kernel with a table and no connection.
#[derive(Default)]
struct Kernel(Table);

impl Target for Kernel {
    fn table(&mut self) -> Result<Table, String> {
        Ok(self.0.clone())
    }

    fn change(&mut self, changes: Vec<Change>) -> Result<Vec<Result<(), Refused>>, String> {
        Ok(changes.iter().map(|change| self.0.apply(change)).collect())
    }

    fn connections(&mut self, _each: &mut dyn FnMut(&Connection<'_>) -> bool) -> Result<(), String> {
        Ok(())
    }
}

/// The names that the recording machine knew.
struct Known {
    addresses: HashMap<String, IpAddr>,
    hosts: HashMap<IpAddr, String>,
    services: Services,
}

impl Known {
    /// From the texts in `record`, which wrote them to that machine.
    fn read() -> Self {
        let (mut addresses, mut hosts) = (HashMap::new(), HashMap::new());
        for line in include_str!("ipvsadm/hosts").lines() {
            let mut words = line.split_whitespace();
            let address: IpAddr = words.next().unwrap().parse().unwrap();
            let names: Vec<&str> = words.collect();
            hosts.insert(address, names[0].to_owned());
            addresses.extend(names.iter().map(|name| ((*name).to_owned(), address)));
        }
        Self { addresses, hosts, services: Services::read(include_str!("ipvsadm/services")) }
    }
}

impl Names for Known {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        match self.addresses.get(host)? {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        }
    }

    fn host(&self, address: IpAddr) -> Option<String> {
        self.hosts.get(&address).cloned()
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        self.services.port(service, protocol)
    }

    fn service(&self, l4_port: u16, protocol: Protocol) -> Option<String> {
        self.services.name(l4_port, protocol)
    }
}

fn say(kernel: &mut Kernel, names: &Known, command: &Said) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut session = Session { target: kernel, names, out: &mut out, err: &mut err };
    let rc = session.run(&command.args, &mut command.stdin.as_bytes());
    let mut stdout = String::from_utf8(out).unwrap();
    if stdout.contains("\nUsage:\n") {
        // The help is our own.
        "<help>\n".clone_into(&mut stdout);
    }
    let stderr = String::from_utf8(err).unwrap();
    Said { args: command.args.clone(), stdin: command.stdin.clone(), rc: rc.into(), stdout, stderr }
}

/// What is not compared, and why. A command that is not understood by one of the two ends its session.
fn is_left_out(command: &Said) -> bool {
    let says = |word: &str| command.args.iter().any(|arg| arg == word);
    // What the kernel says of state synchronisation, which this director does not have.
    let daemons =
        ["--start-daemon", "--stop-daemon", "--start-daemon=master", "--stop-daemon=master", "--daemon"];
    let synchronises = daemons.iter().any(|word| says(word)) || command.stdin.contains("--start-daemon");
    // The kernel lists services in the order of their hashes, whose random key is not ours.
    let unsorted = says("--nosort");
    (synchronises && command.rc != 2) || unsorted
}

/// A defect of ipvsadm, and a scheduler that the kernel of the recordings was built without.
fn ends_session(command: &Said) -> bool {
    command.rc == 139 || command.args.iter().any(|arg| arg == "twos")
}

fn compare(subject: &str) {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ipvsadm").join(subject).with_extension("json");
    let recording: Recording = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let names = Known::read();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for session in &recording.sessions {
        let mut kernel = Kernel::default();
        for command in session {
            if ends_session(command) {
                break;
            }
            let said = say(&mut kernel, &names, command);
            if is_left_out(command) {
                continue;
            }
            compared += 1;
            if said != *command {
                let before: Vec<String> = session.iter().map(|said| said.args.join(" ")).collect();
                wrong.push(format!(
                    "{before:#?}\n{:?}: {}\n{}{}\nbut here {}\n{}{}",
                    command.args,
                    command.rc,
                    command.stdout,
                    command.stderr,
                    said.rc,
                    said.stdout,
                    said.stderr
                ));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n=====\n"));
    assert!(compared > 50, "{compared}");
}

macro_rules! subjects {
    ($($name:ident)*) => { $(#[test] fn $name() { compare(stringify!($name)); })* };
}

subjects! { listings mistakes more options order pairs late values }
