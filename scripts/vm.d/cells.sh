# shellcheck shell=bash
# What is tried in the virtual machine: each function is 0 when it holds, and says in `remark` what was seen. Sourced after guest.sh.

remark=''
workers=1

# guest_configuration METHOD WORKERS: conf/METHOD.toml for the guest's PCI functions.
guest_configuration() {
    sed -e 's|^socket .*|socket = "/run/shunt.sock"|' -e "s|^workers .*|workers = [$(seq -s, 1 "$2")]|" -e 's|^connections .*|connections = 4096|' \
        -e "s|af_packet:front|$front_device|" -e "s|af_packet:back|$back_device|" "$repository/conf/$1.toml"
}

# give_configuration NAME: what is read here becomes /tmp/shared/NAME.toml of the guest.
give_configuration() { cat >"$(guest_directory)/shared/$1.toml"; }

# bind DRIVER: the guest's two functions to a driver for DPDK, or to the kernel's own.
bind() {
    local module=$1 name=$1
    case $1 in
        vfio) module=vfio-pci name=vfio-pci ;;
        uio) module=uio_pci_generic name=uio_pci_generic ;;
    esac
    guest "modprobe $module; for name in \$(ls /sys/class/net | grep -v '^lo\$'); do ip link set \$name down; done; dpdk-devbind.py -b $name ${functions[*]}" || {
        remark=$guest_said
        return 1
    }
}

# director_starts METHOD: 0 when it answers and has found all real servers.
director_starts() {
    guest_configuration "$1" "$workers" | give_configuration director
    run_director
}

run_director() {
    guest '(setsid /tmp/shunt run -c /tmp/shared/director.toml >/tmp/shared/director.log 2>&1 </dev/null & echo $! >/tmp/pid)'
    guest 'i=0; while [ $i -lt 150 ]; do
        /tmp/shunt status --json 2>/dev/null | jq -e "[.services[].reals[].state == \"up\"] | length > 0 and all" >/dev/null && exit 0;
        kill -0 $(cat /tmp/pid) 2>/dev/null || exit 1; sleep 0.2; i=$((i + 1)); done; exit 1' && return 0
    remark="the director is not ready: $(tail -n 3 "$(guest_directory)/shared/director.log" | tr '\n' ';')"
    return 1
}

director_stops() {
    guest 'timeout 20 /tmp/shunt stop; i=0; while kill -0 $(cat /tmp/pid) 2>/dev/null; do i=$((i + 1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done' && return 0
    remark="the director does not end: $guest_said"
    guest 'kill -9 $(cat /tmp/pid)'
    return 1
}

# What the director dropped, by reason, and its advice.
drops() {
    guest '/tmp/shunt drops --json | jq -r "[.drops[] | select(.count > 0) | \"\(.reason) \(.count)\"] | join(\", \")"; /tmp/shunt status --json | jq -c .advice' || true
    tr '\n' ';' <<<"$guest_said"
}

# requests COUNT: so many of each family, all answered by real servers.
requests() {
    local family good
    for family in 4 6; do
        good=$(new_connections "$family" "$1" | inside "$topology_name-client1" curl -K - 2>/dev/null | grep -c '^real[123]$' || true)
        next_l4_port=$((next_l4_port + $1))
        remark+="${remark:+, }IPv$family $good of $1"
        ((good == $1)) || {
            remark+=" ($(drops))"
            return 1
        }
    done
}

# Two megabytes of the large file, compared.
part_of_download() {
    local family
    for family in 4 6; do
        inside "$topology_name-client1" curl -gsS --fail --max-time 60 -r 0-2097151 "$(url "$family")/100M" 2>/dev/null |
            cmp -s - <(head -c 2097152 "$(topology_directory)/100M") || {
            remark+=", 2 MiB do not arrive in IPv$family"
            return 1
        }
    done
    remark+=", 2 MiB"
}

books_are_right() {
    guest '/tmp/shunt status --json | jq -e .books.balanced >/dev/null' && return 0
    remark+=", the books do not balance: $(guest '/tmp/shunt status --json | jq -c .books' && printf '%s' "$guest_said")"
    return 1
}

# serves METHOD: from start to stop.
serves() {
    director_starts "$1" || return 1
    local result=0
    { requests 6 && part_of_download && books_are_right; } || result=1
    director_stops || result=1
    return "$result"
}

link_is() {
    guest "i=0; while [ \$i -lt 50 ]; do /tmp/shunt status --json | jq -e '.nics[0].link == \"$1\"' >/dev/null && exit 0; sleep 0.2; i=\$((i + 1)); done; exit 1" && return 0
    remark+="the link is not told to be $1: $(guest '/tmp/shunt status --json | jq -c .nics[0].link' || true; printf '%s' "$guest_said")"
    return 1
}

# The link of front goes and comes back.
link_turns() {
    director_starts dr || return 1
    local result=0
    monitor 'set_link nic-front off'
    link_is down || result=1
    monitor 'set_link nic-front on'
    { link_is up && requests 3; } || result=1
    director_stops || result=1
    return "$result"
}

# restarts COUNT: stopped and started, each time a request.
restarts() {
    local i
    for ((i = 1; i <= $1; i++)); do
        { director_starts dr && requests 1; } || {
            remark="start $i: $remark"
            return 1
        }
        director_stops || return 1
    done
    remark="$1 times"
}

# Killed, and started again.
is_killed() {
    director_starts dr || return 1
    guest 'kill -9 $(cat /tmp/pid); i=0; while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.1; done'
    { run_director && requests 3; } || {
        director_stops
        return 1
    }
    director_stops
}

# two_workers QUEUES: all requests are answered, and both workers see packets where the cable has two queues; or the NIC has one and that
# is told.
two_workers() {
    local result=0 seen
    workers=2
    if director_starts nat; then
        requests 24 || result=1
        guest '/tmp/shunt status --json | jq -c "[.workers[].received]"' || true
        seen=${guest_said%$'\n'}
        remark+=", received $seen"
        (($1 == 1)) || jq -e 'length == 2 and all(. > 0)' <<<"$seen" >/dev/null || result=1
        director_stops || result=1
    else
        # One queue each way is what this kind has.
        remark=$(grep -aoE 'nic "front": .*' "$(guest_directory)/shared/director.log" | head -n 1)
        [[ $remark == *queue* ]] || result=1
    fi
    workers=1
    return "$result"
}

# set_mtu MTU: of every cable of the topology between client1 and the guest.
set_mtu() {
    local interface
    for interface in $(inside "$topology_name-switch" ip -o link show type veth | sed 's/^[0-9]*: \([^@:]*\).*/\1/') vm-front vm-back front back clients; do
        inside "$topology_name-switch" ip link set "$interface" mtu "$1"
    done
    for interface in clients front back; do inside "$topology_name-router" ip link set "$interface" mtu "$1"; done
    inside "$topology_name-client1" ip link set eth0 mtu "$1"
}

# Packets of 9000 bytes: the VIP answers them, and others are answered as before.
large_packets() {
    local result=0 answered
    guest_configuration dr 1 | sed 's|^device .*|&\nmtu = 9000|' | give_configuration director
    set_mtu 9000
    if run_director; then
        answered=$(inside "$topology_name-client1" ping -c 3 -i 0.2 -W 2 -M do -s 8972 "$vip4" | sed -n 's/.* \([0-9]*\) received.*/\1/p')
        remark="$answered of 3 pings of 9000 bytes"
        [[ $answered == 3 ]] && requests 3 || result=1
        director_stops || result=1
    else
        result=1
    fi
    set_mtu 1500
    return "$result"
}

second_pid=''

# The role of the guest's director.
guest_role_is() {
    guest "i=0; while [ \$i -lt 100 ]; do [ \"\$(/tmp/shunt status --json | jq -r .role)\" = $1 ] && exit 0; sleep 0.2; i=\$((i + 1)); done; exit 1"
}

# A pair with virtual MACs: the guest is master, the second director of this machine takes over and gives back.
pair_with_virtual_macs() {
    local directory result=0
    directory=$(topology_directory)
    guest_configuration pair 1 | sed 's|^interval .*"100ms"|interval = "500ms"\nuse_vmac = true|' | give_configuration director
    pair_configuration 1 | sed 's|^interval .*"100ms"|interval = "500ms"\nuse_vmac = true|' >"$directory/pair1.toml"
    become_inside "$topology_name-director2" "$binaries/shunt" run -c "$directory/pair1.toml" </dev/null >"$directory/pair1.log" 2>&1 &
    second_pid=$!
    if run_director && guest_role_is master && wait_until 10 pair_role_is 1 backup; then
        requests 4 || result=1
        inside "$topology_name-router" ip neigh show "$vip4" | grep -q 00:00:5e:00:01:33 || {
            remark+=", the VIP is not at its virtual MAC: $(inside "$topology_name-router" ip neigh show "$vip4")"
            result=1
        }
        guest 'kill -9 $(cat /tmp/pid)'
        { wait_until 15 pair_role_is 1 master && requests 4; } || {
            remark+=", nobody takes over"
            result=1
        }
        { run_director && guest_role_is master && wait_until 10 pair_role_is 1 backup && requests 4; } || {
            remark+=", it is not given back"
            result=1
        }
        director_stops || result=1
    else
        remark+="no pair: guest $(guest '/tmp/shunt status --json | jq -r .role' || true; printf '%s' "$guest_said"), second $(pair_role 1)"
        guest 'kill -9 $(cat /tmp/pid) 2>/dev/null'
        result=1
    fi
    kill -TERM "$second_pid" 2>/dev/null || true
    wait "$second_pid" 2>/dev/null || true
    second_pid=''
    return "$result"
}

# The worker rests when nothing comes.
worker_rests() {
    director_starts dr || return 1
    guest 'worked() { grep -h "(worker" /proc/$(cat /tmp/pid)/task/*/stat | sed "s/.*) //" | awk "{ all += \$12 + \$13 } END { print all }"; };
        before=$(worked); sleep 5; echo $(($(worked) - before))' || true
    local worked=${guest_said%$'\n'}
    remark="$worked hundredths of a second of work in 5 s"
    director_stops || return 1
    [[ $worked =~ ^[0-9]+$ ]] && ((worked < 400))
}

# refused WORDS DEVICE: check and run say these words about the front NIC.
refused() {
    local words=$1 device=$2 said
    guest_configuration dr 1 | sed "s|^device .*\"$front_device\"|device = \"$device\"|" | give_configuration wrong
    guest '/tmp/shunt check /tmp/shared/wrong.toml'
    said=$guest_said
    [[ $said == *"$words"* ]] || {
        remark+="check does not say \"$words\" but: $(tr '\n' ';' <<<"$said") "
        return 1
    }
    if guest 'timeout 60 /tmp/shunt run -c /tmp/shared/wrong.toml' || [[ $guest_said != *"$words"* ]]; then
        remark+="run does not say \"$words\" but: $(tail -n 3 <<<"$guest_said" | tr '\n' ';') "
        return 1
    fi
}

# Devices that are not DPDK's to have, each told apart, before and after it is bound.
wrong_setups() {
    local driver=$1 result=0
    refused "no PCI function 0000:00:1e.0 on this machine" 0000:00:1e.0 || result=1
    guest "dpdk-devbind.py -u $front_function" || true
    refused "PCI function $front_function has no driver" "$front_function" || result=1
    bind_to_kernel || result=1
    refused "is the kernel's, by its driver" "$front_function" || result=1
    bind "$driver" || result=1
    if [[ $driver == uio ]]; then
        guest 'echo 0 >/proc/sys/vm/nr_hugepages' || true
        refused "these are known of hugepages alone, and none is free" "$front_function" || result=1
        guest "echo $guest_hugepages >/proc/sys/vm/nr_hugepages" || true
    fi
    ((result == 1)) || remark="absent, without a driver, the kernel's, without hugepages: each is told"
    return "$result"
}

# To the drivers that the kernel would have taken.
bind_to_kernel() {
    guest 'for module in virtio_net e1000 e1000e vmxnet3; do modprobe $module; done; for function in '"${functions[*]}"'; do
        echo >/sys/bus/pci/devices/$function/driver_override;
        echo $function >/sys/bus/pci/devices/$function/driver/unbind 2>/dev/null;
        echo $function >/sys/bus/pci/drivers_probe; done'
    interface_of "$front_function" && front_interface=$guest_said && interface_of "$back_function" && back_interface=$guest_said
}

# interface_of FUNCTION: the kernel's interface, in guest_said. That of virtio is one level below.
interface_of() {
    guest "i=0; while [ \$i -lt 50 ]; do for name in /sys/bus/pci/devices/$1/net/* /sys/bus/pci/devices/$1/virtio*/net/*; do
        [ -e \$name ] && echo \${name##*/} && exit 0; done; sleep 0.1; i=\$((i + 1)); done; exit 1" || {
        remark="the kernel does not take $1: $guest_said"
        return 1
    }
    guest_said=${guest_said%$'\n'}
}

# The kernel's interfaces of the same NICs, with what the kernel sets: no frame is lost to offloads.
by_the_kernel() {
    bind_to_kernel || return 1
    guest "sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set $front_interface up; ip link set $back_interface up; sleep 1" || true
    local front_device=af_packet:$front_interface back_device=af_packet:$back_interface result=0
    serves nat || result=1
    guest 'grep -aE "cut_short|offloaded" /tmp/shared/director.log' && result=1
    return "$result"
}
