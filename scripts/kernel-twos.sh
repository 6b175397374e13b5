#!/usr/bin/env bash
# Builds ip_vs_twos, which Debian's cloud kernel leaves out, so that the guest of kernel-guest.sh has it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/packages.sh"

usage() {
    cat <<'TEXT'
usage: scripts/kernel-twos.sh FOLDER

Debian's cloud kernel has no scheduler `twos`. This builds its module from Debian's own source of that kernel, and puts it where
scripts/kernel-guest.sh FOLDER takes it from: FOLDER/modules/RELEASE/ip_vs_twos.ko. Installs by apt the headers of the newest cloud
kernel in /boot and the source of its version (140 MB). Nothing of it comes into the repository.

Exit code: 0 done, 1 something is missing, 2 wrong use.
TEXT
}

needed_packages() {
    cat <<LIST
gcc gcc
make make
xz xz-utils
/lib/modules/$release/build/Makefile linux-headers-$release
source $source_package
LIST
}

is_there() {
    case $1 in
        source) [[ -e $tarball ]] ;;
        *) [[ -e $1 ]] || command -v "$1" >/dev/null ;;
    esac
}

version_of() { dpkg-query --show --showformat='${Version}' "$1"; }

main() {
    takes_one_argument "$@"
    trap forget_policy EXIT
    # The kernel, its release and the version that its source has to be of.
    "$repository/scripts/kernel-guest.sh" "$1"
    release=$(realpath "$1/vmlinuz")
    release=${release#/boot/vmlinuz-}
    source_package=linux-source-$(cut -d. -f1,2 <<<"$release")
    tarball=/usr/src/$source_package.tar.xz
    install_packages >&2
    local image source
    image=$(version_of "linux-image-$release") source=$(version_of "$source_package")
    [[ $image == "$source" ]] ||
        die "the kernel is of version $image, $source_package of $source: apt-get install both of one version"

    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"; forget_policy' EXIT
    say "building ip_vs_twos of $source_package $source for $release"
    tar --extract --file "$tarball" --directory "$scratch" --strip-components=4 --occurrence=1 \
        "$source_package/net/netfilter/ipvs/ip_vs_twos.c"
    printf 'obj-m := ip_vs_twos.o\n' >"$scratch/Makefile"
    make --directory "/lib/modules/$release/build" "M=$scratch" modules >"$scratch/said" 2>&1 ||
        die "building ip_vs_twos failed: $(tail -n 5 "$scratch/said")"
    mkdir -p "$1/modules/$release"
    cp "$scratch/ip_vs_twos.ko" "$1/modules/$release/"
    say "$1/modules/$release/ip_vs_twos.ko"
}

main "$@"
