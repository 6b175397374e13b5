//! Every pair, every reason to change over, every way on the wire: pairwise, and beside each the pause that two keepalived have.
//!
//! A row is a pair (who is master, who is backup), what happens to the master, and how adverts travel. The pause is the
//! longest time in which no new connection to the VIP is answered, with one tried every ten milliseconds.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shunt_tests::topology::director::Director;
use shunt_tests::topology::keepalived::Keepalived;
use shunt_tests::topology::place::Place;
use shunt_tests::topology::{Lab, POLL, wait_for};

use super::link::{Client, Link};

/// A program that speaks VRRP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Shunt,
    Keepalived,
}

/// What happens to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    /// `kill -9`. keepalived's kernel would go on to answer for the VIP, so that its cable is pulled, too.
    Killed,
    /// Its cable is pulled.
    LinkDown,
    /// It is told to stop.
    Stopped,
    /// Its priority sinks below the backup's by a reload.
    Priority,
    /// The cable of the other member of its sync group is pulled.
    Group,
    /// A better one comes, does not preempt, and takes over when the master is killed.
    NoPreempt,
}
use Fate::{Group, Killed, LinkDown, NoPreempt, Priority, Stopped};

/// How adverts prove where they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    None,
    Pass,
    Ah,
}

/// How adverts travel.
#[derive(Clone, Copy, Debug)]
struct Wire {
    version: u8,
    vip: &'static str,
    unicast: bool,
    proof: Proof,
}

const V3: Wire = Wire { version: 3, vip: "192.0.2.10", unicast: false, proof: Proof::None };
const V3_UNICAST: Wire = Wire { unicast: true, ..V3 };
const V6: Wire = Wire { vip: "2001:db8::10", ..V3 };
const V6_UNICAST: Wire = Wire { unicast: true, ..V6 };
const V2: Wire = Wire { version: 2, ..V3 };
const V2_UNICAST: Wire = Wire { unicast: true, ..V2 };
const PASS: Wire = Wire { proof: Proof::Pass, ..V2 };
const PASS_UNICAST: Wire = Wire { unicast: true, ..PASS };
const AH: Wire = Wire { proof: Proof::Ah, ..V2 };
const AH_UNICAST: Wire = Wire { unicast: true, ..AH };

impl Wire {
    /// Between two adverts.
    const fn interval(self) -> Duration {
        Duration::from_millis(if self.version == 2 { 1000 } else { 200 })
    }

    /// The address of one in the VIP's family.
    fn address(self, last: u8) -> String {
        if self.vip.contains(':') { format!("2001:db8::{last}") } else { format!("192.0.2.{last}") }
    }

    fn shunt(self, set: Set, peer: u8) -> String {
        let mut text = format!(
            "version = {}\ninterval = \"{}ms\"\npriority = {}\npreempt = {}\n",
            self.version,
            self.interval().as_millis(),
            set.priority,
            set.preempt
        );
        if self.unicast {
            text += &format!("peers = [\"{}\"]\n", self.address(peer));
        }
        match self.proof {
            Proof::None => {}
            Proof::Pass => text += "auth = { kind = \"password\", secret = \"secret12\" }\n",
            Proof::Ah => text += "auth = { kind = \"header\", secret = \"k3y\" }\n",
        }
        if set.group {
            // The second instance stands in front, so that the keys of the first one go on in its place.
            text += &format!(
                "[[nic]]\nname = \"back\"\ndevice = \"af_packet:{}-b\"\naddresses = [\"10.1.0.{}/24\"]\n\
                 [[vrrp]]\nname = \"VI_2\"\nnic = \"back\"\nvrid = 52\naddresses = [\"10.1.0.10\"]\nversion = {}\n\
                 interval = \"{}ms\"\npriority = {}\n\
                 [[vrrp_group]]\nname = \"VG_1\"\nmembers = [\"VI_1\", \"VI_2\"]\n",
                set.name,
                set.last,
                self.version,
                self.interval().as_millis(),
                set.priority
            );
        }
        text
    }

    fn keepalived(self, set: Set, peer: u8) -> String {
        let common = format!(
            "version {}\nadvert_int {}\npriority {}\n{}",
            self.version,
            self.interval().as_secs_f32(),
            set.priority,
            if set.preempt { "" } else { "nopreempt\n" }
        );
        let mut first = format!("interface {}\nvirtual_router_id 51\n{common}", set.name);
        if self.unicast {
            first += &format!(
                "unicast_src_ip {}\nunicast_peer {{\n{}\n}}\n",
                self.address(set.last),
                self.address(peer)
            );
        }
        match self.proof {
            Proof::None => {}
            Proof::Pass => first += "authentication {\nauth_type PASS\nauth_pass secret12\n}\n",
            Proof::Ah => first += "authentication {\nauth_type AH\nauth_pass k3y\n}\n",
        }
        first += &format!("virtual_ipaddress {{\n{}\n}}\n", self.vip);
        let mut text = format!("vrrp_instance VI_1 {{\n{first}}}\n");
        if set.group {
            text += &format!(
                "vrrp_instance VI_2 {{\ninterface {}-b\nvirtual_router_id 52\n{common}virtual_ipaddress {{\n10.1.0.10\n}}\n}}\n\
                 vrrp_sync_group VG_1 {{\ngroup {{\nVI_1\nVI_2\n}}\n}}\n",
                set.name
            );
        }
        text
    }
}

/// What one of a pair is set to.
#[derive(Clone, Copy)]
struct Set {
    /// Of its cable: `one` or `two` for shunt, `ka` or `kb` for keepalived.
    name: &'static str,
    last: u8,
    priority: u8,
    preempt: bool,
    group: bool,
}

/// One of a pair, at work.
struct Member {
    set: Set,
    peer: u8,
    wire: Wire,
    program: Program,
}

enum Program {
    Shunt(Director, Lab),
    /// Its place goes away with it.
    Keepalived(Keepalived, #[expect(dead_code)] Place),
}

impl Member {
    /// `place` is 0 for the first of the pair, 1 for the second.
    fn start(link: &Link, who: Who, place: u8, wire: Wire, priority: u8, fate: Fate) -> Self {
        let name = match (who, place) {
            (Who::Shunt, 0) => "one",
            (Who::Shunt, _) => "two",
            (Who::Keepalived, 0) => "ka",
            (Who::Keepalived, _) => "kb",
        };
        let preempt = !(fate == NoPreempt && place == 1);
        let set = Set { name, last: 4 + place, priority, preempt, group: fate == Group };
        let peer = 5 - place;
        let program = match who {
            Who::Shunt => {
                let lab = link.lab.beside();
                // A peer that is not there yet keeps its neighbour from being known.
                let text = link.configuration(&lab, name, set.last, &wire.shunt(set, peer));
                let director = Director::start(&lab, &text);
                Program::Shunt(director, lab)
            }
            Who::Keepalived => {
                let place = link.place(name, set.last);
                if set.group {
                    link.join_back(&place, if name == "ka" { "ka-b" } else { "kb-b" }, set.last);
                }
                let text = wire.keepalived(set, peer);
                Program::Keepalived(Keepalived::start_all(&link.lab, &place, name, &text), place)
            }
        };
        Self { set, peer, wire, program }
    }

    /// The role of `VI_1`.
    fn role(&self) -> String {
        match &self.program {
            Program::Shunt(director, _) => director.status().vrrp[0].role.clone(),
            Program::Keepalived(keepalived, _) => keepalived.state("VI_1").to_lowercase(),
        }
    }

    /// What it says of its virtual routers.
    fn listed(&self) -> Vec<shunt::api::status::VirtualRouter> {
        match &self.program {
            Program::Shunt(director, _) => director.status().vrrp,
            Program::Keepalived(..) => Vec::new(),
        }
    }

    fn wait(&self, wanted: &str) {
        wait_for(&format!("{} {wanted}", self.set.name), || match self.role() {
            role if role == wanted => Ok(()),
            role => Err(role),
        });
    }

    fn suffer(&mut self, link: &Link, fate: Fate) {
        match (&mut self.program, fate) {
            (Program::Shunt(director, _), Killed | NoPreempt) => director.signal(Signal::SIGKILL),
            (Program::Keepalived(keepalived, _), Killed | NoPreempt) => {
                link.cut(self.set.name);
                keepalived.kill();
            }
            (_, LinkDown) => link.cut(self.set.name),
            (_, Group) => link.cut(&format!("{}-b", self.set.name)),
            (Program::Shunt(director, _), Stopped) => director.signal(Signal::SIGTERM),
            (Program::Keepalived(keepalived, _), Stopped) => keepalived.signal(Signal::SIGTERM),
            (program, Priority) => {
                self.set.priority = 50;
                match program {
                    Program::Shunt(director, lab) => {
                        let vrrp = self.wire.shunt(self.set, self.peer);
                        let text = link.configuration(lab, self.set.name, self.set.last, &vrrp);
                        director.reload(lab, &text);
                    }
                    Program::Keepalived(keepalived, _) => {
                        keepalived.reload(&self.wire.keepalived(self.set, self.peer));
                    }
                }
            }
        }
    }
}

/// Attempts at a row: where other work keeps a program from its adverts, the roles change without a reason of ours.
const ATTEMPTS: usize = 4;

/// The pause of a pair; none when a role changed before anything happened.
fn pause(pair: [Who; 2], fate: Fate, wire: Wire) -> Option<Duration> {
    let link = Link::new(wire.vip);
    if fate == Group {
        link.back();
    }
    // The one that does not preempt is the better one.
    let priorities = if fate == NoPreempt { [100, 150] } else { [150, 100] };
    let mut first = Member::start(&link, pair[0], 0, wire, priorities[0], fate);
    first.wait("master");
    let second = Member::start(&link, pair[1], 1, wire, priorities[1], fate);
    second.wait("backup");
    let client = Client::new(&link);
    let joined = Instant::now();
    // The backup has to hear the master; it would have taken over within this time.
    while joined.elapsed() < 4 * wire.interval() + Duration::from_millis(100) {
        let roles = [first.role(), second.role()];
        if roles != ["master", "backup"] {
            eprintln!("{roles:?} before {fate:?}: {:?} {:?}", first.listed(), second.listed());
            return None;
        }
        std::thread::sleep(10 * POLL);
    }
    let since = Instant::now();
    first.suffer(&link, fate);
    second.wait("master");
    match fate {
        Killed | NoPreempt | Stopped => {}
        LinkDown | Group => first.wait("fault"),
        Priority => first.wait("backup"),
    }
    client.wait_answered(Instant::now());
    Some(client.pause(since))
}

/// The least pause of up to [`ATTEMPTS`]: the first that is short enough.
fn least(pair: [Who; 2], fate: Fate, wire: Wire) -> Duration {
    let mut least: Option<Duration> = None;
    for _ in 0..ATTEMPTS {
        let pauses = least.into_iter().chain(pause(pair, fate, wire));
        least = pauses.min();
        if least.is_some_and(|pause| pause <= most(wire)) {
            break;
        }
    }
    least.unwrap_or_else(|| panic!("{pair:?} did not stay master and backup {ATTEMPTS} times"))
}

/// Silence, its skew, and what a busy machine takes.
fn most(wire: Wire) -> Duration {
    4 * wire.interval() + Duration::from_millis(100)
}

/// What two keepalived need, measured once for each fate and version.
fn alone(fate: Fate, wire: Wire) -> Duration {
    static MEASURED: LazyLock<Mutex<HashMap<(Fate, u8), Duration>>> = LazyLock::new(Mutex::default);
    let plain = if wire.version == 2 { V2 } else { V3 };
    let mut measured = MEASURED.lock().unwrap();
    *measured.entry((fate, wire.version)).or_insert_with(|| least([Who::Keepalived; 2], fate, plain))
}

fn row(pair: [Who; 2], fate: Fate, wire: Wire) {
    let ours = least(pair, fate, wire);
    let theirs = alone(fate, wire);
    let Wire { version, vip, unicast, proof } = wire;
    let to = if unicast { "unicast" } else { "multicast" };
    eprintln!(
        "pause | {fate:?} | {:?} | {:?} | v{version} {proof:?} {to} {vip} | {ours:.0?} | {theirs:.0?}",
        pair[0], pair[1]
    );
    assert!(ours <= most(wire), "{ours:?} without an answer; two keepalived: {theirs:?}");
}

/// A test for each row, in a thread and so a place of its own.
macro_rules! rows {
    ($($(#[$attribute:meta])* $name:ident: $master:ident $backup:ident $fate:ident $wire:ident,)*) => {
        $(
            #[test]
            $(#[$attribute])*
            fn $name() {
                row([Who::$master, Who::$backup], $fate, $wire);
            }
        )*
    };
}

rows! {
    shunt_shunt_killed: Shunt Shunt Killed V6_UNICAST,
    shunt_shunt_link_down: Shunt Shunt LinkDown V3,
    shunt_shunt_stopped: Shunt Shunt Stopped V6,
    shunt_shunt_priority: Shunt Shunt Priority V3_UNICAST,
    shunt_shunt_group: Shunt Shunt Group V3,
    shunt_shunt_no_preemption: Shunt Shunt NoPreempt V6,
    shunt_keepalived_killed: Shunt Keepalived Killed V3,
    shunt_keepalived_link_down: Shunt Keepalived LinkDown V6,
    shunt_keepalived_stopped: Shunt Keepalived Stopped V3_UNICAST,
    shunt_keepalived_priority: Shunt Keepalived Priority V6_UNICAST,
    shunt_keepalived_group: Shunt Keepalived Group V3,
    shunt_keepalived_no_preemption: Shunt Keepalived NoPreempt V3_UNICAST,
    keepalived_shunt_killed: Keepalived Shunt Killed V3_UNICAST,
    keepalived_shunt_link_down: Keepalived Shunt LinkDown V6_UNICAST,
    keepalived_shunt_stopped: Keepalived Shunt Stopped V3,
    keepalived_shunt_priority: Keepalived Shunt Priority V6,
    keepalived_shunt_group: Keepalived Shunt Group V3,
    keepalived_shunt_no_preemption: Keepalived Shunt NoPreempt V3,
}

rows! {
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_shunt_killed: Shunt Shunt Killed PASS_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_shunt_link_down: Shunt Shunt LinkDown AH,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_shunt_stopped: Shunt Shunt Stopped V2_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_shunt_priority: Shunt Shunt Priority AH_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_shunt_group: Shunt Shunt Group PASS,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_shunt_no_preemption: Shunt Shunt NoPreempt V2,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_keepalived_killed: Shunt Keepalived Killed AH,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_keepalived_link_down: Shunt Keepalived LinkDown PASS_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_keepalived_stopped: Shunt Keepalived Stopped PASS,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_keepalived_priority: Shunt Keepalived Priority V2_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_keepalived_group: Shunt Keepalived Group AH,
    #[ignore = "takes long: seconds of version 2"]
    v2_shunt_keepalived_no_preemption: Shunt Keepalived NoPreempt PASS,
    #[ignore = "takes long: seconds of version 2"]
    v2_keepalived_shunt_killed: Keepalived Shunt Killed V2,
    #[ignore = "takes long: seconds of version 2"]
    v2_keepalived_shunt_link_down: Keepalived Shunt LinkDown V2_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_keepalived_shunt_stopped: Keepalived Shunt Stopped AH_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_keepalived_shunt_priority: Keepalived Shunt Priority PASS,
    #[ignore = "takes long: seconds of version 2"]
    v2_keepalived_shunt_group: Keepalived Shunt Group V2_UNICAST,
    #[ignore = "takes long: seconds of version 2"]
    v2_keepalived_shunt_no_preemption: Keepalived Shunt NoPreempt AH,
}
