#!/usr/bin/env bash
# Looks for inputs that break something: libFuzzer on the targets of tests/src/fuzz/, beginning with the saved inputs.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'TEXT'
usage: scripts/fuzz.sh [--for SECONDS] [--at-once COUNT] [--seed NUMBER] [--save] [TARGET...]

Runs each target (all of them when none is named) for so long, 600 s where nothing is said, one after the other.
Targets: wire forward ipvsadm restore config iptables api. What leads somewhere new stays in target/fuzz/TARGET.

  --at-once COUNT  so many targets at a time
  --seed NUMBER    the same program tries the same inputs again; else each run tries others
  --save           afterwards the smallest set of inputs that leads to the same places becomes tests/fuzz/corpus/TARGET.hex

An input that breaks something is left in target/fuzz/finds/, and this ends with 1. To see it again:
  FUZZ_TARGET=TARGET target/release/fuzz FILE
Mend it by a test of its own in tests/tests/fuzz.rs first.
TEXT
}

wrong() {
    printf 'fuzz.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

seconds=600
at_once=1
seed=0
save=''
targets=()
while (($# > 0)); do
    case $1 in
        --for | --at-once | --seed)
            [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || wrong "$1 takes a number above 0"
            case $1 in
                --for) seconds=$2 ;;
                --at-once) at_once=$2 ;;
                --seed) seed=$2 ;;
            esac
            shift
            ;;
        --save) save=yes ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*) wrong "'$1' is no option" ;;
        *) targets+=("$1") ;;
    esac
    shift
done

cd "$repository"
work=target/fuzz
export CARGO_TERM_PROGRESS_WHEN=never

# Only this workspace's crates are built anew; libFuzzer is C++.
build() {
    CXX=${CXX:-clang++} RUSTC_WORKSPACE_WRAPPER=$repository/tests/fuzz/rustc \
        cargo build --quiet --release --locked --workspace --features shunt-tests/fuzz --bin fuzz
    cargo build --quiet --release --locked --workspace --bin corpus
}

# fuzz TARGET LONGEST: its last lines say how many runs there were and what they reached.
fuzz() {
    local target=$1 longest=$2 log=$work/$1.log
    mkdir -p "$work/$target" "$work/finds"
    target/release/corpus unpack "$target" "$work/$target"
    if FUZZ_TARGET=$target target/release/fuzz -max_len="$longest" -max_total_time="$seconds" -timeout=30 -seed="$seed" \
        -rss_limit_mb=3000 -artifact_prefix="$work/finds/$target-" "$work/$target" >"$log" 2>&1; then
        passed "$target: $(sed -n 's/^#\([0-9]*\)\tDONE *cov: \([0-9]*\) .*corp: \([0-9]*\).*/\1 inputs, \2 places, \3 that matter/p' "$log")"
    else
        grep -v '^#' "$log" | tail -n 40
        failed "$target: see $log and $work/finds"
        return 1
    fi
}

# save_inputs TARGET LONGEST: the merge leaves out what adds nothing.
save_inputs() {
    rm -rf "$work/least"
    mkdir -p "$work/least"
    FUZZ_TARGET=$1 target/release/fuzz -max_len="$2" -merge=1 "$work/least" "$work/$1" >"$work/$1.merge.log" 2>&1
    target/release/corpus pack "$1" "$work/least"
}

main() {
    build
    local name longest status=0
    local -A lengths=()
    local -a all=()
    while read -r name longest; do
        lengths[$name]=$longest
        all+=("$name")
    done < <(target/release/corpus targets)
    ((${#targets[@]} > 0)) || targets=("${all[@]}")
    for name in "${targets[@]}"; do
        [[ -n ${lengths[$name]:-} ]] || wrong "'$name' is no target"
    done
    title "fuzzing ${targets[*]}, $seconds s each"
    local running=0
    for name in "${targets[@]}"; do
        if ((running >= at_once)); then
            wait -n || status=1
            running=$((running - 1))
        fi
        fuzz "$name" "${lengths[$name]}" &
        running=$((running + 1))
    done
    while ((running > 0)); do
        wait -n || status=1
        running=$((running - 1))
    done
    if [[ -n $save && $status == 0 ]]; then
        for name in "${targets[@]}"; do
            save_inputs "$name" "${lengths[$name]}"
        done
    fi
    exit "$status"
}

trap 'trap - EXIT; end_jobs' EXIT
main
