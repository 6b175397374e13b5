//! What happens to a director, by its word.

use serde::{Deserialize, Serialize};

/// Declares [`What`]: a name, its word in the API, and what it means.
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// What happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum What {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $name,)+
            /// Events that this listener missed, since it was too slow, or which the director does not remember any more.
            #[serde(rename = "missed")]
            Missed,
        }

        impl What {
            /// All that happens; what a listener missed is no event of the director.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word of the API.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                    Self::Missed => "missed",
                }
            }
        }
    };
}

events! {
    /// A real server came up.
    RealUp = "real_up",
    /// A real server went down.
    RealDown = "real_down",
    /// A service has its quorum again.
    QuorumUp = "quorum_up",
    /// A service lost its quorum.
    QuorumDown = "quorum_down",
    /// A virtual router became master.
    VrrpMaster = "vrrp_master",
    /// A virtual router became backup.
    VrrpBackup = "vrrp_backup",
    /// A virtual router is in fault.
    VrrpFault = "vrrp_fault",
    /// A virtual router ends with the director.
    VrrpStop = "vrrp_stop",
    /// A master hears an advert of a lower priority.
    VrrpLowerPriority = "vrrp_lower_priority",
    /// An advert is refused, or something is wrong with it.
    VrrpAdvert = "vrrp_advert",
    /// Another host acts as master beside this director.
    SplitBrain = "split_brain",
    /// It no longer does.
    SplitBrainOver = "split_brain_over",
    /// Another host uses, or wants to use, an address of this director.
    AddressConflict = "address_conflict",
    /// It was not heard for a while.
    AddressConflictOver = "address_conflict_over",
    /// Two hosts answer for the address of a neighbour, such as a real server or a router.
    NeighbourConflict = "neighbour_conflict",
    /// A check that virtual routers depend on turned.
    Tracked = "tracked",
    /// The configuration was taken anew.
    Reload = "reload",
    /// A reload was refused: nothing changed.
    ReloadRefused = "reload_refused",
    /// `ipvsadm` changed services or real servers.
    Ipvsadm = "ipvsadm",
    /// The link of a NIC is down.
    LinkDown = "link_down",
    /// It is up again.
    LinkUp = "link_up",
    /// The interface behind a NIC takes larger or smaller packets than before.
    LinkMtu = "link_mtu",
    /// The kernel holds an address of the director's.
    KernelAddress = "kernel_address",
    /// It no longer does.
    KernelAddressOver = "kernel_address_over",
    /// A service has no real server that is up and has weight.
    NoReal = "no_real",
    /// It has one again.
    NoRealOver = "no_real_over",
    /// A table or queue is full.
    Full = "full",
    /// It has had room for a while.
    FullOver = "full_over",
    /// A neighbour that the configuration needs (a real server, a router) does not answer.
    NeighbourSilent = "neighbour_silent",
    /// It answers again.
    NeighbourSilentOver = "neighbour_silent_over",
    /// The director lacks something of its own: descriptors, ports, memory, rights, CPU time.
    Lack = "lack",
    /// It has it again.
    LackOver = "lack_over",
    /// A thread of the director does not go on.
    ThreadLate = "thread_late",
    /// It goes on again.
    ThreadLateOver = "thread_late_over",
}
