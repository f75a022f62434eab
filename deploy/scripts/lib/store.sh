# shellcheck shell=bash
# Where secrets are kept: in a cluster, or as files of a folder that looks like what pods mount. Sourced by make-secrets.sh.
#
# Values are files of $work all the time: none is an argument, which others could see.

platform=vlinders-platform
inference=vlinders-inference
monitoring=vlinders-monitoring

# Empty: in the cluster.
store_folder=

cluster() { kubectl ${context:+--context "$context"} "$@"; }

# store_has NAMESPACE NAME
store_has() {
    if [ -n "$store_folder" ]; then
        [ -d "$store_folder/$2" ]
    else
        local found
        found=$(cluster -n "$1" get secret "$2" --ignore-not-found -o name) || die "cannot look for secret $1/$2"
        [ -n "$found" ]
    fi
}

# store_get NAMESPACE NAME KEY FILE
store_get() {
    if [ -n "$store_folder" ]; then
        cp "$store_folder/$2/$3" "$4"
    else
        cluster -n "$1" get secret "$2" -o "jsonpath={.data['${3//./\\.}']}" | base64 -d > "$4"
    fi
    [ -s "$4" ] || die "secret $1/$2 has no key $3; delete it and run this again"
}

# store_put NAMESPACE NAME TYPE KEY=FILE…
store_put() {
    local namespace=$1 name=$2 type=$3 pair
    shift 3
    if [ -n "$store_folder" ]; then
        mkdir -p "$store_folder/$name"
        for pair in "$@"; do
            cp "${pair#*=}" "$store_folder/$name/${pair%%=*}.new"
            mv "$store_folder/$name/${pair%%=*}.new" "$store_folder/$name/${pair%%=*}"
        done
        return
    fi
    local words=()
    for pair in "$@"; do
        words+=("--from-file=$pair")
    done
    cluster -n "$namespace" create secret generic "$name" --type="$type" "${words[@]}" --dry-run=client -o yaml |
        cluster label --local -f - -o yaml app.kubernetes.io/name="$name" app.kubernetes.io/part-of=vlinders |
        cluster apply --server-side --field-manager=vlinders -f - > "$work/applied" 2>&1 || {
        # Messages of the API server name fields, not values.
        cat "$work/applied" >&2
        die "secret $namespace/$name could not be written"
    }
}
