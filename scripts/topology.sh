#!/usr/bin/env bash
# Lays out clients, a router, a director's interfaces and real servers in network namespaces, and takes them away again.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$repository/scripts/network.sh"

usage() {
    cat <<'TEXT'
usage: scripts/topology.sh up NAME METHOD...      METHOD: dr, nat, tun; the real servers accept each one named
       scripts/topology.sh down NAME
       scripts/topology.sh exec NAME PLACE COMMAND...
       scripts/topology.sh start|stop NAME REAL   the web server of real1, real2 or real3

NAME starts the names of all namespaces, so several topologies can stand side by side. PLACE is client1, client2,
router, director, director2, real1, real2, real3 or switch (which holds the bridges).

The namespace of the director has the interfaces front and back and no address: shunt owns them. For tunnels
`cargo build` must have built the helper decapsulate.

example: scripts/topology.sh up lab dr
         scripts/topology.sh exec lab client1 curl -s http://192.0.2.10/
         scripts/topology.sh down lab
TEXT
}

wrong_use() {
    printf 'topology.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

case ${1:-} in
    up)
        (($# >= 3)) || wrong_use "up takes a name and at least one forwarding method"
        topology_up "${@:2}"
        ;;
    down)
        (($# == 2)) || wrong_use "down takes a name"
        topology_down "$2"
        ;;
    exec)
        (($# >= 4)) || wrong_use "exec takes a name, a place and a command"
        inside "$2-$3" "${@:4}"
        ;;
    start | stop)
        (($# == 3)) || wrong_use "$1 takes a name and a real server"
        topology_name=$2
        "$1_web_server" "$3"
        ;;
    -h | --help) usage ;;
    *) wrong_use "up, down, exec, start or stop is needed, not '${1:-}'" ;;
esac
