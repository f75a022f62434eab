# How scripts of an operator speak, end, and find their place. Sourced, by bash 4 or newer.
# shellcheck shell=bash
set -Eeuo pipefail

[ "${BASH_VERSINFO[0]}" -ge 4 ] || {
    echo "bash 4 or newer is needed (this is $BASH_VERSION)" >&2
    exit 1
}

program=$(basename "$0" .sh)

say() { echo "$program: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# need PROGRAM…
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" > /dev/null || die "$tool is not installed"
    done
}

# The comment at the top of the script, without its first two lines, is its help.
help() {
    sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$0"
}

# A question that is answered by --yes, or by a person; nobody there is a no.
agreed() {
    [ "${yes:-no}" != yes ] || return 0
    [ -t 0 ] || die "nobody is here to ask; say --yes if you mean it"
    local answer
    read -r -p "$* [y/N] " answer
    [[ $answer =~ ^[Yy] ]]
}

# A folder that only its owner sees, gone at the end. Leaves its name in $work.
make_work() {
    umask 077
    work=$(mktemp -d "${TMPDIR:-/tmp}/vlinders.XXXXXXXX")
}

# What an operator keeps of a cluster: the private key of tokens, and what the last run changed.
state_folder() {
    echo "${VLINDERS_STATE:-${XDG_CONFIG_HOME:-$HOME/.config}/vlinders}/${1//[^A-Za-z0-9._-]/_}"
}
