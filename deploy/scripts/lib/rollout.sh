# How objects are applied and awaited, and what is said when they do not come up. Sourced by deploy.sh.
# shellcheck shell=bash
set -Eeuo pipefail

poll=${VLINDERS_POLL_SECONDS:-5}

apply() {
    local words=(--server-side --field-manager=vlinders)
    [ "$force_conflicts" = no ] || words+=(--force-conflicts)
    cluster apply "${words[@]}" "${@:2}" -f "$1" || die "applying failed, see above. Conflicts: somebody else has changed these fields; --force-conflicts takes them over"
}

# How a kind is named on the command line of kubectl.
word_of() {
    case $1 in
        LeaderWorkerSet) echo leaderworkersets.leaderworkerset.x-k8s.io ;;
        *) echo "${1,,}" ;;
    esac
}

# await KIND NAMESPACE NAME LABEL
await() {
    local kind=$1 namespace=$2 name=$3 label=$4
    case $kind in
        LeaderWorkerSet)
            cluster -n "$namespace" wait "$(word_of "$kind")/$name" --for=condition=Available --timeout="$timeout" ||
                { explain "$kind" "$namespace" "$name" "$label" && die "$name did not come up"; } ;;
        *)
            cluster -n "$namespace" rollout status "$(word_of "$kind")/$name" --timeout="$timeout" >&2 ||
                { explain "$kind" "$namespace" "$name" "$label" && die "$name did not come up within $timeout. When the cause is removed, run this again; to go back: deploy.sh undo"; } ;;
    esac
}

await_stage() {
    local kind namespace name label file
    while read -r kind namespace name label file; do
        ! is_workload "$kind" || await "$kind" "$namespace" "$name" "$label" < /dev/null
    done < <(objects "$1")
}

# A Job that ran before can not be changed, and has to run again.
run_job() {
    local stage=$1 kind namespace name label file
    while read -r kind namespace name label file; do
        [ "$kind" = Job ] || continue
        cluster -n "$namespace" delete job "$name" --ignore-not-found --wait=true > /dev/null < /dev/null
    done < <(objects "$stage")
    apply "$set/$stage.yaml"
    while read -r kind namespace name label file; do
        [ "$kind" != Job ] || await_job "$namespace" "$name" "$label" < /dev/null
    done < <(objects "$stage")
}

await_job() {
    local namespace=$1 name=$2 label=$3 state line said='' deadline=$((SECONDS + job_seconds))
    while :; do
        state=$(cluster -n "$namespace" get job "$name" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}')
        case " $state " in
            *" Complete "*) say "job $name is done" && return ;;
            *" Failed "*) explain Job "$namespace" "$name" "$label" && die "job $name failed; when the cause is removed, run this again" ;;
        esac
        [ $SECONDS -lt $deadline ] ||
            { explain Job "$namespace" "$name" "$label" && die "job $name is not done after $((job_seconds / 60)) minutes; it goes on, run this again later"; }
        # What it says last is its progress.
        line=$(cluster -n "$namespace" logs "job/$name" --tail=1 2> /dev/null) || line=
        [ "$line" = "$said" ] || say "job $name: $line"
        said=$line
        sleep "$poll"
    done
}

# === why ===

# explain KIND NAMESPACE NAME LABEL: what is known of the pod that is not well, and what to do
explain() {
    local namespace=$2 name=$3 label=$4 pod='' phase reasons
    say "$name is not well. Why:"
    local columns='N:.metadata.name,P:.status.phase,R:.status.conditions[?(@.type=="Ready")].status'
    columns+=',W:.status.containerStatuses[*].state.waiting.reason,I:.status.initContainerStatuses[*].state.waiting.reason'
    columns+=',T:.status.containerStatuses[*].lastState.terminated.reason,S:.status.containerStatuses[*].state.terminated.reason'
    cluster -n "$namespace" get pods -l "app.kubernetes.io/name=$label" -o "custom-columns=$columns" --no-headers > "$work/pods" 2> /dev/null || true
    read -r pod phase _ reasons < <(awk -v name="$name-" 'index($1, name) == 1 && $3 != "True" && $2 != "Succeeded"' "$work/pods") || true
    if [ -z "$pod" ]; then
        say "there is no pod of it; what the namespace says:"
        cluster -n "$namespace" get events --sort-by=.lastTimestamp 2> /dev/null | tail -n 8 >&2 || true
        say "to do: look for quotas, Pod Security and admission webhooks in these lines"
        return 0
    fi
    say "pod $pod is $phase ($reasons)"
    cluster -n "$namespace" get events --field-selector "involvedObject.name=$pod" --sort-by=.lastTimestamp 2> /dev/null | tail -n 8 >&2 || true
    # Kong waits for the secret that cert-manager makes.
    if [ "$label" = kong ] && has_kind Certificate; then cluster -n "$namespace" get certificates,challenges >&2 || true; fi
    if [ "$phase" != Pending ]; then
        say "its last words:"
        # Of the run before, if it was started again.
        { cluster -n "$namespace" logs "$pod" --all-containers --previous --tail=20 2> /dev/null ||
            cluster -n "$namespace" logs "$pod" --all-containers --tail=20 2> /dev/null; } >&2 || true
    fi
    say "to do: $(remedy "$phase $reasons")"
}

remedy() {
    case $1 in
        *ImagePull* | *ErrImage*) echo "the image can not be fetched: name and tag in the overlay, registry-credentials (docs/operations.md: Images that are not pulled)" ;;
        *OOMKilled*) echo "it needs more memory than its limit (docs/operations.md: OOMKilled)" ;;
        *CreateContainerConfigError*) echo "a secret or a ConfigMap is missing: deploy/scripts/make-secrets.sh makes secrets" ;;
        *CrashLoopBackOff* | *Error*) echo "the program ends; its last words above say why" ;;
        *ContainerCreating* | *PodInitializing*) echo "a secret, a ConfigMap or a volume it mounts is not there yet: see the events above; kong-tls comes from cert-manager (docs/operations.md: Certificates)" ;;
        *Pending*) echo "no node takes it, or its volume is missing: see the events above (docs/operations.md: Pods that stay Pending)" ;;
        *) echo "it runs but is not ready: its last words above, and kubectl describe pod (docs/operations.md: Troubleshooting)" ;;
    esac
}
