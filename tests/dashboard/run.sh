#!/usr/bin/env bash
# Looks at the dashboard with a browser.
#
#   tests/dashboard/run.sh --example PROGRAM [ARGUMENTS OF PYTEST]            start the example, with a key
#   tests/dashboard/run.sh --head VLINDERS [ARGUMENTS OF PYTEST]              start a worker and a head, with a key
#   tests/dashboard/run.sh http://127.0.0.1:8000/dashboard/ [API_KEY] [ARGUMENTS OF PYTEST]
#
# Needs Debian's chromium. Installs the remote control into target/dashboard, where pictures of all pages go too.
set -euo pipefail

die() {
    echo "tests/dashboard: $*" >&2
    exit 1
}

[ $# -ge 1 ] || die "give an address, --example PROGRAM or --head VLINDERS"
here=$(cd "$(dirname "$0")" && pwd)
work=$here/../../target/dashboard
mkdir -p "$work"
work=$(cd "$work" && pwd)

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    die "there is no Chromium; on Debian: apt-get install chromium"

# shellcheck disable=SC1091
. "$here/../venv.sh"
venv "$work" "$here/requirements.txt" "tests/dashboard: installing the remote control"

pids=()
cleanup() {
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2> /dev/null || true
}
trap cleanup EXIT

# Wait for what a log says: said LOG PROCESS SED_EXPRESSION
said() {
    for _ in $(seq 600); do
        found=$(sed -n "$3" "$1" | head -n 1)
        [ -z "$found" ] || { echo "$found"; return; }
        kill -0 "$2" 2> /dev/null || { cat "$1" >&2; die "it ended at once"; }
        sleep 0.1
    done
    cat "$1" >&2
    die "it never said where it listens"
}

key=
if [ "$1" = --example ]; then
    [ $# -ge 2 ] && [ -x "$2" ] || die "give the program of the example"
    program=$2
    shift 2
    key=$(python3 -c 'import secrets; print("sk-" + secrets.token_hex(16))')
    "$program" 127.0.0.1:0 "$key" > "$work/example.log" 2>&1 &
    pids+=($!)
    url=$(said "$work/example.log" $! '1p')
    export VLINDERS_DASHBOARD_EXAMPLE=1
elif [ "$1" = --head ]; then
    [ $# -ge 2 ] && [ -x "$2" ] || die "give the program vlinders"
    program=$(realpath "$2")
    shift 2
    folder=$work/head
    rm -rf "$folder" && mkdir -p "$folder"
    cd "$folder"
    key=$(python3 -c 'import secrets; print("sk-" + secrets.token_hex(16))')
    echo "browser $key" > keys
    listening='s/.*ready: .*address=\([0-9.:]*\).*/\1/p'
    "$program" serve --host 127.0.0.1 --port 0 2> worker.log &
    pids+=($!)
    worker=$(said worker.log $! "$listening")
    "$program" head --host 127.0.0.1 --port 0 --dashboard-port 0 --api-key-file keys --worker "$worker" 2> head.log &
    pids+=($!)
    said head.log $! "$listening" > /dev/null
    url=http://$(said head.log $! 's/.*dashboard: .*address=\([0-9.:]*\).*/\1/p')/dashboard/
else
    url=$1
    shift
    case ${1:-} in
        '' | -*) ;;
        *) key=$1; shift ;;
    esac
fi

export VLINDERS_DASHBOARD_URL=${url%/}/ VLINDERS_DASHBOARD_KEY=$key
export VLINDERS_DASHBOARD_CHROMIUM=$chromium VLINDERS_DASHBOARD_PICTURES=$work
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
cd "$here"
PYTHONDONTWRITEBYTECODE=1 "$work/venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
