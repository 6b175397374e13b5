#!/usr/bin/env bash
# Tries the profiles of this folder: a real Pktgen-DPDK and a director on this machine, joined by memif, and the counts of both sides.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

usage() {
    cat <<'TEXT'
usage: scripts/pktgen/try.sh [--rate PERCENT] [--count N] [--for SECONDS] [PROFILE...]

Takes an installed Pktgen-DPDK (`pktgen` in PATH, or named by PKTGEN), builds nothing of it, and runs each profile against a director
with conf/line-rate-dr.toml, -nat.toml and -tun.toml, both joined by memif in a network namespace of their own. What port 0 sent is
what the director's services count, and what the director sent is what port 1 received, to the packet and the byte. Takes root; no
hugepages, no NIC. Rates say nothing here: on a machine with few cores director and pktgen share them.

  --rate PERCENT  of memif's 100 Gbit/s [0.01, which is 14,880 packets of 64 bytes a second]
  --count N       packets of each profile [20000]
  --for SECONDS   how long they may take [4]

Exit code: 0 all counts agree, 1 some do not, 2 wrong use.
TEXT
}

rate=0.01 count=20000 for=4 profiles=()
while (($# > 0)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --rate | --count | --for)
            (($# > 1)) || { printf 'try.sh: %s takes a value\n' "$1" >&2 && exit 2; }
            declare "${1#--}=$2"
            shift
            ;;
        -*)
            printf "try.sh: '%s' is no option\n" "$1" >&2
            usage >&2
            exit 2
            ;;
        *) profiles+=("$1") ;;
    esac
    shift
done
((${#profiles[@]} > 0)) || profiles=(single million million-tcp flood imix latency ipv6 ipv6-tcp answers)

name=shunt-pktgen-$$
failures=0

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    end_jobs
    delete_namespaces "$name"
    rm -rf "$work"
    exit "$status"
}

inside() { ip netns exec "$name" "$@"; }
shunt() { inside "$repository/target/release/shunt" "$@"; }
status() { shunt status --json -s "$work/shunt.sock" 2>/dev/null; }
is_running() { status | jq -e '.nics | length == 2' >/dev/null; }

# memif DEVICE SOCKET MAC: pktgen's end.
memif() { say "$1,role=client,socket=$work/$2,socket-abstract=no,mac=$3"; }

# start METHOD: a director for the method, of conf/, on memif.
start() {
    sed -E -e 's/^idle .*/idle = "adaptive"/' -e 's/^hugepages .*/hugepages = "never"/' -e "s|^socket .*|socket = \"$work/shunt.sock\"|" \
        -e "s/^workers .*/workers = [$(($(nproc) - 1))]/" -e "s|^(device +=) \"[^\"]*0\".*|\1 \"memif:$work/front,role=server\"|" \
        -e "s|^(device +=) \"[^\"]*1\".*|\1 \"memif:$work/back,role=server\"|" "$repository/conf/line-rate-$1.toml" >"$work/$1.toml"
    inside "$repository/target/release/shunt" run -c "$work/$1.toml" </dev/null >"$work/director.log" 2>&1 &
    director=$!
    wait_until 20 is_running || die "the director does not start: $(tail -n 3 "$work/director.log")"
}

stop() {
    shunt stop -s "$work/shunt.sock" >/dev/null
    wait "$director" || true
}

# books: frames that all NICs received and sent, that were dropped, and that the director made itself; packets and bytes that real servers got,
# packets that they answered; connections.
books() {
    status | jq -r '[.books.received, .books.sent, .books.dropped, .books.made + .books.injected] + ([.services[].reals[]] |
        [([.[].packets_in] | add), ([.[].bytes_in] | add), ([.[].packets_out] | add)]) + [([.workers[].connections] | add)] | @tsv'
}

# Bytes of each IP packet of a profile; nothing where they differ.
length_of() {
    case $1 in
        ipv6*) say 60 ;;
        imix | latency) ;;
        *) say 46 ;;
    esac
}

mac() { status | jq -r ".nics[$1].mac"; }

# run PROFILE: what run.sh prints of it.
run() {
    # Few enough flows that no port is 20, from which nothing is scheduled; where one half needs what the other opened, so few that all are open.
    local -a names=("$1" --flow-bits 18)
    case $1 in
        answers) names=(million answers --flow-bits 8) ;;
        *-tcp) names=("$1" --flow-bits 8) ;;
    esac
    inside "$repository/scripts/pktgen/run.sh" "${names[@]}" --front "$(mac 0)" --back "$(mac 1)" \
        --vdev "$(memif net_memif0 front 02:00:00:00:00:01)" --vdev "$(memif net_memif1 back 02:00:00:00:00:02)" \
        --cores 0,0,0,0,0 --memory 1024 --rate "$rate" --count "$count" --open "$for" --for "$for" 2>&1
}

# differs WHAT DIRECTOR PKTGEN: says so when the two counts are not the same.
differs() {
    (($2 == $3)) && return 1
    problems+="; $1: director $2, pktgen $3"
}

# try METHOD PROFILE: runs it and compares.
try() {
    local said length lost i problems='' result=passed
    local -a before after counts
    read -r -a before < <(books)
    said=$(run "$2") || problems="; $said"
    read -r -a after < <(books)
    local -a grown=()
    for i in "${!after[@]}"; do grown+=($((after[i] - before[i]))); done
    if [[ $2 == latency ]]; then
        [[ $said =~ 'port 1: stamped packets received '[1-9] ]] || problems+="; no stamped packet came back"
    elif [[ -z $problems ]]; then
        read -r -d '' -a counts < <(sed -nE 's/^port [01]: received ([0-9]+), sent ([0-9]+)$/\1 \2/p' <<<"$said") || true
        ((${#counts[@]} == 4 && counts[1] > 0)) || problems+="; pktgen sent nothing: $said"
        differs "received" "${grown[0]}" $((counts[1] + counts[3])) || true
        # A frame of its own may come before pktgen looks, or when it has looked for the last time.
        lost=$((grown[1] - counts[0] - counts[2]))
        ((lost >= 0 && lost <= grown[3])) || problems+="; sent: director ${grown[1]}, pktgen received $((counts[0] + counts[2]))"
        differs "for services" "${grown[4]}" "${counts[1]}" || true
        differs "answers" "${grown[6]}" "${counts[3]}" || true
        length=$(length_of "$2")
        [[ -z $length ]] || differs "bytes" "${grown[5]}" $((counts[1] * length)) || true
        # Of flows that are drawn among so many nearly all differ.
        [[ ! $2 =~ ^(million|flood|ipv6)$ ]] || ((grown[7] * 10 > counts[1] * 9)) || problems+="; ${grown[7]} connections"
    fi
    if [[ -n $problems ]]; then
        result=failed
        failures=$((failures + 1))
    fi
    "$result" "$1, $2: $(tr '\n' ';' <<<"$said") dropped ${grown[2]}$problems"
}

main() {
    local method profile
    require_namespaces
    command -v "${PKTGEN:-pktgen}" >/dev/null || die "no ${PKTGEN:-pktgen}: build Pktgen-DPDK (docs/line-rate.md), or name it by PKTGEN"
    [[ -x $repository/target/release/shunt ]] || die "no target/release/shunt: run scripts/install.sh"
    work=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    add_namespace "$name"
    inside ip link set lo up
    for method in dr nat tun; do
        start "$method"
        for profile in "${profiles[@]}"; do
            # Answers pass by with NAT alone, and a tunnel's outer header moves pktgen's stamp to where it does not look.
            case $method-$profile in
                dr-answers | tun-answers | tun-latency) ;;
                *) try "$method" "$profile" ;;
            esac
        done
        stop
    done
    say "$failures failed"
    ((failures == 0))
}

main
