#!/bin/sh
# Makes this host a real server for DR or TUN, and takes that back. Needs nothing else of this repository: copy it to real servers.
set -eu

usage() {
    cat <<'TEXT'
usage: real-server.sh start [--tunnel KIND] [--outer ipv4|ipv6] [--decapsulate PROGRAM] [--state FOLDER] VIP...
       real-server.sh stop [--state FOLDER] [VIP...]
       real-server.sh status [--state FOLDER] [VIP...]

start   puts each VIP on lo, and keeps this host from answering ARP for it (arp_ignore=1, arp_announce=2). IPv6 needs no setting:
        the kernel answers neighbour discovery for the addresses of an interface on that interface only.
stop    takes away the VIPs that start added (all when none is named). With the last one every setting gets its value from before.
status  one line for each thing that has to hold.

start and stop may be repeated: what is done already is left alone.

  --tunnel KIND   also take packets out of tunnels: ipip, gre, or gue:PORT with the UDP port that the director sends to.
                  DR needs no tunnel. May be given several times. The kernel's device for gre takes packets without
                  checksums alone: leave tunnel_checksum of the director at "none".
  --outer FAMILY  the family of this host's address that tunnels come to, where it is not that of the VIPs: ipv4 or ipv6
  --decapsulate PROGRAM
                  on a kernel without tunnel modules: the program `decapsulate` of shunt, which is started and does it instead
  --state FOLDER  where the former settings are kept (/run/shunt-real-server)

It changes nothing that outlives a reboot: let a boot script or a systemd unit call it.
Exit code: 0 done, or all holds; 1 it could not be done, or something does not hold; 2 wrong use.

example: real-server.sh start 192.0.2.10 2001:db8:f::10
         real-server.sh start --tunnel ipip 192.0.2.10
TEXT
}

say() { printf '%s\n' "$*"; }

die() {
    printf 'real-server.sh: %s\n' "$*" >&2
    exit 1
}

wrong_use() {
    printf 'real-server.sh: %s (real-server.sh --help tells more)\n' "$*" >&2
    exit 2
}

# What packets come out of, when no kernel module does that.
helper_device=shunt-tunnel
sysctls=/proc/sys/net

family_of() { case $1 in *:*) say 6 ;; *) say 4 ;; esac; }
length_of() { case $1 in *:*) say 128 ;; *) say 32 ;; esac; }

# What /run keeps of a former boot says nothing about this one.
read_state() {
    [ -d "$state" ] || return 0
    if [ "$(cat "$state/boot" 2>/dev/null)" != "$(cat /proc/sys/kernel/random/boot_id)" ]; then
        rm -rf "$state"
    fi
}

make_state() {
    [ ! -d "$state" ] || return 0
    mkdir -p -m 700 "$state" || die "$state cannot be made: it keeps the former settings: name another folder by --state"
    : >"$state/addresses" >"$state/settings" >"$state/links" >"$state/ports" >"$state/modes" >"$state/devices" >"$state/copies"
    cp /proc/sys/kernel/random/boot_id "$state/boot"
}

# --- checks before anything is changed ----------------------------------------------------------------------

# A VIP as ip(8) writes it, without a length.
checked_vip() {
    local vip=${1%/"$(length_of "$1")"}
    case $vip in
        */*) wrong_use "'$1': a VIP is one address: on lo it has the length $(length_of "$1"): leave the length out" ;;
        *:*) [ -z "$(printf %s "$vip" | tr -d '0-9a-fA-F:.')" ] || wrong_use "'$1' is no IPv4 or IPv6 address" ;;
        *) printf %s "$vip" | grep -Eq '^([0-9]{1,3}\.){3}[0-9]{1,3}$' || wrong_use "'$1' is no IPv4 or IPv6 address" ;;
    esac
    ip -o address show to "$vip" >/dev/null 2>&1 || wrong_use "'$1' is no IPv4 or IPv6 address"
    case $vip in
        0.* | 127.* | 22[4-9].* | 23[0-9].* | 255.* | :: | ::1 | [fF][fF]*:* | [fF][eE][89abAB]?:*)
            wrong_use "'$1' cannot be a VIP: it is a loopback, multicast, link-local or unspecified address" ;;
    esac
    canonical "$vip"
}

# The spelling that ip(8) uses: its own, where the address is there, or that of the C library.
canonical() {
    local spelled
    spelled=$(places_of "$1" | awk 'NR == 1 { sub("/.*", "", $2); print $2 }')
    [ -n "$spelled" ] || spelled=$(getent ahosts "$1" 2>/dev/null | awk 'NR == 1 { print $1 }')
    say "${spelled:-$1}"
}

# Where an address is: `INTERFACE ADDRESS/LENGTH` for each place.
places_of() { ip -o address show to "$1" | awk '{ print $2, $4 }'; }

check_places() {
    local vip=$1 interface address
    places_of "$vip" | while read -r interface address; do
        [ "$interface" = lo ] || is_copy "$interface" "$vip" ||
            die "$vip is on $interface, which answers ARP for it: a real server has it on lo alone: ip address del $address dev $interface"
        [ "${address#*/}" = "$(length_of "$vip")" ] ||
            die "$vip is on lo as $address, so that this host takes the whole network for its own: ip address del $address dev lo"
    done
}

# The kernel takes the larger one of conf/all and conf/INTERFACE.
effective() {
    local all own
    all=$(cat "$sysctls/ipv4/conf/all/$2") own=$(cat "$sysctls/ipv4/conf/$1/$2")
    if [ "$all" -gt "$own" ]; then say "$all"; else say "$own"; fi
}

interfaces() {
    local folder
    for folder in "$sysctls"/ipv4/conf/*; do
        case ${folder##*/} in all | default | lo) ;; *) say "${folder##*/}" ;; esac
    done
}

# Those that speak ARP now.
neighbourly() { ip -o link show up | grep -v -e NOARP -e LOOPBACK | awk -F '[:@ ]+' '{ print $2 }'; }

# arp_ignore 1 and 2 keep silent about addresses of lo, 8 about all; 3 and the reserved ones answer.
keeps_silent() { case $1 in 1 | 2 | 8) return 0 ;; *) return 1 ;; esac; }

check_arp() {
    local interface value
    for interface in all $(interfaces); do
        value=$(cat "$sysctls/ipv4/conf/$interface/arp_ignore")
        [ "$value" = 0 ] || keeps_silent "$value" ||
            die "arp_ignore of $interface is $value, which answers for addresses of lo: sysctl -w net.ipv4.conf.$interface.arp_ignore=1"
    done
}

check_host() {
    [ "$(id -u)" = 0 ] || die "addresses and settings take root: this is user $(id -un): run it as root or with sudo"
    case $(ip -V 2>&1) in
        *iproute2*) ;;
        *) die "the program ip of iproute2 is not there (that of busybox knows no tunnels): install iproute2" ;;
    esac
    [ -w "$sysctls/ipv4/conf/all/arp_ignore" ] ||
        die "/proc/sys is read-only: this looks like a container without privileges: run it on the host, in this network namespace"
}

# --- changes, each of which is noted before it is made ------------------------------------------------------

# set_to PATH VALUE: a setting below /proc/sys/net.
set_to() {
    local path=$1 value=$2 before
    before=$(cat "$sysctls/$path")
    [ "$before" != "$value" ] || return 0
    grep -q "^$path " "$state/settings" || say "$path $before $value" >>"$state/settings"
    say "$value" >"$sysctls/$path" || die "net/$path stays $before, $value is needed: the kernel refuses it"
}

is_up() { [ -n "$(ip -o link show dev "$1" up 2>/dev/null)" ]; }

bring_up() {
    is_up "$1" || say "$1" >>"$state/links"
    ip link set dev "$1" up || die "interface $1 cannot be set up: see the line above"
}

silence_arp() {
    local all
    all=$(cat "$sysctls/ipv4/conf/all/arp_ignore")
    [ "$all" != 0 ] || set_to ipv4/conf/all/arp_ignore 1
    set_to ipv4/conf/all/arp_announce 2
}

add_vip() {
    local vip=$1 spelled
    ! places_of "$vip" | grep -q '^lo ' || return 0
    if [ "$(family_of "$vip")" = 6 ]; then
        [ "$(cat "$sysctls/ipv6/conf/lo/disable_ipv6" 2>/dev/null)" = 0 ] ||
            die "$vip: IPv6 is switched off on lo: sysctl -w net.ipv6.conf.lo.disable_ipv6=0"
    fi
    say "$vip" >>"$state/addresses"
    ip address add "$vip/$(length_of "$vip")" dev lo || die "$vip cannot be put on lo: see the line above"
    spelled=$(canonical "$vip")
    [ "$spelled" = "$vip" ] || sed -i "s|^$vip\$|$spelled|" "$state/addresses"
}

# --- tunnels ------------------------------------------------------------------------------------------------

# devices_of KIND INNER OUTER: module and device that take packets of this kind out of their tunnels.
devices_of() {
    case $1-$2-$3 in
        gre-*-4) say ip_gre gre0 ;;
        gre-*-6) say ip6_gre ip6gre0 ;;
        *-4-4) say ipip tunl0 ;;
        *-6-4) say sit sit0 ;;
        *-6) say ip6_tunnel ip6tnl0 ;;
    esac
}

no_module() {
    die "--tunnel $1: this kernel has no module $2: install the modules of your kernel ($(uname -r)), or give --decapsulate PROGRAM"
}

load() {
    [ -d "/sys/module/$2" ] || modprobe -q "$2" 2>/dev/null || no_module "$1" "$2"
}

# Before anything is changed: whether the kernel can do it.
check_tunnel() {
    local kind=$1 vip inner outer module device
    for vip in $vips; do
        inner=$(family_of "$vip") outer=${outer_family:-$(family_of "$vip")}
        case $kind in
            gue:*) if [ "$outer" = 4 ]; then load "$kind" fou; else load "$kind" fou6; fi ;;
        esac
        devices_of "$kind" "$inner" "$outer" | while read -r module device; do
            # What is built into the kernel shows its device at once.
            ip link show dev "$device" >/dev/null 2>&1 || load "$kind" "$module"
            ip link show dev "$device" >/dev/null 2>&1 ||
                die "--tunnel $kind: module $module made no $device in this network namespace: sysctl -w net.core.fb_tunnels_only_for_init_net=0, and make the namespace anew"
        done
    done
}

# Clients are not reached through the tunnel, so that strict reverse-path filtering (1) drops all that comes out of it. Loose
# filtering (2) does too, as long as the interface has no IPv4 address: so it gets the VIPs as well.
loosen() {
    local device=$1 vip
    [ "$(effective "$device" rp_filter)" != 0 ] || return 0
    set_to "ipv4/conf/$device/rp_filter" 2
    for vip in $vips; do
        [ "$(family_of "$vip")" = 4 ] || continue
        places_of "$vip" | grep -q "^$device " && continue
        say "$device $vip" >>"$state/copies"
        ip address add "$vip/32" dev "$device" || die "$vip cannot be put on $device: see the line above"
    done
}

is_copy() { grep -qxF "$1 $2" "$state/copies" 2>/dev/null; }

open_tunnel() {
    local kind=$1 vip inner outer module device
    for vip in $vips; do
        inner=$(family_of "$vip") outer=${outer_family:-$(family_of "$vip")}
        devices_of "$kind" "$inner" "$outer" | while read -r module device; do
            # It takes IPv6 alone by itself.
            if [ "$device" = ip6tnl0 ] && ip -d link show dev ip6tnl0 | grep -q ' ip6ip6 '; then
                say ip6tnl0 >>"$state/modes"
                ip -6 tunnel change ip6tnl0 mode any || die "ip6tnl0 cannot be told to take IPv4 too: see the line above"
            fi
            grep -qxF "$device $inner" "$state/devices" || say "$device $inner" >>"$state/devices"
            bring_up "$device"
            [ "$inner" = 6 ] || loosen "$device"
        done
        case $kind in
            gue:*)
                port=${kind#gue:}
                grep -q "^-$outer $port$" "$state/ports" || [ -n "$(ip "-$outer" fou show 2>/dev/null | grep -w "port $port")" ] || {
                    ip "-$outer" fou add port "$port" gue || die "UDP port $port cannot be opened for GUE: see the line above"
                    say "-$outer $port" >>"$state/ports"
                } ;;
        esac
    done
}

helper_runs() { [ -s "$state/helper" ] && kill -0 "$(cat "$state/helper")" 2>/dev/null; }

start_helper() {
    local kind options=' --no-ipip' gue='' tries=0
    for kind in $tunnels; do
        case $kind in ipip) options='' ;; gue:*) gue=" --gue ${kind#gue:}" ;; esac
    done
    options=$options$gue
    if helper_runs; then
        [ "$options" = "$(cat "$state/helper.options")" ] ||
            die "decapsulate runs with the options '$(cat "$state/helper.options")', '$options' are needed: real-server.sh stop, then start"
        return 0
    fi
    say "$options" >"$state/helper.options"
    # shellcheck disable=SC2086 # Options are words without blanks.
    setsid "$helper" "$helper_device" $options </dev/null >"$state/helper.log" 2>&1 9>&- &
    say $! >"$state/helper"
    until ip link show dev "$helper_device" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if ! helper_runs || [ "$tries" -gt 100 ]; then
            die "$helper did not start: $(tail -n 1 "$state/helper.log")"
        fi
        sleep 0.1
    done
    loosen "$helper_device"
    ip link set dev "$helper_device" up || die "interface $helper_device cannot be set up: see the line above"
}

stop_helper() {
    local tries=0
    ! helper_runs || kill "$(cat "$state/helper")" 2>/dev/null || true
    while helper_runs && [ "$tries" -lt 50 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
}

# --- the three commands -------------------------------------------------------------------------------------

start() {
    local vip kind
    [ -n "$vips" ] || wrong_use "start takes at least one VIP"
    for vip in $vips; do check_places "$vip"; done
    case " $vips" in *.*) check_arp ;; esac
    if [ -z "$helper" ]; then
        for kind in $tunnels; do check_tunnel "$kind"; done
    fi
    make_state
    trap 'say "real-server.sh: not complete: real-server.sh stop takes back what was done" >&2' EXIT
    # First silence, then the address: nobody is to hear of it in between.
    case " $vips" in *.*) silence_arp ;; esac
    if [ -n "$helper" ]; then
        start_helper
    else
        for kind in $tunnels; do open_tunnel "$kind"; done
    fi
    ip link set dev lo up
    for vip in $vips; do add_vip "$vip"; done
    trap - EXIT
    say "VIPs on lo: $(tr '\n' ' ' <"$state/addresses")"
}

# put_back PATH BEFORE OURS: unless somebody else has changed it meanwhile.
put_back() {
    local path=$1 before=$2 ours=$3 now
    [ -e "$sysctls/$path" ] || return 0
    now=$(cat "$sysctls/$path")
    if [ "$now" = "$ours" ]; then
        say "$before" >"$sysctls/$path"
    elif [ "$now" != "$before" ]; then
        say "net/$path is $now now, and was neither $before, as before start, nor $ours, as start set it: left alone"
        rest="but for that "
    fi
}

stop() {
    local vip family port link copy path before ours
    if [ ! -d "$state" ]; then
        say "nothing to take back: $state is not there"
        return 0
    fi
    [ -n "$vips" ] || vips=$(cat "$state/addresses")
    for vip in $vips; do
        while read -r link copy; do
            [ "$copy" != "$vip" ] || ip address del "$vip/32" dev "$link" 2>/dev/null || true
        done <"$state/copies"
        if grep -qxF "$vip" "$state/addresses"; then
            ! places_of "$vip" | grep -q '^lo ' || ip address del "$vip/$(length_of "$vip")" dev lo || die "$vip stays on lo: see the line above"
            grep -vxF "$vip" "$state/addresses" >"$state/addresses.new" || true
            mv "$state/addresses.new" "$state/addresses"
        elif [ -n "$(places_of "$vip")" ]; then
            say "$vip was there before start: left alone: ip address del $vip/$(length_of "$vip") dev lo takes it away"
        fi
    done
    if [ -s "$state/addresses" ]; then
        say "VIPs on lo: $(tr '\n' ' ' <"$state/addresses")"
        return 0
    fi
    stop_helper
    while read -r family port; do
        ip "$family" fou del port "$port" 2>/dev/null || true
    done <"$state/ports"
    while read -r link; do
        ip link set dev "$link" down 2>/dev/null || true
    done <"$state/links"
    while read -r link; do
        ip -6 tunnel change "$link" mode ip6ip6 2>/dev/null || true
    done <"$state/modes"
    while read -r path before ours; do
        put_back "$path" "$before" "$ours"
    done <"$state/settings"
    rm -rf "$state"
    say "${rest:-}all is as before start"
}

# holds WORDS HINT COMMAND...: a line of status.
holds() {
    local words=$1 hint=$2
    shift 2
    if "$@"; then
        say "  ok    $words"
    else
        say "  FAIL  $words: $hint"
        wrong=yes
    fi
}

is_on_lo() {
    local places interface address others=''
    places=$(places_of "$1")
    while read -r interface address; do
        [ "$interface $address" = "lo $1/$(length_of "$1")" ] || is_copy "$interface" "$1" || others=yes
    done <<PLACES
$places
PLACES
    printf '%s\n' "$places" | grep -q '^lo ' && [ -z "$others" ]
}
announces_nothing() { [ "$(effective "$1" arp_announce)" = 2 ]; }
is_silent() { keeps_silent "$(effective "$1" arp_ignore)"; }
# lets_pass DEVICE FAMILY
lets_pass() {
    is_up "$1" || return 1
    [ "$2" = 4 ] || return 0
    case $(effective "$1" rp_filter) in
        0) ;;
        2) [ -n "$(ip -4 -o address show dev "$1")" ] ;;
        *) return 1 ;;
    esac
}

status() {
    local vip interface device family wrong=''
    [ -n "$vips" ] || [ ! -d "$state" ] || vips=$(cat "$state/addresses")
    if [ -z "$vips" ]; then
        say "not started"
        return 1
    fi
    for vip in $vips; do
        holds "$vip is on lo, and nowhere else" "real-server.sh start $vip" is_on_lo "$vip"
    done
    case " $vips" in
        *.*)
            for interface in $(neighbourly); do
                holds "$interface does not answer ARP for it" "arp_ignore is $(effective "$interface" arp_ignore): start sets it" is_silent "$interface"
                holds "$interface does not ask by it" "arp_announce is $(effective "$interface" arp_announce): start sets it" announces_nothing "$interface"
            done ;;
    esac
    if [ -e "$state/helper" ]; then
        holds "decapsulate runs, $helper_device is up" "$(tail -n 1 "$state/helper.log"): stop, then start" helper_runs
        case " $vips" in *.*) family=4 ;; *) family=6 ;; esac
        holds "$helper_device takes clients' packets" "it is down, or rp_filter drops them: start mends that" lets_pass "$helper_device" "$family"
    else
        [ ! -d "$state" ] || while read -r device family; do
            holds "$device takes clients' IPv$family packets" "it is down, or rp_filter drops them: start mends that" lets_pass "$device" "$family"
        done <"$state/devices"
    fi
    [ -z "$wrong" ]
}

# --- the command line ---------------------------------------------------------------------------------------

command='' state=/run/shunt-real-server helper='' tunnels='' vips='' outer_family=''
case ${1:-} in
    start | stop | status) command=$1 ;;
    -h | --help)
        usage
        exit 0 ;;
    *) wrong_use "start, stop or status is needed, not '${1:-}'" ;;
esac
shift
while [ $# -gt 0 ]; do
    case $1 in
        --tunnel | --outer | --decapsulate | --state) [ $# -gt 1 ] || wrong_use "$1 takes a value" ;;
    esac
    case $command$1 in
        start--tunnel)
            case $2 in
                ipip | gre) ;;
                gue:*[!0-9]* | gue:) wrong_use "--tunnel $2: gue:PORT, with the UDP port that the director sends to" ;;
                gue:*) ;;
                *) wrong_use "--tunnel $2: ipip, gre and gue:PORT are known" ;;
            esac
            tunnels="$tunnels $2"
            shift ;;
        start--outer)
            case $2 in ipv4) outer_family=4 ;; ipv6) outer_family=6 ;; *) wrong_use "--outer $2: ipv4 and ipv6 are known" ;; esac
            shift ;;
        start--decapsulate)
            helper=$(command -v "$2") || wrong_use "--decapsulate $2: there is no such program: cargo build --release -p shunt-tests --bin decapsulate builds it"
            shift ;;
        *--state)
            state=$2
            shift ;;
        *--help | *-h)
            usage
            exit 0 ;;
        start-* | stop-* | status-*) wrong_use "'$1' is no option of $command" ;;
        *)
            vip=$(checked_vip "$1") || exit 2
            vips="$vips $vip" ;;
    esac
    shift
done
[ -z "$helper" ] || [ -n "$tunnels" ] || wrong_use "--decapsulate goes with --tunnel"
check_host
mkdir -p "${state%/*}"
# One at a time. The program that start leaves behind does not inherit the lock.
exec 9>"$state.lock"
! command -v flock >/dev/null || flock -w 30 9 || die "$state.lock: another real-server.sh has held this lock for 30 s"
read_state
"$command"
