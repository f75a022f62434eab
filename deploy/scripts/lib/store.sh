# Where secrets are kept: in a cluster, or as files of a folder that looks like what pods mount. Sourced by make-secrets.sh.
#
# Values are files of $work all the time: none is an argument, which others could see.
# shellcheck shell=bash
set -Eeuo pipefail

platform=vlinders-platform
inference=vlinders-inference
monitoring=vlinders-monitoring

# Empty: in the cluster.
store_folder=

cluster() { kubectl ${context:+--context "$context"} "$@"; }

# store_load: what is there, as files of $work/there/NAMESPACE/NAME, one for each key, and a folder to be applied
store_load() {
    mkdir -p "$work/there"
    local namespace name key value
    if [ -n "$store_folder" ]; then
        mkdir -p "$store_folder"
        for namespace in $platform $inference $monitoring; do
            cp -R "$store_folder/." "$work/there/$namespace"
        done
        return
    fi
    for namespace in $platform $inference $monitoring; do
        cluster -n "$namespace" get secrets -o \
            'go-template={{range .items}}{{$name := .metadata.name}}{{range $key, $value := .data}}{{$name}} {{$key}} {{$value}}{{"\n"}}{{end}}{{end}}' \
            > "$work/secrets" || die "cannot look for secrets in $namespace; nothing was changed"
        while read -r name key value; do
            mkdir -p "$work/there/$namespace/$name"
            base64 -d <<< "$value" > "$work/there/$namespace/$name/$key"
        done < "$work/secrets"
    done
}

# store_has NAMESPACE NAME
store_has() { [ -d "$work/there/$1/$2" ]; }

# store_get NAMESPACE NAME KEY FILE
store_get() {
    [ -s "$work/there/$1/$2/$3" ] || die "secret $1/$2 has no key $3; delete it and run this again"
    cp "$work/there/$1/$2/$3" "$4"
}

# store_add NAMESPACE NAME TYPE KEY=FILE…: written by the next store_write
store_add() {
    local namespace=$1 name=$2 type=$3 pair
    shift 3
    mkdir -p "$work/there/$namespace/$name"
    for pair in "$@"; do
        cp "${pair#*=}" "$work/there/$namespace/$name/${pair%%=*}"
    done
    if [ -n "$store_folder" ]; then
        mkdir -p "$store_folder/$name"
        for pair in "$@"; do
            cp "${pair#*=}" "$store_folder/$name/${pair%%=*}.new"
            mv "$store_folder/$name/${pair%%=*}.new" "$store_folder/$name/${pair%%=*}"
        done
        return
    fi
    {
        printf -- '---\napiVersion: v1\nkind: Secret\ntype: %s\nmetadata:\n  name: %s\n  namespace: %s\n' "$type" "$name" "$namespace"
        printf '  labels:\n    app.kubernetes.io/name: %s\n    app.kubernetes.io/part-of: vlinders\ndata:\n' "$name"
        for pair in "$@"; do
            printf '  %s: %s\n' "${pair%%=*}" "$(base64 < "${pair#*=}" | tr -d '\n')"
        done
    } >> "$work/secrets.yaml"
}

store_write() {
    [ -s "$work/secrets.yaml" ] || return 0
    # Messages of the API server name fields, not values.
    cluster apply --server-side --field-manager=vlinders -f - < "$work/secrets.yaml" > "$work/applied" 2>&1 || {
        cat "$work/applied" >&2
        die "secrets could not be written"
    }
    rm "$work/secrets.yaml"
}

# store_put …: as store_add, and at once
store_put() {
    store_add "$@"
    store_write
}
