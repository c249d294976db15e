#!/usr/bin/env bash
# Other people's line-protocol and PromQL cases, real clients and a lossy disk against the real binary. `make conformance` calls this.
#
#   WATERCLOCK              the binary (default: target/debug/waterclock)
#   WATERCLOCK_CONFORMANCE  the folder of cases and client scripts (default: ../shared/conformance)
#
# Clients are installed once, at pinned versions, under target/; libfuse2, which the lossy disk needs, by apt-get. That disk is
# a FUSE file system: it needs root and /dev/fuse. Last line: "N passed, N failed"; exit code 1 if any failed.
set -uo pipefail
cd "$(dirname "$0")/.."

binary=${WATERCLOCK:-target/debug/waterclock}
cases=$(cd "${WATERCLOCK_CONFORMANCE:-../shared/conformance}" 2>/dev/null && pwd) || {
    echo "no cases at ${WATERCLOCK_CONFORMANCE:-../shared/conformance}; set WATERCLOCK_CONFORMANCE to their folder" >&2
    exit 1
}
[ -x "$binary" ] || { echo "no binary at $binary; build it, or set WATERCLOCK" >&2; exit 1; }

python=target/conformance-venv/bin/python
python_clients="opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2 influxdb==5.3.2 influxdb-client==1.50.0 influxdb3-python==0.21.0 questdb==6.0.0"
python_tools="fusepy==3.0.1"
node_clients="influx@5.12.0 @influxdata/influxdb-client@1.35.0 @influxdata/influxdb3-client@2.1.0 @questdb/nodejs-client@4.2.0"
if [ "$(cat target/conformance-venv/installed 2>/dev/null)" != "$python_clients $python_tools" ]; then
    python3 -m venv target/conformance-venv && target/conformance-venv/bin/pip install --quiet $python_clients $python_tools &&
        echo "$python_clients $python_tools" >target/conformance-venv/installed || exit 1
fi
if ! ldconfig -p | grep -q 'libfuse\.so\.2'; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y libfuse2 >/dev/null || {
        echo "libfuse2 cannot be installed, and without it there is no lossy disk" >&2
        exit 1
    }
fi
if [ "$(cat target/npm/installed 2>/dev/null)" != "$node_clients" ]; then
    mkdir -p target/npm && echo '{"private": true}' >target/npm/package.json &&
        npm install --silent --ignore-scripts --prefix target/npm $node_clients && echo "$node_clients" >target/npm/installed || exit 1
fi

# The settings of whoever runs this are not those of the server under test.
for name in "${!WATERCLOCK_@}"; do
    [ "$name" = WATERCLOCK_CONFORMANCE ] || unset "$name"
done
folder=$(mktemp -d)
: >"$folder/log"
env -u WATERCLOCK_CONFORMANCE "$binary" serve --data-dir "$folder/data" --listen 127.0.0.1:0 --log json 2>"$folder/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
    address=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$folder/log")
    [ -n "$address" ] && break
    kill -0 $server 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
url=http://$address host=${address%:*} port=${address##*:}

passed=0 failed=0
# check NAME OUTPUT GOOD: GOOD is 1 if the check passed; a failed one shows its output.
check() {
    if [ "$3" = 1 ]; then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n%s\n' "$1" "$2"
    fi
}

# Cases that are valid on their own and cannot be here: one writes a field as float and as string in the same body, which
# InfluxDB refuses, too.
lines() {
    local output good=0
    output=$(python3 "$cases/line-protocol/run.py" "$2" --prec "$1")
    local bad
    bad=$(grep -E '^(valid|invalid) ' <<<"$output" | grep -cv 'field .*value.* of table m is f')
    grep -qE '^[1-9][0-9]* passed, [01] failed$' <<<"$output" && [ "$bad" = 0 ] && ! grep -q '5xx' <<<"$output" && good=1
    check "line protocol $1: $(tail -1 <<<"$output") (1 is known: see the script)" "$output" $good
}

# client NAME OK COMMAND...: OK is how many lines of success the client prints. What it says of what we do not have
# (InfluxQL queries, Arrow Flight, QuestDB's binary dialect) does not count; everything else must not go wrong.
client() {
    local name=$1 expected=$2 output good=0 ours='-> True|ok$|ok |ok|-> \[|-> 1\.8|-> OSS|True$'
    shift 2
    output=$("$@" 2>&1)
    local status=$? wrong
    wrong=$(grep -E 'BAD|failed|Error|Exception|Traceback' <<<"$output" |
        grep -cvE 'SELECT|^query |^malformed line ->|^ping failed TypeError: Converting circular|protocol_version=2|DeprecationWarning')
    local right
    right=$(grep -cE -- "$ours" <<<"$output")
    [ $status = 0 ] && [ "$wrong" = 0 ] && [ "$right" -ge "$expected" ] && good=1
    check "$name" "$output" $good
}

lines v1 "$url/write?db=v1_{n}&precision={p}"
lines v2 "$url/api/v2/write?bucket=v2_{n}&org=o&precision={p}"
lines v3 "$url/api/v3/write_lp?db=v3_{n}&precision={p}"
client "PyPI influxdb" 10 $python -W ignore "$cases/clients/smoke_py_influxdb1.py" "$host" "$port"
client "PyPI influxdb-client" 10 $python -W ignore "$cases/clients/smoke_py_influxdb2.py" "$url"
client "PyPI influxdb3-python" 5 $python -W ignore "$cases/clients/smoke_py_influxdb3.py" "$url"
client "PyPI questdb" 2 $python -W ignore "$cases/clients/smoke_py_questdb.py" "$address"
# Node looks for packages beside the script.
cp "$cases"/clients/*.mjs target/npm/
client "npm influx" 1 node target/npm/smoke_node_influx1.mjs "$host" "$port"
client "npm @influxdata/influxdb-client" 2 node target/npm/smoke_node_influx2.mjs "$url"
client "npm @influxdata/influxdb3-client" 2 node target/npm/smoke_node_influx3.mjs "$url"
client "npm @questdb/nodejs-client" 1 node target/npm/smoke_node_questdb.mjs "$address"

client "PyPI opentelemetry (OTLP metrics)" 3 $python "$cases/clients/smoke_otlp.py" "$url/v1/metrics"

# What two real senders, of 1.0 and of 2.0, say of their own queues: samples sent, and none failed or dropped.
export PROMETHEUS=${PROMETHEUS:-$PWD/target/prometheus/usr/bin/prometheus}
[ -x "$PROMETHEUS" ] || { echo "no Prometheus at $PROMETHEUS; run tests/clients/install.sh, or set PROMETHEUS" >&2; exit 1; }
output=$(bash "$cases/clients/smoke_prom_remote_write.sh" "$url/api/v1/write" 15 2>&1)
sent=$(grep -cE '^prometheus_remote_storage_samples_total\{.*\} [1-9]' <<<"$output")
lost=$(grep -cE '^prometheus_remote_storage_samples_(failed|dropped)_total\{.*\} [1-9]' <<<"$output")
check "Prometheus agent, remote write: $sent of 2 senders" "$output" $((sent == 2 && lost == 0))

# A Prometheus that reads these samples from us answers the same as we do.
output=$(bash "$cases/clients/smoke_prom_remote_read.sh" "$url" 'sum by (__name__) ({__name__=~"prometheus_.+"})' 2>&1)
check "Prometheus, remote read: $(tail -1 <<<"$output")" "$output" "$(grep -c ' SAME$' <<<"$output")"

# Prometheus' own scripts: how many of their cases pass may rise and not sink; docs/prometheus.md says which do not, and why.
promql_floor=1265
output=$(python3 tests/clients/promql/natives.py "$cases/promql/run.py" --launch "$binary serve --data-dir {data} --listen 127.0.0.1:{port} --log-level warn" \
    --failures 100 "$cases/promql/testdata" 2>&1)
promql_passed=$(sed -n 's/^\([0-9]*\) passed, .*/\1/p' <<<"$output")
check "PromQL: $(tail -1 <<<"$output") (at least $promql_floor)" "$output" $((${promql_passed:-0} >= promql_floor))

now=$(date +%s)
curl -sf "$url/write?precision=s" --data-binary "probe,http.method=GET value=1 $((now - 60))
probe,http.method=GET value=2 $now" >/dev/null
output=$(python3 "$cases/grafana/prometheus_probe.py" "$url" 2>&1)
status=$?
check "Grafana's Prometheus data source: $(tail -1 <<<"$output")" "$output" $((status == 0))

output=$(WATERCLOCK_CONFORMANCE=$cases cargo test --quiet --test conformance 2>&1)
status=$?
check "the parser's points" "$output" $((status == 0))

for seed in 1 2; do
    output=$($python tests/lossy.py "$binary" "$cases/faults/lossyfs.py" $seed 2>&1)
    status=$?
    check "a lossy disk, seed $seed: $(grep -c '^ok' <<<"$output") faults" "$output" $((status == 0))
done

kill $server
wait $server
status=$?
check "the server ends well" "exit code $status; $(tail -3 "$folder/log")" $((status == 0))
check "nothing went wrong in the log" "$(grep -E '"level":"(ERROR|WARN)"' "$folder/log")" \
    $(($(grep -cE '"level":"(ERROR|WARN)"' "$folder/log") == 0))

echo "$passed passed, $failed failed"
[ $failed = 0 ]
