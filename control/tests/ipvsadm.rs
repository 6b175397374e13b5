//! What the real ipvsadm 1.31 said in front of a real kernel, and what this one says: recordings in `tests/ipvsadm/`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use proptest::prelude::*;
use proptest::sample;
use serde::Deserialize;
use shunt_model::ipvsadm::names::{Names, Services};
use shunt_model::ipvsadm::table;
use shunt_model::ipvsadm::table::{Change, Destination, Protocol, Refused, Table};
use shunt_protocol::ipvsadm::connections::Connection;
use shunt_protocol::ipvsadm::listing;
use shunt_protocol::ipvsadm::session::{Session, Target};

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

/// Words that a command line may hold, and some that it may not.
fn word() -> impl Strategy<Value = String> {
    let known = "-A -E -D -C -a -e -d -L -l -Z -S -R -h -v --set --start-daemon -t -u -f -6 -s -p -M -r -g -i -m -w -x -y -n -c -o -b \
                 --sctp-service --pe --stats --rate --thresholds --persistent-conn --nosort --sort --exact --timeout --daemon \
                 --tun-type --tun-port --tun-nocsum --tun-csum --tun-remcsum --tun-info --syncid 10.0.0.100:80 [2001:db8::100]:80 \
                 10.1.0.11 10.1.0.12:8080 [2001:db8:1::11] vip:http rr wlc sh mh sh-port mh-fallback,mh-port flag-3 sip gue gre ipip 7 0 \
                 60 255.255.255.0 64 master -Ln -lnc -- - = , [ ]: :";
    let known: Vec<String> = known.split_whitespace().map(str::to_owned).collect();
    prop_oneof![30 => sample::select(known), 2 => "\\PC{0,12}", 1 => "-[-a-zA-Z=0-9]{0,9}", 1 => Just(String::new())]
}

fn any_line() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![4 => line(), 1 => prop::collection::vec(word(), 0..12)]
}

/// A line that may well be understood: a command and options with their values.
fn line() -> impl Strategy<Value = Vec<String>> {
    let service = "-t 10.0.0.100:80;-t 10.0.0.100:0;-u 10.0.0.100:53;-t [2001:db8::100]:80;--sctp-service 10.0.0.100:9;-f 7;-f 7 -6";
    let option = "-s rr;-s wlc;-s sh;-s mh;-s nosuch;-p;-p 60;-M 255.255.0.0;-M 64;-b sh-port;-b mh-fallback,mh-port;-b flag-1;-b flag-3;\
                  -o;--pe sip;-r 10.1.0.11;-r 10.1.0.12:8080;-r [2001:db8:1::11]:80;-g;-i;-m;-w 0;-w 70000;-x 10;-y 5;--tun-type gue;\
                  --tun-type gre;--tun-port 6080;--tun-csum;--tun-nocsum;--tun-remcsum;-n;--stats;--exact;--nosort;-c";
    let of =
        |text: &str| sample::select(text.split(';').map(|part| part.trim().to_owned()).collect::<Vec<_>>());
    let command = of("-A;-A;-A;-E;-D;-a;-a;-a;-e;-d;-Z;-L;-L -n");
    let words = (command, of(service), prop::collection::vec(of(option), 0..6));
    words.prop_map(|(command, service, options)| {
        let text = format!("{command} {service} {}", options.join(" "));
        text.split_whitespace().map(str::to_owned).collect()
    })
}

proptest! {
    /// Whatever is typed is answered: done, refused by the kernel, or wrong use with a word about it.
    #[test]
    fn every_command_line_is_answered(lines in prop::collection::vec(any_line(), 1..20)) {
        let names = Known::read();
        let mut kernel = Kernel::default();
        for args in lines {
            let command = Said { args, stdin: String::new(), rc: 0, stdout: String::new(), stderr: String::new() };
            let said = say(&mut kernel, &names, &command);
            prop_assert!([0, 1, 2, 255].contains(&said.rc), "{:?}", said);
            prop_assert_eq!(said.rc == 0, said.stderr.is_empty(), "{:?}", said);
        }
    }

    /// `-R` reads anything; and what `-S` prints makes the same table again, but for thresholds, which it leaves out.
    #[test]
    fn rules_make_the_same_table(lines in prop::collection::vec(any_line(), 0..60), noise in "\\PC{0,80}") {
        let names = Known::read();
        let mut kernel = Kernel::default();
        let mut input = lines.iter().map(|words| words.join(" ") + "\n").collect::<String>();
        for line in input.clone().lines() {
            restore(&mut kernel, &names, line);
        }
        input.push_str(&noise);
        restore(&mut kernel, &names, &input);
        // ipvsadm writes a flag that sh and mh have no name for as nothing, and does not read that.
        kernel.0.services.iter_mut().for_each(|service| service.flags.0 &= 3);
        let rules = listing::rules(&kernel.0, true, &names);
        let mut again = Kernel::default();
        let said = restore(&mut again, &names, &rules);
        prop_assert_eq!((said.rc, said.stderr.as_str()), (0, ""), "{}", rules);
        prop_assert_eq!(comparable(&again.0), comparable(&kernel.0), "{}", rules);
    }
}

/// A table without its order and its thresholds.
fn comparable(table: &Table) -> Vec<String> {
    let mut lines = Vec::new();
    for service in &table.services {
        let bare = table::Service { destinations: Vec::new(), ..service.clone() };
        lines.push(format!("{bare:?}"));
        let reals =
            service.destinations.iter().map(|real| Destination { upper: 0, lower: 0, ..real.clone() });
        lines.extend(reals.map(|real| format!("{} {real:?}", service.key)));
    }
    lines.sort();
    lines
}

fn restore(kernel: &mut Kernel, names: &Known, rules: &str) -> Said {
    let args = vec!["-R".to_owned()];
    let command = Said { args, stdin: rules.to_owned(), rc: 0, stdout: String::new(), stderr: String::new() };
    say(kernel, names, &command)
}
