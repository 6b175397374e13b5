# shellcheck shell=bash
# Two directors that stand in for each other, and a takeover under load. Sourced after director.sh and traffic.sh.

requests_failed=''

pair_pids=('' '')
# The longest that requests may go without an answer when the master is killed, in milliseconds. Adverts come every 100 ms, and a
# backup of priority 150 waits for 341 ms of silence; a client whose SYN was lost sends it again after a second.
takeover_most=1500

pair_socket() { printf '%s/shunt%s.sock\n' "$(topology_directory)" "$1"; }
pair_place() { if (($1 == 0)); then printf 'director\n'; else printf 'director2\n'; fi; }
pair_role() { shunt status --json -s "$(pair_socket "$1")" 2>/dev/null | jq -r .role; }
pair_role_is() { [[ $(pair_role "$1") == "$2" ]]; }

# pair_configuration NUMBER: conf/pair.toml for the first director or the second.
pair_configuration() {
    local change=()
    (($1 == 0)) || change=(-e 's|192\.0\.2\.2/24|192.0.2.3/24|' -e 's|2001:db8:f::2/64|2001:db8:f::3/64|'
        -e 's|10\.1\.0\.1/24|10.1.0.2/24|' -e 's|2001:db8:1::1/64|2001:db8:1::2/64|' -e 's|^priority .*|priority = 150|')
    sed -e "s|^socket .*|socket = \"$(pair_socket "$1")\"|" -e "s|^workers .*|workers = [$((($(nproc) - 1)))]|" \
        "${change[@]}" "$repository/conf/pair.toml"
}

# start_of_pair NUMBER ROLE: 0 when it runs, finds all real servers well and has this role.
start_of_pair() {
    local directory began
    directory=$(topology_directory)
    pair_configuration "$1" >"$directory/pair$1.toml"
    began=$(milliseconds)
    become_inside "$topology_name-$(pair_place "$1")" "$binaries/shunt" run -c "$directory/pair$1.toml" \
        </dev/null >"$directory/pair$1.log" 2>&1 &
    pair_pids[$1]=$!
    if ! wait_until 15 pair_role_is "$1" "$2"; then
        remark="its role is '$(pair_role "$1")' after 15 s: $(tail -n 3 "$directory/pair$1.log" | tr '\n' ';')"
        return 1
    fi
    remark="after $(seconds_since "$began")"
}

# The longest time that a client of a family went without an answer: between the ends of two good requests.
longest_pause() {
    local directory
    directory=$(topology_directory)
    sort -n -k2 "$directory"/requests.*."$1" | awk '$3 == 0 { if (last && $2 - last > most) most = $2 - last; last = $2 } END { print most + 0 }'
}

# Sets requests_failed: how many requests failed, of how many.
count_failures() {
    local made failed
    read -r made failed < <(cat "$(topology_directory)"/requests.* | awk '{ made++ } $3 != 0 { failed++ } END { print made + 0, failed + 0 }')
    requests_made=$((requests_made + made))
    requests_failed="$failed of $made requests failed"
}

pauses_are_short() {
    local pause4 pause6
    pause4=$(longest_pause 4) pause6=$(longest_pause 6)
    count_failures
    remark="$pause4 ms in IPv4, $pause6 ms in IPv6 without an answer; $requests_failed"
    ((pause4 > 0 && pause4 <= takeover_most && pause6 > 0 && pause6 <= takeover_most))
}

no_request_failed() {
    count_failures
    remark=$requests_failed
    [[ $remark == 0\ of* ]]
}

# A download that is slow enough to last over the takeover.
start_slow_download() {
    local directory
    directory=$(topology_directory)
    become_inside "$topology_name-client1" bash -o pipefail -c \
        'curl -gsS --fail --limit-rate 20M --max-time 60 "$1" | sha256sum' - "$(url 4)/100M" >"$directory/slow" 2>&1 </dev/null &
    slow_download=$!
}

slow_download_is_whole() {
    local status=0
    wait "$slow_download" || status=$?
    remark="begun before, ended after it"
    ((status == 0)) && [[ $(cut -d' ' -f1 "$(topology_directory)/slow") == "$(<"$(topology_directory)/100M.sha256")" ]] && return 0
    remark="ended with $status: $(tr '\n' ' ' <"$(topology_directory)/slow")"
    return 1
}

show_pair() {
    title "Two directors: one is master of the VIPs, the other one stands by (DR, VRRP every 100 ms)"
    topology_name=demo$$-pair
    topology_up "$topology_name" dr
    check "first director is master" start_of_pair 0 master
    check "second director is backup" start_of_pair 1 backup
    start_requests
    start_slow_download
    sleep 1
    kill -KILL "${pair_pids[0]}"
    wait "${pair_pids[0]}" 2>/dev/null || true
    check "the master killed: the second director takes over" wait_until 5 pair_role_is 1 master
    sleep 1
    end_requests
    check "clients notice for at most $takeover_most ms" pauses_are_short
    check "a connection that was open goes on" slow_download_is_whole
    forget_dead_directors
    start_requests
    check "the first director comes back, and is master again" start_of_pair 0 master
    check "the second director is backup again" wait_until 5 pair_role_is 1 backup
    sleep 1
    end_requests
    check "nobody noticed" no_request_failed
    local number
    for number in 1 0; do
        shunt stop -s "$(pair_socket "$number")" >/dev/null || kill -TERM "${pair_pids[number]}"
        wait "${pair_pids[number]}" || true
    done
    ((failures == 0)) || tail -n 20 "$(topology_directory)"/pair?.log | sed 's/^/        | /'
    topology_down "$topology_name"
}
