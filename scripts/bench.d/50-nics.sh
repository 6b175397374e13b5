#!/usr/bin/env bash
# The worker on NICs of software, with a generator on the other core.
set -euo pipefail
[[ -z ${QUICK:-} ]] && (($(nproc) > 1)) || exit 0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat <<'TEXT'
## On NICs, with a generator on another core

`NS/PACKET` is the worker's time with the NIC's driver, `DELIVERED` what generator and worker move together, `WITHOUT LOSS` the highest rate
at which 0.1 % are lost at most (docs/line-rate.md says how it is found; a pause of either thread by the system costs it most).

TEXT
for device in ring:bench "memif:$folder/memif.sock" "virtio_user:$folder/vhost.sock"; do
    printf '`--device %s`\n\n```\n' "${device%%:*}:"
    "$SHUNT" bench --device "$device" --method dr,nat --family ipv4 --protocol udp --flows 1000,1000000 --seconds 0.2 \
        --repetitions 5 --zero-loss --trial 0.1 --resolution 5 --tolerate 0.1 2>/dev/null | grep -E '^METHOD|%$'
    printf '```\n\n'
done
