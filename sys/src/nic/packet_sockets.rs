//! The packet sockets (packet(7)) of net_af_packet, one for each queue. The driver puts even a single one into a fanout group that joins
//! IPv4 fragments before anybody sees them, cut off at the size of a frame, and a group cannot be left. So each socket is replaced by one
//! like it, at the same descriptor and with its rings at the same address: alone where there is one queue, else in a group that joins nothing.

use std::ffi::c_void;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::libc;
use nix::net::if_::if_nametoindex;

use crate::ffi;
use crate::packet_socket::ROOM;
use crate::probe::Device;

/// The driver that has them.
pub(crate) const DRIVER: &str = "net_af_packet";
/// What the driver takes where its arguments do not say.
const FRAME_SIZE: usize = 2048;
const FRAME_COUNT: usize = 512;
const BLOCK_SIZE: usize = 4096;

/// A packet socket of this process that is bound to the device's interface, with the memory of its rings.
#[derive(Clone, Debug)]
struct Socket {
    descriptor: RawFd,
    inode: u64,
    /// Where its rings are in memory, and how many bytes they have.
    rings: Option<(usize, usize)>,
}

/// Their descriptors by queue; none when that order is in doubt.
pub(super) fn descriptors(device: &Device) -> Vec<RawFd> {
    in_order(of(device)).unwrap_or_default().iter().map(|socket| socket.descriptor).collect()
}

/// Their descriptors in any order.
pub(super) fn all(device: &Device) -> Vec<RawFd> {
    of(device).iter().map(|socket| socket.descriptor).collect()
}

/// The sockets in the order in which they were opened, which is that of the queues, when both orders say so.
fn in_order(sockets: Vec<Socket>) -> Option<Vec<Socket>> {
    sockets.is_sorted_by_key(|socket| socket.inode).then_some(sockets)
}

/// All of them, by descriptor.
fn of(device: &Device) -> Vec<Socket> {
    let Some(index) = device.option("iface").and_then(|name| if_nametoindex(name.trim()).ok()) else {
        return Vec::new();
    };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(all) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let mut found: Vec<Socket> = all
        .flatten()
        .filter_map(|entry| {
            let descriptor: RawFd = entry.file_name().to_str()?.parse().ok()?;
            let link = std::fs::read_link(entry.path()).ok()?;
            let link = link.to_str()?;
            let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
            // SAFETY: getsockname(2): any number may be asked for, and the shim gives it room for the answer.
            let bound = unsafe { ffi::shim_packet_socket_interface(descriptor) };
            let bound = u32::try_from(bound) == Ok(index);
            bound.then(|| Socket { descriptor, inode, rings: mapped(&maps, link) })
        })
        .collect();
    found.sort_unstable_by_key(|socket| socket.descriptor);
    found
}

/// Where a file is in memory, by its only line in `/proc/PID/maps`.
fn mapped(maps: &str, file: &str) -> Option<(usize, usize)> {
    let mut lines = maps.lines().filter(|line| line.split_whitespace().nth(5) == Some(file));
    let (range, _) = lines.next()?.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    let (from, to) = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
    lines.next().is_none().then_some((from, to.checked_sub(from)?))
}

/// The rings as the driver made them from its arguments: receive and transmit alike, and both together have so many bytes.
fn rings(device: &Device, bytes: usize) -> Option<libc::tpacket_req> {
    let number =
        |value: Option<&str>, default| value.and_then(|text| text.trim().parse().ok()).unwrap_or(default);
    let read = |option: &dyn Fn(&str) -> Option<String>| {
        let block = number(option("blocksz").as_deref(), BLOCK_SIZE);
        let frame = number(option("framesz").as_deref(), FRAME_SIZE);
        let count = number(option("framecnt").as_deref(), FRAME_COUNT);
        let in_block = block.checked_div(frame).filter(|frames| *frames > 0)?;
        let blocks = count / in_block;
        (2 * block.checked_mul(blocks)? == bytes).then_some(libc::tpacket_req {
            tp_block_size: block as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: frame as u32,
            tp_frame_nr: count as u32,
        })
    };
    // Versions differ in which counts of an argument that is there twice.
    read(&|key| device.option(key).map(str::to_owned))
        .or_else(|| read(&|key| device.last_option(key).map(str::to_owned)))
}

/// What takes the place of the driver's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Sockets with rings as before, which the driver goes on to use.
    Rings,
    /// Sockets without, which tell what senders left to a NIC; the driver has them for waiting and closing alone.
    Plain,
}

/// Replaces the sockets of a device that nobody polls yet. False when they are not as they are known, and were left alone.
///
/// # Errors
///
/// The system's. The device must not be used then.
pub(crate) fn replace(device: &Device) -> io::Result<bool> {
    Ok(replace_by(Place::Rings, device)?.is_some_and(|sockets| !sockets.is_empty()))
}

/// Takes the sockets of a device away from its driver, whose queues must not be polled any more: by queue, those that are there instead
/// and are closed with the device. None when they are not as they are known, and were left alone.
///
/// # Errors
///
/// The system's. The device must not be used then.
pub(super) fn take(device: &Device) -> io::Result<Option<Vec<RawFd>>> {
    replace_by(Place::Plain, device)
}

fn replace_by(place: Place, device: &Device) -> io::Result<Option<Vec<RawFd>>> {
    let Some(sockets) = in_order(of(device)) else { return Ok(None) };
    let mut known = Vec::new();
    for socket in &sockets {
        let version = option(socket.descriptor, libc::PACKET_VERSION).unwrap_or(-1);
        let with = socket.rings.and_then(|at| Some((at, rings(device, at.1)?)));
        match with {
            Some(with) if version == libc::tpacket_versions::TPACKET_V2 as i32 => {
                known.push((socket.descriptor, with))
            }
            _ => return Ok(None),
        }
    }
    let mut group = None;
    let count = known.len();
    for &(old, (memory, ref request)) in &known {
        let new = match place {
            Place::Rings => like(old, request)?,
            Place::Plain => plain()?,
        };
        map(memory, (place == Place::Rings).then_some(new.as_raw_fd()))?;
        bind(&new, device)?;
        if count > 1 {
            group = Some(join(&new, group)?);
        }
        // SAFETY: dup3(2) closes the old socket and puts the new one in its place; the driver goes on to own that number.
        if unsafe { libc::dup3(new.as_raw_fd(), old, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(Some(known.iter().map(|(descriptor, _)| *descriptor).collect()))
}

/// Puts the rings of a new socket where those of an old one are in memory, or nothing that could be read or written.
fn map((address, bytes): (usize, usize), rings_of: Option<RawFd>) -> io::Result<()> {
    let (access, kind) = match rings_of {
        Some(_) => (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
        None => (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE),
    };
    // SAFETY: mmap(2): the range is the whole of the old socket's rings, which nobody reads or writes before the device is started; the
    // new one has rings of the same sizes, or the driver's queues are not polled any more.
    let at = unsafe {
        libc::mmap(address as *mut c_void, bytes, access, kind | libc::MAP_FIXED, rings_of.unwrap_or(-1), 0)
    };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A socket of this kind, bound to nothing.
fn new() -> io::Result<OwnedFd> {
    // SAFETY: socket(2).
    let new = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made here and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// A socket that tells what senders left to a NIC, with room for what a ring would hold, bound to nothing.
fn plain() -> io::Result<OwnedFd> {
    let new = new()?;
    // Not past the queueing discipline (PACKET_QDISC_BYPASS): there the kernel drops what it has to cut for an interface that cannot.
    for name in [libc::PACKET_VNET_HDR, libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
        set(&new, name, &1)?;
    }
    for name in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        set_at(&new, libc::SOL_SOCKET, name, &ROOM)?;
    }
    Ok(new)
}

/// A socket with the rings and options of another one, bound to nothing.
fn like(old: RawFd, request: &libc::tpacket_req) -> io::Result<OwnedFd> {
    let new = new()?;
    for name in [libc::PACKET_VERSION, libc::PACKET_LOSS, libc::PACKET_QDISC_BYPASS] {
        set(&new, name, &option(old, name)?)?;
    }
    set(&new, libc::PACKET_RX_RING, request)?;
    set(&new, libc::PACKET_TX_RING, request)?;
    Ok(new)
}

fn bind(socket: &OwnedFd, device: &Device) -> io::Result<()> {
    let interface =
        if_nametoindex(device.option("iface").unwrap_or_default().trim()).map_err(io::Error::from)?;
    // SAFETY: all zero is an address of this kind.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = interface as i32;
    // SAFETY: bind(2) reads the address, which has that many bytes.
    done(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })
}

/// Joins a fanout group that spreads by addresses and lets the others have what one has no room for, as the driver's does; a new one,
/// whose number the kernel chooses, where there is none yet.
fn join(socket: &OwnedFd, group: Option<i32>) -> io::Result<i32> {
    let kind = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_ROLLOVER;
    let new = ((kind | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16) as i32;
    set(socket, libc::PACKET_FANOUT, &group.unwrap_or(new))?;
    option(socket.as_raw_fd(), libc::PACKET_FANOUT)
}

/// Packets that found no room in the rings of a socket since this was asked last: the kernel begins anew each time.
pub(super) fn lost(socket: RawFd) -> u64 {
    let mut counted = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    // One that is closed has lost nothing more.
    let asked = get(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, &mut counted);
    asked.map_or(0, |_length| counted.tp_drops.into())
}

fn option(socket: RawFd, name: libc::c_int) -> io::Result<i32> {
    let mut value = 0;
    get(socket, libc::SOL_PACKET, name, &mut value)?;
    Ok(value)
}

/// Reads an option, of a type whose every bit pattern is a value, and says how many bytes there were.
pub(super) fn get<T: Copy>(
    socket: RawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<usize> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: getsockopt(2) writes at most so many bytes.
    done(unsafe { libc::getsockopt(socket, level, name, (&raw mut *value).cast(), &mut length) })?;
    Ok(length as usize)
}

fn set<T: Copy>(socket: &OwnedFd, name: libc::c_int, value: &T) -> io::Result<()> {
    set_at(socket, libc::SOL_PACKET, name, value)
}

fn set_at<T: Copy>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads so many bytes.
    done(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) })
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_found_in_memory() {
        let maps = "7f0000000000-7f0000002000 rw-s 00000000 00:08 77    socket:[77]\n\
                    7f0000004000-7f0000005000 rw-s 00000000 00:08 78    socket:[78]\n\
                    7f0000006000-7f0000007000 rw-s 00001000 00:08 78    socket:[78]\n";
        assert_eq!(mapped(maps, "socket:[77]"), Some((0x7f00_0000_0000, 0x2000)));
        assert_eq!(mapped(maps, "socket:[78]"), None, "in two parts");
        assert_eq!(mapped(maps, "socket:[7]"), None);
    }
}
