#!/usr/bin/env bash
# Looks at the dashboard with a browser.
#
#   tests/dashboard/run.sh --example PROGRAM [ARGUMENTS OF PYTEST]            start the example, with a key
#   tests/dashboard/run.sh http://127.0.0.1:8000/dashboard/ [API_KEY] [ARGUMENTS OF PYTEST]
#
# Needs Debian's chromium. Installs the remote control into target/dashboard, where pictures of all pages go too.
set -euo pipefail

die() {
    echo "tests/dashboard: $*" >&2
    exit 1
}

[ $# -ge 1 ] || die "give an address, or --example PROGRAM"
here=$(cd "$(dirname "$0")" && pwd)
work=$here/../../target/dashboard
mkdir -p "$work"
work=$(cd "$work" && pwd)

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    die "there is no Chromium; on Debian: apt-get install chromium"

stamp=$work/venv.stamp
if [ ! -f "$stamp" ] || [ "$(cksum < "$here/requirements.txt")" != "$(cat "$stamp")" ]; then
    echo "tests/dashboard: installing the remote control"
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cksum < "$here/requirements.txt" > "$stamp"
fi

pid=
cleanup() {
    [ -z "$pid" ] || kill "$pid" 2> /dev/null || true
}
trap cleanup EXIT

key=
if [ "$1" = --example ]; then
    [ $# -ge 2 ] && [ -x "$2" ] || die "give the program of the example"
    program=$2
    shift 2
    key=$(python3 -c 'import secrets; print("sk-" + secrets.token_hex(16))')
    "$program" 127.0.0.1:0 "$key" > "$work/example.log" 2>&1 &
    pid=$!
    url=
    for _ in $(seq 300); do
        kill -0 "$pid" 2> /dev/null || { cat "$work/example.log" >&2; die "the example ended at once"; }
        url=$(head -n 1 "$work/example.log")
        [ -z "$url" ] || break
        sleep 0.1
    done
    [ -n "$url" ] || die "the example does not say where it listens"
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
