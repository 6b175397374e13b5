#!/usr/bin/env bash
# The connection table beside rte_hash and hashbrown.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[[ -d dataplane/benches/tables ]] || exit 0
options=(--repetitions 5 --lookups 500000)
[[ -z ${QUICK:-} ]] || options=(--repetitions 3 --lookups 200000 --flows 1000,100000)
printf '## The table beside others\n\n'
cargo bench --quiet --locked -p shunt-dataplane --bench tables -- "${options[@]}"
