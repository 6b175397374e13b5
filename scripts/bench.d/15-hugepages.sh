#!/usr/bin/env bash
# What hugepages bring for packets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
shunt=${SHUNT:-target/release/shunt}
options=(--method dr,nat --family ipv4 --protocol udp --flows 1000,1000000 --repetitions 3 --seconds 0.2)
[[ -z ${QUICK:-} ]] || options=(--method dr --family ipv4 --protocol udp --flows 1000 --repetitions 3 --seconds 0.05)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for hugepages in true false; do
    "$shunt" bench "${options[@]}" --hugepages "$hugepages" --json "$folder/$hugepages.json" >"$folder/$hugepages.txt" 2>&1
done
if grep -q 'packets in ordinary pages' "$folder/true.txt"; then
    exit 0
fi
cat <<'TEXT'
## What hugepages bring

Packets in hugepages, as everywhere else in this document, and in ordinary pages. Least of three, nanoseconds a packet; the
source, which writes the packets, gains too.

| method | direction | flows | hugepages | ordinary | source, hugepages | source, ordinary |
|---|---|---:|---:|---:|---:|---:|
TEXT
jq -r -s '[.[0], .[1]] | transpose[] | . as [$huge, $ordinary] |
    "| \($huge.method) | \($huge.direction) | \($huge.flows) | \($huge.ns_per_packet.min) | \($ordinary.ns_per_packet.min) | " +
    "\($huge.source_ns_per_packet.min) | \($ordinary.source_ns_per_packet.min) |"' "$folder/true.json" "$folder/false.json"
