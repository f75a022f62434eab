#!/usr/bin/env bash
# Asks the platform once as a client would, and says whether it serves: models, an answer, a stream, and no one without a token.
#
#   smoke.sh --url https://llm.example.org --token-file FILE [--model NAME]… [--ca-file FILE] [--connect-to HOST:PORT]
#
#   --model NAME         one that has to be offered, and answers (repeat for several; default: the first that is offered)
#   --ca-file FILE       the authority of the certificate
#   --insecure           take any certificate
#   --connect-to H:P     go there, whatever the address says: through a port-forward
#   --timeout SECONDS    for each request (default 120; as long as a cold start where models are scaled to zero)
set -Eeuo pipefail

. "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lib/say.sh"

url='' token_file='' timeout=120
models=() options=()
while [ $# -gt 0 ]; do
    case $1 in
        --url) url=${2:?--url URL} && url=${url%/} && shift ;;
        --token-file) token_file=${2:?--token-file FILE} && shift ;;
        --model) models+=("${2:?--model NAME}") && shift ;;
        --ca-file) options+=(--cacert "${2:?--ca-file FILE}") && shift ;;
        --insecure) options+=(--insecure) ;;
        --connect-to) options+=(--connect-to "::${2:?--connect-to HOST:PORT}") && shift ;;
        --timeout) timeout=${2:?--timeout SECONDS} && shift ;;
        -h | --help) help && exit ;;
        *) die "what is $1? see --help" ;;
    esac
    shift
done

need curl
[ -n "$url" ] || die "say where: --url URL"
[ -r "$token_file" ] || die "say who asks: --token-file FILE (make-token.sh --out makes one)"
make_work
trap 'rm -rf "$work"' EXIT
# In a file, since arguments can be seen by everybody on a machine.
printf 'header = "Authorization: Bearer %s"\n' "$(cat "$token_file")" > "$work/authorization"

# What answers of the platform mean, and where to look.
hint() {
    case $1 in
        401) echo "the token is not accepted: other key, expired, or its \`sub\` is no consumer of Kong" ;;
        404) echo "the model is not offered: is it enabled in models.yaml, and was that rolled out?" ;;
        429) echo "a limit of the consumer is reached, or all workers are full" ;;
        502 | 503) echo "no head or no worker is ready: kubectl -n vlinders-inference get pods" ;;
        504) echo "nothing came in time: does a model scaled to zero start?" ;;
        000) echo "nothing listens there, or its certificate is not trusted: $(tail -n 1 "$work/error")" ;;
        *) echo "see docs/operations.md" ;;
    esac
}

# ask PATH [WORDS OF CURL…]: leaves the body in $work/body, headers in $work/headers, the status in $status
ask() {
    local path=$1
    shift
    status=$(curl --silent --show-error --no-buffer --max-time "$timeout" --output "$work/body" --dump-header "$work/headers" \
        --write-out '%{http_code}' "${options[@]}" "$@" "$url$path" 2> "$work/error") || true
}

expect() {
    [ "$status" = "$1" ] || die "$2: status $status instead of $1
  $(hint "$status")
  $(head -c 500 "$work/body" 2> /dev/null || true)"
}

with_token=(--config "$work/authorization")

ask /v1/models "${with_token[@]}"
expect 200 "the list of models"
mapfile -t offered < <(grep -o '"id" *: *"[^"]*"' "$work/body" | sed 's/.*: *"//; s/"$//')
[ ${#offered[@]} -gt 0 ] || die "no model is offered"
for model in "${models[@]}"; do
    printf '%s\n' "${offered[@]}" | grep -qxF "$model" || die "$model is not offered, only: ${offered[*]}"
done
[ ${#models[@]} -gt 0 ] || models=("${offered[0]}")
say "models offered: ${offered[*]}"

ask /v1/models
expect 401 "without a token nobody may ask"

for model in "${models[@]}"; do
    body='{"model":"'$model'","max_tokens":8,"temperature":0,"messages":[{"role":"user","content":"Say hello."}]'
    ask /v1/chat/completions "${with_token[@]}" --header 'Content-Type: application/json' --data "$body}"
    expect 200 "an answer of $model"
    grep -q '"completion_tokens" *: *[1-9]' "$work/body" || die "the answer of $model holds no token: $(head -c 500 "$work/body")"

    ask /v1/chat/completions "${with_token[@]}" --header 'Content-Type: application/json' --data "$body,\"stream\":true}"
    expect 200 "a stream of $model"
    grep -qi '^content-type: *text/event-stream' "$work/headers" || die "the stream of $model is not one of events"
    [ "$(grep -c '^data: {' "$work/body")" -ge 2 ] || die "the stream of $model has no events: $(head -c 500 "$work/body")"
    [ "$(grep '^data: ' "$work/body" | tail -n 1 | tr -d '\r')" = 'data: [DONE]' ] || die "the stream of $model broke off"
    say "$model answers, whole and as a stream"
done
