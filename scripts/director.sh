# shellcheck shell=bash
# The director of a topology: its configuration, its life, and what it says about itself. Sourced after network.sh.

director_pid=''
# Pages of 2 MiB that a director of the demo takes: mempool, connection table and rings, with room to spare.
hugepages_needed=256

shunt() { "$binaries/shunt" "$@"; }
director_socket() { printf '%s/shunt.sock\n' "$(topology_directory)"; }
director_status() { shunt status --json -s "$(director_socket)" 2>/dev/null; }

# The example of conf/ with the socket and the workers of this run.
director_configuration() {
    local method=$1 cores='' last core
    last=$(($(nproc) - 1))
    # From the last core down, so that the control core's is the last to be shared.
    for ((core = last; core > last - workers; core--)); do
        cores+="${cores:+, }$core"
    done
    sed -e "s|^socket .*|socket = \"$(director_socket)\"|" -e "s|^workers .*|workers = [$cores]|" \
        "$repository/conf/$method.toml"
}

# start_director METHOD: 0 when its checks have found every real server well.
start_director() {
    local directory began
    directory=$(topology_directory)
    director_configuration "$1" >"$directory/director.toml"
    if ! shunt check "$directory/director.toml" >"$directory/director.log" 2>&1; then
        remark="shunt check refuses the configuration"
        return 1
    fi
    began=$(milliseconds)
    become_inside "$topology_name-director" "$binaries/shunt" run -c "$directory/director.toml" \
        </dev/null >"$directory/director.log" 2>&1 &
    director_pid=$!
    if ! wait_until 15 all_reals_are_up; then
        remark="not within 15 s: $(director_status | jq -c '[.services[].reals[] | {address, state, reason}]')"
        kill -TERM "$director_pid" 2>/dev/null || true
        director_pid=''
        return 1
    fi
    remark="after $(seconds_since "$began")"
    [[ -z $hugepages ]] || hugepages_are_used
}

all_reals_are_up() {
    director_status | jq -e '[.services[].reals[].state == "up"] | length == 6 and all' >/dev/null
}

hugepages_are_used() {
    local free total
    total=$(awk '/^HugePages_Total/ { print $2 }' /proc/meminfo)
    free=$(awk '/^HugePages_Free/ { print $2 }' /proc/meminfo)
    remark+=", on $((total - free)) hugepages"
    ((free < total))
}

stop_director() {
    local began status=0
    began=$(milliseconds)
    shunt stop -s "$(director_socket)" >/dev/null || kill -TERM "$director_pid"
    if ! wait_until 10 have_ended "$director_pid"; then
        remark="still there after 10 s"
        kill -KILL "$director_pid"
        director_pid=''
        return 1
    fi
    wait "$director_pid" || status=$?
    director_pid=''
    remark="exit code $status after $(seconds_since "$began")"
    ((status == 0))
}

# sees_both_services REAL STATE SECONDS SINCE: whether both services know of STATE within SECONDS of the moment SINCE. Sets
# detected4 and detected6 to the moments at which status first showed it; waits longer, to tell how late it was.
sees_both_services() {
    local real=$1 state=$2 began=$4 deadline status
    deadline=$((began + 10000))
    detected4='' detected6=''
    while [[ -z $detected4 || -z $detected6 ]] && (($(milliseconds) < deadline)); do
        status=$(director_status) || status='{}'
        [[ -n $detected4 || $(state_of "$status" "10.1.0.1${real#real}:") != "$state" ]] || detected4=$(milliseconds)
        [[ -n $detected6 || $(state_of "$status" "[2001:db8:1::1${real#real}]:") != "$state" ]] || detected6=$(milliseconds)
    done
    if [[ -z $detected4 || -z $detected6 ]]; then
        detected4=${detected4:-$deadline} detected6=${detected6:-$deadline}
        remark="not within 10 s: $(jq -c '[.services[]?.reals[]? | {address, state, reason}]' <<<"$status")"
        return 1
    fi
    remark="after $(seconds_between "$began" "$detected4") in IPv4, $(seconds_between "$began" "$detected6") in IPv6"
    ((detected4 - began <= $3 * 1000 && detected6 - began <= $3 * 1000))
}

# state_of STATUS START: the state of the real server whose address begins so.
state_of() {
    jq -r --arg start "$2" '[.services[]?.reals[]? | select(.address | startswith($start)) | .state] | first // ""' <<<"$1"
}

books_balance() {
    remark=$(director_status | jq -r '.books | "received \(.received), sent \(.sent), dropped \(.dropped)"')
    director_status | jq -e '.books.balanced' >/dev/null
}

# What was dropped and what the director advises, if anything.
show_director_sight() {
    local drops
    director_status | jq -r 'select(.workers | length > 1) |
        "        handed over between workers: \([.workers[].handed_over] | add)"'
    drops=$(shunt drops --json -s "$(director_socket)" |
        jq -r '[.drops[] | select(.count > 0) | "\(.reason) \(.count)"] | join(", ")') || drops='no answer'
    say "        dropped, by reason: ${drops:-nothing}"
    director_status | jq -r '.advice[]? | "        advice: \(.)"'
}

show_director_log() {
    say "        the end of the director's log:"
    tail -n 20 "$(topology_directory)/director.log" | sed 's/^/        | /'
}

seconds_between() { printf '%d.%03d s\n' $((($2 - $1) / 1000)) $((($2 - $1) % 1000)); }
seconds_since() { seconds_between "$1" "$(milliseconds)"; }

# Reserves hugepages for this topology; topology_down returns to the former number.
reserve_hugepages() {
    local file=/proc/sys/vm/nr_hugepages before got
    before=$(<"$file")
    printf '%s\n' "$before" >"$(topology_directory)/nr_hugepages"
    printf '%s\n' $((before + hugepages_needed)) >"$file"
    got=$(($(<"$file") - before))
    ((got == hugepages_needed)) ||
        die "$hugepages_needed hugepages of 2 MiB are needed: the kernel could give $got: free memory, or run without --hugepages"
}
