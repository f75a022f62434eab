#!/bin/sh
# Starts Kong, and lets it load again what changes while it runs: its certificate, the public key and the secrets.
set -eu

secrets=${SECRETS_DIR:-/run/secrets/vlinders}

state() { cat "$secrets"/*/* | sha256sum; }

# The kubelet renews mounted secrets within a minute or two. Connections that are open stay with the old workers until they end.
watch() {
    before=$(state)
    while sleep 30; do
        now=$(state)
        [ "$now" != "$before" ] || continue
        before=$now
        if sh /etc/kong/compose.sh; then
            echo "start.sh: secrets have changed; Kong loads its configuration again" >&2
            kill -HUP 1
        else
            echo "start.sh: secrets have changed, and Kong keeps what it has" >&2
        fi
    done
}
watch &

exec /docker-entrypoint.sh kong docker-start
