//! Every way out that is not "sent": each variant is a counter, a word of the API and a line of help.

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal: $help:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $(#[doc = $help] $variant,)+
        }

        impl $name {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The word that operators see: in counters, the API and `--explain`.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// One sentence: what happened, and what to do where something can be done.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }

            /// The reason with this word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|reason| reason.word() == word)
            }
        }
    };
}

reasons! {
    /// Why a packet was dropped.
    DropReason {
        Truncated = "truncated": "The frame ends before the headers it announces.",
        CutShort = "cut_short": "The IP packet is longer than the frame that carries it: cut by a GSO or reassembling sender. Run `ethtool -K PEER gso off tso off gro off tx off` on the peer's interface.",
        Oversize = "oversize": "The IP packet is larger than 65,521 bytes: an offload of the sender. Run `ethtool -K PEER gso off tso off gro off tx off` on the peer's interface.",
        Segmented = "segmented": "The NIC delivered the frame in several buffers, larger than any MTU configured.",
        OtherMac = "other_mac": "The frame is addressed to another host's MAC (a switch is flooding).",
        Vlan = "vlan": "The frame carries the tag of a VLAN and no NIC of the director is configured for it. Tags with VLAN id 0, which say a priority alone, are taken off.",
        EtherType = "ether_type": "Neither IPv4, IPv6 nor ARP.",
        IpHeader = "ip_header": "The IP header is malformed: version, header length, total length or an option.",
        IpChecksum = "ip_checksum": "The IPv4 header checksum is wrong.",
        TransportHeader = "transport_header": "The TCP, UDP or ICMP header is malformed or cut.",
        TransportChecksum = "transport_checksum": "The transport checksum of a packet that the director would answer (a ping, TCP that gets a reset, or UDP for no service) is wrong.",
        ExtensionHeaders = "extension_headers": "More IPv6 extension headers, or longer ones, than the director follows.",
        Martian = "martian": "The source address cannot be one: loopback, multicast, unspecified, or an address of the director itself (RFC 1812, 5.3.7).",
        Group = "group": "Multicast or broadcast that nobody here asked for.",
        Fragment = "fragment": "A fragment for a virtual service that does not fit the others of its datagram: it overlaps them, lies behind their end, or disagrees about ECN. The datagram is given up.",
        SourceRoute = "source_route": "The packet asks for source routing, which is refused (RFC 6274, 3.13.2; RFC 5095).",
        NotForwarded = "not_forwarded": "For none of the director's addresses, and no [[forward]] rule lets it pass from the NIC that it came in by to the NIC that it would leave by; the sender is not told. `shunt explain` says which rule would.",
        ReversePath = "reverse_path": "The way back to the source leaves by another NIC than the packet came in by: its source is made up, or its way is not symmetric; if it shall pass, set reverse_path of the [[nic]].",
        NoConnection = "no_connection": "TCP of no known connection, and nothing to be told: a reset (RFC 9293, 3.5.2), or a packet of a firewall mark that is for somebody else.",
        ResetDelayed = "reset_delayed": "TCP or SCTP of no known connection, for a VIP that this director has since a short time, by its start or by a takeover: what it would be told ends a connection that may be known elsewhere. Answered again after runtime.reset_after; with sh, mh, dh and fo, and with one real server, such connections are taken up instead (`adopt`).",
        NoReal = "no_real": "The service has no real server that is up and has weight; the client is told by ICMP as far as the reply limit allows, unless the packet speaks of an error or has a firewall mark and is for somebody else.",
        RealRemoved = "real_removed": "The connection's real server was taken out of the configuration; put it back to revive the connection.",
        MasqueradePorts = "masquerade_ports": "A masqueraded host began a connection, and the ports that were tried are all taken by others to the same place; masquerade by more than one address.",
        MasqueradeProtocol = "masquerade_protocol": "From a masqueraded host, and neither TCP, UDP, SCTP nor ICMP: it has no ports to tell answers by.",
        TableFull = "table_full": "The connection table of its family is full of open connections, so that none was given up for a new one; raise runtime.connections.",
        TemplatesFull = "templates_full": "The table of persistence templates of its family is full of such that are in use; raise runtime.connections, or shorten `persistent`.",
        ClientShare = "client_share": "The connection table is nearly full, and the client (an IPv4 address, a /64 of IPv6) holds more of it than runtime.client_share.",
        ServiceShare = "service_share": "The connection table is nearly full, and the service holds more of it than its `share`.",
        Defence = "defence": "drop_packet of [sysctl]: one of every N packets that would make a connection is dropped, always or while the connection table is nearly full.",
        NoRoute = "no_route": "No route to the destination; add a [[route]] or a gateway.",
        BeyondLink = "beyond_link": "From a link-local address, which means a host of one link alone, to a host that is not on that link, or to a service whose real server is not, or is reached otherwise than by dr: it could not answer. Or to another host's link-local address (RFC 4291, 2.5.6; RFC 3927, 7).",
        NoTunnelSource = "no_tunnel_source": "The director has no address of the real server's family to tunnel from; add one to the NIC's addresses.",
        NoHeadRoom = "no_head_room": "No room in front of the frame for a tunnel header.",
        TtlExceeded = "ttl_exceeded": "The TTL or hop limit ran out; the sender is told as far as the reply limit allows.",
        TooBig = "too_big": "Larger than the MTU of the way on and not to be fragmented; the sender is told as far as the reply limit allows.",
        PathMtu = "path_mtu": "An ICMP error that tells how much a tunnel's path takes: taken note of. The client is not told, since its packet may be fragmented, or its connection is gone.",
        FragmentRoom = "fragment_room": "The packet had to be fragmented, and the packets before it in its burst had left no room.",
        FragmentLost = "fragment_lost": "A fragment that the director made found no packet buffer; raise runtime.memory.",
        ReplyLimit = "reply_limit": "The director would have answered (RST, ICMP), but runtime.replies a second were already made.",
        ReplyRoom = "reply_room": "A reply could not be built in the room of the packet.",
        NotMaster = "not_master": "For a VIP that belongs to another director now: this one is backup (VRRP). See `shunt status`; a sender that goes on has an old MAC for the VIP.",
        NotAccepted = "not_accepted": "For a VIP whose virtual router has `accept = false`, and of none of its services.",
        Unwanted = "unwanted": "For an address of the director, of a kind that it does not answer (an ICMP error about no connection, an unknown ICMP type or one that asks for the time, IGMP, IPv6 in which nothing follows).",
        HandOverFull = "hand_over_full": "The ring to the worker that owns the connection was full.",
        PuntFull = "punt_full": "The ring to the control core was full.",
        LinkDown = "link_down": "The link of the NIC that the packet was to leave by is down, or its interface is gone; `shunt status` says which, and what to do.",
        TransmitFull = "transmit_full": "The NIC's transmit queue did not take the packet.",
    }
}

reasons! {
    /// Why a worker handed a packet up to the control core.
    PuntReason {
        Arp = "arp": "An ARP packet (RFC 826).",
        NeighbourDiscovery = "neighbour_discovery": "An IPv6 neighbour discovery packet (RFC 4861).",
        Vrrp = "vrrp": "An advert of another director (RFC 9568).",
        Local = "local": "For the director's own address: to the kernel-side interface.",
        Unresolved = "unresolved": "The next hop's MAC is not known yet; the packet waits for its resolution and is injected again.",
    }
}

reasons! {
    /// What the director answered itself: the packet is consumed and a reply made.
    ReplyKind {
        EchoReply = "echo_reply": "Ping of a VIP.",
        Reset = "reset": "TCP for a port without a service, or for no connection (RFC 9293, 3.5.2).",
        PortUnreachable = "port_unreachable": "UDP for a port without a service.",
        NoReal = "no_real": "The service has no real server that is up and has weight: ICMP port unreachable, as the kernel says it.",
        ProtocolUnreachable = "protocol_unreachable": "A transport protocol that no VIP speaks.",
        NetUnreachable = "net_unreachable": "No route to the destination.",
        HostUnreachable = "host_unreachable": "No route to the real server of a connection, or nobody answers at the address of the next hop.",
        ParameterProblem = "parameter_problem": "An IP option is malformed or, in IPv6, unknown to who has to know it, a routing header leads nowhere, or a fragment of IPv6 cannot be put together: ICMP parameter problem names the byte (RFC 1122, 3.2.2.5; RFC 8200, 4.2 to 4.5).",
        TimeExceeded = "time_exceeded": "The TTL or hop limit ran out.",
        ReassemblyTimeExceeded = "reassembly_time_exceeded": "Fragments of a datagram did not come in time.",
        NoConnection = "no_connection": "A NAT real server's packet of no connection (nat_icmp_send): ICMP port unreachable.",
        Tunnel = "tunnel": "An ICMP error about a tunnel, told to the client whose packet was inside.",
        TooBig = "too_big": "Larger than the MTU of the way on and not to be fragmented (RFC 1191, RFC 8201).",
    }
}

reasons! {
    /// What a full table gave up before its time, for a new connection.
    Reclaimed {
        HalfOpen = "half_open": "A TCP or SCTP connection that never opened: its client did not complete the handshake.",
        OnePacket = "one_packet": "A connection of which one packet was seen: UDP, ICMP echo, or TCP that was taken up in its midst.",
        Closed = "closed": "A TCP or SCTP connection that was over: TIME_WAIT, CLOSE.",
        Template = "template": "A persistence template of which no connection ever opened, or else one without a connection now: its client persists no more.",
    }
}

reasons! {
    /// Why a datagram of which fragments came was given up. Its fragments are `consumed`.
    Incomplete {
        Time = "fragment_time": "Fragments of a datagram did not come in time: 30 seconds, with IPv6 60.",
        Memory = "fragment_memory": "The memory for fragments was full: the oldest datagram of the client that holds most of it gave way; raise runtime.fragments if no flood is behind it.",
        Misfit = "fragment_misfit": "A fragment did not fit the others of its datagram: see `fragment`.",
    }
}

reasons! {
    /// What passes by the director and says how a real server is.
    Evidence {
        Answered = "answered": "The real server answered the SYN of a connection (nat).",
        Refused = "refused": "The real server answered the SYN of a connection with RST (nat): nobody listens there.",
        Unanswered = "unanswered": "A client sent its SYN again after a while in which the real server sent nothing (nat).",
        Unreachable = "unreachable": "An ICMP error says that a packet of a known connection did not reach the real server (nat, tun): destination unreachable.",
        TimeExceeded = "time_exceeded": "An ICMP error says that the TTL of a packet of a known connection ran out on its way to the real server (nat, tun). A client can bring that about, so that it is no failure of the real server.",
    }
}

impl Evidence {
    /// True for what speaks against the real server, and not only against the packet.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Refused | Self::Unanswered | Self::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_read_back() {
        let words: HashSet<_> = DropReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), DropReason::COUNT);
        for &reason in DropReason::ALL {
            assert_eq!(DropReason::from_word(reason.word()), Some(reason));
            assert!(reason.help().ends_with(['.', '.']), "{}", reason.word());
            assert_eq!(DropReason::ALL[reason as usize], reason);
        }
        assert_eq!(DropReason::from_word("nothing"), None);
    }
}
