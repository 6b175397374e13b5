#!/usr/bin/env bash
# Everything that must pass: formatting, lints, all tests of the workspace, and the demo end to end.
# The last line is `N passed, N failed`; whatever could not run has failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/packages.sh"

usage() {
    cat <<'TEXT'
usage: scripts/test.sh [--all]

Installs what is missing, builds, and runs: cargo fmt --check, clippy, all tests of the workspace (unit, packet tables,
property tests, network namespaces), the instructions that a packet takes against their baseline, and the demo. Takes
root, and no hugepages.

  --all   also the long runs: tests that are marked as ignored because they take long, adverts beside a reload of 5,000
          services, a minute of the soak, random cases and random commands beside the real kernel (qemu, which is
          installed), random files beside the real keepalived, how much of its IPVS they reach, real-server.sh beside that
          kernel's tunnels, PCI NICs in a virtual machine, libFuzzer, a minute for each target, whether a dependency asks for
          a newer Rust than Cargo.toml names (and a build with that one where rustup has it), and `cargo deny check` where
          that is installed

Exit code: 0 all passed, 1 something did not, 2 wrong use.
TEXT
}

all=''
case ${1:-} in
    '') ;;
    --all) all=yes ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        printf "test.sh: '%s' is no option\n" "$1" >&2
        usage >&2
        exit 2
        ;;
esac

count_passed=0
count_failed=0
# What failed, a line each, for the end of the report.
what_failed=()
log=''
complete=''

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    forget_policy
    end_jobs
    [[ -z $log ]] || rm -f "$log"
    unmount_kernel_views
    # What ended before all parts had run has failed.
    [[ -n $complete ]] || say "$count_passed passed, $((count_failed + 1)) failed"
    exit "$status"
}

# part WORDS COMMAND...: a part that passes or fails as a whole.
part() {
    local words=$1
    shift
    title "$words"
    if interruptible "$@"; then
        passed "$words"
        count_passed=$((count_passed + 1))
    else
        failed "$words"
        what_failed+=("$words")
        count_failed=$((count_failed + 1))
    fi
}

# The tests of the workspace, each counted by itself.
cargo_tests() {
    local status=0 ran failing
    local -a options=(--workspace --locked --no-fail-fast)
    [[ -z $all ]] || options+=(-- --include-ignored)
    # As the random cases below, property tests try the same each time; another seed tries others.
    export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}
    title "tests of the workspace${all:+, with the long ones}, property tests from seed $PROPTEST_RNG_SEED"
    log=$(mktemp)
    interruptible run_logged cargo test "${options[@]}" || status=$?
    read -r ran failing < <(awk '
        /^test result: / { passed += $4; failed += $6 }
        END { print passed + 0, failed + 0 }' "$log")
    mapfile -t what_failed < <(grep -aE '^test .+ FAILED$|^error(\[|:)|\(signal: ' "$log" | sort -u)
    # A test program that does not build, or dies on the way, prints no result.
    if ((status != 0 && failing == 0)) || ((ran == 0)); then
        failing=$((failing + 1))
        what_failed+=("a test program does not build or died on the way: its tests are not counted")
    fi
    count_passed=$((count_passed + ran))
    count_failed=$((count_failed + failing))
}

# Dependencies for this platform that ask for a newer Rust than the workspace's rust-version.
rust_is_old_enough() {
    local wanted newer
    wanted=$(wanted_rust)
    newer=$(cargo metadata --format-version 1 --locked --filter-platform "$(rustc -vV | sed -n 's/^host: //p')" |
        jq -r --arg wanted "$wanted" 'def parts: split(".") | map(tonumber) | .[0:2];
            .packages[] | select(.rust_version and (.rust_version | parts) > ($wanted | parts)) | "\(.name) \(.version): \(.rust_version)"') || return 1
    [[ -z $newer ]] || {
        say "Cargo.toml says rust-version $wanted, and these ask for more: $newer"
        return 1
    }
}

run_logged() { "$@" 2>&1 | tee "$log"; }

# A function, so that bash has read all of this file before it does anything.
main() {
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP

    cd "$repository"
    mount_kernel_views
    install_packages
    require_namespaces
    require_tun
    export CARGO_TERM_PROGRESS_WHEN=never

    part "release build" cargo build --release --locked --workspace --bins
    part "cargo fmt --check" cargo fmt --all --check
    part "cargo clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo_tests
    part "instructions for a packet" cargo run --release --locked --quiet --bin instructions
    part "cache lines that move between workers" cargo run --release --locked --quiet --bin shared_writes
    [[ -z $all ]] || part "adverts while 5,000 services are reloaded" env SHUNT_SERVICES=5000 \
        SHUNT_BINARY="$repository/target/release/shunt" \
        cargo test --locked -p shunt-tests --test end_to_end adverts_are_never_late -- --nocapture
    [[ -z $all ]] || part "a soak of a minute" cargo run --release --locked --quiet --bin soak -- --minutes 1 --seed 1
    if [[ -n $all ]]; then
        part "random cases beside the kernel" \
            cargo run --release --locked --quiet --bin compare -- --seed 1000 --cases 40
        part "random commands beside the kernel" \
            cargo run --release --locked --quiet --bin compare -- --commands --seed 1000 --cases 10
        part "random files beside keepalived" \
            cargo run --release --locked --quiet --bin keepalived -- --seed 1 --cases 1000
        part "what is reached of the kernel" \
            cargo run --release --locked --quiet --bin coverage -- --recordings 12 --cases 6 --at-least 25
        part "a real server behind each kind of tunnel, on a kernel that has them" scripts/kernel-tunnels.sh target/kernel-guest
        part "PCI NICs in a virtual machine" scripts/vm.sh --short
    fi
    [[ -z $all ]] || part "fuzzing" scripts/fuzz.sh --for 60 --at-once 2 --seed 1
    if [[ -n $all ]]; then
        part "no dependency asks for a newer Rust than $(wanted_rust)" rust_is_old_enough
        if rustup toolchain list 2>/dev/null | grep -q "^$(wanted_rust)"; then
            part "a build with Rust $(wanted_rust)" env CARGO_TARGET_DIR="$repository/target/oldest" \
                rustup run "$(wanted_rust)" cargo check --workspace --locked
        fi
        # Advisories change from day to day, and are asked for before a release.
        ! cargo deny --version >/dev/null 2>&1 || part "cargo deny check" cargo deny check bans licenses sources
    fi
    part "demo" scripts/demo.sh
    part "demo with two workers" scripts/demo.sh --workers 2

    say ''
    complete=yes
    ((${#what_failed[@]} == 0)) || printf '  failed: %s\n' "${what_failed[@]}"
    say "$count_passed passed, $count_failed failed"
    ((count_failed == 0)) || exit 1
    exit 0
}

main
