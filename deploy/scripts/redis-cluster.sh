#!/bin/sh
# Decides how separate Redis servers become one cluster, and how a node that lost its state or its address comes back into it.
#
#   REDIS_NODES="HOST:PORT …" REDIS_PASSWORD_FILE=FILE redis-cluster.sh
#
# May run at any time and any number of times: a cluster that is whole is left alone. Written for the plain sh of small images.
set -eu

nodes=${REDIS_NODES:?name the nodes: REDIS_NODES="redis-0.redis:6379 redis-1.redis:6379 …"}
replicas=${REDIS_REPLICAS:-1}          # of each master
patience=${REDIS_PATIENCE:-300}        # seconds until every node has to answer, and again until the cluster is well
cli=${REDIS_CLI:-redis-cli}
slots=16384

say() { echo "redis-cluster: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# By the environment, since arguments can be seen by everybody on a machine.
if [ -n "${REDIS_PASSWORD_FILE:-}" ]; then
    REDISCLI_AUTH=$(cat "$REDIS_PASSWORD_FILE") || die "$REDIS_PASSWORD_FILE cannot be read"
    export REDISCLI_AUTH
fi

# === asking one node; $1 is HOST:PORT ===

ask() {
    address=$1
    shift
    "$cli" -h "${address%:*}" -p "${address##*:}" "$@" 2>&1 | tr -d '\r'
}

# A field of CLUSTER INFO.
info() { ask "$1" cluster info | sed -n "s/^$2://p"; }
# A field of INFO replication.
replication() { ask "$1" info replication | sed -n "s/^$2://p"; }
id_of() { ask "$1" cluster myid; }
knows_nobody() { [ "$(info "$1" cluster_known_nodes)" = 1 ]; }
is_empty() { [ "$(ask "$1" dbsize)" = 0 ]; }

# Nodes know each other by address, and a pod's changes with every start.
resolve() {
    host=${1%:*}
    case $host in
        *[!0-9.]*) host=$(getent hosts "$host" | sed -n '1s/[[:space:]].*//p') ;;
    esac
    [ -n "$host" ] || return 1
    echo "$host:${1##*:}"
}

# === waiting ===

now() { date +%s; }

# until_true WHAT COMMAND…: once a second
until_true() {
    what=$1
    shift
    deadline=$(($(now) + patience))
    until "$@"; do
        [ "$(now)" -lt "$deadline" ] || return 1
        [ -z "$what" ] || say "waiting: $what"
        what=
        sleep 1
    done
}

answers() {
    answer=$(ask "$1" ping) || true
    case $answer in
        PONG) return 0 ;;
        *NOAUTH* | *WRONGPASS* | *"AUTH failed"* | *"without any password"*)
            die "$1 refuses the password; secret redis-auth and the servers disagree (were they restarted after a rotation?)" ;;
    esac
    return 1
}

resolves() { resolve "$1" > /dev/null; }

is_well() {
    for node in $addresses; do
        [ "$(info "$node" cluster_state)" = ok ] || return 1
        [ "$(info "$node" cluster_known_nodes)" = "$count" ] || return 1
        [ "$(info "$node" cluster_slots_assigned)" = $slots ] || return 1
        # A replica that nobody reaches, as after a change of its address, leaves the state `ok`.
        ! ask "$node" cluster nodes | grep -qE 'fail|noaddr|handshake|disconnected' || return 1
        # A replica that never got the data of its master would not replace it.
        [ "$(replication "$node" role)" = master ] || [ "$(replication "$node" master_link_status)" = up ] || return 1
    done
}

count=0
for node in $nodes; do
    until_true "$node has an address" resolves "$node" || die "$node has no address after $patience s; is the pod there?"
    until_true "$node answers" answers "$node" || die "$node does not answer after $patience s"
    count=$((count + 1))
done
# Once all are there: an address that was looked up early may have gone with a restart.
addresses=
for node in $nodes; do
    address=$(resolve "$node") || die "$node lost its address; run this again"
    [ "$(info "$address" cluster_state)" != "" ] || die "$node does not run as a node of a cluster (cluster-enabled yes)"
    addresses="$addresses $address"
done

if is_well; then
    say "the cluster of $count nodes is well; nothing to do"
    exit 0
fi

# === what is there ===

# Whoever knows others and sees every slot assigned speaks for the cluster.
speaker=
for node in $addresses; do
    if ! knows_nobody "$node" && [ "$(info "$node" cluster_slots_assigned)" = $slots ]; then
        speaker=$node
        break
    fi
done

# === no cluster: create one ===

if [ -z "$speaker" ]; then
    for node in $addresses; do
        is_empty "$node" || die "$node holds data but no node knows a whole cluster, so nothing is touched.
  To begin anew without that data:  redis-cli -h ${node%:*} -p ${node##*:} flushall   then run this again"
    done
    # What an interrupted attempt left behind would be refused.
    for node in $addresses; do
        ask "$node" cluster reset hard > /dev/null
    done
    say "creating a cluster of $count nodes, $replicas for each master to be replaced by"
    # shellcheck disable=SC2086 # one argument for each address
    TERM=dumb "$cli" --cluster create $addresses --cluster-replicas "$replicas" --cluster-yes >&2 ||
        die "the cluster could not be created; run this again"
    until_true "all nodes agree" is_well || die "the nodes do not agree after $patience s: redis-cli cluster nodes"
    say "the cluster is created"
    exit 0
fi

# === a cluster that is not whole: mend it ===

living=
lost=
for node in $addresses; do
    living="$living $(id_of "$node")"
    if knows_nobody "$node"; then
        lost="$lost $node"
    elif [ "$node" != "$speaker" ]; then
        # Tells both sides the address of today; does nothing where they are in touch.
        ask "$speaker" cluster meet "${node%:*}" "${node##*:}" > /dev/null
    fi
done

is_living() { case " $living " in *" $1 "*) ;; *) return 1 ;; esac; }

# Ids with slots that no server has any more.
gone_masters() {
    for id in $(ask "$speaker" cluster nodes | awk '$3 ~ /master/ && NF > 8 { print $1 }'); do
        is_living "$id" || echo "$id"
    done
}

# A master that comes back without its state at its old address is not seen as failed by the others, so its replica
# waits for ever. Every server has answered, so that nobody has the id of this master is certain.
replace_the_gone() {
    for gone in $(gone_masters); do
        for node in $addresses; do
            if ask "$speaker" cluster nodes | grep "^$(id_of "$node") " | grep -q "slave $gone "; then
                say "$node takes the place of $gone, which is gone"
                ask "$node" cluster failover takeover > /dev/null
                break
            fi
        done
    done
}
is_covered() { [ -z "$(gone_masters)" ] && [ "$(info "$speaker" cluster_state)" = ok ]; }

replace_the_gone
until_true "every slot has a master" is_covered || die "some slots have no master after $patience s: a master and its replica lost their state.
  Without the data of these slots:  redis-cli --cluster fix $speaker --cluster-fix-with-unreachable-masters   then run this again"

sees() { ask "$1" cluster nodes | grep -q "^$2 .*connected"; }

is_replica() { ask "$speaker" cluster nodes | grep "^$1 " | grep -q "slave $2 "; }

# The master with the fewest replicas, as an id.
neediest_master() {
    ask "$speaker" cluster nodes | awk '
        $3 ~ /fail|noaddr|handshake/ { next }
        $3 ~ /master/ && NF > 8 { masters[$1] }
        $3 ~ /slave/ { replicas[$4]++ }
        END {
            for (id in masters) if (best == "" || replicas[id] + 0 < replicas[best] + 0) best = id
            print best
        }'
}

# Ids that no server has any more, told to all within the minute for which they remember. Again and again: until then,
# nodes tell each other of them.
forget_the_gone() {
    living=
    for node in $addresses; do
        living="$living $(id_of "$node")"
    done
    for node in $addresses; do
        # Who is being met has no id of its own yet.
        for id in $(ask "$node" cluster nodes | awk '$3 !~ /handshake/ { print $1 }'); do
            is_living "$id" || ask "$node" cluster forget "$id" > /dev/null
        done
    done
}
# A replica may learn the new address of its master, and go on asking at the old one.
turn_to_the_master() {
    for node in $addresses; do
        asked=$(replication "$node" master_host):$(replication "$node" master_port)
        known=$(ask "$node" cluster nodes | awk '$3 ~ /myself/ { master = $4 } { sub(/@.*/, "", $2); address[$1] = $2 }
            END { if (master in address) print master, address[master] }')
        [ "$asked" = : ] || [ -z "$known" ] || [ "$asked" = "${known#* }" ] ||
            ask "$node" cluster replicate "${known% *}" > /dev/null
    done
}
becomes_well() {
    is_well && return
    forget_the_gone
    turn_to_the_master
    return 1
}

for node in $lost; do
    say "$node lost its state: it becomes a replica"
    # Every slot has another owner, so what it still holds is old; a node with data can not join.
    ask "$node" flushall > /dev/null
    ask "$node" cluster reset hard > /dev/null
    # Each of them: what nodes tell each other of newcomers can take its time.
    for other in $addresses; do
        [ "$other" = "$node" ] || ask "$other" cluster meet "${node%:*}" "${node##*:}" > /dev/null
    done
    until_true "$node and the cluster know each other" sees "$speaker" "$(id_of "$node")" ||
        die "$node does not get to know the cluster; is its port $((${node##*:} + 10000)) reachable?"
done
forget_the_gone
for node in $lost; do
    master=$(neediest_master)
    until_true "$node knows its master" sees "$node" "$master" || die "$node does not learn of $master; run this again"
    answer=$(ask "$node" cluster replicate "$master")
    [ "$answer" = OK ] || die "$node does not become a replica: $answer"
    until_true "the cluster knows $node as a replica" is_replica "$(id_of "$node")" "$master" ||
        die "the cluster does not take $node as a replica"
done
until_true "all nodes agree" becomes_well || die "the nodes do not agree after $patience s: redis-cli cluster nodes"
say "the cluster is mended"
