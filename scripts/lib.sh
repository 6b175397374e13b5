# shellcheck shell=bash
# What the scripts share: words to the operator, waiting, and running things inside network namespaces.
# Sourced, never run; the caller sets -euo pipefail.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Where the programs shunt and decapsulate are.
binaries=$repository/target/release

# Colour only on a terminal.
if [[ -t 1 ]]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' green='' red='' plain=''
fi

say() { printf '%s\n' "$*"; }
title() { printf '\n%s== %s ==%s\n' "$bold" "$*" "$plain"; }
passed() { printf '  %sok%s    %s\n' "$green" "$plain" "$*"; }
failed() { printf '  %sFAIL%s  %s\n' "$red" "$plain" "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# takes_one_argument ARGUMENT...: of a script that takes one: --help and wrong use end here.
takes_one_argument() {
    if [[ ${1:-} == -h || ${1:-} == --help ]]; then
        usage
        exit 0
    fi
    if (($# != 1)); then
        usage >&2
        exit 2
    fi
}

# wait_until SECONDS COMMAND...: 0 as soon as COMMAND succeeds, 1 when it has not by then.
wait_until() {
    local deadline=$(($(milliseconds) + $1 * 1000))
    shift
    until "$@"; do
        (($(milliseconds) < deadline)) || return 1
        sleep 0.05
    done
}

milliseconds() {
    local now=${EPOCHREALTIME/[.,]/}
    printf '%s\n' "${now%???}"
}

# interruptible COMMAND...: like COMMAND, but a signal to this script is acted upon at once and not when COMMAND ends by
# itself. It runs in a process group of its own, which end_jobs ends whole.
interruptible() {
    set -m
    "$@" </dev/null &
    set +m
    wait $!
}

# Ends the background processes of this shell, and waits for them: asked first, then forced.
end_jobs() {
    local -a ids
    local id signal
    mapfile -t ids < <(jobs -p)
    ((${#ids[@]} > 0)) || return 0
    for signal in TERM KILL; do
        for id in "${ids[@]}"; do
            kill -s "$signal" -- "-$id" 2>/dev/null || kill -s "$signal" "$id" 2>/dev/null || true
        done
        wait_until 10 have_ended "${ids[@]}" && break
    done
    wait "${ids[@]}" 2>/dev/null || true
}

# Whether none of these processes runs any more; one that only waits for its parent to notice has ended.
have_ended() {
    local id
    for id; do
        [[ ! -e /proc/$id ]] || grep -q '^State:.Z' "/proc/$id/status" 2>/dev/null || return 1
    done
}

# --- what the kernel shows ----------------------------------------------------------------------------------

kernel_views=()
tun_is_ours=''

# A bare chroot has neither /proc nor /sys, and DPDK finds no core without them: mounted until unmount_kernel_views.
mount_kernel_views() {
    if [[ ! -e /proc/self/stat ]]; then
        mount -n -t proc proc /proc || die "/proc is not mounted and cannot be: mount -t proc proc /proc"
        kernel_views+=(/proc)
    fi
    if [[ ! -d /sys/devices/system/cpu ]]; then
        mount -n -t sysfs sysfs /sys || die "/sys is not mounted and cannot be: mount -t sysfs sysfs /sys"
        kernel_views+=(/sys)
    fi
}

unmount_kernel_views() {
    local i
    for ((i = ${#kernel_views[@]} - 1; i >= 0; i--)); do
        umount -n -l "${kernel_views[i]}" || true
    done
    kernel_views=()
    [[ -z $tun_is_ours ]] || rm -f /dev/net/tun
    tun_is_ours=''
}

# --- network namespaces -------------------------------------------------------------------------------------

netns_directory=/run/netns
# Present while /run/netns is a mount that these scripts caused, so that the last of them takes it away again.
netns_mark=/run/shunt-scripts.netns
# What is locked while that may change: in the folder of shunt's locks, which nobody else may enter and so hold it up.
netns_lock=/run/shunt/scripts.lock

# Says what is missing on this machine for network namespaces, tun devices and packet sockets.
require_namespaces() {
    ((EUID == 0)) || die "network namespaces take root: this is user $(id -un): run it as root or with sudo"
    [[ -w /proc/sys/net/ipv4/ip_forward ]] ||
        die "/proc/sys is read-only: the topology sets net.* there: in a container, run it privileged"
    unshare --net true 2>/dev/null ||
        die "no network namespace can be made: it takes CAP_SYS_ADMIN and CONFIG_NET_NS: in a container, run it privileged"
}

require_tun() {
    if [[ ! -e /dev/net/tun ]]; then
        mkdir -p /dev/net
        mknod -m 600 /dev/net/tun c 10 200 ||
            die "/dev/net/tun is missing and cannot be made: it takes CAP_MKNOD: make it outside, or bind-mount /dev"
        tun_is_ours=yes
    fi
    # Opening tells whether the kernel has the driver; it changes nothing.
    (exec 3<>/dev/net/tun) 2>/dev/null ||
        die "/dev/net/tun does not open: this kernel has no CONFIG_TUN, or the container may not use the device"
}

add_namespace() {
    mkdir -p -m 700 "${netns_lock%/*}"
    (
        flock -w 60 9 || die "$netns_lock: another script has held this lock for 60 s: \`fuser $netns_lock\` tells which"
        if ! grep -q " $netns_directory " /proc/self/mountinfo; then
            : >"$netns_mark"
        fi
        ip netns add "$1"
    ) 9>>"$netns_lock"
}

# delete_namespaces NAME...: ends whatever runs in them (only this topology's processes can) and removes them.
delete_namespaces() {
    local name
    for name; do
        [[ -e $netns_directory/$name ]] || continue
        end_processes_in "$name"
    done
    mkdir -p -m 700 "${netns_lock%/*}"
    (
        flock -w 60 9 || die "$netns_lock: another script has held this lock for 60 s: \`fuser $netns_lock\` tells which"
        for name; do
            [[ -e $netns_directory/$name ]] && ip netns delete "$name"
        done
        if [[ -e $netns_mark && -z $(ls -A "$netns_directory" 2>/dev/null) ]]; then
            umount -n "$netns_directory" 2>/dev/null || true
            rmdir "$netns_directory" 2>/dev/null || true
            rm -f "$netns_mark"
        fi
    ) 9>>"$netns_lock"
}

end_processes_in() {
    local signal
    for signal in TERM KILL; do
        ip netns pids "$1" 2>/dev/null | xargs -r kill -s "$signal" 2>/dev/null || true
        wait_until 5 namespace_is_empty "$1" && return 0
    done
}

namespace_is_empty() { [[ -z $(ip netns pids "$1" 2>/dev/null) ]]; }

# inside NAMESPACE COMMAND...: not `ip netns exec`, which remounts /sys and refuses to work in a plain chroot.
inside() {
    local name=$1
    shift
    nsenter --net="$netns_directory/$name" "$@"
}

# The same for the background: `become_inside NAMESPACE COMMAND... &` makes COMMAND itself the job.
become_inside() {
    local name=$1
    shift
    exec nsenter --net="$netns_directory/$name" "$@"
}
