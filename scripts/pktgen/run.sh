#!/usr/bin/env bash
# Runs Pktgen-DPDK with a profile of this folder against a director: docs/line-rate.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

folder=$repository/scripts/pktgen

usage() {
    cat <<'TEXT'
usage: scripts/pktgen/run.sh PROFILE... --front MAC --back MAC --ports PCI0,PCI1 [options]
       scripts/pktgen/run.sh PROFILE... --front MAC --back MAC --vdev DEVICE0 --vdev DEVICE1 [options]
       scripts/pktgen/run.sh PROFILE... --front MAC --back MAC --print

PROFILE: single, million, million-tcp, flood, imix, latency, ipv6, ipv6-tcp; answers beside million for NAT. --front and --back are
the MACs of the director's two NICs (`shunt status` shows them), or the virtual MACs of its virtual routers. `start 0` at
pktgen's prompt sends, `stop 0` stops, `quit` ends.

  --ports PCI0,PCI1  the tester's NICs that face the director's, bound to a driver for DPDK
  --vdev DEVICE      a device of software in the place of each, with DPDK's arguments: net_memif0,socket=/tmp/f.sock,…
  --tester MAC,MAC   the MACs of the tester's two ports, which some profiles write into their frames
                     [02:00:00:00:00:01,02:00:00:00:00:02]
  --cores LIST       CPUs for pktgen: its screen, then receive and send of port 0, then of port 1; several may be one [0,1,2,3,4]
  --rate PERCENT     of the link's rate [100]
  --count N          packets that port 0 (with `answers`, port 1 too) sends at most [0: no end]
  --flow-bits N      2^N flows where a profile draws them, 5 to 20 [20]
  --open SECONDS     how long the SYNs of the TCP profiles take, and what precedes answers [10]
  --for SECONDS      without a prompt: send for so long, print what each port received and sent, and end
  --memory MIB       no hugepages, but so much ordinary memory
  --print            print the commands and run nothing

Tried with Pktgen-DPDK 24.10.3 on DPDK 24.11; the program `pktgen` must be in PATH, or named by PKTGEN.
Exit code: 0 ran, 1 pktgen failed or refused a command, 2 wrong use.

example: scripts/pktgen/run.sh million --front 02:00:00:00:d0:00 --back 02:00:00:00:d0:01 --ports 0000:3b:00.0,0000:3b:00.1
TEXT
}

wrong_use() {
    printf 'run.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

profiles=() vdev=()
front='' back='' tester=02:00:00:00:00:01,02:00:00:00:00:02 ports='' cores=0,1,2,3,4 print=''
rate=100 count=0 open=10 for='' memory='' flow_bits=20
while (($# > 0)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --print) print=yes ;;
        --vdev)
            (($# > 1)) || wrong_use "$1 takes a value"
            vdev+=("$2")
            shift
            ;;
        --front | --back | --tester | --ports | --cores | --rate | --count | --flow-bits | --open | --for | --memory)
            (($# > 1)) || wrong_use "$1 takes a value"
            option=${1#--}
            declare "${option//-/_}=$2"
            shift
            ;;
        -*) wrong_use "'$1' is no option" ;;
        *) profiles+=("$1") ;;
    esac
    shift
done
tester_front=${tester%,*} tester_back=${tester#*,}

is_mac() { [[ $1 =~ ^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$ ]]; }
is_number() { [[ $1 =~ ^[0-9]+$ ]]; }

check_arguments() {
    local profile number
    ((${#profiles[@]} > 0)) || wrong_use "no profile is named"
    for profile in "${profiles[@]}"; do
        [[ $profile =~ ^[a-z0-9-]+$ && $profile != ports && -e $folder/$profile.pkt ]] ||
            wrong_use "'$profile' is no profile"
    done
    is_mac "$front" || wrong_use "--front is the MAC of the director's first NIC, not '$front'"
    is_mac "$back" || wrong_use "--back is the MAC of the director's second NIC, not '$back'"
    is_mac "$tester_front" && is_mac "$tester_back" || wrong_use "--tester is two MACs, not '$tester'"
    [[ $rate =~ ^[0-9]+(\.[0-9]+)?$ ]] || wrong_use "--rate is a part of the link's rate in percent, not '$rate'"
    for number in count open for memory flow_bits; do
        [[ -z ${!number} ]] || is_number "${!number}" || wrong_use "--${number//_/-} is a number, not '${!number}'"
    done
    ((flow_bits >= 5 && flow_bits <= 20)) || wrong_use "--flow-bits is 5 to 20, not $flow_bits"
}

# drawn WIDTH BITS FIRST: a mask of pktgen's for so many random bits; the others are 0, but for the first one, which is FIRST.
drawn() {
    local width=$1 bits=$2 first=$3 mask
    printf -v mask '%*s' "$bits" ''
    mask=${mask// /X}
    while ((${#mask} < width - 1)); do mask=0$mask; done
    ((${#mask} == width)) || mask=$first$mask
    say "$mask"
}

is_asked() { [[ " ${profiles[*]} " == *" $1 "* ]]; }

# The commands of all profiles, with what was asked for in its place.
commands() {
    local profile sending=0
    ! is_asked answers || sending=all
    for profile in ports "${profiles[@]}"; do
        sed -e "s/FRONT_TESTER_MAC/$tester_front/g" -e "s/BACK_TESTER_MAC/$tester_back/g" \
            -e "s/FRONT_MAC/$front/g" -e "s/BACK_MAC/$back/g" -e "s/OPEN_SECONDS/$open/g" \
            -e "s/DRAWN_PORT/$(drawn 16 $((flow_bits - 4)) 1)................/g" -e "s/DRAWN_ADDRESS/$(drawn 32 "$flow_bits" 0)/g" \
            -e "s/^set all rate .*/set all rate $rate/" -e "s/^set all count .*/set $sending count $count/" \
            "$folder/$profile.pkt"
    done
    [[ -n $for ]] || return 0
    say "start 0"
    ! is_asked answers || printf '%s\n' "sleep $open" "start 1"
    printf '%s\n' "sleep $for" "stop all" "sleep 1" "page $(page)" "sleep 1" quit
}

# The page that is read at the end.
page() { if is_asked latency; then say latency; else say main; fi; }

# What pktgen's screen said, as text.
screen_text() { sed -E 's/\x1b\[[0-9;?]*[a-zA-Z]/ /g' "$1" | tr -d '\r'; }

# Whether pktgen took all commands; tells of those that it did not.
took_all() {
    local refused
    refused=$(screen_text "$1" | grep -aoE 'Invalid line: <[^>]*>' | sort -u) || return 0
    printf 'run.sh: pktgen refused: %s\n' "${refused//$'\n'/, }" >&2
    return 1
}

# What each port received and sent, by pktgen's main page; the times in us that its stamped packets were under way, by the page of latency.
counts() {
    local port what='s/^([01]):.*> \S+ \S+ \S+ ([0-9]+) ([0-9]+) .*/port \1: received \2, sent \3/p'
    if [[ $(page) == latency ]]; then
        what='s|^([01]):.*> \S+ \S+ \S+ [0-9]+ [0-9]+ ([0-9]+) ([0-9]+) [0-9]+ [0-9]+/ ?([0-9.]+) [0-9]+/ ?([0-9.]+) [0-9]+/ ?([0-9.]+) .*|port \1: stamped packets received \2, sent \3; us: least \4, mean \5, most \6|p'
    fi
    for port in 0 1; do
        screen_text "$1" | tr -s ' \n' '  ' | grep -aoE " $port:[A-Za-z-]+ \S+ <[^>]*>( \S+){16}" | tail -n 1 | sed -nE "s/^ //; $what"
    done
}

devices() {
    local pci0 pci1
    if ((${#vdev[@]} > 0)); then
        ((${#vdev[@]} == 2)) || wrong_use "--vdev is given twice, for port 0 and port 1"
        printf '%s\n' --no-pci --vdev "${vdev[0]}" --vdev "${vdev[1]}"
    else
        IFS=, read -r pci0 pci1 <<<"$ports"
        [[ -n $pci0 && -n $pci1 ]] || wrong_use "--ports are two PCI addresses, as 0000:3b:00.0,0000:3b:00.1"
        printf '%s\n' -a "$pci0" -a "$pci1"
    fi
    [[ -z $memory ]] || printf '%s\n' --no-huge -m "$memory"
}

main() {
    local screen rx0 tx0 rx1 tx1 program device_lines lcores status=0
    local -a device ways
    check_arguments
    if [[ -n $print ]]; then
        commands
        exit 0
    fi
    device_lines=$(devices)
    mapfile -t device <<<"$device_lines"
    IFS=, read -r screen rx0 tx0 rx1 tx1 <<<"$cores"
    [[ -n $tx1 ]] || wrong_use "--cores are five CPUs, as 0,1,2,3,4"
    program=$(command -v "${PKTGEN:-pktgen}") ||
        die "no ${PKTGEN:-pktgen}: build Pktgen-DPDK 24.10.3 (docs/line-rate.md) and put it into PATH, or name it by PKTGEN"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    commands >"$work/profile.pkt"
    # Pktgen's threads have numbers that differ, whichever CPUs they are on; one does both for a port where these are one.
    lcores="0@$screen,1@$rx0,2@$tx0,3@$rx1,4@$tx1"
    ways=('[1:2].0' '[3:4].1')
    [[ $rx0 != "$tx0" ]] || lcores=${lcores/,2@$tx0/} ways[0]=1.0
    [[ $rx1 != "$tx1" ]] || lcores=${lcores/,4@$tx1/} ways[1]=3.1
    local -a command=("$program" "${device[@]}" --file-prefix "pktgen-$$" --lcores "$lcores" -- -P
        -m "${ways[0]}" -m "${ways[1]}" -f "$work/profile.pkt")
    if [[ -n $for ]]; then
        script -q -e -c "$(printf '%q ' "${command[@]}")" "$work/screen" </dev/null >/dev/null || status=$?
    else
        script -q -e -c "$(printf '%q ' "${command[@]}")" "$work/screen" || status=$?
    fi
    ((status == 0)) || die "pktgen ended with $status: $(screen_text "$work/screen" | grep -aE 'EAL|rror|\*\*\*' | tail -n 3)"
    took_all "$work/screen"
    [[ -z $for ]] || counts "$work/screen"
}

main
