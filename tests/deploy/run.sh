#!/usr/bin/env bash
# Runs what deploys the platform against real servers, and against a kubectl that only writes down what it is asked.
#
#   tests/deploy/run.sh target/debug/vlinders              everything
#   tests/deploy/run.sh target/debug/vlinders -k redis     only the tests whose name says so
#
# Needs PostgreSQL, Redis, OpenSSL, curl and shellcheck. Installs the test runner into target/deploy.
set -Eeuo pipefail

die() {
    echo "tests/deploy: $*" >&2
    exit 1
}

[ $# -ge 1 ] || die "give the binary: tests/deploy/run.sh target/debug/vlinders"
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$1" ] || die "$1 is no program; build it with: cargo build"
VLINDERS_TEST_BINARY=$(realpath "$1")
export VLINDERS_TEST_BINARY
shift
work=$here/../../target/deploy
mkdir -p "$work"
work=$(cd "$work" && pwd)

# shellcheck disable=SC1091
. "$here/../venv.sh"
venv "$work" "$here/requirements.txt" "tests/deploy: installing the test runner"

# nothing of the caller's surroundings may reach what is tested
unset KUBECONFIG REDISCLI_AUTH PGPASSWORD PGHOST PGUSER PGDATABASE http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
cd "$here"
export PATH=$work/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
# Once, before several tests want it at the same time.
python -c 'import prometheus_tools; prometheus_tools.programs()'
# Most tests wait for servers, so files of them share the time; tests of one file share servers.
exec python -m pytest -q -p no:cacheprovider -n 3 --dist loadfile "$@"
