//! `[[masquerade]]`: who leaves by an address of the director's.

use std::net::IpAddr;

use ipnet::IpNet;
use shunt_model::fault::{At, Fault, Span};
use toml::de::DeTable;

use super::mark::hosts;
use super::{Section, iptables_nat, place, required};
use crate::problem::Findings;

/// A `[[masquerade]]` as written.
#[derive(Debug)]
pub struct MasqueradeDocument {
    /// How problems call it.
    pub place: String,
    /// Where it begins.
    pub at: Span,
    /// `from`.
    pub from: Option<At<IpNet>>,
    /// `to`.
    pub to: Option<At<IpNet>>,
    /// `except`.
    pub except: Option<At<IpNet>>,
    /// `nic`, or the interface of an `iptables` line.
    pub nic: Option<At<String>>,
    /// `address`.
    pub address: Option<At<IpAddr>>,
}

const KEYS: &[&str] = &["from", "to", "except", "nic", "address", "iptables"];

impl MasqueradeDocument {
    pub(super) fn read(findings: &mut Findings<'_>, table: &DeTable<'_>, at: Span, number: usize) -> Self {
        let place = place("masquerade", table, "name", number);
        let mut section = Section::new(findings, &place, table, &at, KEYS, &[]);
        if let Some(line) = section.parse("iptables", iptables_nat::parse) {
            for key in KEYS.iter().filter(|key| **key != "iptables" && section.has(key)).collect::<Vec<_>>() {
                let holds = "an iptables line says it all";
                let fault = Fault::new(format!("iptables beside {key}"), holds, "remove one of the two");
                section.error(&line.at, fault);
            }
            let At { value: line, at: there } = line;
            return Self {
                from: Some(At::new(line.from, there.clone())),
                to: line.to.map(|to| At::new(to, there.clone())),
                except: line.except.map(|except| At::new(except, there.clone())),
                nic: line.interface.map(|interface| At::new(interface, there.clone())),
                address: line.address.map(|address| At::new(address, there)),
                place,
                at,
            };
        }
        if !section.has("from") && !section.has("iptables") {
            let holds = "every [[masquerade]] says who leaves by another address";
            section.missing(required("from", holds, "from = \"10.0.0.0/24\""));
        }
        Self {
            from: section.parse("from", hosts),
            to: section.parse("to", hosts),
            except: section.parse("except", hosts),
            nic: section.parse("nic", |text| Ok(text.to_owned())),
            address: section.parse("address", |text| {
                let holds = "such as \"192.0.2.2\"";
                text.parse().map_err(|_| Fault::new("not an address", holds, "write one of the director's"))
            }),
            place,
            at,
        }
    }
}
