//! What a tunnelled packet travels in.

use std::fmt;

use crate::id::L4Port;

/// The encapsulation of a tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP (RFC 2003, RFC 2473).
    #[default]
    Ipip,
    /// Generic routing encapsulation (RFC 2784).
    Gre {
        /// Its header has a checksum.
        checksum: bool,
    },
    /// Generic UDP encapsulation, version 0 (draft-ietf-intarea-gue; kernel: `fou`).
    Gue {
        /// The UDP port of the real server.
        l4_port: L4Port,
        /// What its checksum covers.
        checksum: TunnelChecksum,
    },
}

/// The checksum of GUE's UDP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// Over all of the outer packet.
    Full,
    /// Remote checksum offload: for packets whose own checksum is still to be filled in. What is forwarded has its
    /// checksum, so that this is [`Self::Full`] on the wire, as in the kernel.
    Remote,
}

impl TunnelChecksum {
    /// The word of the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Full => "full",
            Self::Remote => "remote",
        }
    }
}

/// Bytes of a GUE header without options.
pub const GUE_HEADER: usize = 4;
/// Bytes of a GRE header without checksum.
pub const GRE_HEADER: usize = 4;
/// Bytes of a GRE header with checksum.
pub const GRE_HEADER_WITH_CHECKSUM: usize = 8;

impl Tunnel {
    /// Bytes between the outer IP header and the packet inside.
    #[must_use]
    pub const fn header(self) -> usize {
        match self {
            Self::Ipip => 0,
            Self::Gre { checksum: false } => GRE_HEADER,
            Self::Gre { checksum: true } => GRE_HEADER_WITH_CHECKSUM,
            Self::Gue { .. } => crate::wire::udp::HEADER + GUE_HEADER,
        }
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => f.write_str("ipip"),
            Self::Gre { checksum: false } => f.write_str("gre"),
            Self::Gre { checksum: true } => f.write_str("gre with checksum"),
            Self::Gue { l4_port, checksum } => write!(f, "gue {} checksum {}", l4_port.0, checksum.word()),
        }
    }
}
