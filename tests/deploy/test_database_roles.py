"""Whether each role of the database may do what it is for, and nothing more; and whether passwords stay where they are."""

import os
import subprocess

import pytest
from servers import Postgres

OWNER, WATCHER = "owner'\"$pw", "watcher-1"


@pytest.fixture(scope="module")
def postgres(free_port, root, tmp_path_factory):
    postgres = Postgres(free_port())
    postgres.sql("postgres", "CREATE DATABASE vlinders")
    # Everything is logged, so that what must not be there would be.
    postgres.sql("postgres", "ALTER SYSTEM SET log_statement = 'all'")
    postgres.sql("postgres", "SELECT pg_reload_conf()")
    postgres.secrets = tmp_path_factory.mktemp("secrets")
    postgres.script = root / "deploy" / "base" / "postgres" / "roles.sh"
    apply(postgres, OWNER)
    yield postgres
    postgres.stop()


def apply(postgres, owner):
    for secret, password in (("postgres-vlinders", owner), ("postgres-exporter", WATCHER)):
        (postgres.secrets / secret).mkdir(exist_ok=True)
        (postgres.secrets / secret / "password").write_text(password)
    environment = dict(os.environ, SECRETS_DIR=str(postgres.secrets), PGHOST=str(postgres.folder), PGPORT=str(postgres.port))
    subprocess.run(["sh", postgres.script], env=environment, check=True)


def ask(postgres, user, password, statement):
    words = ["psql", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", user, "-d", "vlinders", "-qtA", "-v", "ON_ERROR_STOP=1", "-c", statement]
    done = subprocess.run(words, env=dict(os.environ, PGPASSWORD=password), capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def test_the_owner_makes_tables_and_the_exporter_sees_none(postgres):
    assert ask(postgres, "vlinders", OWNER, "CREATE TABLE wings (span int); INSERT INTO wings VALUES (7); SELECT span FROM wings") == "7"
    assert "does not exist" in ask(postgres, "exporter", WATCHER, "SELECT span FROM wings") or "permission denied" in ask(
        postgres, "exporter", WATCHER, "SELECT span FROM public.wings")
    assert "ERROR" in ask(postgres, "exporter", WATCHER, "CREATE TABLE mine (a int)")
    # What it is for.
    assert int(ask(postgres, "exporter", WATCHER, "SELECT count(*) FROM pg_stat_activity WHERE query IS NOT NULL")) > 0
    assert "must be superuser" in ask(postgres, "vlinders", OWNER, "ALTER SYSTEM SET log_statement = 'none'") or "permission denied" in ask(
        postgres, "vlinders", OWNER, "ALTER SYSTEM SET log_statement = 'none'")


def test_nobody_else_gets_in(postgres):
    postgres.sql("postgres", "CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    assert "permission denied for database" in ask(postgres, "stranger", "stranger", "SELECT 1")


def test_it_may_run_again_and_takes_a_new_password(postgres):
    apply(postgres, "owner-2")
    assert ask(postgres, "vlinders", "owner-2", "SELECT 1") == "1"
    assert "password authentication failed" in ask(postgres, "vlinders", OWNER, "SELECT 1")
    apply(postgres, OWNER)
    assert ask(postgres, "vlinders", OWNER, "SELECT 1") == "1"


def test_passwords_are_in_no_log(postgres):
    log = (postgres.folder / "log").read_text()
    assert "CREATE ROLE stranger" in log
    assert OWNER not in log and "owner''" not in log and "owner-2" not in log and WATCHER not in log
