//! Settings of the kernel's IPVS under the kernel's names (`/proc/sys/net/ipv4/vs/`; kernel:
//! `Documentation/networking/ipvs-sysctl.rst`).

/// What holds for all services. The default is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctls {
    /// `sloppy_tcp`: TCP packets other than a SYN are scheduled too, but for resets.
    pub sloppy_tcp: bool,
    /// `sloppy_sctp`: SCTP packets other than an INIT are scheduled too, but for an ABORT.
    pub sloppy_sctp: bool,
    /// `nat_icmp_send`: a NAT real server whose packet belongs to no connection is told so (ICMP port unreachable).
    pub nat_icmp_send: bool,
    /// `pmtu_disc`: the outer header of a tunnel has the packet's DF, and a client is told when the two are too large
    /// together. Without it the outer packet is fragmented.
    pub pmtu_disc: bool,
    /// `expire_nodest_conn`: the connections of a real server that was taken out of the configuration end at once. A SYN by the
    /// ports of a connection whose real server has weight 0 is scheduled anew.
    pub expire_nodest_conn: bool,
    /// `conn_reuse_mode`: whether a SYN by the ports of a connection that is over is scheduled anew: 0 never, 1 when it is in
    /// TIME_WAIT or CLOSE, 2 in FIN_WAIT of a real server that answers by itself too.
    pub conn_reuse_mode: u8,
    /// `expire_quiescent_template`: a real server of weight 0 gets no new connections of clients that persist at it either.
    pub expire_quiescent_template: bool,
    /// `cache_bypass`: packets of a firewall mark whose service has no real server that takes them go on to their own
    /// destination.
    pub cache_bypass: bool,
    /// `schedule_icmp`: an ICMP error that quotes an answer of no known connection makes that connection.
    pub schedule_icmp: bool,
    /// `drop_entry`: half-open TCP connections are ended before their time, a 32nd of the table in a second: 0 never, 1 and 2
    /// while the table is nearly full, 3 always.
    pub drop_entry: u8,
    /// `drop_packet`: packets that would make connections are dropped: 0 none, 1 and 2 the more the fuller the table is, 3
    /// each `am_droprate`-th one, counted by each worker.
    pub drop_packet: u8,
    /// `am_droprate`; another one holds once the next packet was dropped.
    pub am_droprate: u16,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self {
            sloppy_tcp: false,
            sloppy_sctp: false,
            nat_icmp_send: false,
            pmtu_disc: true,
            expire_nodest_conn: false,
            conn_reuse_mode: 1,
            expire_quiescent_template: false,
            cache_bypass: false,
            schedule_icmp: false,
            drop_entry: 0,
            drop_packet: 0,
            am_droprate: 10,
        }
    }
}

impl Sysctls {
    /// The names that [`Self::set`] knows.
    pub const NAMES: &'static [&'static str] = &[
        "sloppy_tcp",
        "sloppy_sctp",
        "nat_icmp_send",
        "pmtu_disc",
        "expire_nodest_conn",
        "conn_reuse_mode",
        "expire_quiescent_template",
        "cache_bypass",
        "schedule_icmp",
        "drop_entry",
        "drop_packet",
        "am_droprate",
    ];

    fn by_name(&mut self, name: &str) -> Option<Place<'_>> {
        match name {
            "sloppy_tcp" => Some(Place::Switch(&mut self.sloppy_tcp)),
            "sloppy_sctp" => Some(Place::Switch(&mut self.sloppy_sctp)),
            "nat_icmp_send" => Some(Place::Switch(&mut self.nat_icmp_send)),
            "pmtu_disc" => Some(Place::Switch(&mut self.pmtu_disc)),
            "expire_nodest_conn" => Some(Place::Switch(&mut self.expire_nodest_conn)),
            "conn_reuse_mode" => Some(Place::Mode(&mut self.conn_reuse_mode)),
            "expire_quiescent_template" => Some(Place::Switch(&mut self.expire_quiescent_template)),
            "cache_bypass" => Some(Place::Switch(&mut self.cache_bypass)),
            "schedule_icmp" => Some(Place::Switch(&mut self.schedule_icmp)),
            "drop_entry" => Some(Place::Mode(&mut self.drop_entry)),
            "drop_packet" => Some(Place::Mode(&mut self.drop_packet)),
            "am_droprate" => Some(Place::Rate(&mut self.am_droprate)),
            _ => None,
        }
    }

    /// The largest value of a setting, and what the values are called.
    #[must_use]
    pub fn bounds(name: &str) -> (u32, &'static str) {
        match name {
            "drop_entry" | "drop_packet" => (3, "(0 never, 1 while the table is nearly full, 3 always)"),
            "am_droprate" => (u16::MAX.into(), "(one of so many)"),
            "conn_reuse_mode" => (3, "(0 never, 1 in TIME_WAIT or CLOSE, 2 in FIN_WAIT too)"),
            _ => (1, "(off or on)"),
        }
    }

    /// Sets one by its name, as `sysctl -w net.ipv4.vs.NAME=VALUE`; false, and nothing set, when the name is not known.
    #[must_use]
    pub fn set(&mut self, name: &str, value: u32) -> bool {
        match self.by_name(name) {
            Some(Place::Switch(place)) => *place = value != 0,
            Some(Place::Mode(place)) => *place = u8::try_from(value).unwrap_or(u8::MAX),
            Some(Place::Rate(place)) => *place = u16::try_from(value).unwrap_or(u16::MAX),
            None => return false,
        }
        true
    }

    /// The value of a setting; 0 when the name is not known.
    #[must_use]
    pub fn value(mut self, name: &str) -> u32 {
        match self.by_name(name) {
            Some(Place::Switch(place)) => (*place).into(),
            Some(Place::Mode(place)) => (*place).into(),
            Some(Place::Rate(place)) => (*place).into(),
            None => 0,
        }
    }

    /// All names with their values.
    pub fn values(self) -> impl Iterator<Item = (&'static str, u32)> {
        Self::NAMES.iter().map(move |name| (*name, self.value(name)))
    }
}

/// Where a setting is kept.
enum Place<'s> {
    Switch(&'s mut bool),
    Mode(&'s mut u8),
    Rate(&'s mut u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_sets_something_of_its_own() {
        let fresh = Sysctls::default();
        let mut seen = vec![fresh];
        for name in Sysctls::NAMES {
            let (mut on, mut off) = (fresh, fresh);
            assert!(on.set(name, 1) && off.set(name, 0));
            assert_eq!((on.value(name), off.value(name)), (1, 0));
            let default_is_either = fresh.value(name) < 2;
            assert_eq!((on == fresh) != (off == fresh), default_is_either, "{name}");
            let changed = if on == fresh { off } else { on };
            assert!(!seen.contains(&changed), "{name}");
            seen.push(changed);
        }
        assert!(!Sysctls::default().set("no_such_thing", 1));
    }
}
