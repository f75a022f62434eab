#!/bin/sh
# Writes the file that Kong loads: the template with the public key and the secrets of the moment, put in place only if Kong takes it.
#
# KONG_DECLARATIVE_CONFIG is where to.
set -eu

template=$(dirname "$0")/kong.yml
secrets=${SECRETS_DIR:-/run/secrets/vlinders}
target=$KONG_DECLARATIVE_CONFIG

die() {
    echo "compose.sh: $*" >&2
    exit 1
}

# The first line of a secret. It stands inside quotes, so it must not end them.
word() {
    [ -s "$1" ] || die "$1 is empty or not there"
    value=$(sed -n 1p "$1" | tr -d '\r')
    case $value in
        '' | *[!A-Za-z0-9._~+/=-]*) die "$1 has characters other than A-Z a-z 0-9 . _ ~ + / = -" ;;
    esac
    printf %s "$value"
}

PUBLIC_KEY_FILE=$secrets/kong-jwt-public-key/jwt.pem
grep -q -- '-----BEGIN PUBLIC KEY-----' "$PUBLIC_KEY_FILE" ||
    die "$PUBLIC_KEY_FILE is no public key in PEM; make one with: openssl rsa -in private.pem -pubout"
INTERNAL_SECRET=$(word "$secrets/kong-internal-secret/secret")
KONG_REDIS_PASSWORD=$(word "$secrets/kong-redis-auth/password")
export PUBLIC_KEY_FILE INTERNAL_SECRET KONG_REDIS_PASSWORD

# Not by arguments, which everybody in the pod could read.
umask 077
awk '
    function put(name,    at) {
        while (at = index($0, "@" name "@"))
            $0 = substr($0, 1, at - 1) ENVIRON[name] substr($0, at + length(name) + 2)
    }
    /^ *@JWT_PUBLIC_KEY@$/ {
        indent = substr($0, 1, index($0, "@") - 1)
        while ((getline line < ENVIRON["PUBLIC_KEY_FILE"]) > 0) {
            sub(/\r$/, "", line)
            print indent line
        }
        close(ENVIRON["PUBLIC_KEY_FILE"])
        next
    }
    { put("INTERNAL_SECRET"); put("KONG_REDIS_PASSWORD"); print }
' "$template" > "$target.new.yml"
kong config parse "$target.new.yml" > /dev/null || die "Kong does not take what came of $template"
mv "$target.new.yml" "$target"
