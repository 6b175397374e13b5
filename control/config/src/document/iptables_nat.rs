//! Lines such as LVS guides print them: `iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE`.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_model::fault::Fault;

use super::iptables::{expect, unknown};
use super::mark::hosts;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `-s`; everybody where there is none.
    pub from: IpNet,
    /// `-d`.
    pub to: Option<IpNet>,
    /// `! -d`.
    pub except: Option<IpNet>,
    /// `-o`.
    pub interface: Option<String>,
    /// `--to-source`; none for `-j MASQUERADE`.
    pub address: Option<IpAddr>,
}

const TABLE: &str = "[[masquerade]]";
const HOLDS: &str = "a line says who leaves how by -s, -d, ! -d, -o, -j MASQUERADE and -j SNAT --to-source";

/// Reads a line; what it holds beyond that is refused by name.
///
/// # Errors
/// What is not understood, or gives no other address.
pub fn parse(text: &str) -> Result<Line, Fault> {
    let refuse = |what: &str, holds: &str| unknown(what, holds, TABLE);
    let mut words = text.split_whitespace().peekable();
    let is_command = |word: &&str| word.rsplit('/').next().is_some_and(|name| name.ends_with("tables"));
    let everybody = match words.next_if(is_command) {
        Some(command) if command.ends_with("ip6tables") => IpNet::V6(ipnet::Ipv6Net::default()),
        _ => IpNet::V4(ipnet::Ipv4Net::default()),
    };
    let (mut from, mut to, mut except, mut interface) = (None, None, None, None);
    let (mut target, mut address, mut negated) = (None, None, false);
    while let Some(word) = words.next() {
        let is_destination = matches!(word, "-d" | "--destination" | "--dst");
        if negated && !is_destination {
            return Err(refuse(&format!("! {word}"), HOLDS));
        }
        let mut value = || words.next().ok_or_else(|| refuse(word, "it needs a value"));
        match word {
            "!" => negated = true,
            "-t" | "--table" => expect(word, value()?, &["nat"], TABLE)?,
            "-A" | "--append" => expect(word, value()?, &["POSTROUTING"], TABLE)?,
            "-j" | "--jump" => {
                let wanted = value()?;
                expect(word, wanted, &["MASQUERADE", "SNAT"], TABLE)?;
                target = Some(wanted);
            }
            "-s" | "--source" | "--src" => from = Some(hosts(value()?)?),
            _ if is_destination => {
                // Older guides have the mark of negation behind the option.
                let net = value()?;
                let (net, not) = if net == "!" { (value()?, true) } else { (net, negated) };
                let place = if not { &mut except } else { &mut to };
                *place = Some(hosts(net)?).filter(|net| net.prefix_len() > 0);
                negated = false;
            }
            "-o" | "--out-interface" => interface = Some(value()?.to_owned()),
            "--to-source" | "--to" => {
                let text = value()?;
                let holds = "one address, without ports";
                address = Some(text.parse().map_err(|_| refuse(&format!("{word} {text}"), holds))?);
            }
            other => return Err(refuse(other, HOLDS)),
        }
    }
    match (target, address) {
        (None, _) => Err(refuse("-j MASQUERADE", "a line ends with -j MASQUERADE or -j SNAT --to-source")),
        (Some("SNAT"), None) => Err(refuse("-j SNAT", "it needs --to-source and an address")),
        (Some("MASQUERADE"), Some(_)) => Err(refuse("--to-source", "it belongs to -j SNAT")),
        _ => Ok(Line { from: from.unwrap_or(everybody), to, except, interface, address }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_guides() {
        let line = |text: &str| parse(text).unwrap();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let howto = line("iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o eth0 -j MASQUERADE");
        assert_eq!((howto.from, howto.interface.as_deref()), (net("10.0.0.0/24"), Some("eth0")));
        assert_eq!((howto.to, howto.except, howto.address), (None, None, None));
        let snat = line("/sbin/iptables -t nat -A POSTROUTING -s 10.0.0.5 -j SNAT --to-source 192.0.2.2");
        assert_eq!((snat.from, snat.address), (net("10.0.0.5/32"), Some("192.0.2.2".parse().unwrap())));
        for text in ["! -d 10.0.0.0/8", "-d ! 10.0.0.0/8"] {
            let spared = line(&format!("iptables -t nat -A POSTROUTING -s 10.0.0.0/24 {text} -j MASQUERADE"));
            assert_eq!((spared.to, spared.except), (None, Some(net("10.0.0.0/8"))));
        }
        let all = line("ip6tables -t nat -A POSTROUTING -o eth0 -d 2001:db8::/32 -j MASQUERADE");
        assert_eq!((all.from, all.to), (net("::/0"), Some(net("2001:db8::/32"))));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, what) in [
            ("iptables -t mangle -A POSTROUTING -j MASQUERADE", "-t mangle"),
            ("iptables -t nat -A PREROUTING -j MASQUERADE", "-A PREROUTING"),
            ("iptables -t nat -A POSTROUTING ! -s 10.0.0.0/8 -j MASQUERADE", "! -s"),
            ("iptables -t nat -A POSTROUTING -p tcp -j MASQUERADE", "at -p"),
            ("iptables -t nat -A POSTROUTING -m ipvs --vport 80 -j MASQUERADE", "at -m"),
            ("iptables -t nat -A POSTROUTING -j SNAT", "-j SNAT"),
            ("iptables -t nat -A POSTROUTING -j SNAT --to-source 192.0.2.2-192.0.2.9", "192.0.2.2-192.0.2.9"),
            ("iptables -t nat -A POSTROUTING -s 10.0.0.0/24", "-j MASQUERADE"),
            ("iptables -t nat -A POSTROUTING -j MASQUERADE -o", "at -o"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.wrong.contains(what), "{text}: {}", fault.wrong);
        }
    }
}
