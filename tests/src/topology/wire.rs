//! The other end of a cable: sends and receives exact frames by a packet socket.

use std::collections::VecDeque;
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
/// How long frames are taken that come without a pause: a flood has none.
const DRAIN: Duration = Duration::from_secs(1);
/// Frames that are shown of those that came instead of the awaited one.
const SHOWN: usize = 12;

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
                    return Some(buffer[..length].to_vec());
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
                    return Some((stamp, buffer[..length].to_vec()));
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
        let (mut others, mut last) = (0_u64, VecDeque::new());
        while Instant::now() < deadline {
            let Some(frame) = self.receive() else { continue };
            if let Some(found) = wanted(&frame) {
                return found;
            }
            others += 1;
            last.truncate(SHOWN - 1);
            last.push_front(frame);
        }
        let shown: Vec<String> = last.iter().rev().map(|frame| text::frame(frame)).collect();
        panic!(
            "{}: {what}: not within {patience:?}; {others} others came:\n  {}",
            self.interface,
            shown.join("\n  ")
        );
    }

    /// Waits for exactly this frame.
    ///
    /// # Panics
    /// When it does not come.
    pub fn expect_frame(&self, frame: &[u8]) {
        self.expect(&text::frame(frame), |came| (came == frame).then_some(()));
    }

    /// Takes the frames that have come, without waiting for more; in a flood for a second at most.
    ///
    /// # Panics
    /// When the interface is gone.
    #[must_use]
    pub fn pending(&self) -> Vec<Vec<u8>> {
        Self::for_a_while(|| if self.ready(PollTimeout::ZERO) { self.receive() } else { None })
    }

    /// Takes all that came up to now and what follows without a pause; in a flood for a second at most.
    ///
    /// # Panics
    /// When the interface is gone.
    #[must_use]
    pub fn drain(&self) -> Vec<Vec<u8>> {
        Self::for_a_while(|| self.receive())
    }

    fn for_a_while(mut next: impl FnMut() -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let end = Instant::now() + DRAIN;
        std::iter::from_fn(|| if Instant::now() < end { next() } else { None }).collect()
    }

    fn ready(&self, timeout: PollTimeout) -> bool {
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, timeout).is_ok_and(|ready| ready > 0)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{DRAIN, Instant, Wire};
    use crate::topology::Lab;

    /// What comes without a pause is taken for a while only, whatever comes after it.
    #[test]
    fn a_flood_ends_no_drain() {
        let lab = Lab::new();
        lab.cable(["near", "far"], 1);
        let (near, far, ends) = (Wire::open("near"), Wire::open("far"), AtomicBool::new(false));
        let (begin, most) = (Instant::now(), 10 * DRAIN);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ends.load(Ordering::Relaxed) && begin.elapsed() < most {
                    far.send(&[0xff; 60]);
                }
            });
            let taken = [near.drain(), near.pending()];
            ends.store(true, Ordering::Relaxed);
            assert!(begin.elapsed() < most, "until the flood was over");
            for frames in taken {
                assert!(!frames.is_empty());
                assert!(frames.iter().all(|frame| frame.capacity() < 2 * frame.len()));
            }
        });
    }
}
