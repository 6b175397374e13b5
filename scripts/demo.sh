#!/usr/bin/env bash
# From a fresh machine to real HTTP through a shunt director: installs, builds, lays out clients, router, director and
# real servers in network namespaces, and shows DR, NAT and TUN at work in IPv4 and IPv6, and two directors of which one takes
# over from the other.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/packages.sh"
source "$repository/scripts/network.sh"
source "$repository/scripts/director.sh"
source "$repository/scripts/traffic.sh"
source "$repository/scripts/pair.sh"

usage() {
    cat <<'TEXT'
usage: scripts/demo.sh [--keep] [--workers N] [--hugepages] [--binaries FOLDER] [METHOD...]

METHOD is dr, nat, tun, or pair: two directors, of which the master is killed under load and comes back. All four in turn when
none is given.

  --keep        leave the last method's topology and director up, and say how to look around
  --workers N   N polling cores, and as many queues on each NIC (1)
  --hugepages   reserve hugepages of 2 MiB for the director, and give them back at the end
  --binaries FOLDER
                take the programs shunt and decapsulate from there, and build nothing

Exit code: 0 all went well, 1 something did not, 2 wrong use. Ctrl-C at any moment leaves nothing behind.

example: scripts/demo.sh --workers 2 nat
TEXT
}

wrong_use() {
    printf 'demo.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

keep='' hugepages='' workers=1 built=''
methods=()
failures=0

parse_arguments() {
    while (($# > 0)); do
        case $1 in
            --keep) keep=yes ;;
            --hugepages) hugepages=yes ;;
            --workers)
                [[ ${2:-} =~ ^[1-9][0-9]?$ ]] || wrong_use "--workers takes a number from 1 to the cores of this machine, not '${2:-}'"
                workers=$2
                shift
                ;;
            --binaries)
                [[ -x ${2:-}/shunt && -x $2/decapsulate ]] ||
                    wrong_use "--binaries takes a folder with the programs shunt and decapsulate: '${2:-}' has not both"
                binaries=$(cd "$2" && pwd)
                built=yes
                shift
                ;;
            -h | --help)
                usage
                exit 0
                ;;
            dr | nat | tun | pair) methods+=("$1") ;;
            *) wrong_use "'$1' is no option and nothing to show: dr, nat, tun and pair are known" ;;
        esac
        shift
    done
    ((${#methods[@]} > 0)) || methods=(dr nat tun pair)
    ((workers <= $(nproc))) || wrong_use "--workers $workers: this machine has $(nproc) cores: at most as many workers"
}

# Runs on every way out; a second signal must not cut it short.
clean_up() {
    local status=$?
    trap '' INT TERM HUP
    trap - EXIT
    forget_policy
    end_jobs
    if [[ -n ${topology_name:-} && -z ${left_up:-} ]]; then
        topology_down "$topology_name"
    fi
    [[ -n ${left_up:-} ]] || unmount_kernel_views
    exit "$status"
}

# check WORDS COMMAND...: one line of the report; a failure is counted, the demo goes on.
check() {
    local words=$1
    shift
    if "$@"; then
        passed "$words${remark:+: $remark}"
    else
        failed "$words${remark:+: $remark}"
        failures=$((failures + 1))
    fi
    remark=''
}

prepare() {
    title "Preparing"
    install_packages
    require_namespaces
    require_tun
    if [[ -n $built ]]; then
        passed "installed; the programs are those of $binaries"
        return 0
    fi
    interruptible cargo build --release --locked --manifest-path "$repository/Cargo.toml" \
        -p shunt -p shunt-tests --bin shunt --bin decapsulate
    passed "installed and built"
}

show_method() {
    local method=$1 client family real=real2
    title "${method^^}: $(describe_method "$method")"
    topology_name=demo$$-$method
    topology_up "$topology_name" "$method"
    [[ -z $hugepages ]] || reserve_hugepages
    check "director up, its checks find three real servers well in both services" start_director "$method"
    if [[ -z $director_pid ]]; then
        show_director_log
        topology_down "$topology_name"
        return 0
    fi

    for family in 4 6; do
        for client in "${clients[@]}"; do
            check "$client, IPv$family: 60 connections by weight 3, 2, 1" \
                distribution "$client" "$family" 60 real1=30 real2=20 real3=10
        done
    done
    check "client1, IPv4: 100 MiB bit-exact" download client1 4
    check "client2, IPv6: 100 MiB bit-exact" download client2 6
    lose_and_regain "$real"
    check "director's books balance" books_balance
    show_director_sight
    if [[ -n $keep && $method == "$kept_method" ]]; then
        disown "$director_pid"
        left_up=yes
        return 0
    fi
    check "director stops when asked" stop_director
    [[ $method == nat ]] || check "scripts/real-server.sh: prepared, and as before when stopped" real_servers_are_put_back
    ((failures == 0)) || show_director_log
    topology_down "$topology_name"
}

describe_method() {
    case $1 in
        dr) printf 'the frame goes on to the real server, which answers the client directly\n' ;;
        nat) printf 'addresses and L4 ports are rewritten, in both directions\n' ;;
        tun) printf 'the packet travels in a tunnel, and the real server answers the client directly\n' ;;
    esac
}

# Kills the web server of a real server while requests run, and brings it back.
lose_and_regain() {
    local real=$1
    start_requests
    sleep 1
    # Noted before: a request may fail while the clock is being read.
    killed=$(milliseconds)
    stop_web_server "$real"
    check "$real killed: the checks notice within 3 s" sees_both_services "$real" down 3 "$killed"
    sleep 1.5
    end_requests
    check "requests while $real was dying" judge_requests "$killed" "$detected4" "$detected6"
    for family in 4 6; do
        check "without $real, IPv$family: 40 connections by weight 3, 1" \
            distribution client1 "$family" 40 real1=30 real3=10
    done
    start_requests
    start_web_server "$real"
    killed=$(milliseconds)
    check "$real back: the checks notice within 3 s" sees_both_services "$real" up 3 "$killed"
    end_requests
    check "requests while $real came back" judge_requests "$killed" 0 0
    for family in 4 6; do
        check "$real scheduled again, IPv$family: 60 connections by weight 3, 2, 1" \
            distribution client2 "$family" 60 real1=30 real2=20 real3=10
    done
}

look_around() {
    local shunt=${binaries#"$repository/"}/shunt socket
    socket=$(director_socket)
    title "Left up: $topology_name"
    cat <<TEXT
  a request:           scripts/topology.sh exec $topology_name client1 curl -s http://$vip4/
  in IPv6:             scripts/topology.sh exec $topology_name client2 curl -s 'http://[$vip6]/'
  the director:        $shunt status -s $socket
                       $shunt connections -s $socket
                       $shunt drops -s $socket
  its log:             $(topology_directory)/director.log
  lose a real server:  scripts/topology.sh stop $topology_name real1       (and: start)
  inside a namespace:  scripts/topology.sh exec $topology_name real1 ip address
  take it all down:    scripts/topology.sh down $topology_name
TEXT
    ((${#kernel_views[@]} == 0)) || say "  also left mounted:   ${kernel_views[*]}"
}

# A function, so that bash has read all of this file before it does anything.
main() {
    parse_arguments "$@"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    mount_kernel_views
    prepare

    local method summary kept_method=''
    # A pair is not left up.
    for method in "${methods[@]}"; do
        [[ $method == pair ]] || kept_method=$method
    done
    for method in "${methods[@]}"; do
        if [[ $method == pair ]]; then show_pair; else show_method "$method"; fi
    done
    [[ -z ${left_up:-} ]] || look_around

    say ''
    summary="${methods[*]^^} over IPv4 and IPv6, $workers worker(s)${hugepages:+, hugepages}, $requests_made requests"
    if ((failures > 0)); then
        say "${red}demo FAILED${plain}: $failures check(s): $summary, in $SECONDS s"
        exit 1
    fi
    say "${green}demo passed${plain}: $summary, in $SECONDS s"
    exit 0
}

main "$@"
