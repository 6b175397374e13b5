//! DPVS's `dpvs.conf` is recognised: what of it means something here, and what is not supported yet.

use std::path::Path;

use shunt_model::fault::Origin;
use shunt_model::fault::{Fault, printable};

use super::files::Files;
use super::writer::{Imported, Writer};

/// What takes the place of a section, or why there is none.
const SECTIONS: &[(&str, &str)] = &[
    ("global_defs", "SHUNT_LOG says how much is logged"),
    ("netif_defs", "write a [[nic]] for each device, by its PCI address"),
    ("worker_defs", "write workers of [runtime]: a core for each queue"),
    ("timer_defs", "timers of connections are those of [timeout]"),
    ("neigh_defs", "neighbours are asked for, and kept, as the kernel does"),
    ("ipv4_defs", "packets are put together and parted as the kernel does"),
    ("ipv6_defs", "packets are put together and parted as the kernel does"),
    ("ctrl_defs", "the API's socket is socket of [runtime]"),
    ("ipvs_defs", "write connections of [runtime], and [timeout]"),
];

/// Words of FULLNAT, and of what belongs to it.
const FULLNAT: &[&str] =
    &["sa_pool", "synproxy", "syn_proxy", "laddr", "local_address_group", "laddr_group_name"];

/// Reads `dpvs.conf`.
#[must_use]
pub fn import(path: &Path, files: &dyn Files) -> Imported {
    let mut writer = Writer::default();
    let origin = |line: usize| Origin { file: path.into(), line, column: 1 };
    let text = match files.read(path) {
        Ok(text) => text,
        Err(error) => {
            let fault =
                Fault::new(format!("cannot be read ({error})"), "it is a readable file", "name another");
            writer.refuse(&origin(1), "file", fault);
            return writer.finish();
        }
    };
    for (number, line) in text.lines().enumerate() {
        let content = line.split(['!', '#']).next().unwrap_or_default().trim();
        let content = content.trim_start_matches("<init>").trim();
        let word = content.split([' ', '\t', '{']).next().unwrap_or_default();
        if let Some((_, advice)) = SECTIONS.iter().find(|(section, _)| *section == word) {
            writer.advise(&origin(number + 1), "dpvs.conf", word, advice);
        }
        if let Some(word) = content.split_whitespace().find(|word| FULLNAT.contains(word)) {
            let wrong = format!("{} is not supported yet", printable(word, 60));
            let holds = "FULLNAT and what belongs to it (local addresses, SYN proxy) is not there yet";
            let fault = Fault::new(wrong, holds, "use nat, dr or tun, or leave it out");
            writer.refuse(&origin(number + 1), "dpvs.conf", fault);
        }
    }
    let fault = Fault::new(
        "dpvs.conf has no services",
        "it says how DPVS uses the machine",
        "import the keepalived.conf beside it, or what ipvsadm-save prints; write [runtime] and [[nic]] as the notices say",
    );
    writer.refuse(&origin(1), "file", fault);
    writer.finish()
}
