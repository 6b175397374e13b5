//! What this machine lacks of what `[[nic]]` names. The file may be for another one, so that it is a warning; `shunt run` refuses what
//! it cannot do without.

use std::path::Path;

use dpdk_sys::FreeHugepages;
use shunt_model::fault::Fault;
use shunt_model::interface::Interface;
use shunt_model::limit;

use super::{Machine, pci};
use crate::Hugepages;
use crate::device::Kind;
use crate::document::{Document, NicDocument};
use crate::problem::Findings;

/// Warns of devices that are not there, or are not as they should be.
pub fn check(document: &Document, machine: &Machine, findings: &mut Findings<'_>) {
    let queues = document.runtime.workers.as_ref().map_or(1, |workers| workers.value.len());
    for nic in &document.nics {
        let Some(device) = &nic.device else { continue };
        if let Some(all) = &machine.interfaces {
            match device.value.interface().map(|name| (name, all.named(name))) {
                Some((name, None)) => {
                    let holds = format!("there are {}", all.names().join(", "));
                    let advice = "correct it, or make the interface first, if the director is to run here";
                    let wrong = format!("no interface {name} in this network namespace");
                    findings.warn(&nic.place, &device.at, Fault::new(wrong, holds, advice));
                }
                Some((name, Some((_, interface)))) => check_interface(nic, name, interface, queues, findings),
                None => {}
            }
            check_file(nic, &device.value.kind, findings);
            if let Kind::Pci(address) = &device.value.kind {
                let hugepages =
                    document.runtime.hugepages.as_ref().map_or(Hugepages::default(), |word| word.value);
                let free = FreeHugepages::read().bytes() >> 20;
                if let Some(fault) = pci::fault(Path::new(pci::SYSFS), address, hugepages, free) {
                    findings.warn(&nic.place, &device.at, fault);
                }
            }
        }
    }
}

fn check_interface(
    nic: &NicDocument,
    name: &str,
    interface: &Interface,
    queues: usize,
    findings: &mut Findings<'_>,
) {
    let Some(device) = &nic.device else { return };
    if !interface.up {
        let fault = Fault::new(
            format!("interface {name} is set down"),
            "no packet leaves by it, and a virtual router on it is in fault",
            format!("run `ip link set {name} up`"),
        );
        findings.warn(&nic.place, &device.at, fault);
    }
    if let Some(mtu) = &nic.mtu {
        if let Some(fault) = mtu_differs(mtu.value, name, interface.mtu) {
            findings.warn(&nic.place, &mtu.at, fault);
        }
    } else {
        let (most, who) = match device.value.mtu_most() {
            Some((most, why)) => (most, format!("{} takes at most {most}: {why}", device.value)),
            None => (limit::MTU_MAX, format!("the director takes at most {}", limit::MTU_MAX)),
        };
        if interface.mtu > u32::from(most) {
            let wrong = format!("interface {name} takes packets of {} bytes", interface.mtu);
            let fault = Fault::new(wrong, who, format!("run `ip link set {name} mtu {most}`"));
            findings.warn(&nic.place, &device.at, fault);
        }
    }
    let most = interface.queues.map(|(rx, tx)| rx.min(tx) as usize);
    if let (Kind::AfXdp(_), Some(most)) = (&device.value.kind, most.filter(|most| queues > *most)) {
        let fault = Fault::new(
            format!("{queues} queues wanted, one for each worker"),
            format!("interface {name} has at most {most}"),
            "name fewer workers, or another device",
        );
        findings.warn(&nic.place, &device.at, fault);
    }
}

/// What is to be said when a NIC and its interface do not take the same packets.
#[must_use]
pub fn mtu_differs(mtu: u16, name: &str, taken: u32) -> Option<Fault> {
    if taken < u32::from(mtu) {
        return Some(Fault::new(
            format!("mtu is {mtu}, and interface {name} takes packets of {taken} bytes"),
            format!("the director sends none that are larger than {taken}"),
            format!("run `ip link set {name} mtu {mtu}`, or leave mtu out"),
        ));
    }
    (taken > u32::from(mtu)).then(|| {
        Fault::new(
            format!("mtu is {mtu}, and interface {name} takes packets of {taken} bytes"),
            format!("those larger than {mtu} that arrive are dropped"),
            format!("leave mtu out, or run `ip link set {name} mtu {mtu}`"),
        )
    })
}

/// A capture file or a socket's folder that has to be there.
fn check_file(nic: &NicDocument, kind: &Kind, findings: &mut Findings<'_>) {
    let Some(device) = &nic.device else { return };
    let folder = |path: &str| Path::new(path).parent().map(Path::to_owned);
    let missing = |path: &Path| (!path.exists()).then(|| path.display().to_string());
    let wrong = match kind {
        Kind::Pcap { receive, .. } => missing(Path::new(receive)).map(|path| format!("no file {path}")),
        Kind::Memif(path) | Kind::VirtioUser(path) => {
            folder(path).and_then(|folder| missing(&folder)).map(|path| format!("no folder {path}"))
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        let (holds, advice) = (
            "the director does not start without it",
            "correct it, or make it first, if the director is to run here",
        );
        findings.warn(&nic.place, &device.at, Fault::new(wrong, holds, advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use shunt_model::interface::Interfaces;

    fn interface(name: &str, up: bool, mtu: u32, queues: u32) -> Interface {
        Interface { name: name.into(), up, mtu, queues: Some((queues, queues)), ..Interface::default() }
    }

    /// The warnings about a NIC with these lines, where there are `eth1` of 1500 bytes, `jumbo` of 9000, `down`, and `huge`.
    fn warnings(lines: &str) -> Vec<String> {
        let mut interfaces = Interfaces::default();
        interfaces.set(1, interface("eth1", true, 1500, 1));
        interfaces.set(2, interface("jumbo", true, 9000, 2));
        interfaces.set(3, interface("down", false, 1500, 1));
        interfaces.set(4, interface("huge", true, 65536, 1));
        let text = format!(
            "[runtime]\nworkers = [0, 1]\n[[nic]]\nname = \"front\"\naddresses = [\"192.0.2.2/24\"]\n{lines}\n[[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\nreal = [{{ address = \"192.0.2.21:80\" }}]\n"
        );
        let machine = Machine { interfaces: Some(interfaces), ..Machine::default() };
        let checked =
            Config::check_on("file", &text, &machine).unwrap_or_else(|problems| panic!("{problems}"));
        checked.warnings.list.iter().map(|warning| checked.warnings.line(warning)).collect()
    }

    #[test]
    fn devices_that_are_as_they_should_be_are_not_spoken_of() {
        for lines in [
            "device = \"af_packet:eth1\"",
            "device = \"af_packet:eth1\"\nmtu = 1500",
            "device = \"af_packet:jumbo\"\nmtu = 9000",
            "device = \"net_af_packet3,iface=jumbo\"",
            "device = \"tap:anything\"\nmtu = 1500",
        ] {
            assert_eq!(warnings(lines), [""; 0], "{lines}");
        }
    }

    #[test]
    fn what_is_missing_or_differs_is_a_warning_with_what_to_do() {
        for (lines, wanted) in [
            ("device = \"af_packet:eth9\"", "no interface eth9 in this network namespace"),
            ("device = \"net_af_packet3,iface=eth9\"", "no interface eth9 in this network namespace"),
            (
                "device = \"af_packet:down\"",
                "interface down is set down (\"af_packet:down\"): no packet leaves by it, and a virtual router on it is in fault: run `ip link set down up`",
            ),
            (
                "device = \"af_packet:eth1\"\nmtu = 9000",
                "mtu is 9000, and interface eth1 takes packets of 1500 bytes",
            ),
            (
                "device = \"af_xdp:jumbo\"\nmtu = 1500",
                "those larger than 1500 that arrive are dropped: leave mtu out",
            ),
            ("device = \"af_packet:huge\"", "interface huge takes packets of 65536 bytes"),
            ("device = \"af_xdp:eth1\"", "2 queues wanted, one for each worker"),
            ("device = \"memif:/nowhere/at/all/m.sock\"", "no folder /nowhere/at/all"),
            ("device = \"00ff:ff:1f.7\"", "no PCI function 00ff:ff:1f.7 on this machine"),
        ] {
            let told = warnings(lines);
            assert!(told.len() == 1 && told[0].contains(wanted), "{lines}: {told:?}");
        }
    }
}
