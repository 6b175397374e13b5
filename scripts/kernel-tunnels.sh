#!/usr/bin/env bash
# Tries scripts/real-server.sh on a real kernel that has tunnel modules, in qemu: does what comes by each kind of tunnel reach the VIP?
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'TEXT'
usage: scripts/kernel-tunnels.sh FOLDER

Boots the guest of scripts/kernel-guest.sh FOLDER, which is made when it is missing. In it real-server.sh prepares a real server for
IPIP, GRE and GUE, in either family and one in the other, under strict reverse-path filtering. Each time another network namespace
sends pings to the VIP by such a tunnel, and addresses and settings after `stop` are compared with those before `start`.

Exit code: 0 all answered and all was put back, 1 something did not, 2 wrong use.
TEXT
}

# Modules that the guest lacks: loaded by file, behind those that it has and that they need.
further_modules=(veth sit)

# What is tried: a line of `try` each.
cases=8

write_init() {
    cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
ln -s bin /sbin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
# Not that of busybox.
ip() { /bin/ip "$@"; }
for module in ipip ip6_tunnel ip_gre ip6_gre fou fou6; do modprobe $module; done
for file in /further/*.ko*; do insmod "$file"; done
for which in all default; do
    echo 0 >/proc/sys/net/ipv6/conf/$which/accept_dad
    echo 1 >/proc/sys/net/ipv4/conf/$which/rp_filter
done
ip link set lo up
ip netns add director
director() { ip netns exec director "$@"; }
ip link add eth0 type veth peer name eth1 netns director
ip link set eth0 up
ip address add 10.0.0.2/24 dev eth0
ip address add fd00::2/64 dev eth0 nodad
director /bin/ip link set eth1 up
director /bin/ip address add 10.0.0.1/24 dev eth1
director /bin/ip address add fd00::1/64 dev eth1 nodad
# Answers come to the director's end by another way than the tunnel.
director sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0

# Behind what the firmware writes.
echo
real_server() {
    # Sourced, so that it finds the function ip.
    (. /real-server.sh "$@")
}

facts() {
    ip -o address | awk '$4 !~ /^fe80/ { print $2, $4 }'
    ip -o link | awk '{ print $2, $3 }'
    grep . /proc/sys/net/ipv4/conf/*/arp_ignore /proc/sys/net/ipv4/conf/*/arp_announce /proc/sys/net/ipv4/conf/*/rp_filter
    ip fou show
    ip -6 fou show
}

# try WORDS VIP OPTIONS TUNNEL...: the director's end as `ip link add` takes it.
try() {
    words=$1 vip=$2 options=$3
    shift 3
    facts >/before
    real_server start $options $vip >/said 2>&1 && real_server start $options $vip >>/said 2>&1 && real_server status >>/said 2>&1 || {
        echo "FAIL $words: $(grep -v '^  ok' /said | tr '\n' ';')"
        real_server stop
        return
    }
    director /bin/ip link add tunnel type "$@"
    director /bin/ip link set tunnel up
    case $vip in
        *:*) own=fd00::1 family=-6 ;;
        *) own=10.0.0.1 family=-4 ;;
    esac
    director /bin/ip $family route add $vip dev tunnel src $own
    answered=$(director ping $family -c 3 -W 2 $vip | awk '/ received/ { print $4 }')
    director /bin/ip link del tunnel
    real_server stop >>/said 2>&1
    facts >/after
    if [ "$answered" != 3 ]; then
        echo "FAIL $words: $answered of 3 pings were answered"
    elif ! cmp -s /before /after; then
        echo "FAIL $words: stop left this behind: $(diff /before /after | tr '\n' ';')"
    else
        echo "ok   $words"
    fi
}

by4="local 10.0.0.1 remote 10.0.0.2" by6="local fd00::1 remote fd00::2"
gue="encap gue encap-sport auto encap-dport 6080"
try "IPv4 in IPv4" 192.0.2.10 "--tunnel ipip" ipip $by4
try "IPv6 in IPv6" 2001:db8:f::10 "--tunnel ipip" ip6tnl $by6 mode ip6ip6 encaplimit none
try "IPv4 in IPv6" 192.0.2.10 "--tunnel ipip --outer ipv6" ip6tnl $by6 mode ipip6 encaplimit none
try "IPv6 in IPv4" 2001:db8:f::10 "--tunnel ipip --outer ipv4" sit $by4
try "GRE over IPv4" 192.0.2.10 "--tunnel gre" gre $by4
try "GRE over IPv6" 2001:db8:f::10 "--tunnel gre" ip6gre $by6
try "GUE over IPv4" 192.0.2.10 "--tunnel gue:6080" ipip $by4 $gue
try "GUE over IPv6" 2001:db8:f::10 "--tunnel gue:6080" ip6tnl $by6 mode ip6ip6 encaplimit none $gue
poweroff -f
INIT
    chmod 755 "$root/init"
}

main() {
    takes_one_argument "$@"
    PATH=$PATH:/usr/sbin:/sbin
    "$repository/scripts/kernel-guest.sh" "$1"
    local release module passed
    release=$(realpath "$1/vmlinuz")
    release=${release#/boot/vmlinuz-}
    root=$(mktemp -d)
    trap 'rm -rf "$root" "$root".said "$root".gz' EXIT
    mkdir -p "$root/further" "$root/run"
    for module in "${further_modules[@]}"; do
        cp "$(modinfo -k "$release" -n "$module")" "$root/further/"
    done
    cp "$repository/scripts/real-server.sh" "$root/"
    write_init
    # A later archive of an initramfs takes the place of an earlier one's files.
    {
        cat "$1/initramfs.gz"
        (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1)
    } >"$root.gz"
    timeout 300 qemu-system-x86_64 -m 512 -nographic -no-reboot -kernel "$1/vmlinuz" -initrd "$root.gz" \
        -append 'console=ttyS0 quiet loglevel=3 panic=-1' </dev/null 2>&1 | tr -d '\r' >"$root.said" || true
    grep -E '^(ok|FAIL)' "$root.said" || tail -n 20 "$root.said"
    passed=$(grep -c '^ok' "$root.said" || true)
    ((passed == cases)) || die "$passed of $cases kinds of tunnels work"
}

main "$@"
