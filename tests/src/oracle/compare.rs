//! Compares what this director did with what was recorded of the kernel.
//!
//! Left out is exactly what differs between two recordings of the same kernel: 15 s in the timers of `ipvsadm -lnc`;
//! in what the director makes itself (ICMP, tunnel headers, sync datagrams) the IPv4 ID, the UDP source port,
//! the IPv6 flow label; and the IPv6 fragment ID. Neither is the order of the frames of one step at different NICs, or of
//! lines, nor are the frames by which a kernel tells the link that it has an address now, whenever it gets to it.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::scenario::{FrameOut, Recording, StepResult};
use crate::text;

/// The director's addresses in the recordings, its own and its VIPs.
const OWN_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 1, 0, 1),
    Ipv4Addr::new(10, 0, 0, 100),
    Ipv4Addr::new(10, 0, 0, 101),
    Ipv4Addr::new(10, 0, 0, 102),
];
const OWN_V6: [Ipv6Addr; 6] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x101),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x102),
    // Whom it speaks for with a firewall mark.
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 9),
];
/// The group MAC of sync datagrams.
const SYNC: [u8; 6] = [1, 0, 0x5e, 0, 0, 0x51];
/// Seconds that a timer may be off.
const TIMER_SLACK: u32 = 15;

/// What was compared, and what differed.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Steps whose frames were compared.
    pub steps: usize,
    /// Frames that were recorded.
    pub frames: usize,
    /// Choices of a real server that were compared.
    pub choices: usize,
    /// Outputs of commands that were compared, those of commands that say nothing included.
    pub outputs: usize,
    /// Each difference, in order, for people to read.
    pub differences: Vec<String>,
    /// Seconds that a timer may be off.
    slack: u32,
}

/// Compares what was wanted with what was got.
#[must_use]
pub fn compare(want: &Recording, got: &Recording) -> Comparison {
    compare_within(TIMER_SLACK, want, got)
}

/// The same where timers may be off by this many seconds.
#[must_use]
pub fn compare_within(slack: u32, want: &Recording, got: &Recording) -> Comparison {
    let mut comparison = Comparison { slack, ..Comparison::default() };
    comparison.sync(want, got);
    comparison.lengths("setup", want.setup.len(), got.setup.len());
    comparison.lengths("steps", want.steps.len(), got.steps.len());
    comparison.lengths("end", want.end.len(), got.end.len());
    for (number, (want, got)) in want.setup.iter().zip(&got.setup).enumerate() {
        comparison.output(&format!("setup {number}"), &want.output, &got.output);
        comparison.status(&format!("setup {number}"), want.rc, got.rc);
    }
    for (number, (want, got)) in want.steps.iter().zip(&got.steps).enumerate() {
        comparison.step(number, want, got);
    }
    comparison.chosen(want, got);
    for (want, got) in want.end.iter().zip(&got.end) {
        comparison.output(&format!("end, {}", want.cmd), &want.output, &got.output);
        comparison.status(&format!("end, {}", want.cmd), want.rc, got.rc);
    }
    comparison
}

impl Comparison {
    fn lengths(&mut self, part: &str, want: usize, got: usize) {
        if want != got {
            self.differences.push(format!("{part}: {got} entries, not {want}"));
        }
    }

    fn step(&mut self, number: usize, want: &StepResult, got: &StepResult) {
        self.steps += 1;
        self.frames += want.out.len();
        if frames(want, false) != frames(got, false) {
            let told = [("want", &want.out), ("got ", &got.out)].map(|(side, frames)| told(side, frames));
            self.differences.push(format!("step {number}: frames differ\n{}", told.concat()));
        }
        if want.output.is_some() || got.output.is_some() {
            let said = |step: &StepResult| step.output.clone().unwrap_or_default();
            self.output(&format!("step {number}"), &said(want), &said(got));
            self.status(&format!("step {number}"), want.rc, got.rc);
        }
    }

    fn output(&mut self, place: &str, want: &str, got: &str) {
        self.outputs += 1;
        if !same_text(self.slack, want, got) {
            self.differences.push(format!("{place}: outputs differ\n--- want\n{want}--- got\n{got}"));
        }
    }

    fn status(&mut self, place: &str, want: i32, got: i32) {
        if want != got {
            self.differences.push(format!("{place}: exit status {got}, not {want}"));
        }
    }

    fn chosen(&mut self, want: &Recording, got: &Recording) {
        self.choices += want.chosen.len();
        self.lengths("choices", want.chosen.len(), got.chosen.len());
        for (number, (want, got)) in want.chosen.iter().zip(&got.chosen).enumerate() {
            if want != got {
                let name = |mac: &Option<String>| mac.clone().unwrap_or_else(|| "nothing".to_owned());
                let difference = format!("new connection {number}: {} chosen, not {}", name(got), name(want));
                self.differences.push(difference);
            }
        }
    }

    /// Sync datagrams go out when they go out: all of them are compared together.
    fn sync(&mut self, want: &Recording, got: &Recording) {
        let all = |recording: &Recording| {
            let mut all = recording.steps.iter().flat_map(|step| frames(step, true)).collect::<Vec<_>>();
            all.sort();
            all
        };
        if all(want) != all(got) {
            self.differences.push("sync datagrams differ".to_owned());
        }
    }
}

/// Frames of one side of a difference, each as text and, since what differs may not show there, as masked bytes.
fn told(side: &str, frames: &[FrameOut]) -> String {
    if frames.is_empty() {
        return format!("  {side} nothing\n");
    }
    let one = |out: &FrameOut| {
        format!(
            "  {side} NIC {} {}\n       {}\n",
            out.nic,
            text::frame(&out.frame.0),
            text::hex(&masked(&out.frame.0))
        )
    };
    frames.iter().map(one).collect()
}

/// The frames of a step, masked, those of each NIC in their order: sync datagrams, or all others.
fn frames(step: &StepResult, sync: bool) -> Vec<(u8, Vec<u8>)> {
    let wanted = step.out.iter().filter(|out| out.frame.0.starts_with(&SYNC) == sync);
    let wanted = wanted.filter(|out| !is_announcement(&out.frame.0));
    let mut frames = wanted.map(|out| (out.nic.0, masked(&out.frame.0))).collect::<Vec<_>>();
    frames.sort_by_key(|(nic, _)| *nic);
    frames
}

/// True for RARP, for an ARP request for the sender's own address, and for a neighbour advertisement to all nodes that nobody solicited.
#[must_use]
pub fn is_announcement(frame: &[u8]) -> bool {
    const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    match frame.get(12..14) {
        Some([0x80, 0x35]) => true,
        Some([8, 6]) => frame.starts_with(&[0xff; 6]) && frame.get(28..32) == frame.get(38..42),
        Some([0x86, 0xdd]) => {
            frame.starts_with(&ALL_NODES)
                && (frame.get(20), frame.get(54)) == (Some(&58), Some(&136))
                && frame.get(58).is_some_and(|flags| flags & 0x40 == 0)
        }
        _ => false,
    }
}

/// A frame without what is random in it.
#[must_use]
pub fn masked(frame: &[u8]) -> Vec<u8> {
    let mut masked = frame.to_vec();
    match frame.get(12..14) {
        Some([8, 0]) => mask_v4(&mut masked),
        Some([0x86, 0xdd]) => mask_v6(&mut masked),
        _ => {}
    }
    masked
}

fn mask_v4(frame: &mut [u8]) {
    let Some(&[a, b, c, d]) = frame.get(26..30) else { return };
    if !OWN_V4.contains(&Ipv4Addr::new(a, b, c, d)) {
        return;
    }
    let later = (u16::from(frame[20]) << 8 | u16::from(frame[21])) & 0x1fff != 0;
    // UDP to 5555 is GUE, to 8848 it is a sync datagram.
    let made_udp =
        frame[23] == 17 && (later || matches!(frame.get(36..38), Some([0x15, 0xb3] | [0x22, 0x90])));
    if made_udp || matches!(frame[23], 1 | 4 | 41 | 47) {
        let header = frame.get(14..14 + usize::from(frame[14] & 15) * 4).unwrap_or_default();
        let mark = if text::checksum(&[header]) == 0 { [0, 0] } else { *b"!!" };
        frame[24..26].copy_from_slice(&mark);
        frame[18..20].fill(0);
    }
    if made_udp && !later && frame.len() >= 42 {
        frame[34..36].fill(0);
        let mark = if frame[40..42] == [0, 0] { [0, 0] } else { [0, 1] };
        frame[40..42].copy_from_slice(&mark);
    }
}

fn mask_v6(frame: &mut [u8]) {
    let source = frame.get(22..38).and_then(|source| <[u8; 16]>::try_from(source).ok());
    let is_own = source.is_some_and(|source| OWN_V6.contains(&Ipv6Addr::from(source)));
    if is_own {
        frame[15] &= 0xf0;
        frame[16..18].fill(0);
        // GUE, whose checksum holds or is none.
        if frame[20] == 17 && frame.get(56..58) == Some(&[0x15, 0xb3]) && frame.len() >= 62 {
            let pseudo = text::pseudo_header(&frame[22..38], &frame[38..54], 17, frame.len() - 54);
            let is_right = text::checksum(&[&pseudo, &frame[54..]]) == 0;
            let mark = if frame[60..62] == [0, 0] { *b"no" } else { [0, if is_right { 1 } else { 2 }] };
            frame[60..62].copy_from_slice(&mark);
            frame[54..56].fill(0);
        }
    }
    let (mut next, mut at) = (frame.get(20).copied(), 54);
    while let Some(0 | 43 | 60) = next {
        next = frame.get(at).copied();
        at += (usize::from(frame.get(at + 1).copied().unwrap_or_default()) + 1) * 8;
    }
    if next == Some(44) {
        frame.get_mut(at + 4..at + 8).unwrap_or_default().fill(0);
        // The first fragment of GUE.
        let first = frame.get(at + 2..at + 4).is_some_and(|word| word[0] == 0 && word[1] & !7 == 0);
        let is_gue = frame.get(at) == Some(&17) && frame.get(at + 10..at + 12) == Some(&[0x15, 0xb3]);
        if is_own && first && is_gue && frame.len() >= at + 16 {
            frame[at + 8..at + 10].fill(0);
            let mark = if frame[at + 14..at + 16] == [0, 0] { *b"no" } else { [0, 1] };
            frame[at + 14..at + 16].copy_from_slice(&mark);
        }
    }
}

/// An IPv4 frame without the options of its header.
#[must_use]
pub fn without_options(frame: &[u8]) -> Vec<u8> {
    let header = frame.get(14).map_or(0, |first| usize::from(first & 15) * 4);
    let (Some([8, 0]), Some(front), Some(behind)) =
        (frame.get(12..14), frame.get(..34), frame.get(14 + header..))
    else {
        return frame.to_vec();
    };
    let mut frame = [front, behind].concat();
    let length = (frame.len() - 14) as u16;
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame[24..26].fill(0);
    let sum = text::checksum(&[&frame[14..34]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// True for an ICMP redirect.
#[must_use]
pub fn is_redirect(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => (frame.get(23), frame.get(34)) == (Some(&1), Some(&5)),
        Some([0x86, 0xdd]) => (frame.get(20), frame.get(54)) == (Some(&58), Some(&137)),
        _ => false,
    }
}

/// True when all frames of both are the fragments of one IPv6 datagram, wherever it is cut.
#[must_use]
pub fn is_same_datagram(want: &[FrameOut], got: &[FrameOut]) -> bool {
    datagram(want).is_some_and(|want| Some(want) == datagram(got))
}

/// The recording, with IPv6 datagrams cut where they were in what was got: in the kernel that depends on where in its driver's
/// buffers a fragment lay (docs/kernel.md).
#[must_use]
pub fn with_own_cuts(mut want: Recording, got: &Recording) -> Recording {
    for (want, got) in want.steps.iter_mut().zip(&got.steps) {
        if is_same_datagram(&want.out, &got.out) {
            want.out.clone_from(&got.out);
        }
    }
    want
}

/// Headers, but for their length, and data of an IPv6 datagram in fragments.
fn datagram(frames: &[FrameOut]) -> Option<(Vec<u8>, Vec<u8>)> {
    const FRAGMENT: usize = 54;
    let mut headers = None;
    let mut data = Vec::new();
    for frame in frames {
        let frame = masked(&frame.frame.0);
        let word = u16::from_be_bytes([*frame.get(FRAGMENT + 2)?, *frame.get(FRAGMENT + 3)?]);
        let is_next = frame[20] == 44 && usize::from(word & !7) == data.len();
        let header = [&frame[..18], &frame[20..=FRAGMENT]].concat();
        if !is_next || headers.get_or_insert_with(|| header.clone()) != &header {
            return None;
        }
        data.extend_from_slice(frame.get(FRAGMENT + 8..)?);
    }
    Some((headers?, data))
}

/// True when two outputs hold the same lines, but for the order and the slack of timers.
fn same_text(slack: u32, want: &str, got: &str) -> bool {
    let (want, got) = (Timers::of(want), Timers::of(got));
    let near = want.seconds.iter().zip(&got.seconds).all(|(want, got)| want.abs_diff(*got) <= slack);
    want.lines == got.lines && want.seconds.len() == got.seconds.len() && near
}

/// An output apart from its timers: words of the form `mm:ss` that two spaces follow.
struct Timers {
    /// In the order of the output.
    seconds: Vec<u32>,
    /// In a fixed order.
    lines: Vec<String>,
}

impl Timers {
    fn of(output: &str) -> Self {
        let mut seconds = Vec::new();
        let line = |line: &str| {
            let mut bytes = line.as_bytes().to_vec();
            for at in 0..bytes.len().saturating_sub(6) {
                let starts_word =
                    at == 0 || !(bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
                let &[a, b, b':', c, d, b' ', b' '] = &bytes[at..at + 7] else { continue };
                if !starts_word || ![a, b, c, d].iter().all(u8::is_ascii_digit) {
                    continue;
                }
                let number = |tens: u8, ones: u8| u32::from(tens - b'0') * 10 + u32::from(ones - b'0');
                seconds.push(number(a, b) * 60 + number(c, d));
                bytes[at..at + 5].copy_from_slice(b"--:--");
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut lines = output.split('\n').map(line).collect::<Vec<_>>();
        lines.sort();
        Self { seconds, lines }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shunt_dataplane::id::NicId;

    #[test]
    fn timers_have_slack_and_nothing_else_has() {
        let line = |timer: &str, state: &str| format!("TCP {timer}  {state} 198.51.100.1:40000\n");
        let base = line("14:50", "ESTABLISHED");
        assert!(same_text(15, &base, &line("15:05", "ESTABLISHED")));
        assert!(!same_text(15, &base, &line("15:06", "ESTABLISHED")));
        assert!(!same_text(15, &base, &line("14:50", "FIN_WAIT")));
        assert!(!same_text(15, &base, ""));
        assert!(same_text(15, "a\nb\n", "b\na\n"));
        assert!(!same_text(15, "a 1\n", "a 2\n"));
    }

    fn ipv4(protocol: u8, source: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[18..20].copy_from_slice(&[7, 7]);
        frame[23] = protocol;
        frame[26..30].copy_from_slice(&source);
        let sum = text::checksum(&[&frame[14..34]]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn identification_is_left_out_where_the_director_chose_it() {
        for (protocol, source, left_out) in [
            (1, [10, 0, 0, 100], true),
            (4, [10, 1, 0, 1], true),
            (6, [10, 0, 0, 100], false),
            (17, [10, 0, 0, 100], false),
            (1, [10, 0, 0, 9], false),
        ] {
            let frame = ipv4(protocol, source);
            assert_eq!(masked(&frame)[18] == 0, left_out, "{protocol} {source:?}");
            let mut wrong = frame.clone();
            wrong[24] ^= 1;
            assert_ne!(masked(&wrong), masked(&frame), "a wrong checksum shows: {protocol} {source:?}");
        }
    }

    #[test]
    fn a_datagram_is_the_same_wherever_it_is_cut() {
        let fragment = |offset: u16, more: u16, data: &[u8]| {
            let mut frame = vec![0; 62];
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[18..20].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
            (frame[20], frame[54]) = (44, 17);
            frame[56..58].copy_from_slice(&(offset | more).to_be_bytes());
            frame.extend(data);
            FrameOut::new(NicId(1), &frame)
        };
        let data = (0..40).collect::<Vec<u8>>();
        let two = [fragment(0, 1, &data[..24]), fragment(24, 0, &data[24..])];
        let three = [fragment(0, 1, &data[..8]), fragment(8, 1, &data[8..24]), fragment(24, 0, &data[24..])];
        assert!(is_same_datagram(&two, &three));
        assert!(!is_same_datagram(&two, &three[..2]));
        assert!(!is_same_datagram(&two, &[two[1].clone(), two[0].clone()]));
        assert!(!is_same_datagram(&two, &[fragment(0, 1, &data[..24]), fragment(24, 0, &data[23..39])]));
        assert!(!is_same_datagram(&[], &[]));
    }

    #[test]
    fn differences_are_found() {
        let out = |nic, byte| FrameOut::new(NicId(nic), &[byte; 20]);
        let step = |out: Vec<FrameOut>| StepResult { out, ..StepResult::default() };
        let recording = |out| Recording { steps: vec![step(out)], ..Recording::default() };
        let want = recording(vec![out(0, 1), out(1, 2)]);
        assert!(compare(&want, &recording(vec![out(1, 2), out(0, 1)])).differences.is_empty());
        let [first, second] = [1, 2].map(|byte| out(0, byte));
        let (ordered, turned) =
            (recording(vec![first.clone(), second.clone()]), recording(vec![second, first]));
        assert_eq!(compare(&ordered, &turned).differences.len(), 1, "the order at a NIC");
        for wrong in [vec![], vec![out(0, 1)], vec![out(0, 1), out(0, 2)], vec![out(0, 1), out(1, 3)]] {
            assert_eq!(compare(&want, &recording(wrong)).differences.len(), 1);
        }
        let mut other = want.clone();
        (other.steps[0].output, other.steps[0].rc) = (Some(String::new()), 255);
        let mut wanted = want.clone();
        wanted.steps[0].output = Some(String::new());
        assert_eq!(compare(&wanted, &other).differences, ["step 0: exit status 255, not 0"]);
        let mut other = want.clone();
        other.chosen.push(None);
        assert_eq!(compare(&want, &other).differences, ["choices: 1 entries, not 0"]);
    }
}
