"""Whether a dump of a real database, filled by a real head, brings everything back, and nothing is lost on the way."""

import os
import subprocess
import time

import pytest
from servers import PASSWORD, Postgres, Program, ask

BODY = b'{"model": "vlinders-demo", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}'
LEDGER = """\
ledger:
  database_url_file: url
  spool: spool
shutdown:
  delay: 0s
dashboard:
  enabled: false
"""


@pytest.fixture(scope="module")
def postgres(root, tmp_path_factory, free_port):
    postgres = Postgres(free_port())
    postgres.sql("postgres", "CREATE DATABASE vlinders")
    secrets = tmp_path_factory.mktemp("secrets")
    for role in ("postgres-vlinders", "postgres-exporter"):
        (secrets / role).mkdir(parents=True)
        (secrets / role / "password").write_text(PASSWORD)
    # The very script that pods begin with.
    roles = root / "deploy" / "base" / "postgres" / "roles.sh"
    environment = dict(os.environ, SECRETS_DIR=str(secrets), PGHOST=str(postgres.folder), PGPORT=str(postgres.port))
    subprocess.run(["sh", roles], env=environment, check=True)
    yield postgres
    postgres.stop()


@pytest.fixture(scope="module")
def rows(postgres, vlinders, tmp_path_factory):
    """Tables made and filled by a head that ran; gives how many rows there are."""
    folder = tmp_path_factory.mktemp("head")
    (folder / "url").write_text(f"postgresql://vlinders:{PASSWORD}@127.0.0.1:{postgres.port}/vlinders")
    (folder / "server.yaml").write_text(LEDGER)
    worker = Program(vlinders, folder, "worker", "serve", "builtin:vlinders-demo", "--host", "127.0.0.1", "--port", "0")
    address = worker.url.removeprefix("http://")
    head = Program(vlinders, folder, "head", "head", "--server", "server.yaml", "--host", "127.0.0.1", "--port", "0", "--worker", address)
    for _ in range(5):
        assert ask(head.url + "/v1/chat/completions", body=BODY)[0] == 200
    # A head delivers what it has before it ends.
    head.stop()
    worker.stop()
    assert count(postgres) == 5
    return 5


def count(postgres, database="vlinders"):
    return int(postgres.sql(database, "SELECT count(*) FROM usage_entries"))


def back_up(scripts, postgres, folder, **environment):
    return subprocess.run([scripts / "backup.sh", folder], env=postgres.environment(**environment), capture_output=True, text=True)


def restore(scripts, postgres, *words, database="vlinders"):
    environment = dict(postgres.environment(), PGDATABASE=database)
    return subprocess.run([scripts / "restore.sh", *words], env=environment, capture_output=True, text=True)


@pytest.fixture
def dump(scripts, postgres, rows, tmp_path):
    done = back_up(scripts, postgres, tmp_path)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    [file] = tmp_path.glob("vlinders-*.dump")
    return file


def test_a_dump_goes_into_an_empty_database(scripts, postgres, dump, rows):
    postgres.sql("postgres", "CREATE DATABASE elsewhere")
    done = restore(scripts, postgres, dump, database="elsewhere")
    assert done.returncode == 0, done.stderr
    assert count(postgres, "elsewhere") == rows
    # It is the same owner's, with the view and the record of migrations: a head goes on with it.
    assert postgres.sql("elsewhere", "SELECT tableowner FROM pg_tables WHERE tablename = 'usage_entries'") == "vlinders"
    assert postgres.sql("elsewhere", "SELECT sum(requests) FROM usage_daily") == str(rows)
    assert int(postgres.sql("elsewhere", "SELECT count(*) FROM vlinders_migrations")) >= 1


def test_a_database_with_tables_is_kept_and_makes_room_only_when_told(scripts, postgres, dump, rows):
    postgres.sql("vlinders", "DELETE FROM usage_entries WHERE id = (SELECT id FROM usage_entries LIMIT 1)")
    refused = restore(scripts, postgres, dump)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    assert count(postgres) == rows - 1

    # Somebody is connected, as heads are.
    words = ["psql", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "vlinders", "-d", "vlinders", "-c", "SELECT pg_sleep(60)"]
    held = subprocess.Popen(words, env=dict(os.environ, PGPASSWORD=PASSWORD), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while postgres.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()") == "0":
        time.sleep(0.05)
    done = restore(scripts, postgres, "--force", dump)
    held.wait()
    assert done.returncode == 0, done.stderr
    assert count(postgres) == rows
    [before] = postgres.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'vlinders_before_%'").splitlines()
    assert count(postgres, before) == rows - 1
    # Who may connect is as it was: owner and exporter, and not everybody.
    granted = "SELECT has_database_privilege('{}', 'vlinders', 'CONNECT')"
    postgres.sql("postgres", "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'stranger') THEN CREATE ROLE stranger; END IF; END $$")
    assert [postgres.sql("postgres", granted.format(role)) for role in ("vlinders", "exporter", "stranger")] == ["t", "t", "f"]
    assert postgres.sql("vlinders", "SELECT count(*) FROM usage_entries", user="vlinders") == str(rows)


def test_a_damaged_dump_is_refused_before_anything_happens(scripts, postgres, dump, rows):
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-20])
    done = restore(scripts, postgres, "--force", dump)
    assert done.returncode == 1
    assert "checksum differs" in done.stderr
    assert count(postgres) == rows


def test_a_failed_backup_leaves_older_ones_and_no_half_one(scripts, postgres, dump):
    os.utime(dump, (0, 0))
    (dump.parent / ".vlinders-old.dump.partial").write_text("of an attempt that was killed")
    done = back_up(scripts, postgres, dump.parent, PGCONNECT_TIMEOUT="5", PGSSLMODE="require")
    assert done.returncode == 1
    assert "older ones stay" in done.stderr
    assert sorted(path.name for path in dump.parent.iterdir()) == [dump.name, dump.name + ".sha256"]


def test_a_dump_that_can_not_be_read_back_is_none(scripts, postgres, dump, tmp_path):
    """A disk that fills up: the list of contents, at the beginning, is still there."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "pg_dump").write_text('#!/bin/sh\nfor word; do case $word in --file=*) file=${word#--file=} ;; esac; done\n'
                                      'PATH=${PATH#*:} pg_dump "$@" && truncate -s -100 "$file"\n')
    (programs / "pg_dump").chmod(0o755)
    (tmp_path / "to").mkdir()
    done = back_up(scripts, postgres, tmp_path / "to", PATH=f"{programs}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "cannot be read back" in done.stderr
    assert list((tmp_path / "to").iterdir()) == []


def test_only_old_dumps_are_deleted_and_only_after_a_new_one(scripts, postgres, dump):
    old, young = dump.parent / "vlinders-20200101T000000Z.dump", dump.parent / "vlinders-20200110T000000Z.dump"
    now = time.time()
    for file, days in ((old, 9), (young, 5)):
        file.write_text("a dump")
        os.utime(file, (now - days * 86400,) * 2)
    other = dump.parent / "another.dump"
    other.write_text("not ours")
    os.utime(other, (0, 0))
    time.sleep(1.1)  # names have seconds
    assert back_up(scripts, postgres, dump.parent, BACKUP_KEEP_DAYS="7").returncode == 0
    assert not old.exists()
    assert young.exists() and other.exists() and dump.exists()
