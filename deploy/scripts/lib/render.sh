# What an overlay consists of, and in which order its objects are applied. Sourced by deploy.sh.
#
# Leaves in $work/set: a file for each object, NUMBER.yaml; `index`, a line for each: STAGE KIND NAMESPACE NAME LABEL FILE
# (`-` where there is none); and STAGE.yaml, the objects of a stage together.
# shellcheck shell=bash
set -Eeuo pipefail

stages=(namespaces policies secrets configuration storage databases redis-bootstrap model-loader inference gateway monitoring others autoscaling)

# render OVERLAY
render() {
    set=$work/set
    mkdir -p "$set"
    cluster kustomize "$deploy/overlays/$1" > "$work/rendered.yaml" || die "the overlay $1 can not be rendered; is kubectl $least_version or newer?"
    # Kustomize writes every object in one form: keys of the top at the margin, of metadata two spaces in.
    awk -v set="$set" '
        function stage() {
            if (kind ~ /^(Namespace|PriorityClass|ResourceQuota|LimitRange)$/) return "namespaces"
            if (kind == "NetworkPolicy") return "policies"
            if (kind ~ /^(Secret|ExternalSecret|ClusterExternalSecret|SecretStore|ClusterSecretStore)$/) return "secrets"
            if (kind ~ /^(ServiceAccount|Role|RoleBinding|ClusterRole|ClusterRoleBinding|ConfigMap)$/) return "configuration"
            if (kind ~ /^(StorageClass|PersistentVolumeClaim)$/) return "storage"
            if (kind ~ /^(HorizontalPodAutoscaler|ScaledObject|TriggerAuthentication)$/) return "autoscaling"
            if (label ~ /^(postgres|postgres-backup|redis|kong-redis)$/) return "databases"
            if (label == "redis-bootstrap" || label == "model-loader") return label
            if (label == "head" || label ~ /^worker/) return "inference"
            if (label == "kong" || kind ~ /^(Certificate|Issuer|ClusterIssuer)$/) return "gateway"
            if (namespace ~ /^vlinders-(monitoring|gpu-metrics)$/) return "monitoring"
            return "others"
        }
        function finish(    file) {
            if (kind == "") return
            file = sprintf("%s/%03d.yaml", set, ++number)
            printf "%s", text > file
            close(file)
            printf "%s %s %s %s %s %s\n", stage(), kind, namespace == "" ? "-" : namespace, name, label == "" ? "-" : label, file > (set "/index")
            kind = namespace = name = label = text = ""
            section = ""
        }
        /^---/ { finish(); next }
        { text = text $0 "\n" }
        /^[A-Za-z]/ { section = $1 }
        /^kind:/ { kind = $2 }
        section == "metadata:" && /^  namespace:/ { namespace = $2 }
        section == "metadata:" && /^  name:/ { name = $2 }
        section == "metadata:" && /^    app\.kubernetes\.io\/name:/ { label = $2 }
        END { finish() }
    ' "$work/rendered.yaml"
    [ -s "$set/index" ] || die "the overlay $1 is empty"
    local stage kind namespace name label file
    while read -r stage kind namespace name label file; do
        { echo ---; cat "$file"; } >> "$set/$stage.yaml"
    done < "$set/index"
}

# objects STAGE [KIND]: their lines of the index, without the stage
objects() {
    awk -v stage="$1" -v kind="${2:-}" '$1 == stage && (kind == "" || $2 == kind) { print $2, $3, $4, $5, $6 }' "$set/index"
}

has_kind() { awk -v kind="$1" '$2 == kind { found = 1 } END { exit !found }' "$set/index"; }

is_workload() { [[ $1 =~ ^(Deployment|StatefulSet|DaemonSet|LeaderWorkerSet)$ ]]; }

# The models of the overlay, by name. Their ConfigMap holds models.yaml as text.
model_names() {
    local file
    file=$(awk '$2 == "ConfigMap" && $4 ~ /^models(-|$)/ { print $6; exit }' "$set/index")
    [ -z "$file" ] || sed -n 's/^ *- name: *"\{0,1\}\([^"# ]*\)"\{0,1\}.*/\1/p' "$file"
}

slug() { printf %s "${1,,}" | sed 's/[^a-z0-9]\{1,\}/-/g; s/^-//; s/-$//' | cut -c -50; }
