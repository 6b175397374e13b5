#!/usr/bin/env bash
# Makes the guest in which the real kernel's IPVS answers: what the programs `compare` and `record` of tests/ start.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/packages.sh"

usage() {
    cat <<'TEXT'
usage: scripts/kernel-guest.sh FOLDER

Installs by apt what is missing (qemu, Debian's cloud kernel, busybox, ipvsadm, iproute2) and writes FOLDER/vmlinuz and
FOLDER/initramfs.gz: that kernel with IPVS, ip, tc and ipvsadm, and an init that does what it is told over a serial port. Both
are left alone while they are newer than the kernel and this script. The newest of the cloud kernels in /boot is taken; modules
in FOLDER/modules/RELEASE/ are taken in, too (scripts/kernel-twos.sh).

KERNEL_ROOT names another folder that holds boot/ and lib/modules/: a kernel that was unpacked, not installed.

Exit code: 0 done, 1 something is missing, 2 wrong use.
TEXT
}

# What this script needs beside what the tests need.
needed_packages() {
    cat <<'LIST'
qemu-system-x86_64 qemu-system-x86
cloud-kernel linux-image-cloud-amd64
/bin/busybox busybox-static
ipvsadm ipvsadm
ip iproute2
tc iproute2
cpio cpio
modprobe kmod
LIST
}

is_there() {
    case $1 in
        cloud-kernel) compgen -G "${KERNEL_ROOT:-}/boot/vmlinuz-*-cloud-*" >/dev/null ;;
        # Linked statically: it is alone in the initramfs.
        /bin/busybox) [[ -x /bin/busybox ]] && ! ldd /bin/busybox >/dev/null 2>&1 ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

modules=(virtio_pci virtio_net virtio_console ipip ip6_tunnel fou fou6 ip_gre ip6_gre sch_ingress cls_matchall act_skbedit)

# Copies a program and the libraries that it is linked with.
take_program() {
    local file library
    file=$(command -v "$1")
    cp "$file" "$root/bin/"
    while read -r library; do
        cp --update=none --parents "$library" "$root" 2>/dev/null || cp -n --parents "$library" "$root"
    done < <(ldd "$file" | grep -o '/[^ ]*')
}

take_modules() {
    local name file place
    # What was unpacked has no list of what its modules need.
    if [[ -n ${KERNEL_ROOT:-} ]]; then
        depmod -b "$KERNEL_ROOT" "$release"
    fi
    for file in "${KERNEL_ROOT:-}/lib/modules/$release/kernel/net/netfilter/ipvs/"*; do
        name=${file##*/}
        modules+=("${name%%.*}")
    done
    for name in "${modules[@]}"; do
        modprobe -d "${KERNEL_ROOT:-/}" -S "$release" --show-depends "$name"
    done | awk '$1 == "insmod" { print $2 }' | sort -u | while read -r file; do
        place=$root${file#"${KERNEL_ROOT:-}"}
        mkdir -p "${place%/*}"
        cp "$file" "$place"
    done
    mkdir -p "$root/lib/modules/$release"
    for file in "${added[@]}"; do
        cp --target-directory="$root/lib/modules/$release" "$file"
    done
    cp "${KERNEL_ROOT:-}/lib/modules/$release/"modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$release/"
    depmod -b "$root" "$release"
}

# A line in: its output, then \001, its exit status and a new line out. `clock` is answered with the seconds since boot,
# without a new process. While no command runs something is always runnable: the guest's clock counts instructions,
# and jumps to the next timer when there are none.
write_init() {
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
ln -s bin /sbin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in virtio_pci virtio_net virtio_console ip_vs; do modprobe $module; done
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
for file in /proc/sys/net/ipv6/conf/*/accept_dad /proc/sys/net/ipv6/icmp/ratelimit /proc/sys/net/ipv4/icmp_ratelimit; do
    [ -e $file ] && echo 0 >$file
done
# Not those of busybox.
ip() { /bin/ip "$@"; }
tc() { /bin/tc "$@"; }
while :; do :; done &
busy=$!
renice -n 19 -p $busy
exec 3<>/dev/vport0p1
echo ready >&3
while read -r line <&3; do
    if [ "$line" = clock ]; then
        read -r since _ </proc/uptime
        echo "$since" >&3
        continue
    fi
    kill -STOP $busy
    (eval "$line") </dev/null >/tmp/said 2>&1
    status=$?
    kill -CONT $busy
    cat /tmp/said >&3
    printf '\001%d\n' $status >&3
done
INIT
    chmod 755 "$root/init"
}

# is_newest FILE OTHER...
is_newest() {
    local other
    for other in "${@:2}"; do
        [[ $1 -nt $other ]] || return 1
    done
}

main() {
    takes_one_argument "$@"
    trap forget_policy EXIT
    PATH=$PATH:/usr/sbin:/sbin
    mkdir -p "$1"
    folder=$(realpath "$1")
    install_packages >&2
    kernel=$(compgen -G "${KERNEL_ROOT:-}/boot/vmlinuz-*-cloud-*" | sort -V | tail -n 1)
    release=${kernel##*/vmlinuz-}
    mapfile -t added < <(compgen -G "$folder/modules/$release/*.ko")
    if is_newest "$folder/initramfs.gz" "$kernel" "${BASH_SOURCE[0]}" "${added[@]}" && [[ $folder/vmlinuz -ef $kernel ]]; then
        exit 0
    fi
    root=$(mktemp -d)
    trap 'rm -rf "$root"; forget_policy' EXIT
    mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc}
    cp /bin/busybox "$root/bin/"
    take_program ipvsadm
    take_program ip
    take_program tc
    take_modules
    write_init
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$folder/initramfs.gz.new"
    ln -sf "$kernel" "$folder/vmlinuz"
    mv "$folder/initramfs.gz.new" "$folder/initramfs.gz"
}

main "$@"
