#!/usr/bin/env bash
# Installs by apt what building, testing and the demo need, when it is missing. Debian 12 or later.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/packages.sh"

trap 'forget_policy; unmount_kernel_views' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mount_kernel_views
install_packages
