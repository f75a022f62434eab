#!/bin/sh
# Decides what a backup of the database is: a dump that was read back whole, under its name only once it is complete.
#
#   PGHOST=… PGUSER=… PGDATABASE=… PGPASSWORD_FILE=FILE backup.sh FOLDER
#
# Dumps older than BACKUP_KEEP_DAYS (14) days are deleted after a new one has succeeded, never before. Written for plain sh.
set -eu

folder=${1:?say where to: backup.sh FOLDER}
keep=${BACKUP_KEEP_DAYS:-14}
: "${PGDATABASE:?}"

say() { echo "backup: $*" >&2; }
die() {
    say "$*"
    exit 1
}

umask 077
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE") || die "$PGPASSWORD_FILE cannot be read"
    export PGPASSWORD
fi
case $keep in
    '' | *[!0-9]*) die "BACKUP_KEEP_DAYS is $keep, not a number of days" ;;
esac
[ -d "$folder" ] || die "$folder is no folder"
# Of attempts that were ended.
rm -f "$folder"/.*.partial

name=$PGDATABASE-$(date -u +%Y%m%dT%H%M%SZ).dump
partial=$folder/.$name.partial
trap 'rm -f "$partial"' EXIT

pg_dump --no-password --format=custom --compress=6 --lock-wait-timeout=5min --file="$partial" ||
    die "the dump failed; older ones stay"
# The list of contents, and then all of it: a dump that breaks off has the first.
pg_restore --list "$partial" > /dev/null || die "the dump has no list of contents; older ones stay"
pg_restore --file=/dev/null "$partial" || die "the dump cannot be read back; older ones stay"
(cd "$folder" && sha256sum ".$name.partial" | sed "s/ \.$name\.partial\$/ $name/" > ".$name.sha256.partial")
sync
mv "$folder/.$name.sha256.partial" "$folder/$name.sha256"
mv "$partial" "$folder/$name"
say "$folder/$name: $(wc -c < "$folder/$name") bytes"

# Where Prometheus learns how old the last backup is. The backup is there without it; an alert says when it is missing.
psql --no-psqlrc --no-password --quiet --command="COMMENT ON DATABASE \"$PGDATABASE\" IS 'last backup: $(date +%s)'" ||
    say "the time of this backup could not be noted in the database"

find "$folder" -maxdepth 1 -name "$PGDATABASE-*.dump" -mtime "+$keep" | while read -r old; do
    rm -f "$old" "$old.sha256"
    say "$old is older than $keep days: deleted"
done
