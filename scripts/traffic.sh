# shellcheck shell=bash
# What the clients do, and what is thought of it. Sourced after network.sh.

requests_made=0
request_jobs=()
# Below those that the kernel takes by itself.
next_l4_port=10000

# The VIP as it stands in a URL.
url() {
    if [[ $1 == 4 ]]; then printf 'http://%s\n' "$vip4"; else printf 'http://[%s]\n' "$vip6"; fi
}

# distribution CLIENT FAMILY COUNT REAL=SHARE...: COUNT connections one after the other; exactly these shares.
distribution() {
    local client=$1 family=$2 count=$3 answers shares expected status=0
    shift 3
    answers=$(new_connections "$family" "$count" | inside "$topology_name-$client" curl -K - 2>&1) || status=$?
    next_l4_port=$((next_l4_port + count))
    requests_made=$((requests_made + count))
    shares=$(sort <<<"$answers" | uniq -c | awk '{ printf "%s%s=%s", (NR > 1 ? " " : ""), $2, $1 }')
    expected="$*"
    if ((status != 0)); then
        remark="curl ends with $status: $(tail -n 1 <<<"$answers")"
        return 1
    fi
    remark=${shares//=/ }
    [[ $shares == "$expected" ]] && return 0
    remark+=", in this order: $(tr -d 'real\n' <<<"$answers")"
    return 1
}

# What curl reads to make COUNT connections, each from an L4 port that was not used before: the client's kernel would soon
# take one again, and a director leaves that connection with the real server that it had.
new_connections() {
    local i
    for ((i = 0; i < $2; i++)); do
        ((i == 0)) || printf 'next\n'
        printf '%s\n' silent show-error fail globoff 'max-time = 5' 'header = "Connection: close"' \
            "local-port = $((next_l4_port + i))" "url = \"$(url "$1")/\""
    done
}

# download CLIENT FAMILY: the large file, compared by its hash.
download() {
    local client=$1 family=$2 directory began took
    directory=$(topology_directory)
    began=$(milliseconds)
    interruptible inside "$topology_name-$client" bash -o pipefail -c \
        'curl -gsS --fail --max-time 120 "$1" | sha256sum' - "$(url "$family")/100M" >"$directory/download" 2>&1 || true
    took=$(($(milliseconds) - began))
    requests_made=$((requests_made + 1))
    if [[ $(cut -d' ' -f1 "$directory/download") == "$(<"$directory/100M.sha256")" ]]; then
        remark="$(seconds_between 0 "$took"), $((large_file_bytes / 1000 / (took + 1))) MB/s"
    else
        remark="another hash, after $(seconds_between 0 "$took"): $(tr '\n' ' ' <"$directory/download")"
        return 1
    fi
}

# request_loop URL LOG STOP: a request every 50 ms or so until the file STOP exists; a line for each in LOG:
# begin and end in milliseconds, curl's exit code, answer.
request_loop() {
    local url=$1 log=$2 stop=$3 begin end status answer
    while [[ ! -e $stop ]]; do
        begin=${EPOCHREALTIME/[.,]/}
        status=0
        answer=$(curl -gs --fail --max-time 5 "$url") || status=$?
        end=${EPOCHREALTIME/[.,]/}
        printf '%s %s %s %s\n' "${begin%???}" "${end%???}" "$status" "${answer:--}" >>"$log"
        sleep 0.05
    done
}

# Lets both clients make requests in both families until end_requests.
start_requests() {
    local directory client family
    directory=$(topology_directory)
    rm -f "$directory"/requests.* "$directory/stop"
    request_jobs=()
    for client in "${clients[@]}"; do
        for family in 4 6; do
            become_inside "$topology_name-$client" bash -c "$(declare -f request_loop); request_loop \"\$@\"" - \
                "$(url "$family")/" "$directory/requests.$client.$family" "$directory/stop" </dev/null &
            request_jobs+=($!)
        done
    done
}

end_requests() {
    : >"$(topology_directory)/stop"
    wait "${request_jobs[@]}"
}

# judge_requests KILLED DETECTED4 DETECTED6: no request may fail that ended before KILLED or began after DETECTED.
judge_requests() {
    local killed=$1 directory file family detected made failing allowed all=0 wrong=0 between=0
    directory=$(topology_directory)
    for file in "$directory"/requests.*; do
        family=${file##*.}
        if [[ $family == 4 ]]; then detected=$2; else detected=$3; fi
        read -r made failing allowed < <(awk -v killed="$killed" -v detected="${detected:-9999999999999}" '
            { made++ }
            $3 != 0 { failing++; if ($2 >= killed && $1 <= detected) allowed++ }
            END { print made + 0, failing + 0, allowed + 0 }' "$file")
        all=$((all + made))
        between=$((between + allowed))
        wrong=$((wrong + failing - allowed))
    done
    requests_made=$((requests_made + all))
    remark="$wrong of $all failed"
    (($2 == 0)) || remark="$between of $all failed before the checks noticed, $wrong outside that time"
    ((wrong == 0 && all > 0)) && return 0
    remark+=": killed at $killed, noticed at $2 and $3; begin, end, curl's exit code: $(
        awk '$3 != 0 { print FILENAME, $1, $2, $3 }' "$directory"/requests.* | sed 's|.*/requests\.||' | head -n 40 | tr '\n' ';'
    )"
    return 1
}
