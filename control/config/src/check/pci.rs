//! PCI functions as the kernel tells of them: what has each, and whether DPDK can have it.

use std::path::{Path, PathBuf};

use shunt_model::fault::Fault;

use crate::Hugepages;
use crate::device::{Device, Kind};

/// Where the kernel tells of devices.
pub const SYSFS: &str = "/sys";
/// Drivers that leave their device to a process, and know of no IOMMU.
const UIO: [&str; 3] = ["uio_pci_generic", "igb_uio", "uio_hv_generic"];
/// The driver that leaves its device to a process behind an IOMMU.
const VFIO: &str = "vfio-pci";
/// Drivers of the kernel beside which DPDK's own works.
const SHARED: [&str; 3] = ["mlx4_core", "mlx5_core", "mana"];

/// The vendor of virtio's functions.
const VIRTIO_VENDOR: &str = "0x1af4";
/// Vendor and device of vmxnet3.
const VMXNET3: (&str, &str) = ("0x15ad", "0x07b0");
/// Bytes of a buffer that vmxnet3 counts, in 14 bits.
const VMXNET3_ROOM_MOST: usize = (1 << 14) - 1;

/// Who has a PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// There is no such function.
    Absent,
    /// No driver.
    Nobody,
    /// A driver of the kernel, with the interface that it made, if it did.
    Kernel {
        /// Its name.
        driver: String,
        /// Its first interface.
        interface: Option<String>,
    },
    /// DPDK can have it, and tells it virtual addresses.
    Process,
    /// DPDK can have it, and has to tell it physical addresses: nothing translates others.
    ProcessWithoutIommu {
        /// The driver.
        driver: String,
    },
}

impl Holder {
    /// Of the function with this address.
    #[must_use]
    pub fn of(sysfs: &Path, address: &str) -> Self {
        let function = sysfs.join("bus/pci/devices").join(address);
        if !function.exists() {
            return Self::Absent;
        }
        let Some(driver) = target(&function.join("driver")) else { return Self::Nobody };
        if UIO.contains(&driver.as_str()) || driver == VFIO && is_without_iommu(&function) {
            return Self::ProcessWithoutIommu { driver };
        }
        if driver == VFIO || SHARED.contains(&driver.as_str()) {
            return Self::Process;
        }
        let interface = std::fs::read_dir(function.join("net")).ok().and_then(|mut names| names.next());
        let interface = interface.and_then(|name| name.ok()?.file_name().into_string().ok());
        Self::Kernel { driver, interface }
    }
}

/// The last part of what a link leads to.
fn target(link: &Path) -> Option<String> {
    let to: PathBuf = std::fs::read_link(link).ok()?;
    Some(to.file_name()?.to_str()?.to_owned())
}

/// VFIO has groups also where there is no IOMMU, if that was asked for, and names them so.
fn is_without_iommu(function: &Path) -> bool {
    let name = std::fs::read_to_string(function.join("iommu_group/name")).unwrap_or_default();
    name.trim() == "vfio-noiommu" || !function.join("iommu_group").exists()
}

/// True when one of these devices has to be told physical addresses.
pub fn want_physical_addresses<'d>(sysfs: &Path, devices: impl Iterator<Item = &'d Device>) -> bool {
    let mut functions = devices.filter_map(|device| match &device.kind {
        Kind::Pci(address) => Some(address),
        _ => None,
    });
    functions.any(|address| wants_physical_addresses(sysfs, address))
}

/// True when the function with this address has to be told physical addresses.
pub fn wants_physical_addresses(sysfs: &Path, address: &str) -> bool {
    matches!(Holder::of(sysfs, address), Holder::ProcessWithoutIommu { .. })
}

/// True for a virtio function that DPDK tells addresses which an IOMMU translates. The device has to have been told of it by the virtual
/// machine, which only its driver could ask.
#[must_use]
pub fn is_virtio_behind_an_iommu(sysfs: &Path, address: &str) -> bool {
    says(sysfs, address, "vendor", VIRTIO_VENDOR) && Holder::of(sysfs, address) == Holder::Process
}

/// Bytes of the largest buffer behind the head room that a device can receive into; none where no size is too large.
#[must_use]
pub fn room_most(sysfs: &Path, device: &Device) -> Option<usize> {
    let Kind::Pci(address) = &device.kind else { return None };
    let (vendor, number) = VMXNET3;
    let is_vmxnet3 = says(sysfs, address, "vendor", vendor) && says(sysfs, address, "device", number);
    is_vmxnet3.then_some(VMXNET3_ROOM_MOST)
}

/// Whether a file of a function says this word.
fn says(sysfs: &Path, address: &str, file: &str, word: &str) -> bool {
    let path = sysfs.join("bus/pci/devices").join(address).join(file);
    std::fs::read_to_string(path).is_ok_and(|said| said.trim() == word)
}

/// What keeps DPDK from a PCI function; `free` MiB of hugepages are there.
#[must_use]
pub fn fault(sysfs: &Path, address: &str, hugepages: Hugepages, free: u64) -> Option<Fault> {
    let bind = |with: &str| format!("run `dpdk-devbind.py -b {with} {address}`");
    match Holder::of(sysfs, address) {
        Holder::Absent => Some(Fault::new(
            format!("no PCI function {address} on this machine"),
            "the director does not start without it",
            "correct it (`lspci -D` names them), if the director is to run here",
        )),
        Holder::Nobody => Some(Fault::new(
            format!("PCI function {address} has no driver"),
            "DPDK reaches it by vfio-pci, or by uio_pci_generic where there is no IOMMU",
            bind("vfio-pci"),
        )),
        Holder::Kernel { driver, interface } => {
            let held = interface.as_ref().map_or_else(String::new, |name| format!(", as interface {name}"));
            let else_by = interface.map_or_else(String::new, |name| {
                format!(", which takes it from the kernel, or set device = \"af_packet:{name}\"")
            });
            Some(Fault::new(
                format!("PCI function {address} is the kernel's, by its driver {driver}{held}"),
                "DPDK reaches it by vfio-pci, or by uio_pci_generic where there is no IOMMU",
                bind("vfio-pci") + &else_by,
            ))
        }
        Holder::ProcessWithoutIommu { driver } if hugepages == Hugepages::Never || free == 0 => {
            let lacks = if hugepages == Hugepages::Never { "hugepages is \"never\"" } else { "none is free" };
            Some(Fault::new(
                format!(
                    "PCI function {address} is told physical addresses, since no IOMMU is behind its driver {driver}"
                ),
                format!("these are known of hugepages alone, and {lacks}"),
                "reserve some (`echo 512 >/proc/sys/vm/nr_hugepages`) with hugepages = \"auto\", or use vfio-pci with an IOMMU",
            ))
        }
        Holder::Process | Holder::ProcessWithoutIommu { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const ADDRESS: &str = "0000:3b:00.0";

    /// A /sys with this function, bound to a driver or to none.
    fn sysfs(driver: Option<&str>, group: Option<&str>, interface: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let function = root.path().join("bus/pci/devices").join(ADDRESS);
        fs::create_dir_all(&function).unwrap();
        if let Some(driver) = driver {
            let folder = root.path().join("bus/pci/drivers").join(driver);
            fs::create_dir_all(&folder).unwrap();
            symlink(folder, function.join("driver")).unwrap();
        }
        if let Some(name) = group {
            fs::create_dir_all(function.join("iommu_group")).unwrap();
            fs::write(function.join("iommu_group/name"), format!("{name}\n")).unwrap();
        }
        if let Some(name) = interface {
            fs::create_dir_all(function.join("net").join(name)).unwrap();
        }
        root
    }

    fn said(root: &tempfile::TempDir, hugepages: Hugepages, free: u64) -> Option<String> {
        let fault = fault(root.path(), ADDRESS, hugepages, free)?;
        Some(format!("{}: {}: {}", fault.wrong, fault.holds, fault.advice))
    }

    #[test]
    fn what_dpdk_can_have_is_not_spoken_of() {
        for (driver, group) in [(VFIO, Some("")), ("mlx5_core", None)] {
            let root = sysfs(Some(driver), group, None);
            assert_eq!(Holder::of(root.path(), ADDRESS), Holder::Process, "{driver}");
            assert_eq!(said(&root, Hugepages::Never, 0), None);
        }
        for (driver, group) in
            [("uio_pci_generic", None), ("igb_uio", Some("")), (VFIO, Some("vfio-noiommu")), (VFIO, None)]
        {
            let root = sysfs(Some(driver), group, None);
            assert_eq!(said(&root, Hugepages::Auto, 512), None, "{driver}");
            let device = Device::parse(ADDRESS).unwrap();
            assert!(want_physical_addresses(root.path(), [device].iter()), "{driver}");
        }
    }

    #[test]
    fn virtio_is_told_apart_behind_an_iommu() {
        for (driver, vendor, want) in [
            (VFIO, "0x1af4", true),
            (VFIO, "0x8086", false),
            ("uio_pci_generic", "0x1af4", false),
            ("virtio-pci", "0x1af4", false),
        ] {
            let root = sysfs(Some(driver), Some(""), None);
            let vendor_file = root.path().join("bus/pci/devices").join(ADDRESS).join("vendor");
            fs::write(vendor_file, format!("{vendor}\n")).unwrap();
            assert_eq!(is_virtio_behind_an_iommu(root.path(), ADDRESS), want, "{driver} {vendor}");
        }
    }

    #[test]
    fn vmxnet3_alone_bounds_its_buffers() {
        for (vendor, number, want) in
            [("0x15ad", "0x07b0", Some(16_383)), ("0x15ad", "0x0740", None), ("0x8086", "0x07b0", None)]
        {
            let root = sysfs(Some(VFIO), Some(""), None);
            let function = root.path().join("bus/pci/devices").join(ADDRESS);
            fs::write(function.join("vendor"), format!("{vendor}\n")).unwrap();
            fs::write(function.join("device"), format!("{number}\n")).unwrap();
            assert_eq!(room_most(root.path(), &Device::parse(ADDRESS).unwrap()), want, "{vendor} {number}");
            assert_eq!(room_most(root.path(), &Device::parse("tap:t").unwrap()), None);
        }
    }

    #[test]
    fn each_way_not_to_be_dpdks_is_told_apart() {
        let none = sysfs(None, None, None);
        fs::remove_dir_all(none.path().join("bus")).unwrap();
        for (root, hugepages, want) in [
            (none, Hugepages::Auto, "no PCI function 0000:3b:00.0 on this machine"),
            (sysfs(None, None, None), Hugepages::Auto, "PCI function 0000:3b:00.0 has no driver"),
            (
                sysfs(Some("e1000e"), Some(""), Some("eth3")),
                Hugepages::Auto,
                "is the kernel's, by its driver e1000e, as interface eth3: DPDK reaches it by vfio-pci, or by uio_pci_generic where there is \
                 no IOMMU: run `dpdk-devbind.py -b vfio-pci 0000:3b:00.0`, which takes it from the kernel, or set device = \"af_packet:eth3\"",
            ),
            (
                sysfs(Some("virtio-pci"), None, None),
                Hugepages::Auto,
                "is the kernel's, by its driver virtio-pci: ",
            ),
            (sysfs(Some("uio_pci_generic"), None, None), Hugepages::Never, "and hugepages is \"never\": "),
            (sysfs(Some(VFIO), Some("vfio-noiommu"), None), Hugepages::Always, "and none is free: "),
        ] {
            let said = said(&root, hugepages, 0).unwrap_or_default();
            assert!(said.contains(want), "{want}\n{said}");
        }
    }
}
