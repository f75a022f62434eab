# What a cluster must have before anything is changed in it. Sourced by deploy.sh.
# shellcheck shell=bash
set -Eeuo pipefail

wrong=0

# A failed check does not end the others: all that is missing is said at once.
miss() {
    say "missing: $1
  $2"
    wrong=$((wrong + 1))
}

# The version in the part $2 (clientVersion or serverVersion) of `kubectl version -o json`, as MAJOR.MINOR.
version_of() {
    awk -v part="\"$2\"" '
        index($0, part) { inside = 1 }
        inside && /"gitVersion"/ { if (match($0, /v[0-9]+\.[0-9]+/)) print substr($0, RSTART + 1, RLENGTH - 1); exit }
    ' "$1"
}

at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# The cluster is the one that is meant, can be reached, and is new enough.
check_cluster() {
    need kubectl
    if [ -z "$context" ]; then
        context=$(kubectl config current-context 2> /dev/null) ||
            die "no context is chosen; see: kubectl config get-contexts   and give --context NAME"
    fi
    cluster version -o json > "$work/version" 2> "$work/error" || {
        cat "$work/error" >&2
        die "the cluster of context $context does not answer"
    }
    local client server
    client=$(version_of "$work/version" clientVersion)
    server=$(version_of "$work/version" serverVersion)
    [ -n "$server" ] || die "the cluster of context $context does not say its version"
    at_least "$client" $least_version || die "kubectl is $client; $least_version or newer is needed"
    at_least "$server" $least_version || die "the cluster is Kubernetes $server; $least_version or newer is needed"
    say "context $context: $(cluster config view --minify -o 'jsonpath={.clusters[0].cluster.server}'), Kubernetes $server"
}

# Who applies cluster-wide objects must be nearly an administrator; the rest is asked one by one.
check_permissions() {
    ! cluster auth can-i '*' '*' --all-namespaces > /dev/null 2>&1 || return 0
    local kind resource
    while read -r kind; do
        case $kind in
            NetworkPolicy) resource=networkpolicies.networking.k8s.io ;;
            StorageClass) resource=storageclasses.storage.k8s.io ;;
            PriorityClass) resource=priorityclasses.scheduling.k8s.io ;;
            Certificate) resource=certificates.cert-manager.io ;;
            Issuer | ClusterIssuer) resource=${kind,,}s.cert-manager.io ;;
            ScaledObject) resource=scaledobjects.keda.sh ;;
            *) resource=${kind,,}s ;;
        esac
        cluster auth can-i patch "$resource" --all-namespaces > /dev/null 2>&1 ||
            miss "you may not patch $resource" "ask an administrator of the cluster, or use a context that may"
    done < <(awk '{ print $2 }' "$set/index" | sort -u)
}

check_crd() {
    cluster get crd "$1" > /dev/null 2>&1 || miss "$1 ($2)" "$3"
}

# Parts that the overlay uses and the cluster may lack.
check_parts() {
    ! has_kind ScaledObject || check_crd scaledobjects.keda.sh KEDA "install KEDA 2.17 or newer into the namespace keda, or take the component autoscaling-keda out of the overlay"
    ! has_kind Certificate || check_crd certificates.cert-manager.io cert-manager "install cert-manager, or take the component tls-cert-manager out and give tls.crt and tls.key"
    ! has_kind LeaderWorkerSet || check_crd leaderworkersets.leaderworkerset.x-k8s.io LeaderWorkerSet "install LeaderWorkerSet, which a model of several nodes needs"
    ! has_kind ExternalSecret || check_crd externalsecrets.external-secrets.io external-secrets "install the External Secrets Operator, or take the component external-secrets out: deploy.sh then makes the secrets"
    if has_kind HorizontalPodAutoscaler; then
        [ "$(cluster get apiservice v1beta1.metrics.k8s.io -o 'jsonpath={.status.conditions[?(@.type=="Available")].status}' 2> /dev/null)" = True ] ||
            miss "metrics-server, without which autoscalers know no CPU load" "install metrics-server, and wait until \`kubectl top nodes\` answers"
    fi
}

# Classes that claims name must be there or come with the overlay; claims that name none need a default.
check_storage() {
    local class driver there
    there=$(cluster get storageclass -o 'custom-columns=N:.metadata.name,D:.metadata.annotations.storageclass\.kubernetes\.io/is-default-class' --no-headers 2> /dev/null) || there=
    while read -r class; do
        awk -v name="$class" '$2 == "StorageClass" && $4 == name { found = 1 } END { exit !found }' "$set/index" ||
            grep -q "^$class " <<< "$there" ||
            miss "storage class $class" "see: kubectl get storageclass   and name one that is there in the overlay"
    done < <(sed -n 's/^ *storageClassName: *//p' "$work/rendered.yaml" | sort -u)
    if ! grep -q '^ *storageClassName:' "$work/rendered.yaml"; then
        grep -q ' true$' <<< "$there" || miss "a default storage class" "see: kubectl get storageclass   and mark one with the annotation storageclass.kubernetes.io/is-default-class=true"
    fi
    while read -r driver; do
        cluster get csidriver "$driver" > /dev/null 2>&1 || miss "CSI driver $driver" "install it (on EKS it is an add-on), or choose another provisioner in the overlay"
    done < <(sed -n 's/^provisioner: *//p' "$work/rendered.yaml" | sort -u)
}

# GPUs of the pods that are started first: each pod needs them on one node.
check_gpus() {
    local most total nodes best sum
    read -r most total < <(awk '
        function finish() { if (gpus) { n = replicas == "" ? 1 : replicas; total += gpus * n; if (gpus > most) most = gpus } gpus = 0; replicas = "" }
        /^---/ { finish() }
        /^  replicas:/ { replicas = $2 }
        /^ *limits:/ { limits = 1 }
        /^ *requests:/ { limits = 0 }
        limits && /nvidia\.com\/gpu:/ { gsub(/"/, "", $2); gpus += $2 }
        END { finish(); print most + 0, total + 0 }' "$work/rendered.yaml")
    [ "$most" -gt 0 ] || return 0
    nodes=$(cluster get nodes -o 'custom-columns=G:.status.allocatable.nvidia\.com/gpu' --no-headers 2> /dev/null) || nodes=
    read -r best sum < <(awk '$1 ~ /^[0-9]+$/ { sum += $1; if ($1 > best) best = $1 } END { print best + 0, sum + 0 }' <<< "$nodes")
    if [ "$best" -lt "$most" ] || [ "$sum" -lt "$total" ]; then
        miss "GPUs: models need $total, $most of them on one node; nodes have $sum, at most $best on one" \
            "add GPU nodes (and NVIDIA's device plugin), or give --skip-gpu-check where nodes are added when pods wait"
    fi
}

# Not an error: pods behind a LoadBalancer that never gets an address work all the same.
check_load_balancer() {
    grep -q '^  type: LoadBalancer' "$work/rendered.yaml" || return 0
    cluster get nodes -o 'custom-columns=P:.spec.providerID' --no-headers 2> /dev/null | grep -qv '<none>' ||
        cluster get crd ipaddresspools.metallb.io > /dev/null 2>&1 ||
        say "note: these nodes are of no cloud, and there is no MetalLB: the gateway may get no address (port-forward works)"
}

check_placeholders() {
    local found
    found=$(grep -o '[a-z.]*example\.\(org\|com\)\|fs-00000000[0-9a-f]*' "$work/rendered.yaml" | sort -u | tr '\n' ' ') || true
    [ -z "$found" ] || miss "your own names instead of: $found" "write them into deploy/overlays/$overlay/site.yaml"
}

preflight() {
    check_permissions
    check_parts
    check_storage
    [ "$skip_gpu_check" = yes ] || check_gpus
    check_load_balancer
    check_placeholders
    [ $wrong = 0 ] || die "$wrong things are missing; nothing was changed"
    say "the cluster has what the overlay $overlay needs"
}
