//! Frames as one readable line, the same words as the recordings' own `text`: addresses, the header fields that
//! matter to a director, and whether the checksums hold. Reads any bytes; written apart from the data path's own
//! parsers, so that both cannot be wrong in the same way.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The bytes of hexadecimal digits; none when they are not pairs of them.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2))
        .collect()
}

/// Hexadecimal digits of bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The Internet checksum (RFC 1071) over several pieces, each of which but the last has an even length; 0 over
/// bytes that hold a right one.
#[must_use]
pub fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in pieces.iter().flat_map(|piece| piece.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The pseudo header of a transport checksum (RFC 9293, 3.1; RFC 8200, 8.1) for addresses of either family.
#[must_use]
pub fn pseudo_header(source: &[u8], destination: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = [source, destination].concat();
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

/// One line about an Ethernet frame.
#[must_use]
pub fn frame(bytes: &[u8]) -> String {
    let Some((ethernet, packet)) = bytes.split_at_checked(14) else { return format!("short {}", hex(bytes)) };
    let head = format!("{}>{} ", hex(&ethernet[9..12]), hex(&ethernet[3..6]));
    match &ethernet[12..] {
        [8, 0] | [0x86, 0xdd] => head + &packet_text(packet, false),
        other => head + &hex(other),
    }
}

/// The same over several lines of hexadecimal digits, 16 bytes each.
#[must_use]
pub fn dump(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).enumerate().map(|(number, line)| {
        let pairs = line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        format!("    {:04x}  {pairs}\n", number * 16)
    });
    lines.collect()
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

/// What an IP header says of what follows it.
struct Carried<'a> {
    source: &'a [u8],
    destination: &'a [u8],
    protocol: u8,
    data: &'a [u8],
    /// The packet is no fragment.
    whole: bool,
    /// It is a packet quoted in an ICMP error, so its checksums are not looked at.
    quoted: bool,
}

fn packet_text(packet: &[u8], quoted: bool) -> String {
    let version = packet.first().map_or(0, |byte| byte >> 4);
    let mut text = String::new();
    let carried = match version {
        6 if packet.len() >= 40 => v6_text(&mut text, packet, quoted),
        4 if packet.len() >= 20 => v4_text(&mut text, packet, quoted),
        _ => return format!("short {}", hex(packet)),
    };
    if let Some(carried) = carried {
        text += &carried_text(&carried);
    }
    text
}

fn v4_text<'a>(text: &mut String, packet: &'a [u8], quoted: bool) -> Option<Carried<'a>> {
    let header = usize::from(packet[0] & 15) * 4;
    let length = usize::from(word(packet, 2));
    let fragment = word(packet, 6);
    let address = |at: usize| Ipv4Addr::from_bits(long(packet, at));
    let _ = write!(
        text,
        "{}>{} ttl={} tos={:x} id={:x}",
        address(12),
        address(16),
        packet[8],
        packet[1],
        word(packet, 4)
    );
    if fragment & 0x4000 != 0 {
        text.push_str(" DF");
    }
    if fragment & 0x2000 != 0 {
        text.push_str(" MF");
    }
    if header < 20 || header > packet.len() || checksum(&[&packet[..header]]) != 0 {
        text.push_str(" BADIPSUM");
    }
    if fragment & 0x1fff != 0 {
        let offset = (fragment & 0x1fff) * 8;
        let _ = write!(text, " off={offset} proto={} len={}", packet[9], length.saturating_sub(header));
        return None;
    }
    Some(Carried {
        source: &packet[12..16],
        destination: &packet[16..20],
        protocol: packet[9],
        data: packet.get(header..length.min(packet.len())).unwrap_or_default(),
        whole: fragment & 0x2000 == 0,
        quoted,
    })
}

fn v6_text<'a>(text: &mut String, packet: &'a [u8], quoted: bool) -> Option<Carried<'a>> {
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap_or_default());
    let first = long(packet, 0);
    let (class, label) = (first >> 20 & 0xff, first & 0xf_ffff);
    let _ = write!(text, "{}>{} hlim={} tc={class:x} flow={label:x}", address(8), address(24), packet[7]);
    let end = (40 + usize::from(word(packet, 4))).min(packet.len());
    let mut carried = Carried {
        source: &packet[8..24],
        destination: &packet[24..40],
        protocol: packet[6],
        data: &packet[40..end],
        whole: true,
        quoted,
    };
    while matches!(carried.protocol, 0 | 43 | 60) && carried.data.len() >= 8 {
        let _ = write!(text, " ext{}", carried.protocol);
        carried.protocol = carried.data[0];
        let length = (usize::from(carried.data[1]) + 1) * 8;
        carried.data = carried.data.get(length..).unwrap_or_default();
    }
    if carried.protocol == 44 && carried.data.len() >= 8 {
        let fragment = word(carried.data, 2);
        let more = if fragment & 1 != 0 { " MF" } else { "" };
        let _ = write!(text, " frag off={}{more} id={}", fragment & !7, hex(&carried.data[4..8]));
        if fragment & !7 != 0 {
            return None;
        }
        (carried.whole, carried.protocol, carried.data) = (false, carried.data[0], &carried.data[8..]);
    }
    Some(carried)
}

fn carried_text(carried: &Carried<'_>) -> String {
    let data = carried.data;
    let verdict = |pseudo: bool| {
        let header = pseudo_header(carried.source, carried.destination, carried.protocol, data.len());
        let sum = if pseudo { checksum(&[&header, data]) } else { checksum(&[data]) };
        if carried.quoted || !carried.whole || sum == 0 { "" } else { " BADSUM" }
    };
    match carried.protocol {
        6 if data.len() >= 20 => {
            let offset = usize::from(data[12] >> 4) * 4;
            let flags = "FSRPAUEC".chars().enumerate().filter(|(bit, _)| data[13] >> bit & 1 == 1);
            let flags = flags.map(|(_, flag)| flag).collect::<String>();
            let payload = data.len() as i64 - offset as i64;
            let (sequence, acknowledged) = (long(data, 4), long(data, 8));
            format!(
                " TCP {}>{} {flags} seq={sequence} ack={acknowledged} data={payload}{}",
                word(data, 0),
                word(data, 2),
                verdict(true)
            )
        }
        6 if data.len() >= 8 => format!(" TCP {}>{}", word(data, 0), word(data, 2)),
        17 if data.len() >= 8 => {
            let sum = if word(data, 6) == 0 { " nosum" } else { verdict(true) };
            format!(" UDP {}>{} len={}{sum}", word(data, 0), word(data, 2), word(data, 4))
        }
        1 | 58 if data.len() >= 8 => icmp_text(carried, verdict(carried.protocol == 58)),
        4 | 41 => format!(" {{{}}}", packet_text(data, carried.quoted)),
        other => format!(" proto={other} len={}", data.len()),
    }
}

fn icmp_text(carried: &Carried<'_>, verdict: &str) -> String {
    let data = carried.data;
    let (name, is_error) = match carried.protocol {
        58 => ("ICMP6", data[0] < 128 && data.len() >= 48),
        _ => ("ICMP", matches!(data[0], 3 | 4 | 5 | 11 | 12)),
    };
    let quote = if is_error { format!(" [{}]", packet_text(&data[8..], true)) } else { String::new() };
    format!(" {name} {}/{} rest={}{verdict}{quote}", data[0], data[1], hex(&data[4..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_reads_back() {
        assert_eq!(unhex("00ff7a"), Some(vec![0, 255, 122]));
        assert_eq!(hex(&[0, 255, 122]), "00ff7a");
        assert_eq!(unhex("00f"), None);
        assert_eq!(unhex("0g"), None);
    }

    #[test]
    fn short_frames_are_told() {
        assert_eq!(frame(&[1, 2]), "short 0102");
        let mut bytes = vec![0; 14];
        bytes[12..].copy_from_slice(&[8, 0]);
        assert_eq!(frame(&bytes), "000000>000000 short ");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_told(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), version in 0_u8..3) {
            if bytes.len() > 14 {
                let ether_type = if version == 0 { [8, 0] } else { [0x86, 0xdd] };
                bytes[12..14].copy_from_slice(&ether_type);
                bytes[14] = if version == 0 { 0x45 } else { 0x60 };
            }
            proptest::prop_assert!(!frame(&bytes).is_empty());
        }
    }
}
