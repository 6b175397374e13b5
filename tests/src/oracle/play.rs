//! Plays a scenario to this director under a virtual clock.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use shunt_dataplane::connections::Timeouts;
use shunt_dataplane::forward::{Punt, Verdict};
use shunt_dataplane::id::{Mac, NicId};
use shunt_dataplane::packet::Packet;
use shunt_dataplane::reverse_path::ReversePath;
use shunt_dataplane::service::{Unresolved, Way};
use shunt_dataplane::snapshot::{NicPlan, Plan};
use shunt_dataplane::time::Ticks;
use shunt_dataplane::wire::{self, arp, ndp};
use shunt_dataplane::{reply, rewrite};
use shunt_protocol::neighbour::{Machine, Nic, Output};

use super::commands::{self, Unknown};
use super::compare;
use super::scenario::{CommandResult, FrameOut, Recording, Scenario, Step, StepResult};
use crate::director::{Arrival, Director, Outcome};
use crate::invariants;
use crate::network::everything_passes;

/// What each step takes.
pub const STEP: Duration = Duration::from_millis(10);
/// Connections of either family: more than any scenario makes.
const CONNECTIONS: u32 = 4096;
/// Replies a second: never the limit.
const REPLIES: u32 = 1_000_000;

/// The director of the recordings before any command: two NICs without addresses.
#[must_use]
pub fn bare_director() -> Director {
    let nic = |number: u8| NicPlan {
        name: format!("eth{number}"),
        mac: Mac([2, 0, 0, 0, 0xd0, number]),
        mtu: 1500,
        up: true,
        edition: 0,
        virtual_macs: Vec::new(),
        addresses: Vec::new(),
        reverse_path: ReversePath::Off,
    };
    let plan = Plan {
        nics: vec![nic(0), nic(1)],
        timeouts: Timeouts::default(),
        replies_per_second: REPLIES,
        forwards: vec![everything_passes()],
        client_share: Default::default(),
        ..Plan::default()
    };
    Director::new(1, CONNECTIONS, plan)
}

/// Plays a scenario from the start.
///
/// # Errors
/// When it holds a command that the runner does not know.
pub fn play(scenario: &Scenario) -> Result<Recording, Unknown> {
    play_disturbed(scenario, |_, _| {})
}

/// Plays a scenario by a clock of which each step takes `pace`.
///
/// # Errors
/// When it holds a command that the runner does not know.
pub fn play_at(scenario: &Scenario, pace: Duration) -> Result<Recording, Unknown> {
    let mut player = Player::set_up(scenario, pace)?;
    for step in &scenario.steps {
        player.step(step)?;
    }
    player.end(scenario)
}

/// Plays a scenario and calls `disturb` with the number of the step before each one.
///
/// # Errors
/// When it holds a command that the runner does not know.
pub fn play_disturbed(
    scenario: &Scenario,
    mut disturb: impl FnMut(usize, &mut Director),
) -> Result<Recording, Unknown> {
    let mut player = Player::set_up(scenario, STEP)?;
    for (number, step) in scenario.steps.iter().enumerate() {
        player.step_after(step, |director| disturb(number, director))?;
    }
    player.end(scenario)
}

/// A director in the middle of a scenario.
#[derive(Debug)]
pub struct Player {
    director: Director,
    recording: Recording,
    /// What each step takes.
    pace: Duration,
    neighbours: Neighbours,
}

/// The control core's neighbours, by the director's clock.
#[derive(Debug)]
struct Neighbours {
    machine: Machine<Arrival>,
    began: Instant,
}

impl Neighbours {
    fn new() -> Self {
        let began = Instant::now();
        Self { machine: Machine::new(began), began }
    }

    fn now(&self, director: &Director) -> Instant {
        self.began + Ticks(director.now().0).as_duration()
    }

    /// A packet waits for its neighbour.
    fn resolve(
        &mut self,
        unresolved: Unresolved,
        arrival: Arrival,
        director: &mut Director,
    ) -> Vec<FrameOut> {
        let nics = director.plan().nics.iter();
        let nics = nics.map(|nic| Nic { mac: nic.mac, addresses: nic.addresses.clone() }).collect();
        let now = self.now(director);
        self.machine.set_owned(now, nics, Vec::new(), &mut Vec::new());
        let mut outputs = Vec::new();
        self.machine.resolve(now, (unresolved.nic, unresolved.address), arrival, &mut outputs);
        let out = Self::done(outputs, director);
        // The machine asks from an address of the network, the kernel from a link-local one.
        if out.is_empty() { out } else { question(unresolved, director).into_iter().collect() }
    }

    /// Lets time pass.
    fn advance(&mut self, time: Duration, director: &mut Director) -> Vec<FrameOut> {
        const TURN: Duration = Duration::from_millis(100);
        let mut out = Vec::new();
        let mut left = time;
        while self.machine.waiting() > 0 && left > TURN {
            director.advance(TURN);
            left -= TURN;
            let mut outputs = Vec::new();
            self.machine.tick(self.now(director), &mut outputs);
            out.extend(Self::done(outputs, director));
        }
        director.advance(left);
        out
    }

    /// Does what the machine says: questions go out, and the senders of what waited in vain are told.
    fn done(outputs: Vec<Output<Arrival>>, director: &mut Director) -> Vec<FrameOut> {
        let mut out = Vec::new();
        for output in outputs {
            match output {
                Output::Transmit { nic, frame } if !compare::is_announcement(&frame) => {
                    out.push(FrameOut::new(nic, &frame));
                }
                Output::Unreachable(arrival) => {
                    let outcome = director.unreachable(&arrival);
                    out.extend(outcome.all_sent().map(|(nic, frame)| FrameOut::new(nic, frame)));
                }
                _ => {}
            }
        }
        out
    }
}

impl Player {
    /// Runs the setup of a scenario.
    ///
    /// # Errors
    /// When it holds a command that the runner does not know.
    pub fn set_up(scenario: &Scenario, pace: Duration) -> Result<Self, Unknown> {
        let mut player = Self {
            director: bare_director(),
            recording: Recording::default(),
            pace,
            neighbours: Neighbours::new(),
        };
        for line in &scenario.setup {
            let result = command(line, &mut player.director)?;
            if result.rc != 0 || !result.output.is_empty() {
                player.recording.setup.push(result);
            }
        }
        Ok(player)
    }

    /// Plays one step more.
    ///
    /// # Errors
    /// When it is a command that the runner does not know.
    ///
    /// # Panics
    /// Never: there is a last step when one was played.
    pub fn step(&mut self, step: &Step) -> Result<&StepResult, Unknown> {
        self.step_after(step, |_| {})
    }

    fn step_after(
        &mut self,
        step: &Step,
        disturb: impl FnOnce(&mut Director),
    ) -> Result<&StepResult, Unknown> {
        self.director.advance(self.pace);
        disturb(&mut self.director);
        let mut result = play_step(step, &mut self.director, &mut self.neighbours)?;
        let told = self.director.take_told();
        result.out.splice(0..0, told.iter().map(|(nic, frame)| FrameOut::new(*nic, frame)));
        self.recording.steps.push(result);
        self.director.expire();
        Ok(self.recording.steps.last().expect("pushed"))
    }

    /// Runs the commands at the end; what was recorded.
    ///
    /// # Errors
    /// When there is a command that the runner does not know.
    pub fn end(mut self, scenario: &Scenario) -> Result<Recording, Unknown> {
        for line in &scenario.end {
            self.recording.end.push(command(line, &mut self.director)?);
        }
        self.recording.chosen = self.recording.choices(scenario);
        Ok(self.recording)
    }

    /// What was played so far.
    #[must_use]
    pub const fn recording(&self) -> &Recording {
        &self.recording
    }

    /// The director.
    #[must_use]
    pub const fn director(&self) -> &Director {
        &self.director
    }
}

fn play_step(
    step: &Step,
    director: &mut Director,
    neighbours: &mut Neighbours,
) -> Result<StepResult, Unknown> {
    match step {
        Step::Frame { nic, frame, .. } => {
            let arrival = Arrival { nic: NicId(*nic), frame: frame.0.clone() };
            let explained = director.explain(&arrival);
            let outcome = director.take(arrival.nic, &arrival.frame);
            let comes_true = invariants::comes_true(explained.last(), outcome.verdict);
            assert!(comes_true, "explained as {explained:?}, but {:?}", outcome.verdict);
            let sent = outcome.all_sent().map(|(nic, frame)| FrameOut::new(nic, frame));
            let mut sent = sent.collect::<Vec<_>>();
            if let Verdict::Punt(Punt::Unresolved(unresolved)) = outcome.verdict {
                sent.extend(neighbours.resolve(unresolved, arrival, director));
            }
            let out = sent.into_iter().chain(answer(&outcome, NicId(*nic), director)).collect();
            Ok(StepResult { out, ..StepResult::default() })
        }
        Step::Command { cmd } => {
            let CommandResult { rc, output, .. } = command(cmd, director)?;
            Ok(StepResult { output: Some(output), rc, out: Vec::new() })
        }
        Step::Wait { wait } => {
            let out = neighbours.advance(Duration::from_secs_f64(*wait), director);
            Ok(StepResult { out, ..StepResult::default() })
        }
    }
}

/// What the kernel asks the link when it does not know a neighbour.
fn question(unresolved: Unresolved, director: &Director) -> Option<FrameOut> {
    let nic = director.snapshot().nic(unresolved.nic)?;
    let frame = match unresolved.address {
        IpAddr::V4(address) => arp::request(nic.mac, nic.source_v4?, address).to_vec(),
        IpAddr::V6(address) => ndp::request(nic.mac, ndp::link_local(nic.mac), address),
    };
    Some(FrameOut::new(unresolved.nic, &frame))
}

/// What a kernel side without listeners answers to TCP for a VIP that the director serves itself.
fn answer(outcome: &Outcome, nic: NicId, director: &mut Director) -> Option<FrameOut> {
    if outcome.verdict != Verdict::Punt(Punt::Local) {
        return None;
    }
    let mac = director.snapshot().nic(nic)?.mac;
    let Ok(wire::Frame::V4(headers)) = wire::parse(&outcome.frame, mac) else { return None };
    if !director.plan().vips.contains(&headers.destination.into()) {
        return None;
    }
    let mut room = outcome.frame.clone();
    let mut packet = Packet::new(&mut room, 0, outcome.frame.len(), nic);
    reply::tcp_reset(&mut packet, &headers).ok()?;
    let Way::Known(hop) = director.snapshot().v4.way(headers.source) else { return None };
    rewrite::address(packet.bytes_mut(), hop, 0x0800);
    let (out, frame) = (hop.nic, packet.bytes().to_vec());
    director.notice_own(&frame);
    Some(FrameOut::new(out, &frame))
}

fn command(line: &str, director: &mut Director) -> Result<CommandResult, Unknown> {
    let said = commands::run(line, director)?;
    Ok(CommandResult { cmd: line.to_owned(), rc: said.status, output: said.output })
}
