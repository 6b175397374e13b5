//! Plays a scenario to the real binary: its commands are typed into a shell where `ipvsadm` is shunt's, its frames go in by
//! the wire, and what comes out is taken from the wire.
//!
//! Time is real here. A scenario that waits for something to expire is none for this.

use std::collections::HashSet;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_dataplane::id::NicId;
use shunt_dataplane::snapshot::Plan;

use super::scenario::{CommandResult, FrameOut, Recording, Scenario, Step, StepResult};
use super::{commands, play};
use crate::text;
use crate::topology::director::Director;
use crate::topology::hosts::question;
use crate::topology::shell::Shell;
use crate::topology::wire::{Wire, wait_any};
use crate::topology::{Lab, PATIENCE};

/// Connections and templates: more than any scenario makes.
const RUNTIME: &str = "connections = 4096\nreplies = 1000000";
/// Between two looks at whether a frame was dealt with.
const LOOK: Duration = Duration::from_millis(1);
/// What a shell is told first: both outputs are one, as in the recordings, and nothing has to be waited for, since counters
/// are not estimated here.
const SHELL: &str = "exec 2>&1; sleep() { :; }; ";

/// The software NICs that a director has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nics {
    /// Interfaces of the kernel, by packet sockets, which give IPv4 fragments together.
    AfPacket,
    /// Taps, which give each frame as it is.
    Taps,
}

/// Plays a scenario from the start to a director with NICs of this kind. `want` says how many frames each step is waited for.
///
/// # Panics
/// When the director does not start, does not take its frames, or when a command is none for a real director.
#[must_use]
pub fn play(nics: Nics, scenario: &Scenario, want: &Recording) -> Recording {
    let lab = Lab::new();
    if nics == Nics::AfPacket {
        for nic in 0..2 {
            lab.cable([&format!("eth{nic}"), &format!("wire{nic}")], 1);
            lab.ip(&format!("link set eth{nic} address 02:00:00:00:d0:0{nic}"));
        }
    }
    let mut bare = play::bare_director();
    let (typed, others): (Vec<&String>, Vec<&String>) =
        scenario.setup.iter().partition(|line| line.starts_with("ipvsadm"));
    for line in others {
        let said = commands::run(line, &mut bare).unwrap_or_else(|unknown| panic!("{unknown}"));
        assert_eq!(said, commands::Said::default(), "{line}");
    }
    let plan = bare.plan();
    let of_nics = plan.nics.iter().flat_map(|nic| nic.addresses.iter().map(|net| net.addr()));
    let own = plan.vips.iter().copied().chain(of_nics).collect();
    let configuration = lab.runtime(1, RUNTIME) + &configuration(plan, nics);
    let director = Director::start(&lab, &configuration);
    // A tap is there as long as its director.
    let wires = [0, 1].map(|nic| Wire::open(&format!("wire{nic}")));
    let mut stage = Stage { shell: Shell::of(&lab), director, wires, taken: 0, own };
    let mut recording = Recording::default();
    let setup = typed.iter().map(|line| stage.command(line));
    recording.setup = setup.filter(|said| said.rc != 0 || !said.output.is_empty()).collect();
    stage.taken = stage.director.settled().books.received;
    stage.out();
    for (number, step) in scenario.steps.iter().enumerate() {
        let frames = want.steps.get(number).map_or(0, |want| want.out.len());
        let result = stage.step(step, frames);
        if matches!(step, Step::Frame { new: true, .. }) {
            recording.chosen.push(result.out.first().map(|out| text::hex(&out.frame.0[..6])));
        }
        recording.steps.push(result);
    }
    recording.end = scenario.end.iter().map(|line| stage.command(line)).collect();
    stage.director.settled();
    if let Some(last) = recording.steps.last_mut() {
        last.out.extend(stage.out());
    }
    recording
}

/// A director that runs and what is around it.
struct Stage<'a> {
    shell: Shell<'a>,
    director: Director,
    /// The other ends of its NICs.
    wires: [Wire; 2],
    /// Frames that its NICs have taken up to now.
    taken: u64,
    /// Its addresses and VIPs, which it asks its links for.
    own: HashSet<IpAddr>,
}

impl Stage<'_> {
    fn step(&mut self, step: &Step, frames: usize) -> StepResult {
        match step {
            Step::Frame { nic, frame, .. } => {
                self.wires[usize::from(*nic)].send(&frame.0);
                self.taken += 1;
                StepResult { out: self.await_out(frames), ..StepResult::default() }
            }
            Step::Command { cmd } => {
                let CommandResult { rc, output, .. } = self.command(cmd);
                StepResult { output: Some(output), rc, out: self.await_out(frames) }
            }
            Step::Wait { wait } => panic!("a pause of {wait} s is nothing for a real director"),
        }
    }

    /// What leaves until all that was sent was dealt with and `frames` have left, or for as long as patience lasts.
    fn await_out(&self, frames: usize) -> Vec<FrameOut> {
        let deadline = Instant::now() + PATIENCE;
        let mut out = self.out();
        while Instant::now() < deadline && (out.len() < frames || !self.dealt_with()) {
            wait_any(&self.wires, LOOK);
            out.extend(self.out());
        }
        out.extend(self.out());
        out
    }

    fn dealt_with(&self) -> bool {
        let books = self.director.status().books;
        books.received >= self.taken && books.balanced && books.held == 0
    }

    /// What has left up to now, but for what the director says of its own accord.
    fn out(&self) -> Vec<FrameOut> {
        let at = |(nic, wire): (u8, &Wire)| {
            let frames = wire.pending().into_iter().filter(|frame| !announcement(frame, &self.own));
            frames.map(move |frame| FrameOut::new(NicId(nic), &frame)).collect::<Vec<_>>()
        };
        (0..).zip(&self.wires).flat_map(at).collect()
    }

    fn command(&self, line: &str) -> CommandResult {
        let commands = line.split('#').next().unwrap_or_default().split([';', '&']).map(str::trim);
        for command in commands.filter(|command| !command.is_empty()) {
            let known = command.starts_with("ipvsadm") || command.starts_with("sleep ");
            assert!(known, "{command}: not to be typed on this machine");
        }
        let said = self.shell.sh(&["-c", &format!("{SHELL}{line}")]);
        let rc = said.code.unwrap_or(-1);
        CommandResult { cmd: line.to_owned(), rc, output: said.out + &said.err }
    }
}

/// What a director and its kernel side say about their addresses unasked: a gratuitous ARP (RFC 5227), to IPv6 groups a
/// neighbour advertisement (RFC 4861 section 7.2.6), what duplicate address detection asks (RFC 4862), a router
/// solicitation, and a report of the groups themselves (RFC 3810, behind a hop-by-hop header).
fn announcement(frame: &[u8], own: &HashSet<IpAddr>) -> bool {
    // It asks whether somebody else has them, too.
    if question(frame).is_some_and(|(_, _, target)| own.contains(&target)) {
        return true;
    }
    match frame.get(12..14) {
        Some([8, 6]) => frame.get(28..32).is_some_and(|sender| frame.get(38..42) == Some(sender)),
        Some([0x86, 0xdd]) if frame.starts_with(&[0x33, 0x33]) => match (frame.get(20), frame.get(54)) {
            (Some(0), _) | (Some(58), Some(133 | 136)) => true,
            (Some(58), Some(135)) => frame[22..38] == [0; 16],
            _ => false,
        },
        _ => false,
    }
}

/// The configuration that says what `ip`, `tc` and `sysctl` told the machine of the recordings.
fn configuration(plan: &Plan, nics: Nics) -> String {
    let mut text = String::from("[sysctl]\n");
    let mut line = |said: std::fmt::Arguments<'_>| writeln!(text, "{said}").expect("memory");
    for (name, value) in plan.sysctls.values() {
        line(format_args!("{name} = {value}"));
    }
    for (nic, id) in plan.nics.iter().zip(0..) {
        let (name, mtu) = (&nic.name, nic.mtu);
        let addresses: Vec<String> = nic.addresses.iter().map(ToString::to_string).collect();
        let known = plan.neighbours.iter().filter(|neighbour| neighbour.nic == NicId(id));
        let known: Vec<String> = known.map(|host| format!("{} {}", host.address, host.mac)).collect();
        let device = match nics {
            Nics::AfPacket => format!("af_packet:{name}"),
            Nics::Taps => format!("tap:wire{id},mac={}", nic.mac),
        };
        line(format_args!("[[nic]]\nname = \"{name}\"\ndevice = \"{device}\"\nmtu = {mtu}"));
        line(format_args!("addresses = {addresses:?}\nneighbours = {known:?}\nreverse_path = \"off\""));
    }
    for route in &plan.routes {
        let (to, nic) = (route.to, &plan.nics[route.nic.index()].name);
        let via = route.via.map(|via| format!("via = \"{via}\"\n")).unwrap_or_default();
        line(format_args!("[[route]]\nto = \"{to}\"\n{via}nic = \"{nic}\""));
    }
    // As with the kernel's ip_forward.
    line(format_args!("[[forward]]\nfrom = \"0.0.0.0/0\"\n[[forward]]\nfrom = \"::/0\""));
    // A service of a mark has its VIPs from the rules; those of the recordings mark all that a NIC gets.
    for rule in &plan.marks {
        let nic =
            rule.nic.map(|nic| format!("nic = \"{}\"\n", plan.nics[nic.index()].name)).unwrap_or_default();
        let each = |vip: &IpAddr| format!("[[mark]]\nmark = {}\nto = \"{vip}\"\n{nic}", rule.mark.number());
        line(format_args!("{}", plan.vips.iter().map(each).collect::<String>()));
    }
    text
}
