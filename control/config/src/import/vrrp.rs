//! Virtual routers as TOML: the keys of `[[vrrp]]` in one place, whoever's set-up they come from.

use std::net::IpAddr;

use shunt_model::fault::Origin;

use super::writer::{Writer, quoted, seconds};

/// The priority of the director that addresses belong to, and that of the other one.
pub const PRIORITIES: (u8, u8) = (200, 100);

/// Three adverts are missed before a backup takes over: the interval that comes nearest to so many seconds of silence.
#[must_use]
pub fn interval(silence: f64) -> f64 {
    within(silence / 3.5)
}

/// An interval as version 3 has it: hundredths of a second, in 12 bits.
#[must_use]
pub fn within(interval: f64) -> f64 {
    ((interval * 100.0).round() / 100.0).clamp(0.01, 40.95)
}

/// A virtual router to be written. What is none is left to this director's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// The name of its NIC.
    pub nic: Option<String>,
    /// Its VRID.
    pub vrid: Option<u8>,
    /// 2 or 3.
    pub version: Option<u8>,
    /// 1 to 255.
    pub priority: Option<u8>,
    /// Seconds between adverts.
    pub interval: Option<f64>,
    /// VIPs that adverts tell.
    pub addresses: Vec<IpAddr>,
    /// VIPs that adverts do not tell.
    pub excluded: Vec<IpAddr>,
    /// Whom adverts go to, instead of the multicast group.
    pub peers: Vec<IpAddr>,
    /// Further keys and their values as TOML has them, in this order.
    pub keys: Vec<(Origin, &'static str, String)>,
    /// What it depends on: inline tables.
    pub tracks: Vec<String>,
}

impl Router {
    /// Writes its `[[vrrp]]`.
    pub fn write(&self, origin: &Origin, writer: &mut Writer) {
        writer.table(origin, "[[vrrp]]");
        writer.key(origin, "name", quoted(&self.name));
        if let Some(nic) = &self.nic {
            writer.key(origin, "nic", quoted(nic));
        }
        if let Some(vrid) = self.vrid {
            writer.key(origin, "vrid", vrid);
        }
        if let Some(version) = self.version {
            writer.key(origin, "version", version);
        }
        if let Some(priority) = self.priority {
            writer.key(origin, "priority", priority);
        }
        if let Some(interval) = self.interval {
            writer.key(origin, "interval", seconds(interval));
        }
        writer.key(origin, "addresses", list(&self.addresses));
        for (key, addresses) in [("excluded", &self.excluded), ("peers", &self.peers)] {
            if !addresses.is_empty() {
                writer.key(origin, key, list(addresses));
            }
        }
        for (origin, key, value) in &self.keys {
            writer.key(origin, key, value);
        }
        if !self.tracks.is_empty() {
            writer.key(origin, "track", format!("[{}]", self.tracks.join(", ")));
        }
    }
}

/// Addresses as a list of TOML.
#[must_use]
pub fn list(addresses: &[IpAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| quoted(&address.to_string())).collect();
    format!("[{}]", addresses.join(", "))
}
