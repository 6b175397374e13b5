#!/usr/bin/env bash
# A worker without traffic: what it takes of its core, and how late the first packet is.
set -euo pipefail
# Some of its NICs take root.
[[ -z ${QUICK:-} ]] && ((EUID == 0)) || exit 0
printf '## A quiet core\n\n```\n'
"$SHUNT" bench --idle --seconds 1 --repetitions 2 2>/dev/null | tail -n +2
printf '```\n'
