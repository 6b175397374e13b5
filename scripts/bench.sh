#!/usr/bin/env bash
# How fast the director is on this machine: runs `shunt bench` three times over what has a target, once over the rest, and
# writes docs/performance.md with tables and plots.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/packages.sh"

usage() {
    cat <<'TEXT'
usage: scripts/bench.sh [--quick] [--out DIRECTORY]

Installs what is missing, builds, measures and writes performance.md, performance/*.svg and performance/cells.json, by
default into docs/. Takes under 20 minutes on two cores, 3 GiB of memory, and no NIC; as root or not. The last CPU does
the work, so nothing else should run there. `shunt bench --compare docs/performance/cells.json` compares a later run.
Packets lie in hugepages, as in a director that is meant to be fast: root reserves them for as long as it takes; others
use what is reserved, or else ordinary pages, which cost some nanoseconds a packet.

  --quick           one run, up to 100 k flows, in about two minutes: to try it out; writes into target/performance
  --out DIRECTORY   write there

Exit code: 0 measured, whether targets are met or not; 1 something could not be measured; 2 wrong use.
TEXT
}

quick=''
out=''
while (($# > 0)); do
    case $1 in
        --quick) quick=yes ;;
        --out)
            [[ -n ${2:-} ]] || die "--out takes a directory"
            out=$2
            shift
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            printf "bench.sh: '%s' is no option\n" "$1" >&2
            usage >&2
            exit 2
            ;;
    esac
    shift
done

work=''
failures=0
steps_done=0
began=$(milliseconds)

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    forget_policy
    end_jobs
    return_hugepages
    [[ -z $work ]] || rm -rf "$work"
    unmount_kernel_views
    exit "$status"
}

elapsed() {
    local seconds=$((($(milliseconds) - began) / 1000))
    printf '%d:%02d' $((seconds / 60)) $((seconds % 60))
}

# Hugepages of 2 MiB for the packets of one measurement.
hugepages_needed=128
hugepages_file=/proc/sys/vm/nr_hugepages
hugepages_before=''

reserve_hugepages() {
    local free
    free=$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)
    ((EUID == 0 && free < hugepages_needed)) || return 0
    hugepages_before=$(<"$hugepages_file")
    printf '%s\n' $((hugepages_before + hugepages_needed - free)) >"$hugepages_file"
    free=$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)
    ((free >= hugepages_needed)) ||
        say "the kernel could give $free of $hugepages_needed hugepages: packets are in ordinary pages; free memory to measure with hugepages"
}

return_hugepages() {
    [[ -z $hugepages_before ]] || printf '%s\n' "$hugepages_before" >"$hugepages_file"
}

# step WORDS COMMAND...: one part of the whole; a failure is told and the rest goes on.
step() {
    local words=$1
    shift
    steps_done=$((steps_done + 1))
    title "$(elapsed)  $steps_done of $steps: $words"
    interruptible "$@" || {
        failed "$words"
        failures=$((failures + 1))
    }
}

# cells NAME OPTIONS...: the cells of one call of `shunt bench`, into NAME.json.
cells() {
    local name=$1
    shift
    "$shunt" bench "$@" --json "$work/$name.json" >"$work/$name.txt" || return 1
}

# The cells of several calls as one run.
gather() {
    local run=$1
    shift
    local -a files=()
    local name
    for name; do
        [[ ! -s $work/$name.json ]] || files+=("$work/$name.json")
    done
    ((${#files[@]} > 0)) || die "nothing was measured: see above"
    jq -s 'add' "${files[@]}" >"$work/$run.json"
}

install_testpmd() {
    command -v dpdk-testpmd >/dev/null && return 0
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "installing by apt: dpdk-dev, for dpdk-testpmd"
        DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install dpdk-dev </dev/null && return 0
    fi
    say "dpdk-testpmd is not here, so the floor is measured by our own loop alone: install Debian's dpdk-dev to have both"
}

# --- what is measured ---------------------------------------------------------------------------------------

measure_quick() {
    local -a effort=(--repetitions 3 --seconds 0.05)
    steps=5
    step "packets of open connections" \
        cells forward-1 "${effort[@]}" --flows 1000,100000
    step "the floor" cells floor "${effort[@]}" --floor
    step "connections that begin and end, and a flood" \
        cells new-1 "${effort[@]}" --new --method dr --family ipv4 --protocol tcp --flows 100000
    step "many services" \
        cells services-1 "${effort[@]}" --services 10000 --method dr --family ipv4 --protocol tcp --flows 100000
    step "reload" \
        cells reload-1 "${effort[@]}" --services 10000 --reload --method dr --family ipv4 --protocol tcp --flows 100000
    gather run-1 forward-1 floor new-1 services-1 reload-1
    gather few forward-1
    runs=("$work/run-1.json")
    drawn=$work/few.json
}

measure() {
    local -a effort=(--repetitions 3 --seconds 0.2)
    local -a one=(--method dr --family ipv4 --protocol tcp)
    local run
    steps=19
    for run in 1 2 3; do
        step "run $run of 3: packets of open connections" \
            cells "forward-$run" "${effort[@]}" --flows 1000,1000000,10000000
        step "run $run of 3: connections that begin and end, and a flood" \
            cells "new-$run" "${effort[@]}" --new "${one[@]}" --flows 10000000
        step "run $run of 3: many services" \
            cells "services-$run" "${effort[@]}" --services 10000 "${one[@]}" --flows 1000000
        step "run $run of 3: reload" \
            cells "reload-$run" "${effort[@]}" --services 10000 --reload "${one[@]}" --flows 1000000
    done
    step "the floor" cells floor --repetitions 5 --seconds 0.3 --floor
    step "fewer flows" cells few "${effort[@]}" --flows 1,10000,100000
    step "sizes of frames" \
        cells frames "${effort[@]}" --method dr --family ipv4 --protocol udp --flows 1000,1000000 \
        --frame 128,256,512,1024,1280,1518,imix
    step "schedulers" \
        cells schedulers "${effort[@]}" "${one[@]}" --flows 1000000 --scheduler wrr,lc,wlc,sh --new-share 0,100
    step "new connections in the traffic" \
        cells share "${effort[@]}" "${one[@]}" --flows 1000000 --new-share 1,10,50,100
    step "connections of NAT and of IPv6" \
        cells new-others "${effort[@]}" --new --method nat --family ipv4,ipv6 --protocol tcp --flows 1000000
    step "connections of UDP" \
        cells new-udp "${effort[@]}" --new --method dr --family ipv4 --protocol udp --flows 1000000
    gather run-1 forward-1 new-1 services-1 reload-1 floor few frames schedulers share new-others new-udp
    for run in 2 3; do
        gather "run-$run" "forward-$run" "new-$run" "services-$run" "reload-$run"
    done
    runs=("$work/run-1.json" "$work/run-2.json" "$work/run-3.json")
    drawn=$work/few.json,$work/forward-1.json,$work/forward-2.json,$work/forward-3.json
}

# --- the document -------------------------------------------------------------------------------------------

first_of() { head -n 1 | sed 's/^[^:]*: *//'; }

kernel_choice() { sed -n 's/.*\[\(.*\)\].*/\1/p' "$1" 2>/dev/null || true; }

# The commit that is built, and whether the sources differ from it.
built_commit() {
    local changes=''
    git -C "$repository" diff --quiet HEAD -- . ':!docs' 2>/dev/null || changes=', with changes'
    printf '%s%s' "$(git -C "$repository" rev-parse --short=12 HEAD 2>/dev/null || echo unknown)" "$changes"
}

machine() {
    cat <<TEXT
| | |
|---|---|
| date | $(date -u '+%Y-%m-%d %H:%M UTC') |
| commit | $commit |
| processor | $(grep -m1 '^model name' /proc/cpuinfo | first_of), $(nproc) CPUs$(grep -q hypervisor /proc/cpuinfo && echo ', a virtual machine') |
| caches | $(lscpu 2>/dev/null | sed -n 's/^ *\(L[123][di]*\) cache: *\(.*\)/\1 \2/p' | paste -sd ';' | sed 's/;/, /g') |
| memory | $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), $(awk '/^HugePages_Total/ { print $2 }' /proc/meminfo) hugepages reserved, transparent ones: $(kernel_choice /sys/kernel/mm/transparent_hugepage/enabled) |
| system | $(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release), Linux $(uname -r | cut -d- -f1) |
| built by | $(rustc --version | cut -d' ' -f1,2), DPDK $(pkg-config --modversion libdpdk) |
| time taken | $(elapsed) minutes, others' share of that core at most $(jq -r '[.[].disturbed] | max * 100 | round' "${runs[@]}" | sort -n | tail -n 1) % in a repetition |
TEXT
}

# What other commands have to say: each file of bench.d prints a section, or nothing when it has nothing to measure here.
further_sections() {
    local file
    for file in "$repository"/scripts/bench.d/*.sh; do
        [[ -e $file ]] || continue
        title "$(elapsed)  ${file##*/}" >&2
        SHUNT=$shunt QUICK=$quick timeout --kill-after=10 240 "$file" </dev/null >"$work/section.md" || {
            failed "${file##*/}" >&2
            continue
        }
        printf '\n'
        cat "$work/section.md"
    done
}

document() {
    local joined
    joined=$(IFS=,; printf '%s' "${runs[*]}")
    mkdir -p "$out/performance"
    "$shunt" bench --from "$joined" --report "$work/runs.md" >"$work/table.txt" || return 1
    local family
    for family in ipv4 ipv6; do
        "$shunt" bench --from "$drawn" --family "$family" --svg "$out/performance/$family.svg" >/dev/null || return 1
    done
    # Histograms are the larger part and nobody compares them.
    jq -s 'add | walk(if type == "object" then del(.histogram) else . end)' "${runs[@]}" |
        jq -c '.[]' | sed '1s/^/[/; $!s/$/,/; $s/$/]/' >"$out/performance/cells.json"
    further_sections >"$work/further.md"
    {
        cat <<TEXT
# Performance

Written by \`scripts/bench.sh\`; do not edit. One worker on one core between a source and a sink on the same core, joined
by NICs made of rings. The real worker loop, the real tables; every run first compares what comes out byte by byte with
what should. Frames have 64 bytes with FCS (66 for IPv6 UDP, 78 for IPv6 TCP) unless said otherwise, flows are drawn at random, tables are
90 % full. Times are those in which the measuring thread ran, what source and sink take alone left out.

$(machine)

To repeat it: \`./scripts/bench.sh\`; a single cell: \`shunt bench --method dr --flows 1000,1000000\`.

![Nanoseconds for a packet, IPv4](performance/ipv4.svg)

![Nanoseconds for a packet, IPv6](performance/ipv6.svg)

TEXT
        cat "$work/runs.md" "$work/further.md"
    } >"$work/performance.md"
    mv "$work/performance.md" "$out/performance.md"
}

# A function, so that bash has read all of this file before it does anything.
main() {
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP

    cd "$repository"
    mount_kernel_views
    install_packages
    install_testpmd
    export CARGO_TERM_PROGRESS_WHEN=never
    title "release build"
    commit=$(built_commit)
    interruptible cargo build --release --locked --workspace --bins
    shunt=$repository/target/release/shunt
    [[ -n $out ]] || out=$([[ -n $quick ]] && printf '%s' "$repository/target/performance" || printf '%s' "$repository/docs")
    mkdir -p "$out"
    work=$(mktemp -d)
    reserve_hugepages
    began=$(milliseconds)
    if [[ -n $quick ]]; then measure_quick; else measure; fi
    document
    title "$(elapsed)  $out/performance.md"
    sed -n '/^## Targets/,/^## Beside/{/^## Beside/d;p}' "$out/performance.md"
    ((failures == 0)) || die "$failures parts could not be measured: see above"
    exit 0
}

main
