#!/bin/sh
# Starts a Redis server: adds the password, which stands in no argument and no ConfigMap, and in a cluster what the pod is called.
#
# Its folder holds redis.conf. REDIS_HOSTNAME and REDIS_PEERS are set for members of the cluster.
set -eu

here=$(dirname "$0")
run=${REDIS_RUN_DIR:-/run/redis}
password=$(cat "$REDIS_PASSWORD_FILE")
case $password in
    '' | *[!A-Za-z0-9._~+/=-]*)
        echo "start.sh: $REDIS_PASSWORD_FILE is empty, or has characters other than A-Z a-z 0-9 . _ ~ + / = -" >&2
        exit 1
        ;;
esac

umask 077
{
    echo "include $here/redis.conf"
    echo "requirepass \"$password\""
    echo "masterauth \"$password\""
    if [ -n "${REDIS_HOSTNAME:-}" ]; then
        echo "cluster-announce-hostname $REDIS_HOSTNAME"
        echo "cluster-announce-ip $POD_IP"
    fi
} > "$run/redis.conf"

# Members know each other by address. One that is back tells the others its new one; when all were away, nobody knows anybody's,
# so each looks the others up by name. Only a member of a cluster does so: forming one is the bootstrap's task.
greet() {
    export REDISCLI_AUTH="$password"
    until redis-cli ping 2> /dev/null | grep -q PONG; do sleep 1; done
    redis-cli cluster info | grep -q '^cluster_known_nodes:1.\{0,1\}$' && return
    for round in 1 2 3 4 5 6; do
        for peer in $REDIS_PEERS; do
            [ "$peer" != "$REDIS_HOSTNAME" ] || continue
            address=$(getent hosts "$peer" | sed -n '1s/[[:space:]].*//p') || true
            [ -z "$address" ] || redis-cli cluster meet "$address" 6379 > /dev/null || true
        done
        [ "$round" = 6 ] || sleep 10
    done
}
[ -z "${REDIS_PEERS:-}" ] || greet &

unset password
exec redis-server "$run/redis.conf"
