//! SCTP packets (RFC 9260): common header, first chunk, CRC32c.

use super::{TcpFlags, array, put};

/// Bytes of the common header.
pub const HEADER: usize = 12;

/// Offsets in the common header; the ports are where TCP has them.
pub mod field {
    /// CRC32c, lowest byte first.
    pub const CHECKSUM: usize = 8;
}

/// Bytes of a chunk's header: type, flags, length.
const CHUNK: usize = 4;

/// Numbers of chunks.
mod chunk {
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// The type of the chunk that does what these flags do in TCP.
pub(super) const fn chunk_like(flags: TcpFlags) -> u8 {
    if flags.rst() {
        chunk::ABORT
    } else if flags.syn() {
        chunk::INIT
    } else if flags.fin() {
        chunk::SHUTDOWN
    } else {
        0
    }
}

/// What a packet does to its association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Event {
    /// Data, and all that is not below.
    Data,
    /// INIT.
    Init,
    /// INIT ACK.
    InitAck,
    /// COOKIE ECHO.
    CookieEcho,
    /// COOKIE ACK.
    CookieAck,
    /// SHUTDOWN.
    Shutdown,
    /// SHUTDOWN ACK.
    ShutdownAck,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete,
    /// ERROR.
    Error,
    /// ABORT.
    Abort,
}

/// What stands in the place of TCP's flags for a packet without chunk.
pub const NO_EVENT: TcpFlags = TcpFlags(0b1110_1000);

impl Event {
    /// How many there are.
    pub const COUNT: usize = 10;
    /// All of them, in order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Data,
        Self::Init,
        Self::InitAck,
        Self::CookieEcho,
        Self::CookieAck,
        Self::Shutdown,
        Self::ShutdownAck,
        Self::ShutdownComplete,
        Self::Error,
        Self::Abort,
    ];

    /// The event of a packet that begins with the common header; none when it has no chunk (kernel: `set_sctp_state`). An
    /// ABORT behind a cookie counts for the whole.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let [kind, _, high, low] = array(packet, HEADER)?;
        let mut kind = kind;
        if matches!(kind, chunk::COOKIE_ECHO | chunk::COOKIE_ACK) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            let at = HEADER + length.next_multiple_of(4);
            let next: Option<[u8; CHUNK]> = if length < CHUNK { None } else { array(packet, at) };
            if let Some([chunk::ABORT, ..]) = next {
                kind = chunk::ABORT;
            }
        }
        Some(match kind {
            chunk::INIT => Self::Init,
            chunk::INIT_ACK => Self::InitAck,
            chunk::ABORT => Self::Abort,
            chunk::SHUTDOWN => Self::Shutdown,
            chunk::SHUTDOWN_ACK => Self::ShutdownAck,
            chunk::ERROR => Self::Error,
            chunk::COOKIE_ECHO => Self::CookieEcho,
            chunk::COOKIE_ACK => Self::CookieAck,
            chunk::SHUTDOWN_COMPLETE => Self::ShutdownComplete,
            _ => Self::Data,
        })
    }

    /// The event as it stands in the place of TCP's flags: where a packet that begins a connection has SYN, and one that
    /// never does has RST.
    #[must_use]
    pub const fn as_flags(self) -> TcpFlags {
        let number = self as u8;
        let like = match self {
            Self::Init => TcpFlags::SYN.0,
            Self::Abort => TcpFlags::RST.0,
            _ => 0,
        };
        TcpFlags((number & 7) << 5 | number & 8 | like)
    }

    /// The event that [`Self::as_flags`] wrote; none for [`NO_EVENT`].
    #[must_use]
    pub fn from_flags(flags: u8) -> Option<Self> {
        Self::ALL.get(usize::from(flags >> 5 | flags & 8)).copied()
    }
}

/// CRC32c (RFC 9260, appendix A), byte by byte.
static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The CRC32c of some bytes.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)];
    !bytes.iter().fold(u32::MAX, step)
}

/// Computes the checksum of the packet that `bytes` hold and writes it.
#[cold]
pub fn fill_checksum(bytes: &mut [u8]) {
    put(bytes, field::CHECKSUM, [0; 4]);
    let checksum = crc32c(bytes);
    put(bytes, field::CHECKSUM, checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn events_survive_their_place() {
        for (number, event) in Event::ALL.into_iter().enumerate() {
            assert_eq!(event as usize, number);
            let flags = event.as_flags();
            assert_eq!(Event::from_flags(flags.0), Some(event));
            assert_eq!(
                (flags.syn(), flags.rst(), flags.ack()),
                (event == Event::Init, event == Event::Abort, false)
            );
        }
        assert_eq!(Event::from_flags(NO_EVENT.0), None);
    }

    #[test]
    fn the_first_chunk_tells() {
        let packet = |chunks: &[u8]| [&[0; HEADER], chunks].concat();
        for (chunks, event) in [
            (&[1, 0, 0, 4][..], Some(Event::Init)),
            (&[0, 3, 0, 16, 0, 0], Some(Event::Data)),
            (&[200, 0, 0, 4], Some(Event::Data)),
            (&[10, 0, 0, 5, 9, 0, 0, 0, 6, 0, 0, 4], Some(Event::Abort)),
            (&[10, 0, 0, 5, 9, 0, 0, 0, 0, 0, 0, 4], Some(Event::CookieEcho)),
            (&[11, 0, 0, 3, 6, 0, 0, 4], Some(Event::CookieAck)),
            (&[14, 1, 0, 4], Some(Event::ShutdownComplete)),
            (&[1, 0, 0], None),
        ] {
            assert_eq!(Event::of(&packet(chunks)), event, "{chunks:?}");
        }
    }
}
