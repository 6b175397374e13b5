#!/usr/bin/env bash
# Cache lines that a packet needs from memory, by simulated caches: this does not depend on the machine.
set -euo pipefail
program=$(dirname "$SHUNT")/instructions
[[ -z ${QUICK:-} && -x $program ]] || exit 0
command -v valgrind >/dev/null || exit 0
cat <<'TEXT'
## Lines from memory

Data cache lines of 64 bytes that a packet reads or writes and that are not in a simulated cache of 32 KiB, or in one of 1 MiB, with
60,000 connections open. A line that was prefetched in time counts like one that was not. An established connection needs two
from memory, its bucket and its entry; what is above that is the packet and the worker's own.

```
TEXT
"$program" --misses --flows 60000 --only 'dr ipv4 udp' --only 'nat ipv4 udp' --only 'dr ipv6 tcp est'
printf '```\n'
