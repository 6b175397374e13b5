# shellcheck shell=bash
# Finding out what is missing on this machine and installing it by apt. Sourced after lib.sh.

# The command or file that tells that a package is there, and the package.
needed_packages() {
    cat <<'LIST'
gcc gcc
make make
git git
pkg-config pkg-config
clang clang
libdpdk.pc libdpdk-dev
libclang.so libclang-dev
libc.so libc6-dev
openssl.pc libssl-dev
nginx nginx-light
openssl openssl
dnsmasq dnsmasq-base
aiosmtpd python3-aiosmtpd
keepalived keepalived
curl curl
ip iproute2
ethtool ethtool
ping iputils-ping
nsenter util-linux
ps procps
valgrind valgrind
jq jq
xargs findutils
certificates ca-certificates
LIST
}

# Debian 12's own rustc is 1.63; these packages follow Rust for the sake of browsers.
rust_packages=(rustc-web cargo-web rustfmt-web rust-web-clippy)

is_there() {
    case $1 in
        *.pc) command -v pkg-config >/dev/null && pkg-config --exists "${1%.pc}" ;;
        libclang.so) compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ;;
        libc.so) compgen -G '/usr/lib/*/libc.so' >/dev/null ;;
        certificates) [[ -s /etc/ssl/certs/ca-certificates.crt ]] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

# The Rust version that the workspace asks for, as major.minor.
wanted_rust() { sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$repository/Cargo.toml"; }

rust_is_recent_enough() {
    local have
    command -v cargo >/dev/null && command -v rustc >/dev/null || return 1
    have=$(cd "$repository" && rustc --version | cut -d' ' -f2) || return 1
    [[ $(printf '%s\n' "$(wanted_rust)" "$have" | sort -V | head -n1) == "$(wanted_rust)" ]]
}

missing_packages() {
    local probe package
    while read -r probe package; do
        is_there "$probe" || printf '%s\n' "$package"
    done < <(needed_packages)
    if ! rust_is_recent_enough; then
        printf '%s\n' "${rust_packages[@]}"
    elif ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        # A Rust of the operator's own, without the two parts that the tests use.
        printf '%s\n' rustfmt-and-clippy
    fi
}

# nginx's package would start a web server on this machine's own port 80; the policy keeps services from starting
# while packages are unpacked. Taken away again by forget_policy, whatever happens.
policy=/usr/sbin/policy-rc.d
policy_is_ours=''

keep_services_down() {
    [[ -e $policy ]] && return 0
    policy_is_ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

forget_policy() {
    [[ -z $policy_is_ours ]] || rm -f "$policy"
    policy_is_ours=''
}

install_packages() {
    local -a missing
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]} > 0)) || return 0
    if [[ " ${missing[*]} " == *' rustfmt-and-clippy '* ]]; then
        die "cargo $(cargo --version | cut -d' ' -f2) is here without rustfmt or clippy: rustup component add rustfmt clippy"
    fi
    command -v apt-get >/dev/null ||
        die "missing: ${missing[*]}: there is no apt-get on this machine: install what these Debian packages hold"
    ((EUID == 0)) || die "missing: ${missing[*]}: installing takes root: run it as root or with sudo"
    say "installing by apt: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q update </dev/null
    keep_services_down
    apt-get -q -y --no-install-recommends install "${missing[@]}" </dev/null
    forget_policy
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]} == 0)) ||
        die "still missing after installing: ${missing[*]}: Rust $(wanted_rust) or later and the packages named are needed"
}
