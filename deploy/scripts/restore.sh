#!/bin/sh
# Puts a dump of backup.sh back: into an empty database, or in place of one that is kept under another name.
#
#   PGHOST=… PGUSER=postgres PGDATABASE=… PGPASSWORD_FILE=FILE restore.sh [--force] FILE
#
# A database with tables is refused; with --force it makes room: it is renamed to DATABASE_before_TIME, and nothing of it is lost.
# Heads may run meanwhile: they keep their rows and deliver them afterwards. Written for plain sh.
set -eu

force=no
if [ "${1:-}" = --force ]; then
    force=yes
    shift
fi
file=${1:?say what: restore.sh [--force] FILE}
database=${PGDATABASE:?}

say() { echo "restore: $*" >&2; }
die() {
    say "$*"
    exit 1
}

umask 077
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE") || die "$PGPASSWORD_FILE cannot be read"
    export PGPASSWORD
fi

# In the database that is always there: the other one is renamed.
sql() { psql --no-psqlrc --no-password --quiet --tuples-only --no-align -v ON_ERROR_STOP=1 -v database="$database" -v fresh="$fresh" -v before="$before" -d "$@"; }

[ -r "$file" ] || die "$file cannot be read"
if [ -e "$file.sha256" ]; then
    (cd "$(dirname "$file")" && sha256sum -c "$(basename "$file").sha256") > /dev/null 2>&1 || die "$file is not what was backed up: its checksum differs"
fi
pg_restore --list "$file" > /dev/null || die "$file is no dump of PostgreSQL"

stamp=$(date -u +%Y%m%d_%H%M%S)
fresh=${database}_restored_$stamp
before=${database}_before_$stamp

put_back() {
    # All or nothing.
    pg_restore --no-password --exit-on-error --single-transaction --dbname="$1" "$file" || die "the restore into $1 failed; $database is as it was"
}

tables=$(sql "$database" <<'SQL'
SELECT count(*) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND nspname NOT LIKE 'pg\_%' AND nspname <> 'information_schema';
SQL
) || die "$database cannot be asked"

if [ "$tables" = 0 ]; then
    put_back "$database"
    say "$database is restored"
    exit 0
fi
[ "$force" = yes ] || die "$database is not empty. With --force it becomes $before, and the dump takes its place"

sql postgres <<'SQL'
SELECT format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING %L', :'fresh', pg_get_userbyid(datdba), pg_encoding_to_char(encoding))
FROM pg_database WHERE datname = :'database' \gexec
-- A dump of one database does not say who may connect.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'fresh') FROM pg_database WHERE datname = :'database' AND datacl IS NOT NULL
UNION ALL
SELECT format('GRANT %s ON DATABASE %I TO %s', privilege_type, :'fresh', CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
FROM pg_database, aclexplode(datacl) WHERE datname = :'database' \gexec
SQL
put_back "$fresh"

# Whoever is connected holds the name.
sql postgres <<'SQL' || die "$database could not be renamed; the dump is in $fresh. Is $database closed? ALTER DATABASE … ALLOW_CONNECTIONS true"
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS false', :'database') \gexec
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = :'database' AND pid <> pg_backend_pid() \g /dev/null
SELECT format('ALTER DATABASE %I RENAME TO %I', :'database', :'before') \gexec
SELECT format('ALTER DATABASE %I RENAME TO %I', :'fresh', :'database') \gexec
SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', :'before') \gexec
SQL
say "$database is restored; what it was is $before, for you to compare and drop"
