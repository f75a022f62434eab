#!/bin/sh
# Whether the Redis server of this pod is there: alive if it answers at all, ready if it takes commands.
set -eu
REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE")
export REDISCLI_AUTH
answer=$(redis-cli -h 127.0.0.1 ping)
case $1/$answer in
    */PONG | alive/LOADING*) ;;
    *)
        echo "$answer" >&2
        exit 1
        ;;
esac
