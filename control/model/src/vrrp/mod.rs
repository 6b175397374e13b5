//! VRRP as an operator sets it (RFC 3768, version 2; RFC 9568, version 3), and what a virtual router can be.

mod notify;
mod settings;

pub use notify::{Notify, Subject, Told};
pub use settings::{
    Announcing, Auth, Group, HMAC_KEY_MAX, HMAC_KEY_MIN, HMAC_WINDOW_MAX, HMAC_WINDOW_MIN, Hmac, HmacKey,
    HmacMode, INTERVAL_MAX_V2, INTERVAL_MAX_V3, INTERVAL_MIN_V2, INTERVAL_MIN_V3, Instance, Key, Peer,
    Reading, Replay, Track, Tracked, Version, VirtualMac, Vrid,
};

/// The priority of a director to whom the VIPs belong as its own (RFC 9568, 5.2.4).
pub const PRIORITY_OWNER: u8 = 255;
/// Bytes of a trailer.
pub const TRAILER: usize = 28;

/// The role of a virtual router (RFC 9568, 6.4, calls the first one Initialize).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Something that it needs fails, or it has not begun.
    #[default]
    Fault,
    /// Another director owns the VIPs.
    Backup,
    /// The VIPs belong to this director.
    Master,
}

impl Role {
    /// As operators read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Backup => "backup",
            Self::Master => "master",
        }
    }
}
