#!/usr/bin/env bash
# Runs a director on PCI NICs in a virtual machine, between clients and real servers in network namespaces of this machine.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/network.sh"
source "$repository/scripts/director.sh"
source "$repository/scripts/traffic.sh"
source "$repository/scripts/pair.sh"
source "$repository/scripts/vm.d/guest.sh"
source "$repository/scripts/vm.d/cells.sh"

usage() {
    cat <<'TEXT'
usage: scripts/vm.sh [--short] [--binaries FOLDER] [NIC/DRIVER...]

NIC is virtio, virtio-legacy, virtio-packed, e1000, e1000e or vmxnet3, as qemu has them; DRIVER is uio (uio_pci_generic, no IOMMU) or
vfio (vfio-pci behind an emulated IOMMU). Without any of them: all that there are. In each machine a director serves real HTTP by DR, NAT
and TUN; its link goes and comes back; it is stopped and started ten times, and killed; it has two workers; its packets have 9000 bytes; it is
master of a pair with virtual MACs; its NICs are bound to nothing, to the kernel and to nobody; and it has the same NICs by the kernel.
At the end: machines on which nothing can work, and what is said there.

  --short             virtio/uio and e1000e/vfio: methods, link, two restarts, killed once, wrong set-ups
  --binaries FOLDER   where shunt and decapsulate are (target/release)

Installs what is missing. Takes root, qemu without KVM, and a minute to boot each machine.

Exit code: 0 all held, 1 something did not, 2 wrong use.
TEXT
}

all_machines=({virtio,virtio-legacy,virtio-packed,e1000,e1000e,vmxnet3}/uio {virtio,virtio-packed,e1000,e1000e,vmxnet3}/vfio)
short=''
guest_folder=$repository/target/pci-guest
count_failed=0
count_held=0
front_device=$front_function
back_device=$back_function

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    end_guest
    [[ -z $second_pid ]] || kill -TERM "$second_pid" 2>/dev/null || true
    end_jobs
    [[ -z ${topology_name:-} ]] || topology_down "$topology_name"
    exit "$status"
}

# cell WORDS COMMAND...: one that holds or does not.
cell() {
    local words=$1
    shift
    remark=''
    if "$@"; then
        passed "$words${remark:+: $remark}"
        count_held=$((count_held + 1))
    else
        failed "$words${remark:+: $remark}"
        count_failed=$((count_failed + 1))
    fi
}

# machine NIC/DRIVER
machine() {
    local model=${1%/*} driver=${1#*/} method queues=1 times=10
    # The others read one queue of a tap.
    [[ $model != virtio* ]] || queues=2
    [[ -z $short ]] || times=2
    title "$model, $driver"
    start_guest "$model" "$driver" "$queues"
    cell "bound" bind "$driver"
    for method in dr nat tun; do
        cell "${method^^}" serves "$method"
    done
    cell "link down and up" link_turns
    cell "stopped and started" restarts "$times"
    cell "killed" is_killed
    if [[ -z $short ]]; then
        cell "two workers" two_workers "$queues"
        cell "idle" worker_rests
        cell "MTU 9000" large_packets
        cell "pair with virtual MACs" pair_with_virtual_macs
    fi
    cell "wrong set-ups" wrong_setups "$driver"
    [[ -n $short ]] || cell "af_packet on the kernel's interfaces" by_the_kernel
    end_guest
}

# Said within 30 s by a director that cannot work.
says() {
    local words=$1
    guest_configuration dr 1 | give_configuration director
    guest 'timeout -s TERM 30 /tmp/shunt run -c /tmp/shared/director.toml 2>&1' || true
    remark=$(grep -aF "$words" <<<"$guest_said" | head -n 1)
    [[ -n $remark ]] && return 0
    remark="not \"$words\" but: $(tail -n 5 <<<"$guest_said" | tr '\n' ';')"
    return 1
}

hopeless_machines() {
    title "machines on which nothing can work"
    start_guest virtio-deaf vfio 1
    bind vfio || true
    cell "virtio behind an IOMMU that it was not told of" says iommu_platform=on
    end_guest
    start_guest e1000e vfio-unsafe 1
    bind vfio || true
    cell "an IOMMU that does not remap interrupts" says "interrupt remapping"
    end_guest
    start_guest virtio uio 1 qemu64
    bind uio || true
    cell "a processor without what DPDK is built for" says x86-64-v3
    end_guest
}

main() {
    local -a machines=()
    while (($# > 0)); do
        case $1 in
            --short) short=yes ;;
            --binaries)
                (($# > 1)) || { usage >&2; exit 2; }
                binaries=$(realpath "$2")
                shift
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            */*)
                [[ " ${all_machines[*]} " == *" $1 "* ]] || {
                    printf "vm.sh: '%s' is none of: %s\n" "$1" "${all_machines[*]}" >&2
                    exit 2
                }
                machines+=("$1")
                ;;
            *)
                printf "vm.sh: '%s' is no option\n" "$1" >&2
                usage >&2
                exit 2
                ;;
        esac
        shift
    done
    local only=${#machines[@]}
    if ((only == 0)); then
        if [[ -n $short ]]; then machines=(virtio/uio e1000e/vfio); else machines=("${all_machines[@]}"); fi
    fi
    PATH=$PATH:/usr/sbin:/sbin
    require_namespaces
    require_tun
    [[ -x $binaries/shunt ]] || die "$binaries/shunt is not built: cargo build --release --workspace --bins"
    "$repository/scripts/pci-guest.sh" "$guest_folder"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    topology_up "vm-$$" dr nat tun
    local machine
    for machine in "${machines[@]}"; do machine "$machine"; done
    [[ -n $short || $only -gt 0 ]] || hopeless_machines
    say ''
    say "$count_held held, $count_failed did not"
    ((count_failed == 0))
}

main "$@"
