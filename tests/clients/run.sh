#!/usr/bin/env bash
# Runs the official Python and Node clients against a built `vlinders`.
#
#   tests/clients/run.sh target/debug/vlinders            everything
#   tests/clients/run.sh target/debug/vlinders -k stop    only the Python tests whose name says so
#
# Installs the clients into target/clients, starts two servers on free ports, runs the tests, and ends the
# servers with SIGTERM, after which they have to be gone quickly with status 0.
set -euo pipefail

die() {
    echo "tests/clients: $*" >&2
    exit 1
}

[ $# -ge 1 ] || die "give the binary: tests/clients/run.sh target/debug/vlinders"
here=$(cd "$(dirname "$0")" && pwd)
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
[ -x "$binary" ] || die "$binary is no program; build it with: cargo build"
work=$here/../../target/clients
mkdir -p "$work/run"
work=$(cd "$work" && pwd)

# === the clients ===

# shellcheck disable=SC1091
. "$here/../venv.sh"
venv "$work" "$here/requirements.txt" "tests/clients: installing the Python client"
node_stamp=$work/node.stamp
wanted=$(cat "$here/package.json" "$here/package-lock.json" | cksum)
if [ ! -f "$node_stamp" ] || [ "$wanted" != "$(cat "$node_stamp")" ]; then
    echo "tests/clients: installing the Node client"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$work/"
    (cd "$work" && npm ci --silent --no-audit --no-fund)
    echo "$wanted" > "$node_stamp"
fi

# === the servers ===

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

pids=()
names=()

# $1: a name, for its log; the rest: arguments. Leaves the address in $url.
start() {
    local name=$1 port
    shift
    port=$(free_port)
    url=http://127.0.0.1:$port
    (cd "$work/run" && exec "$binary" serve --host 127.0.0.1 --port "$port" "$@" > "$work/$name.log" 2>&1) &
    pids+=($!)
    names+=("$name")
    for _ in $(seq 600); do
        kill -0 "${pids[-1]}" 2> /dev/null || { cat "$work/$name.log" >&2; die "the $name server ended at once"; }
        if python3 "$here/ready.py" "$url" 2> /dev/null; then
            return
        fi
        sleep 0.1
    done
    cat "$work/$name.log" >&2
    die "the $name server is not ready after a minute"
}

# Whatever happens, no server is left behind.
cleanup() {
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2> /dev/null || true
    done
}
trap cleanup EXIT

stop_all() {
    local i pid name status deadline
    for i in "${!pids[@]}"; do
        pid=${pids[i]} name=${names[i]} status=0
        kill -TERM "$pid" || { cat "$work/$name.log" >&2; die "the $name server died during the tests"; }
        deadline=$((SECONDS + 5))
        while kill -0 "$pid" 2> /dev/null; do
            [ $SECONDS -lt $deadline ] || die "the $name server is still there 5 s after SIGTERM, with nothing to do"
            sleep 0.05
        done
        wait "$pid" || status=$?
        [ $status -eq 0 ] || { tail -50 "$work/$name.log" >&2; die "the $name server ended with status $status"; }
        if grep -q "panicked at" "$work/$name.log"; then
            grep -A 5 "panicked at" "$work/$name.log" >&2
            die "the $name server panicked"
        fi
    done
    pids=()
}

key=$(python3 -c 'import secrets; print("sk-" + secrets.token_hex(16))')
printf '# keys of the test\n%s\n' "$key" > "$work/keys.txt"
cat > "$work/guarded-models.yaml" << 'YAML'
models:
  - name: vlinders-demo
    path: builtin:vlinders-demo
    max_num_seqs: 2
    max_waiting: 4
YAML

start open builtin:vlinders-demo
export VLINDERS_TEST_URL=$url
start guarded --models "$work/guarded-models.yaml" --api-key-file "$work/keys.txt"
export VLINDERS_TEST_GUARDED_URL=$url
export VLINDERS_TEST_KEY=$key
export VLINDERS_TEST_BINARY=$binary
export VLINDERS_TEST_CLIENTS=$work
# nothing of the caller's surroundings may reach the clients
unset OPENAI_API_KEY OPENAI_BASE_URL OPENAI_ORG_ID OPENAI_PROJECT_ID http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy

# === the tests ===

status=0
(cd "$here/python" && PYTHONDONTWRITEBYTECODE=1 "$work/venv/bin/python" -m pytest -q -p no:cacheprovider "$@") || status=$?
if [ $# -eq 0 ]; then
    node --test --test-reporter=spec "$here"/node/*.test.js || status=$?
fi
if [ $status -ne 0 ]; then
    echo "tests/clients: the servers' logs are in $work" >&2
fi
stop_all
exit $status
