#!/usr/bin/env bash
# The platform on one machine, as processes: a head, two workers with the built-in model, PostgreSQL, a Redis cluster, Prometheus.
#
#   local.sh up        start what does not run, ask once with a token, show metrics and the ledger
#   local.sh status    what runs, and where
#   local.sh smoke     ask once again
#   local.sh logs [NAME]
#   local.sh down      stop everything; `down --delete` deletes data and secrets too
#
# Configuration is what pods get (deploy/base/config, deploy/base/redis, deploy/base/postgres, Prometheus's rules): copies in which
# nothing but addresses and folders is another. Secrets and tokens come from the scripts that make them for a cluster.
#
#   VLINDERS=PROGRAM            (default: target/release/vlinders, else target/debug/vlinders)
#   VLINDERS_LOCAL_PORT=18000   of the head; the others have ports up to 20 above, and 10000 above these
#   VLINDERS_LOCAL_DIR=FOLDER   (default: deploy/.local)
#   PROMETHEUS=PROGRAM          (default: prometheus, if it is installed; none: without)
set -Eeuo pipefail

deploy=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$deploy/scripts/lib/say.sh"

state=${VLINDERS_LOCAL_DIR:-$deploy/.local}
base=${VLINDERS_LOCAL_PORT:-18000}
host=127.0.0.1
worker_ports=($((base + 1)) $((base + 2)))
prometheus_port=$((base + 3))
dashboard_port=$((base + 4))
scaler_port=$((base + 5))
postgres_port=$((base + 6))
redis_ports=($((base + 11)) $((base + 12)) $((base + 13)) $((base + 14)) $((base + 15)) $((base + 16)))
model="vlinders-demo"
mounted=$state/mounted

# === programs ===

find_programs() {
    need openssl curl redis-server redis-cli
    vlinders=${VLINDERS:-}
    if [ -z "$vlinders" ]; then
        local kind
        for kind in release debug; do
            [ ! -x "$deploy/../target/$kind/vlinders" ] || { vlinders=$deploy/../target/$kind/vlinders && break; }
        done
    fi
    [ -x "$vlinders" ] || die "there is no ${vlinders:-vlinders yet}; build it: cargo build --release"
    # Processes have folders of their own.
    vlinders=$(realpath "$vlinders")
    # Debian keeps them off the PATH.
    postgres_bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    [ -x "$postgres_bin/initdb" ] || postgres_bin=$(dirname "$(realpath "$(command -v initdb || echo none)")")
    [ -x "$postgres_bin/initdb" ] || die "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    prometheus=${PROMETHEUS:-$(command -v prometheus || echo none)}
}

# PostgreSQL refuses to be root.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then (cd / && exec runuser -u postgres -- "$@"); else "$@"; fi
}

# === processes: each has a file with its id and when it was born, and a log ===

# An id alone may be another's by now. Nothing of a process that is gone.
born() {
    if [ -d /proc/self ]; then sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | cut -d ' ' -f 20; else ps -o lstart= -p "$1"; fi
}

pid_of() { head -n 1 "$state/run/$1.pid"; }

runs() {
    local since
    [ -s "$state/run/$1.pid" ] && since=$(born "$(pid_of "$1")" 2> /dev/null) &&
        [ -n "$since" ] && [ "$since" = "$(tail -n 1 "$state/run/$1.pid")" ]
}

# start NAME PORT PROGRAM…
start() {
    local name=$1 port=$2
    shift 2
    if runs "$name"; then
        say "$name runs already"
        return
    fi
    ! is_open "$port" || die "port $port, for $name, is in use; choose others: VLINDERS_LOCAL_PORT=28000"
    (
        trap '' HUP
        cd "$state"
        exec "$@" < /dev/null > "$state/log/$name.log" 2>&1
    ) &
    # It may have ended already.
    printf '%s\n%s\n' $! "$(born $! || true)" > "$state/run/$name.pid"
}

is_open() { (exec 3<> "/dev/tcp/$host/$1") 2> /dev/null; }

# await NAME COMMAND…: until it succeeds
await() {
    local name=$1 tries
    shift
    for ((tries = 0; tries < 1200; tries++)); do
        if "$@" > /dev/null 2>&1; then
            say "$name is up"
            return
        fi
        runs "$name" || { tail -n 20 "$state/log/$name.log" >&2 && die "$name ended; its log is $state/log/$name.log"; }
        sleep 0.1
    done
    tail -n 20 "$state/log/$name.log" >&2
    die "$name does not come up; its log is $state/log/$name.log"
}

# stop SIGNAL NAME…: all at once, since servers of a cluster wait for those that are left
stop() {
    local signal=$1 name tries
    shift
    for name in "$@"; do
        ! runs "$name" || kill "-$signal" "$(pid_of "$name")"
    done
    for name in "$@"; do
        for ((tries = 0; tries < 600; tries++)); do
            runs "$name" || break
            sleep 0.1
        done
        ! runs "$name" || { say "$name did not end within a minute: killed" && kill -KILL "$(pid_of "$name")"; }
        rm -f "$state/run/$name.pid"
    done
}

answers() { curl --silent --fail --max-time 5 "http://$host:$1$2"; }

# === configuration ===

# place FROM TO: a file of the pods, with the addresses and folders of this machine
place() {
    sed -e "s#/run/secrets/vlinders#$mounted#g" -e "s#/var/lib/vlinders#$state/spool#g" \
        -e "s#\(scaler_port:\) [0-9]*#\1 $scaler_port#" -e "s#\(peers:\) [^ ]*#\1 $host:$base#" "$1" > "$2"
}

configure() {
    mkdir -p "$state"/{run,log,config,spool,mounted}
    # The account of PostgreSQL passes through; what it may not see has folders of its own.
    chmod 711 "$state"
    chmod 700 "$state"/{config,spool,mounted}
    "$deploy/scripts/make-secrets.sh" --dir "$state/secrets" 2>&1 | grep -v 'is there already' >&2 || true
    (umask 077 && cp -R "$state/secrets/." "$mounted")
    sed -i.cluster "s#@postgres\.[^/]*#@$host:$postgres_port#" "$mounted/head-database/url"
    local number
    for number in 0 1 2 3 4 5; do
        sed -i.cluster "s#@redis-$number\..*#@$host:${redis_ports[number]}#" "$mounted/head-redis/url"
    done
    rm "$mounted"/*/*.cluster
    place "$deploy/base/config/head.yaml" "$state/config/head.yaml"
    place "$deploy/base/config/server.yaml" "$state/config/server.yaml"
    place "$deploy/overlays/dev-cpu/models.yaml" "$state/config/models.yaml"
}

start_postgres() {
    local data=$state/postgres/data fresh=no
    if [ ! -e "$data/PG_VERSION" ]; then
        fresh=yes
        mkdir -p "$state/postgres"
        cp "$mounted/postgres-superuser/password" "$state/postgres/password"
        chmod 600 "$state/postgres/password"
        [ "$(id -u)" != 0 ] || chown -R postgres "$state/postgres"
        chmod 700 "$state/postgres"
        as_postgres "$postgres_bin/initdb" -D "$data" -U postgres --pwfile="$state/postgres/password" \
            --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 > "$state/log/initdb.log" 2>&1 ||
            { cat "$state/log/initdb.log" >&2 && die "the database could not be made"; }
    fi
    local words=("$postgres_bin/postgres" -D "$data" -k "$state/postgres" -p "$postgres_port" -h "$host")
    # Not by runuser, which would stand between us and the server.
    [ "$(id -u)" != 0 ] || words=(setpriv --reuid=postgres --regid=postgres --init-groups "${words[@]}")
    start postgres "$postgres_port" "${words[@]}"
    await postgres "$postgres_bin/pg_isready" -q -h "$host" -p "$postgres_port"
    if [ $fresh = yes ]; then
        as_postgres "$postgres_bin/createdb" -h "$state/postgres" -p "$postgres_port" -U postgres vlinders
        # As in the pod, when its volume is new.
        PATH=$postgres_bin:$PATH PGHOST=$state/postgres PGPORT=$postgres_port SECRETS_DIR=$mounted sh "$deploy/base/postgres/roles.sh"
    fi
}

start_redis() {
    local number port nodes='' folder password
    password=$(cat "$mounted/redis-auth/password")
    for number in 0 1 2 3 4 5; do
        port=${redis_ports[number]}
        folder=$state/redis-$number
        mkdir -p "$folder"
        (
            umask 077
            sed -e "s#^port .*#port $port#" -e "s#^bind .*#bind $host#" -e "s#^dir .*#dir $folder#" \
                -e 's#^\(cluster-preferred-endpoint-type\) .*#\1 ip#' "$deploy/base/redis/cluster.conf"
            # As start.sh does in a pod.
            printf 'requirepass "%s"\nmasterauth "%s"\n' "$password" "$password"
        ) > "$folder/redis.conf"
        chmod 600 "$folder/redis.conf"
        start "redis-$number" "$port" redis-server "$folder/redis.conf" --logfile "$state/log/redis-$number.log"
        nodes+=" $host:$port"
    done
    for number in 0 1 2 3 4 5; do
        await "redis-$number" is_open "${redis_ports[number]}"
    done
    REDIS_NODES=${nodes# } REDIS_PASSWORD_FILE=$mounted/redis-auth/password sh "$deploy/scripts/redis-cluster.sh" ||
        die "the Redis cluster is not formed"
}

start_workers() {
    local number=0 port
    for port in "${worker_ports[@]}"; do
        start "worker-$number" "$port" "$vlinders" worker --model $model --models "$state/config/models.yaml" \
            --server "$state/config/server.yaml" --host $host --port "$port"
        number=$((number + 1))
    done
    await worker-0 answers "${worker_ports[0]}" /ready
    await worker-1 answers "${worker_ports[1]}" /ready
}

start_head() {
    local words=() port
    for port in "${worker_ports[@]}"; do
        words+=(--worker "$host:$port")
    done
    # No load balancer has to notice that it goes.
    start head "$base" "$vlinders" head --models "$state/config/models.yaml" --server "$state/config/head.yaml" --host $host \
        --port "$base" --dashboard-port "$dashboard_port" --shutdown-delay 0s "${words[@]}"
    await head answers "$base" /ready
}

# The rules of the cluster; whom to ask is written down, since there is no Kubernetes to ask.
start_prometheus() {
    if [ "$prometheus" = none ]; then
        say "Prometheus is not installed: without it"
        return
    fi
    {
        printf 'global:\n  scrape_interval: 5s\n  evaluation_interval: 5s\nrule_files:\n  - %s/base/monitoring/prometheus/rules/*.yaml\n' "$deploy"
        printf 'scrape_configs:\n  - job_name: vlinders-head\n    static_configs:\n'
        printf '      - targets: ["%s:%s"]\n        labels: {namespace: vlinders-inference, pod: head}\n' $host "$base"
        printf '  - job_name: vlinders-worker\n    static_configs:\n'
        local number
        for number in 0 1; do
            printf '      - targets: ["%s:%s"]\n        labels: {namespace: vlinders-inference, pod: worker-%s, model: %s}\n' \
                $host "${worker_ports[number]}" "$number" $model
        done
    } > "$state/config/prometheus.yml"
    start prometheus $prometheus_port "$prometheus" --config.file="$state/config/prometheus.yml" --storage.tsdb.path="$state/prometheus" \
        --web.listen-address="$host:$prometheus_port"
    await prometheus answers $prometheus_port /-/ready
}

# === commands ===

smoke() {
    "$deploy/scripts/make-token.sh" --consumer smoke --key "$state/secrets/jwt-private.pem" --out "$state/config/token"
    "$deploy/scripts/smoke.sh" --url "http://$host:$base" --token-file "$state/config/token" --model $model
    echo "Metrics of the head:"
    answers "$base" /metrics | grep -E '^vlinders_head_(requests_total|workers|queue_depth|tokens_total)' | sed 's/^/  /'
    # Rows arrive in batches.
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        "$vlinders" usage --consumer smoke --database-url-file "$mounted/head-database/url" > "$state/config/usage" 2>&1 || true
        ! grep -q "$model" "$state/config/usage" || break
        sleep 0.1
    done
    grep -q "$model" "$state/config/usage" || { cat "$state/config/usage" >&2 && die "the request is not in the ledger"; }
    echo "Ledger:"
    sed 's/^/  /' "$state/config/usage"
}

# Whatever was started when one of them fails is stopped.
up() {
    find_programs
    trap '[ $? = 0 ] || { trap - EXIT; say "stopping what was started"; down; exit 1; }' EXIT
    trap 'exit 1' INT TERM
    configure
    start_postgres
    start_redis
    start_workers
    start_head
    start_prometheus
    smoke
    trap - EXIT
    where
}

where() {
    cat <<EOT
  API         http://$host:$base/v1        a token: deploy/scripts/make-token.sh --consumer NAME --key $state/secrets/jwt-private.pem
  dashboard   http://$host:$dashboard_port/dashboard/
  Prometheus  http://$host:$prometheus_port
  stop it     deploy/local.sh down
EOT
}

processes=(head worker-0 worker-1 prometheus redis-{0..5} postgres)

# Who asks goes before who is asked.
down() {
    stop TERM head
    stop TERM worker-0 worker-1 prometheus redis-{0..5}
    # Fast: connections are ended, not waited for.
    stop INT postgres
}

status() {
    local name wrong=0
    for name in "${processes[@]}"; do
        if runs "$name"; then
            printf '%-12s runs as %s\n' "$name" "$(pid_of "$name")"
        else
            printf '%-12s is not there\n' "$name"
            [ "$name" = prometheus ] || wrong=$((wrong + 1))
        fi
    done
    [ $wrong = 0 ] || die "$wrong of them do not run"
    where
}

case ${1:-} in
    up) up ;;
    down)
        down
        [ "${2:-}" != --delete ] || rm -rf "$state" ;;
    status) status ;;
    smoke) find_programs && smoke ;;
    logs) tail -n 50 "$state/log/${2:-*}".log 2> /dev/null || tail -n 50 "$state"/log/*.log ;;
    -h | --help) help ;;
    *) help && die "say what: up, status, smoke, logs or down" ;;
esac
