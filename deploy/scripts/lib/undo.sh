# What a run has changed, and how that is taken back. Sourced by deploy.sh.
#
# The record is a file of the operator's folder, a line for each object, written before the object is applied:
#   KIND NAMESPACE NAME STATE REVISION     STATE is new or there; REVISION what a workload had before, `-` for others
# shellcheck shell=bash
set -Eeuo pipefail

columns='K:.kind,NS:.metadata.namespace,N:.metadata.name'
columns+=',D:.metadata.annotations.deployment\.kubernetes\.io/revision,S:.status.updateRevision,G:.metadata.generation'

# What of FILE is in the cluster: lines KIND NAMESPACE NAME REVISION
present() {
    cluster get -f "$1" --ignore-not-found --no-headers -o "custom-columns=$columns" | sed 's/<none>/-/g' | awk '
        $1 == "Deployment" { print $1, $2, $3, $4; next }
        $1 == "StatefulSet" { print $1, $2, $3, $5; next }
        $1 == "DaemonSet" { print $1, $2, $3, $6; next }
        { print $1, $2, $3, "-" }'
}

begin_record() {
    mkdir -p "$(dirname "$record")"
    : > "$record.new"
    mv "$record.new" "$record"
    echo "# overlay $overlay, $(date -u +%FT%TZ)" >> "$record"
}

# record_stage STAGE
record_stage() {
    present "$set/$1.yaml" > "$work/present"
    local kind namespace name label file revision
    while read -r kind namespace name label file; do
        revision=$(awk -v k="$kind" -v ns="$namespace" -v n="$name" '$1 == k && $2 == ns && $3 == n { print $4 }' "$work/present")
        if [ -n "$revision" ]; then
            echo "$kind $namespace $name there $revision"
        else
            echo "$kind $namespace $name new -"
        fi
    done < <(objects "$1") >> "$record"
}

is_kept() { [[ $1 =~ ^(Namespace|PersistentVolumeClaim|StorageClass|PriorityClass|Secret)$ ]]; }

in_namespace() { [ "$1" = - ] || echo "--namespace=$1"; }

# Back to what a workload was, if it is something else now.
roll_back() {
    local kind=$1 namespace=$2 name=$3 before=$4 now words=()
    case $kind in
        Deployment)
            now=$(cluster -n "$namespace" get deployment "$name" -o 'jsonpath={.metadata.annotations.deployment\.kubernetes\.io/revision}')
            words=(--to-revision="$before") ;;
        StatefulSet)
            now=$(cluster -n "$namespace" get statefulset "$name" -o 'jsonpath={.status.updateRevision}')
            # Its revisions are objects, of which undo wants the number.
            [ "$now" = "$before" ] || words=(--to-revision="$(cluster -n "$namespace" get controllerrevision "$before" -o 'jsonpath={.revision}')") ;;
        DaemonSet) now=$(cluster -n "$namespace" get daemonset "$name" -o 'jsonpath={.metadata.generation}') ;;
    esac
    if [ "$now" = "$before" ]; then
        say "$kind $name was not changed"
        return
    fi
    cluster -n "$namespace" rollout undo "$(word_of "$kind")/$name" "${words[@]}" >&2
    timeout=$undo_timeout await "$kind" "$namespace" "$name" "$(awk -v k="$kind" -v n="$name" '$2 == k && $4 == n { print $5 }' "$set/index")"
}

# undo LINES: takes the lines of a record back, the last first
undo() {
    local kind namespace name state revision deleted=() kept=() changed=()
    while read -r kind namespace name state revision; do
        case $state in
            new)
                if is_kept "$kind" && [ "$purge" = no ]; then kept+=("$kind $name"); else deleted+=("$kind $namespace $name"); fi ;;
            there)
                ! [[ $kind =~ ^(Deployment|StatefulSet|DaemonSet)$ ]] || changed+=("$kind $namespace $name $revision") ;;
        esac
    done < <(grep -v '^#' "$1" | sed '1!G;h;$!d')

    local line
    for line in "${changed[@]}"; do
        # shellcheck disable=SC2086 # four words
        roll_back $line < /dev/null
    done
    if [ ${#deleted[@]} -eq 0 ]; then
        say "nothing is to be deleted"
        return
    fi
    say "new, and to be deleted:"
    printf '  %s\n' "${deleted[@]}" >&2
    [ ${#kept[@]} -eq 0 ] || say "kept, since data may be in them (--purge deletes them too): ${kept[*]}"
    if [ "$purge" = yes ] && [ "$yes" = no ]; then
        local typed
        [ -t 0 ] || die "nobody is here to ask; say --yes if you mean it"
        read -r -p "--purge deletes databases and models for good. To go on, type the name of the context: " typed
        [ "$typed" = "$context" ] || die "nothing was deleted"
    else
        agreed "Delete these ${#deleted[@]} objects?" || die "nothing was deleted"
    fi
    for line in "${deleted[@]}"; do
        read -r kind namespace name <<< "$line"
        # shellcheck disable=SC2046 # no word at all where there is no namespace
        cluster $(in_namespace "$namespace") delete "$(word_of "$kind")" "$name" --ignore-not-found --wait=true >&2 < /dev/null
    done
    # Claims of StatefulSets are not in the set.
    if [ "$purge" = yes ]; then
        say "volumes of classes that retain stay, and cost: kubectl get pv"
    else
        say "claims stay: kubectl get pvc --all-namespaces -l app.kubernetes.io/part-of=vlinders"
    fi
}
