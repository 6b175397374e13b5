#!/usr/bin/env bash
# What a scheduler takes to choose, by the number of real servers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[[ -d dataplane/benches/schedulers ]] || exit 0
printf '## Choosing a real server\n\n'
cargo bench --quiet --locked -p shunt-dataplane --bench schedulers
