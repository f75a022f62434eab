#!/bin/sh
# Starts Kong, and lets it load again what changes while it runs: its certificate, the public key and the secrets.
set -eu

here=$(dirname "$0")
secrets=${SECRETS_DIR:-/run/secrets/vlinders}
entrypoint=${KONG_ENTRYPOINT:-/docker-entrypoint.sh}
interval=${KONG_WATCH_SECONDS:-30}

state() { cat "$secrets"/*/* | sha256sum; }

# The kubelet renews mounted secrets within a minute or two. Connections that are open stay with the old workers until they end.
watch() {
    before=$(state)
    while sleep "$interval"; do
        now=$(state)
        [ "$now" != "$before" ] || continue
        before=$now
        if sh "$here/compose.sh"; then
            echo "start.sh: secrets have changed; Kong loads its configuration again" >&2
            # This process, which has become nginx.
            kill -HUP $$
        else
            echo "start.sh: secrets have changed, and Kong keeps what it has" >&2
        fi
    done
}
watch &

exec "$entrypoint" kong docker-start
