# shellcheck shell=bash
# The topology itself: addresses, namespaces, bridges, real servers. Sourced after lib.sh.
#
#   client1 .1  client2 .2          198.51.100.0/24   2001:db8:c::/64
#        └──┬──────┘
#        router .254                                              (.254 and ::fe on every network)
#           ├────────────────┐
#        front: director .2  │     192.0.2.0/24      2001:db8:f::/64      VIP 192.0.2.10, 2001:db8:f::10
#           │                │                                             (a second director: .3 in front, .2 at the back)
#        back: director .1 ──┤     10.1.0.0/24       2001:db8:1::/64
#        ┌──────┬──────┬─────┘
#     real1 .11 real2 .12 real3 .13                   DR and TUN replies pass the director by, NAT replies return to it

clients=(client1 client2)
reals=(real1 real2 real3)
vip4=192.0.2.10
vip6=2001:db8:f::10
director_back4=10.1.0.1
director_back6=2001:db8:1::1

# The file that the web servers offer as /100M: made once, shared by all.
large_file_bytes=$((100 * 1024 * 1024))

# Everything that a topology keeps on disk: configuration, logs and process ids of its servers.
topology_directory() { printf '%s/shunt-%s\n' "${TMPDIR:-/tmp}" "$topology_name"; }

namespaces_of() {
    local place
    for place in "${clients[@]}" "${reals[@]}" router director director2 switch; do
        printf '%s-%s\n' "$topology_name" "$place"
    done
}

# topology_up NAME METHOD...
topology_up() {
    topology_name=$1
    shift
    local method real
    [[ $topology_name =~ ^[a-z][a-z0-9-]{0,30}$ ]] ||
        die "'$topology_name' is no name for a topology: it takes lower-case letters, digits and '-', at most 31, a letter first"
    for method; do
        [[ $method =~ ^(dr|nat|tun)$ ]] || die "'$method' is no forwarding method: dr, nat and tun are known"
    done
    require_namespaces
    [[ " $* " != *' tun '* ]] || require_tun
    [[ ! -e $netns_directory/$topology_name-switch ]] ||
        die "a topology named $topology_name is up already: scripts/topology.sh down $topology_name"

    mkdir -p "$(topology_directory)"
    make_namespaces
    make_networks
    for real in "${reals[@]}"; do
        accept_methods "$real" "$@"
        start_web_server "$real"
    done
}

# topology_down NAME: also what is half there.
topology_down() {
    topology_name=$1
    local -a names
    mapfile -t names < <(namespaces_of)
    delete_namespaces "${names[@]}"
    return_hugepages
    forget_dead_directors
    rm -rf "$(topology_directory)"
}

# What DPDK keeps of a director that had no time to clean up: a directory named by its process id.
forget_dead_directors() {
    local directory
    for directory in /run/dpdk/shunt-*; do
        [[ -d $directory && ! -e /proc/${directory##*-} ]] || continue
        rm -rf "$directory"
    done
}

# Undoes reserve_hugepages of this topology.
return_hugepages() {
    local former
    former=$(topology_directory)/nr_hugepages
    [[ ! -s $former ]] || cat "$former" >/proc/sys/vm/nr_hugepages
}

make_namespaces() {
    local name
    while read -r name; do
        add_namespace "$name"
        # Addresses are usable at once, nothing configures itself, and replies may take another way than requests. In IPv4 a
        # namespace begins with what was set on this machine, which may be a router.
        set_kernel "$name" ipv4/ip_forward=0 ipv4/conf/{all,default}/{arp_ignore,arp_announce}=0 \
            ipv6/conf/{all,default}/accept_dad=0 ipv6/conf/{all,default}/accept_ra=0 \
            ipv4/conf/{all,default}/rp_filter=0 ipv4/conf/{all,default}/send_redirects=0
        inside "$name" ip link set lo up
    done < <(namespaces_of)
    # The director's interfaces belong to shunt: the kernel has no address there and answers nothing.
    set_kernel "$topology_name-director" ipv6/conf/{all,default}/disable_ipv6=1
    set_kernel "$topology_name-director2" ipv6/conf/{all,default}/disable_ipv6=1
    set_kernel "$topology_name-router" ipv4/ip_forward=1 ipv6/conf/all/forwarding=1
}

# set_kernel NAMESPACE KEY=VALUE...: keys below /proc/sys/net, as paths.
set_kernel() {
    local name=$1
    shift
    # shellcheck disable=SC2016
    inside "$name" bash -c 'for pair; do printf "%s\n" "${pair#*=}" >"/proc/sys/net/${pair%%=*}" || exit 1; done' - "$@"
}

make_networks() {
    local network switch=$topology_name-switch i
    for network in clients front back; do
        inside "$switch" ip link add "$network" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
        inside "$switch" ip link set "$network" up
    done
    plug router clients clients 198.51.100.254/24 2001:db8:c::fe/64
    plug router front front 192.0.2.1/24 2001:db8:f::1/64
    plug router back back 10.1.0.254/24 2001:db8:1::fe/64
    plug director front front
    plug director back back
    plug director2 front front
    plug director2 back back
    for i in "${!clients[@]}"; do
        plug "${clients[i]}" eth0 clients "198.51.100.$((i + 1))/24" "2001:db8:c::$((i + 1))/64"
        default_route "${clients[i]}" 198.51.100.254 2001:db8:c::fe
    done
    for i in "${!reals[@]}"; do
        plug "${reals[i]}" eth0 back "10.1.0.$((i + 11))/24" "2001:db8:1::$((i + 11))/64"
    done
}

# plug PLACE INTERFACE NETWORK [ADDRESS...]: a cable from PLACE to the bridge of NETWORK.
plug() {
    local place=$topology_name-$1 interface=$2 network=$3 switch=$topology_name-switch cable=$1-$3 address
    ip link add name "$interface" netns "$place" type veth peer name "$cable" netns "$switch"
    inside "$switch" ip link set "$cable" master "$network"
    inside "$switch" ip link set "$cable" up
    for address in "${@:4}"; do
        inside "$place" ip address add "$address" dev "$interface"
    done
    inside "$place" ip link set "$interface" up
}

# default_route PLACE ADDRESS4 ADDRESS6
default_route() {
    inside "$topology_name-$1" ip route add default via "$2"
    inside "$topology_name-$1" ip -6 route add default via "$3"
}

# --- real servers -------------------------------------------------------------------------------------------

# accept_methods REAL METHOD...: makes REAL a real server for each method.
accept_methods() {
    local real=$1 methods=" ${*:2} "
    if [[ $methods == *' dr '* || $methods == *' tun '* ]]; then
        if [[ $methods == *' tun '* ]]; then prepare_real_server "$real" tun; else prepare_real_server "$real" dr; fi
        default_route "$real" 10.1.0.254 2001:db8:1::fe
        [[ $methods != *' nat '* ]] || replies_from_itself_to_the_director "$real"
    else
        default_route "$real" "$director_back4" "$director_back6"
    fi
}

# DR and TUN: what an operator does on a real server. The helper stands for the kernel's ipip module, which not every kernel has.
real_server() {
    inside "$topology_name-$1" "$repository/scripts/real-server.sh" "$2" --state "$(topology_directory)/$1.real-server" "${@:3}"
}

prepare_real_server() {
    local real=$1 helper options=()
    if [[ $2 == tun ]]; then
        for helper in "$binaries/decapsulate" "$repository/target/debug/decapsulate"; do
            [[ -x $helper ]] && break
        done
        [[ -x $helper ]] || die "the helper decapsulate is not built: cargo build -p shunt-tests --bin decapsulate"
        options=(--tunnel ipip --decapsulate "$helper")
    fi
    real_server_facts "$real" >"$(topology_directory)/$real.before"
    real_server "$real" start "${options[@]}" "$vip4" "$vip6" >/dev/null
    # What is done already is left alone.
    real_server "$real" start "${options[@]}" "$vip4" "$vip6" >/dev/null
}

# What real-server.sh changes: addresses, and the settings of all interfaces.
real_server_facts() {
    # shellcheck disable=SC2016
    inside "$topology_name-$1" bash -c 'ip -o address show | awk "{ print \$2, \$4 }"
        grep -H . /proc/sys/net/ipv4/conf/*/{arp_ignore,arp_announce,rp_filter}'
}

# Whether all real servers are prepared, and as they were before when they are so no more.
real_servers_are_put_back() {
    local real said
    for real in "${reals[@]}"; do
        said=$(real_server "$real" status) || {
            remark="$real: $(grep FAIL <<<"$said" | tr '\n' ';')"
            return 1
        }
        real_server "$real" stop >/dev/null && real_server "$real" stop >/dev/null || return 1
        if said=$(real_server "$real" status "$vip4"); then
            remark="$real: status says that all holds after stop"
            return 1
        fi
        said=$(diff "$(topology_directory)/$real.before" <(real_server_facts "$real")) || {
            remark="$real differs: $(tr '\n' ';' <<<"$said")"
            return 1
        }
    done
}

# NAT beside DR or TUN: what carries the real server's own address returns to the director, what carries the VIP does not.
replies_from_itself_to_the_director() {
    local name=$topology_name-$1 number=${1#real}
    inside "$name" ip route add 10.1.0.0/24 dev eth0 table 100
    inside "$name" ip route add default via "$director_back4" table 100
    inside "$name" ip rule add from "10.1.0.$((number + 10))" table 100
    inside "$name" ip -6 route add 2001:db8:1::/64 dev eth0 table 100
    inside "$name" ip -6 route add default via "$director_back6" table 100
    inside "$name" ip -6 rule add from "2001:db8:1::$((number + 10))" table 100
}

# A web server that says its own name, its health, and a large file.
start_web_server() {
    local real=$1 directory
    directory=$(topology_directory)
    large_file
    mkdir -p "$directory/$real"
    cat >"$directory/$real/nginx.conf" <<CONFIGURATION
daemon off;
master_process off;
pid $directory/$real/nginx.pid;
error_log $directory/$real/error.log;
worker_processes 1;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path $directory/$real/body;
    proxy_temp_path $directory/$real/proxy;
    fastcgi_temp_path $directory/$real/fastcgi;
    uwsgi_temp_path $directory/$real/uwsgi;
    scgi_temp_path $directory/$real/scgi;
    default_type application/octet-stream;
    keepalive_timeout 5s;
    server {
        listen 80 backlog=1024;
        listen [::]:80 backlog=1024;
        listen 8080 backlog=1024;
        listen [::]:8080 backlog=1024;
        location = / { return 200 "$real\n"; }
        location = /health { return 200 "well\n"; }
        location = /100M { alias $directory/100M; }
    }
}
CONFIGURATION
    become_inside "$topology_name-$real" nginx -e "$directory/$real/error.log" -c "$directory/$real/nginx.conf" \
        </dev/null >"$directory/$real/nginx.log" 2>&1 &
    disown
    wait_until 5 web_server_answers "$real" ||
        die "$real: nginx does not answer on 127.0.0.1:80: $(cat "$directory/$real/nginx.log" "$directory/$real/error.log")"
}

web_server_answers() {
    inside "$topology_name-$1" curl -s -o /dev/null --max-time 1 http://127.0.0.1/health
}

# Ends the web server as a crash would.
stop_web_server() {
    local pid_file
    pid_file=$(topology_directory)/$1/nginx.pid
    [[ -s $pid_file ]] || die "$1: no web server runs in $topology_name: scripts/topology.sh start $topology_name $1"
    kill -KILL "$(cat "$pid_file")"
    rm -f "$pid_file"
}

# Random bytes, so that no part can stand for another.
large_file() {
    local file
    file=$(topology_directory)/100M
    [[ ! -e $file ]] || return 0
    head -c "$large_file_bytes" /dev/urandom >"$file"
    sha256sum <"$file" | cut -d' ' -f1 >"$file.sha256"
}
