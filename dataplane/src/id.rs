//! Identifiers: one-field types, so that a NIC is never taken for a queue.

use std::fmt;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The identifier as an index into the table of its kind.
            #[inline]
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

identifier! {
    /// A NIC of the director: its place among the `[[nic]]` tables of the configuration.
    NicId(u8)
}
identifier! {
    /// A worker (polling core): its place in `runtime.workers`.
    WorkerId(u8)
}
identifier! {
    /// A queue of a NIC; worker n polls queue n of every NIC.
    QueueId(u16)
}
identifier! {
    /// A virtual service. Stable over generations, not reused while anything refers to it.
    ServiceId(u32)
}
identifier! {
    /// A real server of one service (the kernel's *destination*). Stable over generations, not reused
    /// while a connection refers to it; the same real added again gets the same identifier.
    RealId(u32)
}
identifier! {
    /// The number of a published snapshot; each publication has the next one.
    Generation(u64)
}

/// A port number of TCP or UDP, in host order. Never a NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct L4Port(pub u16);

impl fmt::Display for L4Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// True for broadcast and multicast addresses (the group bit).
    #[inline]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(())?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        if parts.next().is_some() {
            return Err(());
        }
        Ok(Self(bytes))
    }
}

/// The transport protocols whose connections the director keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP (RFC 9293).
    Tcp = 6,
    /// UDP (RFC 768).
    Udp = 17,
    /// SCTP (RFC 9260).
    Sctp = 132,
    /// ICMP echo of a masqueraded host, whose identifier stands for a port. No service has it, no header is read as it, and
    /// its number is not that of any header: the two versions of IP have different ones.
    Icmp = 144,
}

impl Protocol {
    /// The protocol of an IP header's protocol or next header field.
    #[inline]
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The number in the IP header, but for [`Self::Icmp`].
    #[inline]
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
            Self::Icmp => "icmp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_reads_what_it_prints() {
        let mac = Mac([0x02, 0, 0, 0, 0xd0, 0x01]);
        assert_eq!(mac.to_string(), "02:00:00:00:d0:01");
        assert_eq!("02:00:00:00:d0:01".parse(), Ok(mac));
        for wrong in ["", "02:00:00:00:d0", "02:00:00:00:d0:01:02", "2:0:0:0:d0:1", "02:00:00:00:d0:0g"] {
            assert_eq!(wrong.parse::<Mac>(), Err(()), "{wrong}");
        }
    }
}
