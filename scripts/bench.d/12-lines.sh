#!/usr/bin/env bash
# What memory alone costs a packet, whatever the director does with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
printf '## What memory alone costs\n\n'
cargo bench --quiet --locked -p shunt-dataplane --bench lines
