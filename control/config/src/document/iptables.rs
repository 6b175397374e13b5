//! Lines such as LVS guides print them: `iptables -t mangle -A PREROUTING -p tcp -d 192.0.2.10/32 -m multiport --dports 80,443 -j MARK
//! --set-mark 80`.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use shunt_dataplane::id::Protocol;
use shunt_dataplane::service::mark::Mark;
use shunt_model::fault::Fault;

use super::mark::hosts;

const TABLE: &str = "[[mark]]";

/// What a line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// `--set-mark`.
    pub mark: Option<Mark>,
    /// `-d`.
    pub to: Option<IpNet>,
    /// `-s`.
    pub from: Option<IpNet>,
    /// `-p`.
    pub protocol: Option<Protocol>,
    /// `--dport`, `--dports`.
    pub ports: Vec<RangeInclusive<u16>>,
    /// `-i`.
    pub interface: Option<String>,
}

/// Reads a line; what it holds beyond marking by address, protocol, port and interface is refused by name.
///
/// # Errors
/// What is not understood, or is no mark.
pub fn parse(text: &str) -> Result<Line, Fault> {
    let mut line = Line::default();
    let mut words = text.split_whitespace().peekable();
    let is_command = |word: &&str| word.rsplit('/').next().is_some_and(|name| name.ends_with("tables"));
    words.next_if(is_command);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| unknown(word, "it needs a value", TABLE));
        match word {
            "-t" | "--table" => expect(word, value()?, &["mangle"], TABLE)?,
            "-A" | "--append" => expect(word, value()?, &["PREROUTING"], TABLE)?,
            "-j" | "--jump" => expect(word, value()?, &["MARK"], TABLE)?,
            "-m" | "--match" => expect(word, value()?, &["tcp", "udp", "multiport"], TABLE)?,
            "-p" | "--protocol" | "--proto" => {
                line.protocol = Some(match value()? {
                    "tcp" | "6" => Protocol::Tcp,
                    "udp" | "17" => Protocol::Udp,
                    other => return Err(unknown(other, "protocols are tcp and udp", TABLE)),
                });
            }
            "-d" | "--destination" | "--dst" => line.to = everything_is_none(hosts(value()?)?),
            "-s" | "--source" | "--src" => line.from = everything_is_none(hosts(value()?)?),
            "-i" | "--in-interface" => line.interface = Some(value()?.to_owned()),
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                line.ports = ports(value()?)?
            }
            "--set-mark" | "--set-xmark" => line.mark = Some(mark(value()?)?),
            other => {
                return Err(unknown(other, "a line marks by -d, -s, -p, --dport, --dports and -i", TABLE));
            }
        }
    }
    if line.mark.is_none() {
        return Err(unknown("-j MARK", "a line ends with -j MARK --set-mark and a number", TABLE));
    }
    Ok(line)
}

/// What of a line is not understood, and what holds instead; `table` says the same in other words.
pub(super) fn unknown(what: &str, holds: &str, table: &str) -> Fault {
    Fault::new(
        format!("an iptables line that is not understood at {what}"),
        holds,
        format!("write it with the keys of {table}"),
    )
}

/// One of the words that an option takes here.
pub(super) fn expect(option: &str, value: &str, known: &[&str], table: &str) -> Result<(), Fault> {
    if known.contains(&value) {
        return Ok(());
    }
    Err(unknown(&format!("{option} {value}"), &format!("{option} is {} here", known.join(" or ")), table))
}

fn everything_is_none(net: IpNet) -> Option<IpNet> {
    (net.prefix_len() > 0).then_some(net)
}

/// `80`, `0x50`, `80/0xffffffff`.
fn mark(text: &str) -> Result<Mark, Fault> {
    let number = text.split_once('/').map_or(text, |(number, _mask)| number);
    let number = match number.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => number.parse().ok(),
    };
    number.and_then(Mark::new).ok_or_else(|| unknown(text, &format!("a mark is 1 to {}", Mark::MAX), TABLE))
}

/// `80`, `8000:8099`, `80,443`.
fn ports(text: &str) -> Result<Vec<RangeInclusive<u16>>, Fault> {
    let one = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(first..=last)
    };
    let fault = || unknown(text, "ports are numbers, 80 or 80,443 or 8000:8099", TABLE);
    text.split(',').map(|text| one(text).ok_or_else(fault)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_guides() {
        let line = |text: &str| parse(text).unwrap();
        let red_hat = line(
            "/sbin/iptables -t mangle -A PREROUTING -p tcp -d 192.0.2.10/32 -m multiport --dports 80,443 -j MARK --set-mark 80",
        );
        assert_eq!(red_hat.mark, Mark::new(80));
        assert_eq!(red_hat.to, Some("192.0.2.10/32".parse().unwrap()));
        assert_eq!((red_hat.protocol, red_hat.ports), (Some(Protocol::Tcp), vec![80..=80, 443..=443]));
        let howto = line(
            "iptables -A PREROUTING -i eth0 -t mangle -p tcp -s 0.0.0.0/0 -d 192.0.2.10 --dport 8000:8099 -j MARK --set-mark 0x1",
        );
        assert_eq!((howto.mark, howto.from, howto.interface.as_deref()), (Mark::new(1), None, Some("eth0")));
        assert_eq!(howto.ports, vec![8000..=8099]);
        assert_eq!(
            line("ip6tables -t mangle -A PREROUTING -d 2001:db8::10 -j MARK --set-mark 7").ports,
            vec![]
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, what) in [
            ("iptables -t nat -A PREROUTING -j MARK --set-mark 1", "-t nat"),
            ("iptables -t mangle -A PREROUTING ! -d 192.0.2.10 -j MARK --set-mark 1", "at !"),
            ("iptables -t mangle -A PREROUTING -d 192.0.2.10 -j ACCEPT", "-j ACCEPT"),
            ("iptables -t mangle -A PREROUTING -d 192.0.2.10", "-j MARK"),
            ("iptables -t mangle -A PREROUTING -p tcp --dport http -j MARK --set-mark 1", "http"),
            ("iptables -t mangle -A PREROUTING -j MARK --set-mark", "--set-mark"),
            ("iptables -t mangle -A PREROUTING -j MARK --set-mark 0", "at 0"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.wrong.contains(what), "{text}: {}", fault.wrong);
        }
    }
}
