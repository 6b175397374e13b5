#!/usr/bin/env bash
# Makes the kernel and the initramfs of a virtual machine whose root is this machine's own, to be read and not written:
# what scripts/vm.sh boots.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/packages.sh"

usage() {
    cat <<'TEXT'
usage: scripts/pci-guest.sh FOLDER

Installs by apt what is missing (qemu, busybox, dpdk, pciutils), unpacks Debian's kernel for real machines there without installing
it, and writes FOLDER/vmlinuz, FOLDER/initramfs.gz and FOLDER/root (its modules): an init that mounts this machine's root by 9p, puts a
file system in memory over it, mounts the folder `shared` to be written, and does what it is told over a serial port. All is left alone
while it is newer than this script.

Exit code: 0 done, 1 something is missing, 2 wrong use.
TEXT
}

# What this script and scripts/vm.sh need beside what the tests need.
needed_packages() {
    cat <<'LIST'
qemu-system-x86_64 qemu-system-x86
/bin/busybox busybox-static
dpdk-devbind.py dpdk
lspci pciutils
ethtool ethtool
cpio cpio
modprobe kmod
nginx nginx-light
curl curl
jq jq
LIST
}

is_there() {
    case $1 in
        # Linked statically: it is alone in the initramfs.
        /bin/busybox) [[ -x /bin/busybox ]] && ! ldd /bin/busybox >/dev/null 2>&1 ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# What the root is reached by; the rest is loaded from FOLDER/root.
first_modules=(virtio_pci virtio_console 9p 9pnet_virtio overlay)

# The package of Debian's kernel at the moment; nothing where apt knows of none.
newest_kernel() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: //p' | head -n 1; }

# The kernel's package, unpacked: its scripts would change this machine's boot.
unpack_kernel() {
    local package
    package=$(newest_kernel)
    if [[ -z $package ]]; then
        apt-get -q update </dev/null >/dev/null
        package=$(newest_kernel)
    fi
    [[ -n $package ]] || die "apt knows no linux-image-amd64: this takes Debian's archive"
    say "unpacking $package"
    rm -rf "$folder/root.new"
    mkdir "$folder/root.new"
    (cd "$folder/root.new" && apt-get -q download "$package" >/dev/null && dpkg-deb -x ./*.deb . && rm -f ./*.deb)
    depmod -b "$folder/root.new" "${package#linux-image-}"
    rm -rf "$folder/root"
    mv "$folder/root.new" "$folder/root"
}

# A line in: its output, then \001, its exit status and a new line out.
write_init() {
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in virtio_pci virtio_console 9p 9pnet_virtio overlay; do modprobe $module; done
mkdir -p /host /over /new
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=262144 root /host
mount -t tmpfs over /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /new
for folder in proc sys dev run tmp; do mkdir -p /new/$folder; done
mount -t proc proc /new/proc
mount -t sysfs sys /new/sys
mount -t devtmpfs dev /new/dev
mount -t tmpfs run /new/run
mount -t tmpfs tmp /new/tmp
mkdir -p /new/tmp/shared /new/lib/modules
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=262144 shared /new/tmp/shared
mount -t 9p -o trans=virtio,version=9p2000.L,cache=loose,ro,msize=262144 modules /new/lib/modules
cat >/new/tmp/serve <<'SERVE'
set -o pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
exec 3<>"$(echo /dev/vport*p1)"
echo ready >&3
while :; do
    # Nobody at the other end yet is the end of a file.
    IFS= read -r line <&3 || { sleep 0.1; continue; }
    (eval "$line") </dev/null >/tmp/said 2>&1
    status=$?
    tr -d '\001' </tmp/said >&3
    printf '\001%d\n' $status >&3
done
SERVE
exec chroot /new /bin/bash /tmp/serve
INIT
    chmod 755 "$root/init"
}

main() {
    takes_one_argument "$@"
    trap forget_policy EXIT
    PATH=$PATH:/usr/sbin:/sbin
    mkdir -p "$1"
    folder=$(realpath "$1")
    install_packages >&2
    [[ -d $folder/root/boot ]] || unpack_kernel >&2
    kernel=$(compgen -G "$folder/root/boot/vmlinuz-*" | sort -V | tail -n 1)
    release=${kernel##*/vmlinuz-}
    [[ ! $folder/initramfs.gz -nt ${BASH_SOURCE[0]} || ! $folder/initramfs.gz -nt $kernel ]] || exit 0
    root=$(mktemp -d)
    trap 'rm -rf "$root"; forget_policy' EXIT
    mkdir -p "$root"/{bin,dev,proc,sys,lib/modules}
    cp /bin/busybox "$root/bin/"
    local name file place base
    base=$folder/root
    for name in "${first_modules[@]}"; do
        modprobe -d "$base" -S "$release" --show-depends "$name" 2>/dev/null || true
    done | sed -n 's/^insmod \(.*\.ko[^ ]*\).*/\1/p' | sort -u | while IFS= read -r file; do
        place=$root${file#"$base"}
        mkdir -p "${place%/*}"
        cp "$file" "$place"
    done
    cp "$base/lib/modules/$release/"modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$release/"
    depmod -b "$root" "$release"
    write_init
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$folder/initramfs.gz.new"
    ln -sf "$kernel" "$folder/vmlinuz"
    mv "$folder/initramfs.gz.new" "$folder/initramfs.gz"
}

main "$@"
