#!/bin/sh
# Decides who may do what in the database: `vlinders` owns it, `exporter` reads statistics, nobody else may create anything.
#
# Runs when the data directory is new. After a password was changed in its secret, run it again:
#   kubectl -n vlinders-platform exec postgres-0 -- sh /docker-entrypoint-initdb.d/roles.sh
set -eu

secrets=${SECRETS_DIR:-/run/secrets/vlinders}
export VLINDERS_PASSWORD_FILE="$secrets/postgres-vlinders/password"
export EXPORTER_PASSWORD_FILE="$secrets/postgres-exporter/password"
for file in "$VLINDERS_PASSWORD_FILE" "$EXPORTER_PASSWORD_FILE"; do
    [ -s "$file" ] || {
        echo "roles.sh: $file is empty or not there" >&2
        exit 1
    }
done

# Passwords reach the server as parameters of psql, read from files: neither arguments nor logs have them.
psql -q -v ON_ERROR_STOP=1 --no-psqlrc --no-password -U "${POSTGRES_USER:-postgres}" -d vlinders <<'SQL'
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\set vlinders_password `cat "$VLINDERS_PASSWORD_FILE"`
\set exporter_password `cat "$EXPORTER_PASSWORD_FILE"`

SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES ('vlinders'), ('exporter')) AS wanted (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE vlinders PASSWORD :'vlinders_password';
ALTER ROLE exporter PASSWORD :'exporter_password' CONNECTION LIMIT 5;
GRANT pg_monitor TO exporter;

REVOKE ALL ON DATABASE vlinders FROM PUBLIC;
ALTER DATABASE vlinders OWNER TO vlinders;
GRANT CONNECT ON DATABASE vlinders TO exporter;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO vlinders;
SQL
