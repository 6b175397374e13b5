#!/usr/bin/env bash
# Instructions for a packet on each path, as the committed baseline has them; scripts/test.sh counts them anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
baseline=tests/instructions/baseline.json
[[ -s $baseline ]] || exit 0
cat <<TEXT
## Instructions for a packet

Counted by callgrind for \`$baseline\`, with $(jq -r .compiler "$baseline"); \`scripts/test.sh\` counts anew and fails when a path
grows by more than 5 %.

| path | instructions |
|---|---:|
TEXT
jq -r '.paths | to_entries[] | "| \(.key) | \(.value) |"' "$baseline"
