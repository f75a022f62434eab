#!/usr/bin/env bash
# Decides the platform's secrets: makes each that is missing, once, and changes one together with all who use it.
#
#   make-secrets.sh [--context NAME]                    make what is missing; what is there stays as it is
#   make-secrets.sh --rotate NAME [--context NAME]      change one, and restart who uses it; repeat for several
#   make-secrets.sh --dir FOLDER                        as files FOLDER/SECRET/KEY instead of in a cluster
#   make-secrets.sh --list                              names that --rotate takes
#
#   --from FOLDER              what nobody can make up, each file optional: registry.json (a .dockerconfigjson), hf-token,
#                              aws-access-key-id, aws-secret-access-key, tls.crt and tls.key, stripe-secret-key,
#                              stripe-webhook-secret
#   --self-signed HOST         make a certificate for HOST where tls.crt is not given: for trying things out
#   --jwt-private-key FILE     what tokens are signed with; made if it is missing, and never put into the cluster
#                              (default: jwt-private.pem in the operator's folder of this cluster, ~/.config/vlinders/CONTEXT)
#
# No secret is printed, or an argument of a program, or in a file that others can read.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib/say.sh"
. "$here/lib/store.sh"
. "$here/lib/rotate.sh"

context=
given=
private_key=
self_signed=
rotated=()
while [ $# -gt 0 ]; do
    case $1 in
        --context) context=${2:?--context NAME} && shift ;;
        --dir) store_folder=${2:?--dir FOLDER} && shift ;;
        --from) given=${2:?--from FOLDER} && shift ;;
        --self-signed) self_signed=${2:?--self-signed HOST} && shift ;;
        --jwt-private-key) private_key=${2:?--jwt-private-key FILE} && shift ;;
        --rotate) rotated+=("${2:?--rotate NAME}") && shift ;;
        --list) printf '%s\n' "${rotatable[@]}" && exit ;;
        -h | --help) help && exit ;;
        *) die "what is $1? see --help" ;;
    esac
    shift
done

need openssl base64
[ -z "$given" ] || [ -d "$given" ] || die "$given is no folder"
for name in "${rotated[@]}"; do
    [[ " ${rotatable[*]} " == *" $name "* ]] || die "there is no secret $name to rotate; see --list"
done
make_work
trap 'rm -rf "$work"' EXIT
if [ -z "$store_folder" ]; then
    need kubectl
    [ -n "$context" ] || context=$(kubectl config current-context) || die "no context; see: kubectl config get-contexts"
fi
store_load
if [ -z "$private_key" ]; then
    if [ -n "$store_folder" ]; then private_key=$store_folder/jwt-private.pem; else private_key=$(state_folder "$context")/jwt-private.pem; fi
fi

# === one value: as it is, or a new one ===

is_rotated() { [[ " ${rotated[*]} " == *" $1 "* ]]; }

random() { openssl rand -hex 32 | tr -d '\n' > "$1"; }

# value NAME NAMESPACE SECRET KEY: leaves it in $work/NAME, and with --rotate the one before it in $work/NAME.old
value() {
    if ! store_has "$2" "$3"; then
        random "$work/$1"
    elif is_rotated "$1"; then
        store_get "$2" "$3" "$4" "$work/$1.old"
        random "$work/$1"
    else
        store_get "$2" "$3" "$4" "$work/$1"
    fi
}

# make NAMESPACE SECRET TYPE KEY=FILE…: unless it is there
make() {
    if store_has "$1" "$2"; then
        say "$1/$2 is there already"
    else
        store_add "$@"
        say "$1/$2 is made"
    fi
}

# given_files FILE…: KEY=PATH of those that were given
given_files() {
    local file
    for file in "$@"; do
        [ -z "$given" ] || [ ! -s "$given/$file" ] || echo "$file=$given/$file"
    done
}

# === all of them ===

value postgres-superuser $platform postgres-superuser password
value postgres-vlinders $platform postgres-vlinders password
value postgres-exporter $platform postgres-exporter password
value redis-auth $platform redis-auth password
value kong-redis-auth $platform kong-redis-auth password
value internal-secret $platform kong-internal-secret secret
value worker-key $inference worker-key key
value grafana-admin $monitoring grafana-admin password

# What is made of values: who reads it wants a URL, or one file for several servers.
compose() {
    printf 'postgresql://vlinders:%s@postgres.%s:5432/vlinders' "$(cat "$work/postgres-vlinders")" $platform > "$work/database-url"
    local redis kong node
    redis=$(cat "$work/redis-auth")
    kong=$(cat "$work/kong-redis-auth")
    for node in 0 1 2 3 4 5; do
        printf 'redis://:%s@redis-%s.redis.%s:6379\n' "$redis" $node $platform
    done > "$work/redis-urls"
    {
        for node in 0 1 2 3 4 5; do
            printf '%s"redis://redis-%s.redis.%s:6379":"%s"' "$([ $node = 0 ] && echo '{' || echo ',')" $node $platform "$redis"
        done
        printf ',"redis://kong-redis.%s:6379":"%s"}\n' $platform "$kong"
    } > "$work/redis-passwords.json"
    printf admin > "$work/grafana-user"
}
compose

# The pair for tokens. Without the private key the public one still stays: another operator may have it.
public_key() { openssl pkey -in "$private_key" -pubout -out "$1" 2> /dev/null || die "$private_key is no private key in PEM"; }
new_private_key() {
    mkdir -p "$(dirname "$private_key")"
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out "$private_key.new" 2> /dev/null ||
        die "no key could be made in $(dirname "$private_key")"
    mv "$private_key.new" "$private_key"
    say "the private key of tokens is $private_key; keep it, it is nowhere else"
}
if is_rotated jwt; then
    [ ! -e "$private_key" ] || mv "$private_key" "$private_key.old"
    new_private_key
    public_key "$work/jwt.pem"
elif store_has $platform kong-jwt-public-key; then
    store_get $platform kong-jwt-public-key jwt.pem "$work/jwt.pem"
    if [ -e "$private_key" ]; then
        public_key "$work/mine.pem"
        cmp -s "$work/mine.pem" "$work/jwt.pem" ||
            say "note: tokens signed with $private_key are not accepted there: the public key is another. --rotate jwt makes a new pair"
    fi
else
    [ -e "$private_key" ] || new_private_key
    public_key "$work/jwt.pem"
fi

# Each rotation passes through states in which old and new are valid, so it comes before what makes the rest.
for name in "${rotated[@]}"; do
    "rotate_$(rotation_of "$name")" "$name"
done

make $platform postgres-superuser Opaque password="$work/postgres-superuser"
make $platform postgres-vlinders Opaque password="$work/postgres-vlinders"
make $platform postgres-exporter Opaque password="$work/postgres-exporter"
make $monitoring postgres-exporter Opaque password="$work/postgres-exporter"
make $inference head-database Opaque url="$work/database-url"
make $platform redis-auth Opaque password="$work/redis-auth"
make $inference head-redis Opaque url="$work/redis-urls"
make $platform kong-redis-auth Opaque password="$work/kong-redis-auth"
make $monitoring redis-exporter Opaque passwords.json="$work/redis-passwords.json"
make $platform kong-jwt-public-key Opaque jwt.pem="$work/jwt.pem"
make $inference head-jwt-public-key Opaque jwt.pem="$work/jwt.pem"
make $platform kong-internal-secret Opaque secret="$work/internal-secret"
make $inference head-internal-secret Opaque secret="$work/internal-secret"
make $inference worker-key Opaque key="$work/worker-key"
make $monitoring grafana-admin Opaque user="$work/grafana-user" password="$work/grafana-admin"

printf '{"auths":{}}' > "$work/no-registry"
make $inference registry-credentials kubernetes.io/dockerconfigjson \
    .dockerconfigjson="$([ -n "$given" ] && [ -s "$given/registry.json" ] && echo "$given/registry.json" || echo "$work/no-registry")"
mapfile -t source_files < <(given_files hf-token aws-access-key-id aws-secret-access-key)
[ ${#source_files[@]} -eq 0 ] || make $inference model-source Opaque "${source_files[@]}"
mapfile -t tls_files < <(given_files tls.crt tls.key)
if [ ${#tls_files[@]} -eq 0 ] && [ -n "$self_signed" ] && ! store_has $platform kong-tls; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj "/CN=$self_signed" -addext "subjectAltName=DNS:$self_signed" \
        -keyout "$work/tls.key" -out "$work/tls.crt" 2> /dev/null || die "no certificate could be made for $self_signed"
    tls_files=(tls.crt="$work/tls.crt" tls.key="$work/tls.key")
fi
[ ${#tls_files[@]} -eq 0 ] || make $platform kong-tls kubernetes.io/tls "${tls_files[@]}"
mapfile -t billing_files < <(given_files stripe-secret-key stripe-webhook-secret)
[ ${#billing_files[@]} -eq 0 ] || make $platform billing Opaque "${billing_files[@]/#stripe-/}"
store_write
