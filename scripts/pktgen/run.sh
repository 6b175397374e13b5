#!/usr/bin/env bash
# Runs Pktgen-DPDK with a profile of this folder against a director: docs/line-rate.md.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

folder=$repository/scripts/pktgen

usage() {
    cat <<'TEXT'
usage: scripts/pktgen/run.sh PROFILE... --front MAC --back MAC --ports PCI0,PCI1 [--cores LIST]
       scripts/pktgen/run.sh PROFILE... --front MAC --back MAC --print

PROFILE: single, million, million-tcp, flood, imix, ipv6; answers beside million for NAT. --front and --back are the MACs of
the director's two NICs (`shunt status` shows them), --ports the tester's NICs that face them, bound to a driver for DPDK.
`start 0` at pktgen's prompt sends, `stop 0` stops, `quit` ends.

  --tester MAC   the MAC of the tester's first NIC, which imix writes into its frames [02:00:00:00:00:01]
  --cores LIST   cores for pktgen: its screen, then receive and send of port 0, then of port 1 [0,1,2,3,4]
  --print        print the commands and run nothing

Written for Pktgen-DPDK 24.10.3 on DPDK 24.11; the program `pktgen` must be in PATH, or named by PKTGEN.

example: scripts/pktgen/run.sh million --front 02:00:00:00:d0:00 --back 02:00:00:00:d0:01 --ports 0000:3b:00.0,0000:3b:00.1
TEXT
}

wrong_use() {
    printf 'run.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

profiles=()
front='' back='' tester=02:00:00:00:00:01 ports='' cores=0,1,2,3,4 print=''
while (($# > 0)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --print) print=yes ;;
        --front | --back | --tester | --ports | --cores)
            (($# > 1)) || wrong_use "$1 takes a value"
            declare "${1#--}=$2"
            shift
            ;;
        -*) wrong_use "'$1' is no option" ;;
        *) profiles+=("$1") ;;
    esac
    shift
done

is_mac() { [[ $1 =~ ^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$ ]]; }

# The commands of all profiles, with the MACs in their places.
commands() {
    local profile
    for profile in ports "${profiles[@]}"; do
        sed -e "s/FRONT_TESTER_MAC/$tester/g" -e "s/FRONT_MAC/$front/g" -e "s/BACK_MAC/$back/g" "$folder/$profile.pkt"
    done
}

main() {
    local profile file pci0 pci1 screen rx0 tx0 rx1 tx1
    ((${#profiles[@]} > 0)) || wrong_use "no profile is named"
    for profile in "${profiles[@]}"; do
        [[ $profile =~ ^[a-z0-9-]+$ && $profile != ports && -e $folder/$profile.pkt ]] ||
            wrong_use "'$profile' is no profile"
    done
    is_mac "$front" || wrong_use "--front is the MAC of the director's first NIC, not '$front'"
    is_mac "$back" || wrong_use "--back is the MAC of the director's second NIC, not '$back'"
    is_mac "$tester" || wrong_use "--tester is a MAC, not '$tester'"
    if [[ -n $print ]]; then
        commands
        exit 0
    fi
    IFS=, read -r pci0 pci1 <<<"$ports"
    [[ -n $pci0 && -n $pci1 ]] || wrong_use "--ports are two PCI addresses, as 0000:3b:00.0,0000:3b:00.1"
    IFS=, read -r screen rx0 tx0 rx1 tx1 <<<"$cores"
    [[ -n $tx1 ]] || wrong_use "--cores are five cores, as 0,1,2,3,4"
    command -v "${PKTGEN:-pktgen}" >/dev/null ||
        die "no ${PKTGEN:-pktgen}: build Pktgen-DPDK 24.10.3 (docs/line-rate.md) and put it into PATH, or name it by PKTGEN"
    file=$(mktemp --suffix=.pkt)
    # shellcheck disable=SC2064  # the name is known now and local later
    trap "rm -f '$file'" EXIT
    commands >"$file"
    "${PKTGEN:-pktgen}" -l "$screen,$rx0,$tx0,$rx1,$tx1" -a "$pci0" -a "$pci1" -- \
        -P -m "[$rx0:$tx0].0,[$rx1:$tx1].1" -f "$file"
}

main
