//! The memory that packets take, of which pages it is, and what is to be said where there is too little.

use std::fmt;
use std::path::Path;

use dpdk_sys::packet_socket::{LARGE_PER_QUEUE, LARGE_ROOM};
use dpdk_sys::{FreeHugepages, mempool};
use shunt_model::fault::Fault;
use shunt_model::interface::Interfaces;
use shunt_model::limit;

use super::memory::Size;
use super::{Machine, pci};
use crate::{Hugepages, MTU_DEFAULT, Nic, Runtime};

/// Received packets that a queue holds.
pub const RX_DESCRIPTORS: u16 = 1024;
/// Packets that a queue holds until they are sent.
pub const TX_DESCRIPTORS: u16 = 1024;
/// Mbufs beyond what queues hold: bursts, rings, packets that wait for neighbours.
const MBUFS_SPARE: u32 = 8192;
/// What DPDK needs beside mbufs, in MiB.
const MEMORY_BASE: u64 = 64;

/// The hugepages of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Bytes that are reserved and free.
    pub free: u64,
    /// Bytes of the smallest page, where the kernel has hugepages at all.
    pub page: Option<u64>,
    /// How many of these are reserved, free or not.
    pub pages: u64,
}

impl Reserved {
    /// Those of this machine.
    #[must_use]
    pub fn here() -> Self {
        let found = FreeHugepages::read();
        let page = found.pages.first().map(|(kibibytes, _)| kibibytes << 10);
        let total = |page| std::fs::read_to_string(place(page)).ok()?.trim().parse().ok();
        Self { free: found.bytes(), page, pages: page.and_then(total).unwrap_or(0) }
    }

    /// What to do to have so many bytes of them.
    fn advice(&self, needed: u64) -> String {
        let Some(page) = self.page else {
            return "run a kernel with hugepages (CONFIG_HUGETLBFS)".to_owned();
        };
        let pages = self.pages + needed.saturating_sub(self.free).div_ceil(page);
        format!("reserve them: `echo {pages} >{}`", place(page))
    }
}

fn place(page: u64) -> String {
    format!("/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages", page >> 10)
}

/// The memory that packets take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packets {
    /// How many there are at most.
    pub mbufs: u32,
    /// Bytes of each one's buffer.
    pub data_room: u16,
    /// How many large frames there are at most, of which senders left the cutting to a NIC; 0 where none come.
    pub large: u32,
    /// Bytes of the largest IP packet that each NIC is opened for.
    pub rooms: Vec<u16>,
    /// MiB that they take, with what DPDK takes beside them.
    needed: u64,
    /// MiB, as the configuration has it.
    configured: Option<u32>,
    hugepages: Hugepages,
    /// Some NIC is told physical addresses, which are known of hugepages alone.
    physical: bool,
}

impl Packets {
    /// Of a configuration, on a machine with these interfaces.
    #[must_use]
    pub fn of(runtime: &Runtime, nics: &[Nic], interfaces: Option<&Interfaces>) -> Self {
        let queues = nics.len() * runtime.workers.len();
        let held = queues as u32 * u32::from(RX_DESCRIPTORS + TX_DESCRIPTORS);
        // As many as all queues can hold at once, and some.
        let mbufs = (held + MBUFS_SPARE).next_power_of_two() - 1;
        let rooms: Vec<u16> = nics.iter().map(|nic| room(nic, interfaces)).collect();
        let data_room = data_room(Path::new(pci::SYSFS), nics, &rooms);
        let each = u64::from(data_room) + 256;
        let taking = nics.iter().filter(|nic| nic.device.takes_offloads()).count() * runtime.workers.len();
        let large = (taking as u32 * LARGE_PER_QUEUE).next_power_of_two() - 1;
        let large_bytes = u64::from(large) * (u64::from(LARGE_ROOM) + 256);
        Self {
            mbufs,
            data_room,
            large,
            needed: MEMORY_BASE + (u64::from(mbufs) * each + large_bytes).div_ceil(1 << 20) * 5 / 4,
            configured: runtime.memory,
            hugepages: runtime.hugepages,
            physical: pci::want_physical_addresses(Path::new(pci::SYSFS), nics.iter().map(|nic| &nic.device)),
            rooms,
        }
    }

    /// MiB that DPDK gets.
    #[must_use]
    pub fn mebibytes(&self) -> u64 {
        self.configured.map_or(self.needed, u64::from)
    }

    /// Some NIC is told physical addresses.
    #[must_use]
    pub fn want_physical_addresses(&self) -> bool {
        self.physical
    }

    /// Whether they are in hugepages, of which so many bytes are free.
    #[must_use]
    pub fn in_hugepages(&self, free: u64) -> bool {
        match self.hugepages {
            Hugepages::Never => false,
            Hugepages::Auto => self.are_enough(free) || self.physical,
            Hugepages::Always => true,
        }
    }

    fn are_enough(&self, free: u64) -> bool {
        free >> 20 >= self.mebibytes()
    }

    /// Bytes that they take of the memory that is no hugepage.
    #[must_use]
    pub fn ordinary(&self, free: u64) -> u64 {
        if self.in_hugepages(free) { 0 } else { self.mebibytes() << 20 }
    }

    /// What keeps a director with `hugepages = "always"` from starting.
    #[must_use]
    pub fn too_few_hugepages(&self, reserved: &Reserved) -> Option<Fault> {
        (self.hugepages == Hugepages::Always && !self.are_enough(reserved.free)).then(|| {
            let advice = format!("{}, or set hugepages = \"auto\"", reserved.advice(self.mebibytes() << 20));
            Fault::new(
                match reserved.free {
                    0 => "no hugepage is free".to_owned(),
                    free => format!("{} of hugepages are free", Size(free)),
                },
                format!("{self}: hugepages = \"always\" takes no other pages"),
                advice,
            )
        })
    }

    /// What `check` tells of these pages on a machine.
    #[must_use]
    pub fn faults(&self, machine: &Machine) -> Vec<(Key, Fault)> {
        let mut faults = Vec::new();
        if let Some(reserved) = &machine.hugepages {
            if let Some(fault) = self.too_few_hugepages(reserved) {
                faults.push((Key::Hugepages, fault));
            }
            let unused = self.hugepages == Hugepages::Auto && !self.in_hugepages(reserved.free);
            if unused && reserved.free > 0 {
                let fault = Fault::new(
                    format!("{} of hugepages are free, which are too few", Size(reserved.free)),
                    format!("{self}: they are in ordinary pages here"),
                    reserved.advice(self.mebibytes() << 20),
                );
                faults.push((Key::Hugepages, fault));
            }
        }
        // Hugepages are taken as they are needed, whatever the key says.
        let bounded = !self.in_hugepages(machine.hugepages.map_or(0, |reserved| reserved.free));
        if let Some(configured) = self.configured.filter(|configured| u64::from(*configured) < self.needed) {
            if bounded {
                let fault = Fault::new(
                    format!("memory is {configured} MiB"),
                    format!("packets take {} MiB: {}", self.needed, self.because()),
                    format!("set memory to {} at least, or leave it out", self.needed),
                );
                faults.push((Key::Memory, fault));
            }
        }
        faults
    }

    fn because(&self) -> String {
        let large = match self.large {
            0 => String::new(),
            large => format!(", {large} of {LARGE_ROOM} bytes"),
        };
        format!("{} buffers of {} bytes{large}, and what DPDK needs beside them", self.mbufs, self.data_room)
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "packets take {}: {}", Size(self.mebibytes() << 20), self.because())
    }
}

/// The key of `[runtime]` that a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `hugepages`.
    Hugepages,
    /// `memory`.
    Memory,
}

/// Bytes of the largest IP packet that a NIC is opened for: as configured, or what its interface takes, as far as its driver does.
fn room(nic: &Nic, interfaces: Option<&Interfaces>) -> u16 {
    let interface = nic.device.interface().and_then(|name| interfaces?.named(name));
    let taken =
        interface.map(|(_, interface)| interface.mtu.clamp(limit::MTU_MIN.into(), limit::MTU_MAX.into()));
    let most = nic.device.mtu_most().map_or(limit::MTU_MAX, |(most, _)| most);
    nic.mtu.or(taken.map(|mtu| most.min(mtu as u16))).unwrap_or(MTU_DEFAULT)
}

/// Room for the largest frame of any NIC behind the head room. af_packet does not check bounds when it receives.
fn data_room(sysfs: &Path, nics: &[Nic], rooms: &[u16]) -> u16 {
    let frame = nics.iter().zip(rooms).map(|(nic, room)| nic.device.frame_size(*room)).max().unwrap_or(0);
    let most = nics.iter().filter_map(|nic| pci::room_most(sysfs, &nic.device)).min();
    let frame = most.map_or(frame, |most| frame.min(most));
    let room = frame + usize::from(mempool::HEADROOM);
    u16::try_from(room).unwrap_or(u16::MAX).max(mempool::DATA_ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::check::Checked;
    use crate::device::Device;

    const MIB: u64 = 1 << 20;

    /// Of one NIC with one worker, whose packets take 111 MiB, with these lines in `[runtime]`.
    fn checked(runtime: &str, machine: &Machine) -> Checked {
        let text = format!(
            "[runtime]\nconnections = 4096\n{runtime}\n[[nic]]\nname = \"front\"\ndevice = \"tap:t\"\naddresses = [\"192.0.2.2/24\"]\n\
             [[service]]\nname = \"web\"\nlisten = \"192.0.2.10:80\"\nprotocol = \"tcp\"\nreal = [{{ address = \"192.0.2.21:80\" }}]\n"
        );
        Config::check_on("file", &text, machine).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn warnings(runtime: &str, machine: &Machine) -> Vec<String> {
        let warnings = checked(runtime, machine).warnings;
        warnings.list.iter().map(|warning| warnings.line(warning)).collect()
    }

    fn machine(free: u64, pages: u64, memory: u64) -> Machine {
        let reserved = Reserved { free: free * MIB, page: Some(2 * MIB), pages };
        Machine { hugepages: Some(reserved), memory: Some(memory * MIB), ..Machine::default() }
    }

    #[test]
    fn what_is_enough_is_not_spoken_of() {
        let none = [""; 0];
        assert_eq!(warnings("", &machine(0, 0, 4096)), none, "ordinary pages");
        assert_eq!(warnings("hugepages = \"never\"", &machine(4, 2, 4096)), none);
        assert_eq!(warnings("hugepages = \"always\"", &machine(512, 256, 64)), none);
        assert_eq!(warnings("hugepages = \"auto\"", &machine(512, 256, 64)), none);
        assert_eq!(warnings("memory = 256", &machine(0, 0, 4096)), none);
        assert_eq!(
            warnings("memory = 64", &machine(512, 256, 4096)),
            none,
            "more of them are taken as needed"
        );
        assert_eq!(warnings("hugepages = \"always\"", &Machine::default()), none, "nothing is known");
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let takes = "packets take 111 MiB: 16383 buffers of 2176 bytes, and what DPDK needs beside them";
        let reserve = |pages: u64| {
            format!("reserve them: `echo {pages} >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages`")
        };
        for (runtime, machine, wrong, holds, advice) in [
            (
                "hugepages = \"always\"",
                machine(0, 0, 4096),
                "no hugepage is free",
                format!("{takes}: hugepages = \"always\" takes no other pages"),
                format!("{}, or set hugepages = \"auto\"", reserve(56)),
            ),
            (
                "hugepages = \"always\"",
                // Others have some.
                machine(20, 110, 4096),
                "20 MiB of hugepages are free",
                format!("{takes}: hugepages = \"always\" takes no other pages"),
                format!("{}, or set hugepages = \"auto\"", reserve(156)),
            ),
            (
                "",
                machine(100, 50, 4096),
                "100 MiB of hugepages are free, which are too few",
                format!("{takes}: they are in ordinary pages here"),
                reserve(56),
            ),
            (
                "memory = 100",
                machine(0, 0, 4096),
                "memory is 100 MiB",
                takes.to_owned(),
                "set memory to 111 at least, or leave it out".to_owned(),
            ),
            (
                "",
                machine(0, 0, 64),
                "4096 connections of each family for each of 1 workers; packets take 111 MiB in ordinary pages",
                "64 MiB are available here".to_owned(),
                "name fewer workers, or add memory".to_owned(),
            ),
        ] {
            let told = warnings(runtime, &machine);
            let all =
                told.len() == 1 && [wrong, &holds, &advice].iter().all(|words| told[0].contains(*words));
            assert!(all, "{runtime}: {told:#?}: {wrong}: {holds}: {advice}");
        }
    }

    #[test]
    fn frames_that_are_larger_take_more() {
        let mut config = checked("", &Machine::default()).config;
        let small = Packets::of(&config.runtime, &config.nics, None).mebibytes();
        config.nics[0].mtu = Some(9000);
        let large = Packets::of(&config.runtime, &config.nics, None).mebibytes();
        assert!(large > 2 * small, "{small} {large}");
        config.nics[0].mtu = None;
        config.nics[0].device = Device::parse("af_packet:t").unwrap();
        let packets = Packets::of(&config.runtime, &config.nics, None);
        assert_eq!((packets.large, packets.mebibytes()), (63, small + 5));
        assert!(
            packets.to_string().contains("buffers of 2176 bytes, 63 of 65535 bytes, and what DPDK"),
            "{packets}"
        );
        config.runtime.memory = Some(77);
        assert_eq!(Packets::of(&config.runtime, &config.nics, None).mebibytes(), 77);
    }
}
