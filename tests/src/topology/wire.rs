//! The other end of a cable: sends and receives exact frames by a packet socket.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom,
    recvmsg, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::PATIENCE;
use crate::text;

/// Bytes of frames that may wait to be received.
const RECEIVE_BUFFER: usize = 32 << 20;
/// The kernel's `PACKET_OUTGOING`: a frame that somebody on this side sends.
const OUTGOING: u8 = 4;
/// How long one attempt to receive waits.
const ATTEMPT: Duration = Duration::from_millis(20);

/// A packet socket on an interface of the calling thread's namespace.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    interface: String,
}

impl Wire {
    /// Opens the interface.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn open(interface: &str) -> Self {
        let family = AddressFamily::Packet;
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
            .expect("a packet socket");
        bind(socket.as_raw_fd(), &link(interface)).expect("a packet socket on the interface");
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).expect("room for frames");
        let attempt = TimeVal::milliseconds(ATTEMPT.as_millis() as i64);
        setsockopt(&socket, sockopt::ReceiveTimeout, &attempt).expect("a timeout");
        Self { socket, interface: interface.to_owned() }
    }

    /// Sends a frame as it is.
    ///
    /// # Panics
    /// When the interface does not take it.
    pub fn send(&self, frame: &[u8]) {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return,
                Err(Errno::ENOBUFS | Errno::EINTR) => std::thread::yield_now(),
                Err(error) => panic!("{}: {error} for {}", self.interface, text::frame(frame)),
            }
        }
    }

    /// The next frame that comes from the other end; none when none does for a moment.
    ///
    /// # Panics
    /// When the interface is gone.
    #[must_use]
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
                Ok((length, _)) => {
                    buffer.truncate(length);
                    return Some(buffer);
                }
                // A tap goes down with its director.
                Err(Errno::EAGAIN | Errno::ENETDOWN) => return None,
                Err(Errno::EINTR) => {}
                Err(error) => panic!("{}: {error}", self.interface),
            }
        }
    }

    /// Like [`Self::receive`], with the kernel's time of its arrival, since 1970: a test that is late does not move it.
    ///
    /// # Panics
    /// When the interface is gone.
    #[must_use]
    pub fn receive_stamped(&self) -> Option<(Duration, Vec<u8>)> {
        setsockopt(&self.socket, sockopt::ReceiveTimestampns, &true).expect("times of arrival");
        let mut buffer = vec![0; 1 << 16];
        let mut room = nix::cmsg_space!(nix::sys::time::TimeSpec);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let came =
                recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::empty());
            match came {
                Ok(message) if message.address.is_some_and(|from| from.pkttype() == OUTGOING) => {}
                Ok(message) => {
                    let stamp = message.cmsgs().ok()?.find_map(|part| match part {
                        ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
                        _ => None,
                    })?;
                    let length = message.bytes;
                    buffer.truncate(length);
                    return Some((stamp, buffer));
                }
                Err(Errno::EAGAIN | Errno::ENETDOWN) => return None,
                Err(Errno::EINTR) => {}
                Err(error) => panic!("{}: {error}", self.interface),
            }
        }
    }

    /// Waits for a frame that `wanted` takes; others are passed over.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`]; it tells what came instead.
    pub fn expect<T>(&self, what: &str, wanted: impl FnMut(&[u8]) -> Option<T>) -> T {
        self.expect_within(PATIENCE, what, wanted)
    }

    /// The same, with a patience of one's own.
    ///
    /// # Panics
    /// When it does not come.
    pub fn expect_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + patience;
        let mut others = Vec::new();
        while Instant::now() < deadline {
            let Some(frame) = self.receive() else { continue };
            if let Some(found) = wanted(&frame) {
                return found;
            }
            others.push(text::frame(&frame));
        }
        let shown = others.iter().rev().take(12).rev().cloned().collect::<Vec<_>>().join("\n  ");
        panic!(
            "{}: {what}: not within {patience:?}; {} others came:\n  {shown}",
            self.interface,
            others.len()
        );
    }

    /// Waits for exactly this frame.
    ///
    /// # Panics
    /// When it does not come.
    pub fn expect_frame(&self, frame: &[u8]) {
        self.expect(&text::frame(frame), |came| (came == frame).then_some(()));
    }

    /// Takes the frames that have come, without waiting for more.
    ///
    /// # Panics
    /// When the interface is gone.
    #[must_use]
    pub fn pending(&self) -> Vec<Vec<u8>> {
        let ready = || self.ready(PollTimeout::ZERO);
        std::iter::from_fn(|| if ready() { self.receive() } else { None }).collect()
    }

    fn ready(&self, timeout: PollTimeout) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, timeout).is_ok_and(|ready| ready > 0)
    }

    /// Takes all that came up to now.
    #[must_use]
    pub fn drain(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.receive()).collect()
    }
}

/// Waits until a frame is there on one of these wires, or the time has passed.
pub fn wait_any(wires: &[Wire], time: Duration) {
    let mut polled: Vec<PollFd<'_>> =
        wires.iter().map(|wire| PollFd::new(wire.socket.as_fd(), PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    // A signal only makes the wait shorter.
    let _ = poll(&mut polled, timeout);
}

/// The address of an interface for packet sockets.
fn link(interface: &str) -> LinkAddr {
    let mut entries = getifaddrs().expect("the interfaces");
    let found = entries.find_map(|entry| {
        (entry.interface_name == interface).then(|| entry.address?.as_link_addr().copied()).flatten()
    });
    found.unwrap_or_else(|| panic!("no interface {interface}"))
}
