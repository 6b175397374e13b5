//! Numbers, addresses and ports as ipvsadm reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::names::Names;
use super::table::Protocol;

/// A host and perhaps a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub address: IpAddr,
    /// The port, where one was named.
    pub l4_port: Option<u16>,
}

/// A decimal number within bounds, as strtol(3) reads it: blanks and a sign may stand before it, nothing behind.
#[must_use]
pub fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    let (value, rest) = leading_number(text)?;
    (rest.is_empty() && (least..=most).contains(&value)).then_some(value)
}

/// The number that a text begins with, as atoi(3) reads it, and what follows.
#[must_use]
pub fn leading_number(text: &str) -> Option<(i64, &str)> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let rest = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let count = digits.len() - rest.len();
    if count == 0 {
        return None;
    }
    let value: i64 = digits[..count].parse().unwrap_or(i64::MAX);
    Some((if text.starts_with('-') { -value } else { value }, rest))
}

/// A firewall mark.
#[must_use]
pub fn mark(text: &str) -> Option<u32> {
    number(text, 1, i64::from(u32::MAX)).and_then(|mark| u32::try_from(mark).ok())
}

/// An IPv4 address of one to four numbers, each decimal, octal or hexadecimal (inet_aton(3)).
#[must_use]
pub fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    // Only what stands before the first blank counts.
    let text = text.split(|c: char| c.is_ascii_whitespace()).next()?;
    let parts = text.split('.').map(part).collect::<Option<Vec<u64>>>()?;
    let (last, heads) = parts.split_last()?;
    let room = 8 * (4 - u32::try_from(heads.len()).ok()?.min(3));
    if parts.len() > 4 || heads.iter().any(|&head| head > 0xff) || *last >= 1 << room {
        return None;
    }
    let heads = heads.iter().zip([24, 16, 8]).fold(0, |bits, (head, shift)| bits | head << shift);
    u32::try_from(heads | last).ok().map(Ipv4Addr::from_bits)
}

fn part(text: &str) -> Option<u64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) || text.len() > 20 {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    let radix = if text.len() > 1 && text.starts_with('0') { 8 } else { 10 };
    u64::from_str_radix(text, radix).ok()
}

/// Reads `host[:port]`: an IPv4 address, an IPv6 address in brackets or without a port, a name of an IPv4 host; a port
/// as a number or by its name.
#[must_use]
pub fn endpoint(text: &str, protocol: Protocol, names: &dyn Names) -> Option<Endpoint> {
    let (host, l4_port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, behind) = inner.split_once(']')?;
            (host, Some(behind.strip_prefix(':')?))
        }
        None => (text, None),
    };
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        let l4_port =
            l4_port.map(|text| port(text, protocol, names)).map_or(Some(None), |read| read.map(Some))?;
        return Some(Endpoint { address: address.into(), l4_port });
    }
    // What stands in brackets and is no IPv6 address is taken for IPv4, and its port is passed over.
    let (host, l4_port) = match host.split_once(':') {
        Some((host, l4_port)) => (host, Some(port(l4_port, protocol, names)?)),
        None => (host, None),
    };
    let address = inet_aton(host).or_else(|| names.address(host))?;
    Some(Endpoint { address: address.into(), l4_port })
}

fn port(text: &str, protocol: Protocol, names: &dyn Names) -> Option<u16> {
    let read = number(text, 0, 65535).and_then(|value| u16::try_from(value).ok());
    read.or_else(|| names.port(text, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_strtol_reads_them() {
        for (text, want) in [
            ("0", Some(0)),
            ("+7", Some(7)),
            (" 010", Some(10)),
            ("-1", None),
            ("7x", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(number(text, 0, 100), want, "{text:?}");
        }
        assert_eq!(number("99999999999999999999", 0, i64::MAX - 1), None);
        assert_eq!(leading_number("1.5"), Some((1, ".5")));
    }

    #[test]
    fn addresses_as_inet_aton_reads_them() {
        for (text, want) in [
            ("10.0.0.100", Some([10, 0, 0, 100])),
            ("010.0.0.100", Some([8, 0, 0, 100])),
            ("10.258", Some([10, 0, 1, 2])),
            ("0x0a000064", Some([10, 0, 0, 100])),
            ("4294967295", Some([255; 4])),
            ("10.0.0.100 x", Some([10, 0, 0, 100])),
            ("10.0.0.256", None),
            ("256.1", None),
            ("1.2.3.4.5", None),
            ("4294967296", None),
            ("10.0.0.", None),
            ("+1", None),
            ("08", None),
            ("", None),
        ] {
            assert_eq!(inet_aton(text), want.map(Ipv4Addr::from), "{text:?}");
        }
    }
}
