# How each secret is changed while the platform runs: who has to accept old and new, who is restarted, in which order.
# Sourced by make-secrets.sh, whose `value` has left the new value in $work/NAME and the old one in $work/NAME.old.
#
# Each function leaves the new value everywhere. One that is interrupted may be run again: it begins with another new value.
# shellcheck shell=bash
set -Eeuo pipefail

rotatable=(postgres-superuser postgres-vlinders postgres-exporter redis-auth kong-redis-auth internal-secret worker-key
    grafana-admin jwt registry-credentials model-source kong-tls billing)

rotation_of() { echo "${1//-/_}"; }

# Nothing runs where secrets are files of a folder, nor before the first installation.
runs() {
    [ -z "$store_folder" ] || return 1
    [ -n "$(cluster -n "$1" get "$2" --ignore-not-found -o name)" ]
}

# restart NAMESPACE KIND/NAME…: those that are there, each awaited
restart() {
    local namespace=$1 workload
    shift
    for workload in "$@"; do
        runs "$namespace" "$workload" || continue
        say "restarting $workload"
        cluster -n "$namespace" rollout restart "$workload" > /dev/null
        cluster -n "$namespace" rollout status "$workload" --timeout=30m > /dev/null ||
            die "$workload did not come up with the new secret; see: kubectl -n $namespace describe $workload"
    done
}

workers() {
    [ -n "$store_folder" ] || cluster -n $inference get deployments -l app.kubernetes.io/name=worker -o name
}

restart_workers() {
    local names
    mapfile -t names < <(workers)
    restart $inference "${names[@]}"
}

# === PostgreSQL: the role first, since heads keep their rows while they can not connect ===

# set_password ROLE: the new one comes by standard input
set_password() {
    runs $platform statefulset/postgres || return 0
    # shellcheck disable=SC2016 # the shell in the pod expands it
    cluster -n $platform exec -i postgres-0 -c postgres -- sh -c '
        NEW_PASSWORD=$(cat) && export NEW_PASSWORD
        psql -q -v ON_ERROR_STOP=1 -v role="$1" --no-psqlrc --no-password -U postgres -d vlinders <<"SQL"
SET log_statement = '\''none'\'';
SET log_min_duration_statement = -1;
\set password `printf %s "$NEW_PASSWORD"`
ALTER ROLE :"role" PASSWORD :'\''password'\'';
SQL' sh "$1" < "$2" || die "the password of role $1 could not be changed; nothing else was"
}

rotate_postgres_superuser() {
    set_password postgres "$work/postgres-superuser"
    store_put $platform postgres-superuser Opaque password="$work/postgres-superuser"
}

rotate_postgres_vlinders() {
    set_password vlinders "$work/postgres-vlinders"
    store_put $platform postgres-vlinders Opaque password="$work/postgres-vlinders"
    store_put $inference head-database Opaque url="$work/database-url"
    restart $inference deployment/vlinders-head
}

rotate_postgres_exporter() {
    set_password exporter "$work/postgres-exporter"
    store_put $platform postgres-exporter Opaque password="$work/postgres-exporter"
    store_put $monitoring postgres-exporter Opaque password="$work/postgres-exporter"
    restart $monitoring deployment/postgres-exporter
}

# === Redis: servers take both passwords until each was started again ===

# redis_pods STATEFULSET
redis_pods() { cluster -n $platform get pods -l "app.kubernetes.io/name=$1" -o name; }

# in_redis POD SCRIPT: the new password comes by standard input as $new, the one the server was started with is used
in_redis() {
    # shellcheck disable=SC2016 # the shell in the pod expands it
    cluster -n $platform exec -i "$1" -c redis -- sh -c '
        new=$(cat)
        REDISCLI_AUTH=$(sed -n "s/^requirepass \"\(.*\)\"/\1/p" "${REDIS_RUN_DIR:-/run/redis}/redis.conf") && export REDISCLI_AUTH
        '"$2" < "$3" > "$work/answer" || die "$1 does not take the new password; no secret was changed"
    grep -q '^OK' "$work/answer" || die "$1 does not take the new password; no secret was changed"
}

# accept_both STATEFULSET NEW
accept_both() {
    runs $platform "statefulset/$1" || return 0
    local pod pods
    mapfile -t pods < <(redis_pods "$1")
    for pod in "${pods[@]}"; do
        # shellcheck disable=SC2016 # the shell in the pod expands it
        in_redis "$pod" 'printf ">%s" "$new" | redis-cli -x acl setuser default' "$2"
    done
    # Only when all take it: replicas use it from here on.
    for pod in "${pods[@]}"; do
        # shellcheck disable=SC2016
        in_redis "$pod" 'printf "%s" "$new" | redis-cli -x config set masterauth' "$2"
    done
}

rotate_redis_auth() {
    accept_both redis "$work/redis-auth"
    store_put $platform redis-auth Opaque password="$work/redis-auth"
    store_put $inference head-redis Opaque url="$work/redis-urls"
    store_put $monitoring redis-exporter Opaque passwords.json="$work/redis-passwords.json"
    restart $inference deployment/vlinders-head
    restart $monitoring deployment/redis-exporter
    restart $platform statefulset/redis
}

rotate_kong_redis_auth() {
    accept_both kong-redis "$work/kong-redis-auth"
    store_put $platform kong-redis-auth Opaque password="$work/kong-redis-auth"
    store_put $monitoring redis-exporter Opaque passwords.json="$work/redis-passwords.json"
    restart $platform deployment/kong-gateway
    restart $monitoring deployment/redis-exporter
    restart $platform statefulset/kong-redis
}

# === what heads and workers are shown: files that may hold several lines ===

# both FIRST SECOND FILE
both() {
    { cat "$1" && echo && cat "$2"; } > "$3"
}

rotate_internal_secret() {
    if [ -e "$work/internal-secret.old" ]; then
        both "$work/internal-secret.old" "$work/internal-secret" "$work/internal-secret.both"
        store_put $inference head-internal-secret Opaque secret="$work/internal-secret.both"
        restart $inference deployment/vlinders-head
    fi
    store_put $platform kong-internal-secret Opaque secret="$work/internal-secret"
    restart $platform deployment/kong-gateway
    store_put $inference head-internal-secret Opaque secret="$work/internal-secret"
    restart $inference deployment/vlinders-head
}

# Workers take every line, heads send the first.
rotate_worker_key() {
    if [ -e "$work/worker-key.old" ]; then
        both "$work/worker-key.old" "$work/worker-key" "$work/worker-key.both"
        store_put $inference worker-key Opaque key="$work/worker-key.both"
        restart_workers
        both "$work/worker-key" "$work/worker-key.old" "$work/worker-key.both"
        store_put $inference worker-key Opaque key="$work/worker-key.both"
    else
        store_put $inference worker-key Opaque key="$work/worker-key"
    fi
    restart $inference deployment/vlinders-head
    store_put $inference worker-key Opaque key="$work/worker-key"
    # Until then a key that leaked would still open workers.
    restart_workers
}

rotate_grafana_admin() {
    store_put $monitoring grafana-admin Opaque user="$work/grafana-user" password="$work/grafana-admin"
    # It keeps nothing: it begins anew with the new password.
    restart $monitoring deployment/grafana
}

# Kong knows one key, so every token signed with the old one ends here.
rotate_jwt() {
    store_put $platform kong-jwt-public-key Opaque jwt.pem="$work/jwt.pem"
    store_put $inference head-jwt-public-key Opaque jwt.pem="$work/jwt.pem"
    restart $platform deployment/kong-gateway
    restart $inference deployment/vlinders-head
    say "all tokens of before are refused from now on; the old key is $private_key.old"
}

# === what was given: new files of --from ===

# replace NAMESPACE SECRET TYPE FILE…
replace() {
    local namespace=$1 name=$2 type=$3 files
    shift 3
    mapfile -t files < <(given_files "$@")
    [ ${#files[@]} -gt 0 ] || die "to change $name, give --from a folder with: $*"
    store_put "$namespace" "$name" "$type" "${files[@]/#stripe-/}"
}

rotate_registry_credentials() {
    [ -n "$given" ] && [ -s "$given/registry.json" ] || die "to change registry-credentials, give --from a folder with: registry.json"
    store_put $inference registry-credentials kubernetes.io/dockerconfigjson .dockerconfigjson="$given/registry.json"
}
rotate_model_source() { replace $inference model-source Opaque hf-token aws-access-key-id aws-secret-access-key; }
# Kong looks at it every half minute.
rotate_kong_tls() { replace $platform kong-tls kubernetes.io/tls tls.crt tls.key; }
rotate_billing() { replace $platform billing Opaque stripe-secret-key stripe-webhook-secret; }
