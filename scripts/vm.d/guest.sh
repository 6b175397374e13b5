# shellcheck shell=bash
# The virtual machine: it is started, told what to do, and ended. Sourced after network.sh.

guest_pid=''
# The PCI functions of the guest, as every machine here has them.
front_function=0000:00:10.0
back_function=0000:00:11.0
functions=("$front_function" "$back_function")
# Of the guest's NICs; the locally administered ones say which is which.
front_mac=52:54:00:00:00:10
back_mac=52:54:00:00:00:11
# MiB of the guest, and its hugepages of 2 MiB.
guest_memory=3072
guest_hugepages=256

# The files of this guest, which it can write to as /tmp/shared.
guest_directory() { printf '%s/guest\n' "$(topology_directory)"; }

# network_device MODEL NAME MAC ADDRESS QUEUES IOMMU: the options of qemu for one NIC.
network_device() {
    local model=$1 name=$2 mac=$3 address=$4 queues=$5 iommu=$6 device=$1
    case $model in
        virtio | virtio-deaf) device=virtio-net-pci,disable-legacy=on ;;
        virtio-legacy) device=virtio-net-pci,disable-modern=on,disable-legacy=off ;;
        virtio-packed) device=virtio-net-pci,disable-legacy=on,packed=on ;;
    esac
    if [[ $model == virtio* && $queues -gt 1 ]]; then
        device+=,mq=on,vectors=$((2 * queues + 2))
    fi
    # virtio-deaf is behind the IOMMU and was not told of it.
    [[ $model == virtio-deaf || $model != virtio* || -z $iommu ]] || device+=,iommu_platform=on
    local tap=tap,id=$name,ifname=vm-$name,script=no,downscript=no
    ((queues == 1)) || tap+=,queues=$queues
    printf '%s\n' -netdev "$tap" -device "$device,netdev=$name,id=nic-$name,mac=$mac,bus=pcie.0,addr=$address"
}

# make_taps QUEUES: the guest's cables, into the bridges of the topology.
make_taps() {
    local name switch=$topology_name-switch options=()
    (($1 == 1)) || options=(multi_queue)
    for name in front back; do
        inside "$switch" ip link del "vm-$name" 2>/dev/null || true
        inside "$switch" ip tuntap add "vm-$name" mode tap "${options[@]}"
        inside "$switch" ip link set "vm-$name" master "$name" up
    done
}

# start_guest MODEL DRIVER QUEUES [CPU]: a machine with two NICs of MODEL. DRIVER vfio has an IOMMU, vfio-unsafe one that does not remap
# interrupts, uio none.
start_guest() {
    local model=$1 driver=$2 queues=$3 cpu=${4:-max} directory iommu='' machine=q35 options=()
    directory=$(guest_directory)
    mkdir -p "$directory/shared"
    cp "$binaries/shunt" "$directory/shared/"
    make_taps "$queues"
    if [[ $driver == vfio* ]]; then
        local remaps=on
        [[ $driver == vfio ]] || remaps=off
        iommu=yes
        machine=q35,kernel-irqchip=split
        options=(-device intel-iommu,intremap=$remaps,caching-mode=on)
    fi
    # Another end of each pipe stays open here, so that nobody finds it closed.
    rm -f "$directory"/{commands,monitor}.{in,out}
    mkfifo "$directory"/{commands,monitor}.{in,out}
    mapfile -t -O "${#options[@]}" options < <(
        network_device "$model" front "$front_mac" 10.0 "$queues" "$iommu"
        network_device "$model" back "$back_mac" 11.0 "$queues" "$iommu"
    )
    become_inside "$topology_name-switch" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
        -machine "$machine" -accel tcg,thread=multi -cpu "$cpu" -smp 3 -m "$guest_memory" \
        -kernel "$guest_folder/vmlinuz" -initrd "$guest_folder/initramfs.gz" \
        -append "console=ttyS0 quiet loglevel=4 panic=-1 intel_iommu=${iommu:+on}${iommu:-off}" \
        -serial "file:$directory/console" \
        -chardev "pipe,id=commands,path=$directory/commands" -device virtio-serial-pci,bus=pcie.0,addr=8.0 \
        -device virtserialport,chardev=commands,name=commands \
        -chardev "pipe,id=monitor,path=$directory/monitor" -mon chardev=monitor,mode=readline \
        -fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=root,mount_tag=root \
        -fsdev "local,id=modules,path=$guest_folder/root/lib/modules,security_model=none,readonly=on" \
        -device virtio-9p-pci,fsdev=modules,mount_tag=modules \
        -fsdev "local,id=shared,path=$directory/shared,security_model=none" \
        -device virtio-9p-pci,fsdev=shared,mount_tag=shared \
        "${options[@]}" </dev/null >"$directory/qemu.log" 2>&1 &
    guest_pid=$!
    exec 5<>"$directory/commands.in" 6<>"$directory/commands.out" 7<>"$directory/monitor.in"
    guest_is_ready || die "the guest is not ready: $(tail -n 5 "$directory/console" "$directory/qemu.log" | tr '\n' ';')"
    guest "cp /tmp/shared/shunt /tmp/shunt && mkdir -p /dev/hugepages && mount -t hugetlbfs none /dev/hugepages &&
        echo $guest_hugepages >/proc/sys/vm/nr_hugepages" || die "the guest cannot be prepared: $guest_said"
}

guest_is_ready() {
    local line seconds
    for ((seconds = 0; seconds < 180; seconds++)); do
        if IFS= read -r -t 1 line <&6; then
            [[ $line != ready ]] || return 0
        fi
        ! have_ended "$guest_pid" || return 1
    done
    return 1
}

guest_said=''
# guest COMMAND: runs it in the guest. What it says is in guest_said; its exit status is this one's. 1 also after 300 s.
guest() {
    local line
    guest_said=''
    # One line there.
    printf '%s\n' "${1//$'\n'/ }" >&5
    while IFS= read -r -t 300 line <&6; do
        if [[ $line == *$'\001'* ]]; then
            guest_said+=${line%%$'\001'*}
            return "${line##*$'\001'}"
        fi
        guest_said+=$line$'\n'
    done
    guest_said+='(the guest did not answer for 300 s)'
    return 1
}

# monitor COMMAND: to qemu itself.
monitor() { printf '%s\n' "$1" >&7; }

end_guest() {
    [[ -n $guest_pid ]] || return 0
    kill -TERM "$guest_pid" 2>/dev/null || true
    wait_until 5 have_ended "$guest_pid" || kill -KILL "$guest_pid" 2>/dev/null || true
    wait "$guest_pid" 2>/dev/null || true
    guest_pid=''
    exec 5>&- 6<&- 7>&-
}
