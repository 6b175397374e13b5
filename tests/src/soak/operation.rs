//! What a soak does to a director: what operators do, what attackers send, and what breaks.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use shunt_dataplane::id::Mac;

use super::world::{REALS, Service, World, plug_front};
use crate::packets::{Ip, Tcp, ethernet};
use crate::random::numbers::Numbers;
use crate::topology::arms::mac;
use crate::topology::frames::{arp, ip};
use crate::topology::shell::Shell;
use crate::topology::wire::Wire;
use crate::topology::{PATIENCE, POLL};

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Connections are opened that stay open.
    Open,
    /// Some of them are closed.
    Close,
    /// Nothing for a moment.
    Wait,
    /// Other weights, by a reload.
    Weights,
    /// A real server is taken out by a reload and put back.
    Removed,
    /// Some SIGHUPs in a row.
    Hangups,
    /// A file that is cut off is to be reloaded.
    CutFile,
    /// A weight is changed by `ipvsadm`.
    Ipvsadm,
    /// A real server fails its checks, or passes them again.
    Health,
    /// Commands that ask.
    Asked,
    /// Clients of the API that ask nothing, or half.
    HalfAsked,
    /// SYNs from addresses that nobody has.
    SynFlood,
    /// Datagrams and SYNs from one address.
    OneAddress,
    /// Frames that are noise.
    Noise,
    /// ARP replies that claim a real server's address.
    ForgedArp,
    /// The front cable has no carrier for a moment.
    LinkDown,
    /// The front interface is deleted and made again.
    Recreated,
    /// The whole process stands still for a moment.
    Frozen,
    /// Signals that mean nothing to it.
    Signals,
}
use Operation::{
    Asked, Close, CutFile, ForgedArp, Frozen, HalfAsked, Hangups, Health, Ipvsadm, LinkDown, Noise,
    OneAddress, Open, Recreated, Removed, Signals, SynFlood, Wait, Weights,
};

/// How often each comes.
const WEIGHTS: [(usize, Operation); 19] = [
    (12, Open),
    (8, Close),
    (8, Wait),
    (6, Weights),
    (5, Removed),
    (4, Hangups),
    (4, CutFile),
    (6, Ipvsadm),
    (8, Health),
    (6, Asked),
    (4, HalfAsked),
    (6, SynFlood),
    (6, OneAddress),
    (6, Noise),
    (4, ForgedArp),
    (3, LinkDown),
    (3, Recreated),
    (3, Frozen),
    (3, Signals),
];

impl Operation {
    /// One of them.
    #[must_use]
    pub fn random(numbers: &mut Numbers) -> Self {
        numbers.weighted(&WEIGHTS)
    }

    /// Its name in the report.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Open => "connections opened",
            Close => "connections closed",
            Wait => "nothing",
            Weights => "reload with other weights",
            Removed => "real server removed and put back",
            Hangups => "SIGHUPs",
            CutFile => "truncated configuration",
            Ipvsadm => "ipvsadm -e",
            Health => "real server fails or recovers",
            Asked => "status, connections, explain, drops",
            HalfAsked => "API clients that ask nothing",
            SynFlood => "SYN flood",
            OneAddress => "flood from one address",
            Noise => "malformed frames",
            ForgedArp => "forged ARP replies",
            LinkDown => "link down and up",
            Recreated => "interface deleted and recreated",
            Frozen => "process stopped for a moment",
            Signals => "SIGUSR1, SIGUSR2, SIGALRM",
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// What did not go as it should.
    ///
    /// # Panics
    /// When the director does not answer any more.
    pub fn carry_out(self, world: &mut World, numbers: &mut Numbers) -> Result<(), String> {
        match self {
            Open => {
                world.open(numbers.pick(&Service::ALL), 1 + numbers.below(8));
                Ok(())
            }
            Close => world.close(1 + numbers.below(8)),
            Wait => {
                pause(numbers, 1000);
                Ok(())
            }
            Weights => {
                world.rules.weights = [0; 3].map(|_: u8| 1 + numbers.below(5) as u8);
                world.reload()
            }
            Removed => removed(world, numbers),
            Hangups => {
                world.director.rewrite(&world.configuration());
                signals(world, numbers, &[Signal::SIGHUP]);
                Ok(())
            }
            CutFile => cut_file(world, numbers),
            Ipvsadm => ipvsadm(world, numbers),
            Health => {
                let (number, well) = (numbers.below(REALS.len()), numbers.percent(60));
                world.set_health(number, well || !world.others_are_up(number));
                Ok(())
            }
            Asked => asked(world, numbers),
            HalfAsked => half_asked(world, numbers),
            SynFlood => {
                flood(world, numbers, true);
                Ok(())
            }
            OneAddress => {
                flood(world, numbers, false);
                Ok(())
            }
            Noise => {
                noise(world, numbers);
                Ok(())
            }
            ForgedArp => {
                forged_arp(world, numbers);
                Ok(())
            }
            LinkDown => {
                world.clients.ip("link set f0 down");
                pause(numbers, 1500);
                world.clients.ip("link set f0 up\naddr replace 2001:db8:f::1/64 dev f0 nodad");
                serves_again(world)
            }
            Recreated => {
                world.lab.ip("link del front");
                pause(numbers, 1500);
                plug_front(&world.lab, &world.clients);
                serves_again(world)
            }
            Frozen => {
                world.director.signal(Signal::SIGSTOP);
                pause(numbers, 700);
                world.director.signal(Signal::SIGCONT);
                Ok(())
            }
            Signals => {
                signals(world, numbers, &[Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM]);
                Ok(())
            }
        }
    }
}

/// Up to so many milliseconds: the time is a part of what is done, nothing is waited for.
fn pause(numbers: &mut Numbers, most: usize) {
    std::thread::sleep(Duration::from_millis(numbers.below(most) as u64));
}

/// Waits until a new client is served, as after a fault that is over.
fn serves_again(world: &mut World) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let (_, failed) = world.requests();
        if failed.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("not served within {PATIENCE:?}: {failed:?}"));
        }
        std::thread::sleep(POLL);
    }
}

fn removed(world: &mut World, numbers: &mut Numbers) -> Result<(), String> {
    let number = numbers.below(REALS.len());
    if !world.others_are_up(number) {
        return Ok(());
    }
    world.rules.present[number] = false;
    world.reload()?;
    pause(numbers, 500);
    world.rules.present[number] = true;
    world.reload()
}

fn signals(world: &World, numbers: &mut Numbers, of: &[Signal]) {
    for _ in 0..=numbers.below(20) {
        world.director.signal(numbers.pick(of));
        std::thread::sleep(Duration::from_millis(numbers.below(20) as u64));
    }
}

/// It is refused, or takes away no more than `reload_removes` lets it; the whole file comes after it.
fn cut_file(world: &World, numbers: &mut Numbers) -> Result<(), String> {
    let text = world.configuration();
    world.director.rewrite(&text[..numbers.below(text.len())]);
    let said = world.director.command(&world.lab, &["reload"]);
    let (left, all) = (world.director.status().services.len(), Service::ALL.len());
    let held = match said.code {
        Some(0) => left * 2 >= all,
        code => code == Some(1) && left == all,
    };
    if !held {
        return Err(format!("a truncated file: {left} of {all} services are left: {said:?}"));
    }
    world.reload()
}

fn ipvsadm(world: &World, numbers: &mut Numbers) -> Result<(), String> {
    let real = format!("10.1.0.{}:7", numbers.pick(&REALS));
    let weight = numbers.below(6).to_string();
    let line = format!("ipvsadm -e -t 192.0.2.10:7 -r {real} -m -w {weight} && ipvsadm -Ln && ipvsadm -Sn");
    let said = Shell::of(&world.lab).sh(&["-c", &line]);
    if said.code != Some(0) {
        return Err(format!("{line}: {said:?}"));
    }
    // What the file says holds again.
    world.reload()
}

fn asked(world: &World, numbers: &mut Numbers) -> Result<(), String> {
    let commands: [&[&str]; 6] = [
        &["status"],
        &["connections"],
        &["drops"],
        &["neighbours"],
        &["explain", "tcp", "198.51.100.1:40000", "192.0.2.10:7"],
        &["status", "--json"],
    ];
    for _ in 0..4 {
        let words = numbers.pick(&commands);
        let said = world.director.command(&world.lab, words);
        if said.code != Some(0) {
            return Err(format!("{words:?}: {said:?}"));
        }
    }
    Ok(())
}

/// They are there while an operator's command is answered.
fn half_asked(world: &World, numbers: &mut Numbers) -> Result<(), String> {
    let texts = [
        "",
        "GET /v1/sta",
        "GET /v1/connections HTTP/1.1\r\nHost: shunt\r\n\r\n",
        "\0\0\0\0",
        "POST /v1/reload HTTP/1.1\r\n",
    ];
    let mut clients = Vec::new();
    for _ in 0..numbers.below(40) {
        let Ok(mut client) = UnixStream::connect(world.lab.socket()) else { continue };
        let _ = client.write_all(numbers.pick(&texts).as_bytes());
        clients.push(client);
    }
    let said = world.director.command(&world.lab, &["status"]);
    if said.code == Some(0) {
        Ok(())
    } else {
        Err(format!("status beside {} clients: {said:?}", clients.len()))
    }
}

/// Frames of a flood, in one go.
const FLOOD: usize = 6000;

fn flood(world: &World, numbers: &mut Numbers, spoofed: bool) {
    let front = mac(&world.director.status(), 0);
    let mut frames = Vec::with_capacity(FLOOD);
    for number in 0..FLOOD {
        let source = if spoofed {
            format!("198.{}.{}.{}", 18 + numbers.below(2), numbers.below(256), numbers.below(256))
        } else {
            "198.51.100.77".to_owned()
        };
        let ip = Ip::new(&source, "192.0.2.10");
        let port = 1024 + number as u16;
        frames.push(ethernet(Mac(front), Mac([2, 0, 0, 0, 0xf0, 2]), &ip.tcp(&Tcp::new(port, 7, "S"))));
    }
    send(world, frames);
}

fn noise(world: &World, numbers: &mut Numbers) {
    let front = mac(&world.director.status(), 0);
    let mut frames = Vec::new();
    for _ in 0..2000 {
        let good = Ip::new("198.51.100.90", "192.0.2.10").tcp(&Tcp::new(5000, 7, "PA").data(&[7; 40]));
        let mut frame = ethernet(Mac(front), Mac([2, 0, 0, 0, 0xf0, 2]), &good);
        for _ in 0..=numbers.below(4) {
            let at = 12 + numbers.below(frame.len() - 12);
            frame[at] = numbers.next() as u8;
        }
        frame.truncate(14 + numbers.below(frame.len() - 13));
        frames.push(frame);
    }
    send(world, frames);
}

/// From the clients' side.
fn send(world: &World, frames: Vec<Vec<u8>>) {
    world.clients.run(move || {
        let wire = Wire::open("f0");
        frames.iter().for_each(|frame| wire.send(frame));
    });
}

fn forged_arp(world: &World, numbers: &mut Numbers) {
    let back = mac(&world.director.status(), 1);
    let victim = ip(&format!("10.1.0.{}", numbers.pick(&REALS)));
    let liar = [2, 0, 0, 0, 0xee, 1];
    let reply = arp(2, [liar, back], (liar, victim), (back, ip("10.1.0.1")));
    let gratuitous = arp(1, [liar, [0xff; 6]], (liar, victim), ([0; 6], victim));
    world.reals.run(move || {
        let wire = Wire::open("b0");
        for _ in 0..20 {
            wire.send(&reply);
            wire.send(&gratuitous);
        }
    });
}
