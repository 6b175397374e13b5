//! Settings of the kernel's IPVS under the kernel's names (`/proc/sys/net/ipv4/vs/`; kernel:
//! `Documentation/networking/ipvs-sysctl.rst`).

/// What holds for all services. The default is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sysctls {
    /// `sloppy_tcp`: TCP packets other than a SYN are scheduled too, but for resets.
    pub sloppy_tcp: bool,
    /// `nat_icmp_send`: a NAT real server whose packet belongs to no connection is told so (ICMP port unreachable).
    pub nat_icmp_send: bool,
    /// `pmtu_disc`: the outer header of a tunnel has the packet's DF, and a client is told when the two are too large
    /// together. Without it the outer packet is fragmented.
    pub pmtu_disc: bool,
}

impl Default for Sysctls {
    fn default() -> Self {
        Self { sloppy_tcp: false, nat_icmp_send: false, pmtu_disc: true }
    }
}

impl Sysctls {
    /// The names that [`Self::set`] knows.
    pub const NAMES: &'static [&'static str] = &["sloppy_tcp", "nat_icmp_send", "pmtu_disc"];

    fn by_name(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "sloppy_tcp" => Some(&mut self.sloppy_tcp),
            "nat_icmp_send" => Some(&mut self.nat_icmp_send),
            "pmtu_disc" => Some(&mut self.pmtu_disc),
            _ => None,
        }
    }

    /// Sets one by its name, as `sysctl -w net.ipv4.vs.NAME=VALUE`; false, and nothing set, when the name is not known.
    #[must_use]
    pub fn set(&mut self, name: &str, value: u32) -> bool {
        self.by_name(name).map(|place| *place = value != 0).is_some()
    }

    /// The value of a setting; 0 when the name is not known.
    #[must_use]
    pub fn value(mut self, name: &str) -> u32 {
        self.by_name(name).is_some_and(|value| *value).into()
    }

    /// All names with their values.
    pub fn values(self) -> impl Iterator<Item = (&'static str, u32)> {
        Self::NAMES.iter().map(move |name| (*name, self.value(name)))
    }
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
            assert!((on == fresh) != (off == fresh), "{name}: one of them is the default");
            let changed = if on == fresh { off } else { on };
            assert!(!seen.contains(&changed), "{name}");
            seen.push(changed);
        }
        assert!(!Sysctls::default().set("no_such_thing", 1));
    }
}
