#!/usr/bin/env bash
# Several workers against as many independent loops, and what a hand-over costs.
set -euo pipefail
workers=$(($(nproc) < 4 ? $(nproc) : 4))
[[ -z ${QUICK:-} ]] && ((workers > 1)) || exit 0
printf '## Many cores\n\n```\n'
"$SHUNT" bench --workers "$workers" --method dr --family ipv4 --protocol udp --flows 1000,1000000 \
    --repetitions 3 --seconds 0.3 2>/dev/null | tail -n +2
printf '```\n'
