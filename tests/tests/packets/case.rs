//! One row of the table and how it is run.

use shunt_dataplane::forward::Verdict;
use shunt_dataplane::id::{NicId, Protocol};
use shunt_dataplane::service::Method;
use shunt_dataplane::service::schedulers::Scheduler;
use shunt_dataplane::snapshot::Plan;
use shunt_tests::director::{Arrival, Director, HEAD_ROOM, TAIL_ROOM};
use shunt_tests::network::{self, BACK, FRONT, Form, ROUTER, nic_mac, real_mac};
use shunt_tests::oracle::compare::masked;
use shunt_tests::packets::ethernet;
use shunt_tests::{invariants, text};

/// A row of the table.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    plan: Plan,
    connections: u32,
    room: (usize, usize),
    before: Vec<Arrival>,
    change: fn(&mut Plan),
    packet: Arrival,
    pub verdict: Verdict,
    out: Option<Vec<u8>>,
    any_out: bool,
    /// Frames that leave beside it.
    beside: Option<Vec<Vec<u8>>>,
}

impl Case {
    /// `packet` meets a director that runs `plan`.
    pub fn new(name: impl Into<String>, plan: Plan, packet: Arrival, verdict: Verdict) -> Self {
        Self {
            name: name.into(),
            plan,
            connections: 16,
            room: (HEAD_ROOM, TAIL_ROOM),
            before: Vec::new(),
            change: |_| {},
            packet,
            verdict,
            out: None,
            any_out: false,
            beside: None,
        }
    }

    /// Another case says what leaves.
    pub fn any_out(self) -> Self {
        Self { any_out: true, ..self }
    }

    /// What leaves. IPv4 identifications and IPv6 flow labels that the director chooses are not compared.
    pub fn out(self, frame: Vec<u8>) -> Self {
        Self { out: Some(frame), ..self }
    }

    /// What leaves beside it.
    pub fn beside(self, frames: Vec<Vec<u8>>) -> Self {
        Self { beside: Some(frames), ..self }
    }

    /// These packets came before.
    pub fn after(self, before: Vec<Arrival>) -> Self {
        Self { before, ..self }
    }

    /// Then this changed.
    pub fn changed(self, change: fn(&mut Plan)) -> Self {
        Self { change, ..self }
    }

    /// The table has room for so many connections.
    pub fn connections(self, connections: u32) -> Self {
        Self { connections, ..self }
    }

    /// So many bytes are free in front of the frame and behind it.
    pub fn room(self, head: usize, tail: usize) -> Self {
        Self { room: (head, tail), ..self }
    }

    /// The same with these bytes behind the MACs of all that arrives; none where there is no place for them, or the room is what it is about.
    pub fn tagged(mut self, tags: &[u8]) -> Option<Self> {
        let frames = self.before.iter_mut().chain([&mut self.packet]).map(|arrival| &mut arrival.frame);
        for frame in frames {
            if frame.len() < 14 {
                return None;
            }
            frame.splice(12..12, tags.iter().copied());
        }
        self.name += ", tagged";
        (self.room == (HEAD_ROOM, TAIL_ROOM)).then_some(self)
    }

    /// What is wrong, if anything.
    fn fails(&self) -> Option<String> {
        let mut director =
            Director::new(1, self.connections, self.plan.clone()).with_room(self.room.0, self.room.1);
        for arrival in &self.before {
            let outcome = director.take(arrival.nic, &arrival.frame);
            if outcome.sent().is_none() {
                return Some(format!("{}: a packet before: {:?}\n", self.name, outcome.verdict));
            }
        }
        director.publish(self.change);
        let explained = director.explain(&self.packet);
        let got = director.take(self.packet.nic, &self.packet.frame);
        if !invariants::comes_true(explained.last(), got.verdict) {
            return Some(format!("{}: explained as {explained:?}, but {:?}\n", self.name, got.verdict));
        }
        let sent = got.sent().map(|(_, frame)| masked(frame));
        let wanted = self.out.as_deref().map(masked);
        let leaves = if self.any_out { sent.is_some() } else { sent == wanted };
        let fits = got
            .all_sent()
            .all(|(nic, frame)| frame.len() <= 14 + usize::from(director.plan().nics[nic.index()].mtu));
        let more = got.more.iter().map(|(_, frame)| masked(frame)).collect::<Vec<_>>();
        let beside = self.beside.as_ref().map(|frames| frames.iter().map(|frame| masked(frame)).collect());
        let leaves = leaves && beside.as_ref().is_none_or(|beside: &Vec<_>| *beside == more);
        let right = got.verdict == self.verdict && leaves && fits && director.held() == 0;
        (!right).then(|| {
            let told = |side: &str, frame: &Option<Vec<u8>>| match frame {
                Some(frame) => format!("  {side} {}\n{}", text::frame(frame), text::dump(frame)),
                None => format!("  {side} nothing\n"),
            };
            let verdicts =
                format!("  verdict wanted {:?}\n  verdict got    {:?}\n", self.verdict, got.verdict);
            let packet = Some(self.packet.frame.clone());
            [
                &self.name,
                ":\n",
                &told("in    ", &packet),
                &verdicts,
                &told("wanted", &wanted),
                &told("got   ", &sent),
                &format!("  beside wanted {beside:x?}\n  beside got    {more:x?}\n"),
            ]
            .concat()
        })
    }
}

/// Runs rows and tells of all that fail.
pub fn run(cases: Vec<Case>) {
    let failures = cases.iter().filter_map(Case::fails).collect::<Vec<_>>();
    assert!(failures.is_empty(), "{} of {} cases fail\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// A packet from the clients' router.
pub fn from_front(packet: &[u8]) -> Arrival {
    Arrival { nic: FRONT, frame: ethernet(nic_mac(FRONT), ROUTER, packet) }
}

/// A packet from a real server.
pub fn from_real(real: u8, packet: &[u8]) -> Arrival {
    Arrival { nic: BACK, frame: ethernet(nic_mac(BACK), real_mac(real), packet) }
}

/// The frame in which the director sends a packet to the clients' router.
pub fn to_front(packet: &[u8]) -> Vec<u8> {
    ethernet(ROUTER, nic_mac(FRONT), packet)
}

/// The frame in which the director sends a packet to a real server.
pub fn to_real(real: u8, packet: &[u8]) -> Vec<u8> {
    ethernet(real_mac(real), nic_mac(BACK), packet)
}

/// The network with one service, rr over real servers 1 and 2: 2 comes first.
pub fn one_service(form: Form, protocol: Protocol, method: Method) -> Plan {
    let port = if protocol == Protocol::Tcp { 80 } else { 53 };
    network::plan(vec![network::service(form, protocol, port, Scheduler::Rr, method, 2)])
}

/// The network without services.
pub fn no_service() -> Plan {
    network::plan(Vec::new())
}

/// The network without services, where everything is routed.
pub fn router() -> Plan {
    Plan { forwards: vec![network::everything_passes()], ..no_service() }
}

/// The word of a family in descriptions.
pub fn word(form: Form) -> &'static str {
    match form {
        Form::V4 => "IPv4",
        Form::V6 => "IPv6",
    }
}

/// The verdict for what goes to a real server.
pub const SENT_BACK: Verdict = Verdict::Send(NicId(1));
/// The verdict for what goes to a client.
pub const SENT_FRONT: Verdict = Verdict::Send(NicId(0));
