#!/usr/bin/env bash
# Installs the platform into a cluster, or brings it up to date: looks first, applies in order, waits, says why something fails.
#
#   deploy.sh [OPTIONS] install       preflight, apply stage by stage, wait for each, ask the platform once
#   deploy.sh [OPTIONS] diff          what install would change
#   deploy.sh [OPTIONS] status        what is there and whether it is well
#   deploy.sh [OPTIONS] smoke         ask the platform once, as a client
#   deploy.sh [OPTIONS] undo          take back what the last install changed: workloads get the revision they had, new objects go
#   deploy.sh [OPTIONS] undo --all    remove the platform
#
#   --overlay NAME        a folder of deploy/overlays (default production)
#   --context NAME        of kubectl (default: the current one, which is asked about)
#   --yes                 do not ask
#   --dry-run             of install: let the API server check everything, and change nothing
#   --from FOLDER         what make-secrets.sh can not make up: registry.json, hf-token, tls.crt, tls.key …
#   --jwt-private-key F   what tokens are signed with (default ~/.config/vlinders/CONTEXT/jwt-private.pem, made if missing)
#   --host NAME           what the gateway is called (default: what its certificate says)
#   --timeout TIME        how long each workload may take to come up (default 30m)
#   --loading MINUTES     how long loading the models may take (default 240)
#   --skip-gpu-check      nodes with GPUs are added when pods wait for them
#   --skip-smoke          do not ask the platform at the end
#   --force-conflicts     take over fields that others have changed
#   --purge               of undo: claims, namespaces and secrets too. Databases and models are lost
#
# Preflight shows the cluster (current-context unless told otherwise) and asks; it looks for versions, permissions, CRDs of what the
# overlay uses, metrics-server, each storageclass and its driver, and GPUs, and says all that is missing at once. Then stages are
# applied in order (policies before pods), server-side, and `rollout status` waits for each workload.
# Everything may be run again: what is there and well is left alone.
set -Eeuo pipefail

deploy=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$deploy/scripts/lib/say.sh"
. "$deploy/scripts/lib/store.sh"
. "$deploy/scripts/lib/render.sh"
. "$deploy/scripts/lib/preflight.sh"
. "$deploy/scripts/lib/rollout.sh"
. "$deploy/scripts/lib/undo.sh"

least_version=1.28
command='' overlay=production context='' yes=no dry_run=no given='' private_key='' host='' timeout=30m loading=240
skip_gpu_check=no skip_smoke=no force_conflicts=no purge=no all=no undo_timeout=30m
while [ $# -gt 0 ]; do
    case $1 in
        install | diff | status | smoke | undo) command=$1 ;;
        --diff) command="diff" ;;
        --overlay) overlay=${2:?--overlay NAME} && shift ;;
        --context) context=${2:?--context NAME} && shift ;;
        --yes) yes=yes ;;
        --dry-run) dry_run=yes ;;
        --from) given=${2:?--from FOLDER} && shift ;;
        --jwt-private-key) private_key=${2:?--jwt-private-key FILE} && shift ;;
        --host) host=${2:?--host NAME} && shift ;;
        --timeout) timeout=${2:?--timeout TIME} && shift ;;
        --loading) loading=${2:?--loading MINUTES} && shift ;;
        --skip-gpu-check) skip_gpu_check=yes ;;
        --skip-smoke) skip_smoke=yes ;;
        --force-conflicts) force_conflicts=yes ;;
        --purge) purge=yes ;;
        --all) all=yes ;;
        -h | --help) help && exit ;;
        *) die "what is $1? see --help" ;;
    esac
    shift
done
[ -n "$command" ] || die "say what: install, diff, status, smoke or undo; see --help"
[ -d "$deploy/overlays/$overlay" ] || die "there is no overlay $overlay in $deploy/overlays"
job_seconds=$((loading * 60))

stage=
forward=
make_work
finish() {
    [ -z "$forward" ] || kill "$forward" 2> /dev/null || true
    rm -rf "$work"
}
interrupted() {
    trap - INT TERM
    say "interrupted${stage:+ in stage $stage}. What was applied stays; run this again to go on, or: deploy.sh undo"
    exit 130
}
failed() { say "line $1 of ${2##*/} failed: ${3%%$'\n'*}"; }
trap finish EXIT
trap interrupted INT TERM
trap 'failed "$LINENO" "${BASH_SOURCE[0]}" "$BASH_COMMAND"' ERR

# === what is asked for ===

check_cluster
state=$(state_folder "$context")
record=$state/last-$overlay
[ -n "$private_key" ] || private_key=$state/jwt-private.pem
render "$overlay"

make_secrets() {
    if has_kind ExternalSecret; then
        local kind namespace name label file
        while read -r kind namespace name label file; do
            cluster -n "$namespace" wait "externalsecret/$name" --for=condition=Ready --timeout=3m >&2 < /dev/null ||
                die "secret $name does not come from its store: kubectl -n $namespace describe externalsecret $name"
        done < <(objects secrets ExternalSecret)
        return
    fi
    local words=(--context "$context" --jwt-private-key "$private_key")
    [ -z "$given" ] || words+=(--from "$given")
    has_kind Certificate || words+=(--self-signed "${host:-vlinders.local}")
    "$deploy/scripts/make-secrets.sh" "${words[@]}" || die "the secrets are not complete"
}

install() {
    preflight
    if [ "$dry_run" = yes ]; then
        try
        return
    fi
    agreed "Install overlay $overlay into context $context?" || die "nothing was changed"
    begin_record
    for stage in "${stages[@]}"; do
        # Secrets are made in any case.
        [ -e "$set/$stage.yaml" ] || [ "$stage" = secrets ] || continue
        say "== $stage"
        [ ! -e "$set/$stage.yaml" ] || record_stage "$stage"
        case $stage in
            secrets)
                [ ! -e "$set/secrets.yaml" ] || apply "$set/secrets.yaml"
                make_secrets ;;
            redis-bootstrap | model-loader) run_job "$stage" ;;
            *)
                apply "$set/$stage.yaml"
                await_stage "$stage" ;;
        esac
    done
    stage=
    say "everything is applied and up"
    if [ "$skip_smoke" = no ]; then smoke; fi
    where
}

# The API server checks every object as if it were applied. It knows no namespaces that are not there yet.
try() {
    local file namespace
    for stage in "${stages[@]}"; do
        [ -e "$set/$stage.yaml" ] || continue
        say "== $stage (nothing is changed)"
        namespace=$(objects "$stage" | awk '$2 != "-" { print $2; exit }')
        if [ -n "$namespace" ] && [ -z "$(cluster get namespace "$namespace" --ignore-not-found -o name)" ]; then
            say "note: namespace $namespace is not there yet, so only the form is checked"
            cluster apply --dry-run=client -f "$set/$stage.yaml" > /dev/null || die "objects of stage $stage are refused"
        else
            apply "$set/$stage.yaml" --dry-run=server > /dev/null
        fi
    done
    stage=
    say "the API server takes everything; nothing was changed"
}

where() {
    local address
    address=$(cluster -n $platform get service kong-gateway -o 'jsonpath={.status.loadBalancer.ingress[0].hostname}{.status.loadBalancer.ingress[0].ip}' 2> /dev/null) || address=
    if [ -n "$address" ]; then
        say "the gateway is at $address: let the name of its certificate point there"
    else
        say "the gateway has no address yet: kubectl -n $platform get service kong-gateway"
    fi
}

# Through a port-forward, so that neither DNS nor the load balancer has to be ready; the certificate must be the one in the secret.
smoke() {
    need curl openssl
    [ -e "$private_key" ] || die "smoke needs the private key of tokens, $private_key: --jwt-private-key FILE"
    "$deploy/scripts/make-token.sh" --consumer smoke --key "$private_key" --ttl 15m --out "$work/token"
    cluster -n $platform get secret kong-tls -o 'jsonpath={.data.tls\.crt}' | base64 -d > "$work/tls.crt"
    local name=$host
    [ -n "$name" ] || name=$(openssl x509 -in "$work/tls.crt" -noout -ext subjectAltName | sed -n 's/.*DNS:\([^,]*\).*/\1/p' | head -n 1)
    [ -n "$name" ] || die "the certificate of the gateway names no host; give --host NAME"
    # Before somebody reads it.
    : > "$work/forward"
    cluster -n $platform port-forward service/kong-gateway :443 > "$work/forward" 2>&1 &
    forward=$!
    local port='' tries
    for ((tries = 0; tries < 100; tries++)); do
        port=$(sed -n 's/^Forwarding from 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/forward")
        [ -z "$port" ] || break
        kill -0 "$forward" 2> /dev/null || break
        sleep 0.2
    done
    [ -n "$port" ] || die "no way to the gateway: $(cat "$work/forward")"

    local model ready words=()
    while read -r model; do
        ready=$(cluster -n $inference get deployment "worker-$(slug "$model")" --ignore-not-found -o 'jsonpath={.status.readyReplicas}' < /dev/null)
        if [ "${ready:-0}" -gt 0 ]; then words+=(--model "$model"); else say "$model has no worker now; it is not asked"; fi
    done < <(model_names)
    "$deploy/scripts/smoke.sh" --url "https://${name/#\*/smoke}" --connect-to "127.0.0.1:$port" --ca-file "$work/tls.crt" \
        --token-file "$work/token" "${words[@]}" || die "the platform does not answer as it should"
    kill "$forward" 2> /dev/null || true
    forward=
    say "the platform answers"
}

status() {
    local kind namespace name label file ready wanted wrong=0
    printf '%-14s %-22s %-32s %s\n' KIND NAMESPACE NAME READY
    while read -r _ kind namespace name label file; do
        is_workload "$kind" || continue
        read -r ready wanted < <(cluster -n "$namespace" get "$(word_of "$kind")" "$name" --ignore-not-found --no-headers \
            -o 'custom-columns=R:.status.readyReplicas,W:.spec.replicas,DR:.status.numberReady,DW:.status.desiredNumberScheduled' < /dev/null |
            awk '{ for (i = 1; i <= NF; i++) if ($i == "<none>") $i = ""; print ($1 $3 == "" ? 0 : $1 $3), ($2 $4 == "" ? 0 : $2 $4) }') || { ready='' wanted=''; }
        if [ -z "$wanted" ]; then
            printf '%-14s %-22s %-32s %s\n' "$kind" "$namespace" "$name" "not there"
            wrong=$((wrong + 1))
        else
            printf '%-14s %-22s %-32s %s\n' "$kind" "$namespace" "$name" "$ready/$wanted"
            [ "$ready" -ge "$wanted" ] || wrong=$((wrong + 1))
        fi
    done < "$set/index"
    local part
    for part in horizontalpodautoscalers scaledobjects.keda.sh certificates.cert-manager.io persistentvolumeclaims jobs; do
        cluster get "$part" --all-namespaces -l app.kubernetes.io/part-of=vlinders 2> /dev/null || true
    done
    cluster -n $platform get service kong-gateway --ignore-not-found
    [ $wrong = 0 ] || die "$wrong workloads are not well; kubectl describe says why"
}

case $command in
    install) install ;;
    diff)
        outcome=0
        cluster diff --server-side --field-manager=vlinders -f "$work/rendered.yaml" || outcome=$?
        [ $outcome -le 1 ] || die "the difference could not be found out"
        [ $outcome = 1 ] || say "nothing would change" ;;
    status) status ;;
    smoke) smoke ;;
    undo)
        if [ "$all" = yes ]; then
            awk '{ print $2, $3, $4, "new", "-" }' "$set/index" > "$work/all"
            record=$work/all
        fi
        [ -e "$record" ] || die "no install of overlay $overlay into $context is on record in $state; to remove everything: undo --all"
        say "undoing $(sed -n 's/^# //p' "$record")"
        undo "$record"
        [ "$all" = yes ] || mv "$record" "$record.undone" ;;
esac
