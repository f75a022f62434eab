#!/usr/bin/env bash
# Makes a token for a consumer: a JWT signed with RS256 that ends, as Kong and heads want it.
#
#   make-token.sh --consumer NAME [--key FILE] [--ttl 1h] [--out FILE]
#
#   --consumer NAME    who asks: the claim `sub`; Kong knows those that its configuration lists
#   --key FILE         the private key (default: jwt-private.pem in the folder of the current context, ~/.config/vlinders/CONTEXT)
#   --ttl TIME         how long it is good for: 90s, 15m, 12h, 30d (default 1h; Kong takes 30d at most)
#   --audience NAME    the claim `aud` (default vlinders)
#   --issuer NAME      the claim `iss` (default: none)
#   --out FILE         write it there, for its owner alone, instead of printing it
set -Eeuo pipefail

. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib/say.sh"

consumer='' key='' ttl=1h audience=vlinders issuer='' out=''
while [ $# -gt 0 ]; do
    case $1 in
        --consumer) consumer=${2:?--consumer NAME} && shift ;;
        --key) key=${2:?--key FILE} && shift ;;
        --ttl) ttl=${2:?--ttl TIME} && shift ;;
        --audience) audience=${2:?--audience NAME} && shift ;;
        --issuer) issuer=${2:?--issuer NAME} && shift ;;
        --out) out=${2:?--out FILE} && shift ;;
        -h | --help) help && exit ;;
        *) die "what is $1? see --help" ;;
    esac
    shift
done

need openssl
[ -n "$consumer" ] || die "say for whom: --consumer NAME"
for name in "$consumer" "$audience" "$issuer"; do
    # Nothing that JSON would want escaped.
    [[ $name =~ ^[A-Za-z0-9._@:/-]*$ ]] || die "$name has characters other than A-Z a-z 0-9 . _ @ : / -"
done
[[ $ttl =~ ^([1-9][0-9]{0,6})([smhd])$ ]] || die "$ttl is no time; write 90s, 15m, 12h or 30d"
case ${BASH_REMATCH[2]} in s) unit=1 ;; m) unit=60 ;; h) unit=3600 ;; d) unit=86400 ;; esac
seconds=$((BASH_REMATCH[1] * unit))
[ $seconds -le 2592000 ] || die "Kong refuses tokens that are good for more than 30d"
[ -n "$key" ] || key=$(state_folder "$(kubectl config current-context)")/jwt-private.pem
[ -r "$key" ] || die "$key cannot be read; make-secrets.sh makes one"

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

now=$(date +%s)
claims=$(printf '{"sub":"%s","aud":"%s",%s"iat":%d,"exp":%d}' \
    "$consumer" "$audience" "${issuer:+\"iss\":\"$issuer\",}" "$now" $((now + seconds)))
signed=$(printf '{"alg":"RS256","typ":"JWT"}' | base64url).$(printf %s "$claims" | base64url)
signature=$(printf %s "$signed" | openssl dgst -sha256 -sign "$key" | base64url) || die "$key is no private key of RSA in PEM"

if [ -n "$out" ]; then
    umask 077
    rm -f "$out"
    printf '%s\n' "$signed.$signature" > "$out"
else
    printf '%s\n' "$signed.$signature"
fi
