"""Whether what a rotation says to Redis and PostgreSQL does it: the commands for pods, run against real servers."""

import os
import subprocess

import pytest
from redis_nodes import PASSWORD, start_nodes
from servers import PASSWORD as POSTGRES_PASSWORD
from servers import Postgres

OLD, NEW = PASSWORD, "new-butterfly-8"


@pytest.fixture
def shell(scripts, tmp_path):
    """Calls a function of rotate.sh, with a kubectl that runs here what pods were to run."""
    programs = tmp_path / "programs"
    programs.mkdir()
    kubectl = programs / "kubectl"
    # Of `kubectl … exec -i POD … -- COMMAND` the command; every other call finds what it asks for.
    kubectl.write_text('#!/bin/bash\necho "$*" >> "$CALLS"\ncase " $* " in\n'
                       '*" get pods "*) printf "pod/redis-%s\\n" $(seq 0 5) ;;\n'
                       '*" exec "*) while [ "$1" != -- ]; do case $1 in pod/*) pod=${1##*-} ;; esac; shift; done; shift\n'
                       '  REDIS_RUN_DIR=$PODS/node-$pod REDIS_PORT=$(cat "$PODS/node-$pod/port" 2> /dev/null) exec "$@" ;;\n'
                       '*" get "*) echo there ;;\nesac\n')
    client = programs / "redis-cli"
    client.write_text(f'#!/bin/sh\nPATH={os.environ["PATH"]}\nexec redis-cli -p "$REDIS_PORT" "$@"\n')
    for program in (kubectl, client):
        program.chmod(0o755)
    (tmp_path / "new").write_text(NEW)

    def call(function, **environment):
        script = f"""set -Eeuo pipefail; context=; work={tmp_path}
            . {scripts}/lib/say.sh; . {scripts}/lib/store.sh; . {scripts}/lib/rotate.sh; {function}"""
        settings = dict(os.environ, PATH=f"{programs}:{os.environ['PATH']}", PODS=str(tmp_path), CALLS=str(tmp_path / "calls"), **environment)
        done = subprocess.run(["bash", "-c", script], env=settings, capture_output=True, text=True)
        assert NEW not in (tmp_path / "calls").read_text() + done.stdout + done.stderr
        return done

    return call


def test_six_servers_take_both_passwords_and_replicate_with_the_new_one(shell, tmp_path):
    nodes = start_nodes(tmp_path, 6)
    try:
        for node in nodes:
            # As start.sh leaves them in a pod.
            (node.folder / "redis.conf").write_text(f'include /etc/redis/redis.conf\nrequirepass "{OLD}"\nmasterauth "{OLD}"\n')
            (node.folder / "port").write_text(str(node.port))
        done = shell(f"accept_both redis {tmp_path}/new")
        assert done.returncode == 0, done.stderr
        for node in nodes:
            for password in (OLD, NEW):
                words = ["redis-cli", "-p", str(node.port), "config", "get", "masterauth"]
                answer = subprocess.run(words, env=dict(os.environ, REDISCLI_AUTH=password), capture_output=True, text=True).stdout
                assert answer.split() == ["masterauth", NEW]
        # One that can not be asked ends it before anything is changed.
        (nodes[2].folder / "redis.conf").write_text('requirepass "moth"\n')
        done = shell(f"accept_both redis {tmp_path}/new")
        assert done.returncode == 1
        assert "pod/redis-2 does not take the new password" in done.stderr
    finally:
        for node in nodes:
            node.kill()


def test_a_role_gets_its_password(shell, tmp_path, free_port):
    postgres = Postgres(free_port())
    try:
        postgres.sql("postgres", "CREATE DATABASE vlinders")
        postgres.sql("postgres", f"CREATE ROLE vlinders LOGIN PASSWORD '{POSTGRES_PASSWORD}'")
        done = shell(f"set_password vlinders {tmp_path}/new", PGHOST=str(postgres.folder), PGPORT=str(postgres.port))
        assert done.returncode == 0, done.stderr
        words = ["psql", "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "vlinders", "-d", "vlinders", "-qtAc", "SELECT 1"]
        results = [subprocess.run(words, env=dict(os.environ, PGPASSWORD=password), capture_output=True).returncode for password in (NEW, POSTGRES_PASSWORD)]
        assert results[0] == 0
        assert results[1] != 0
        assert NEW not in (postgres.folder / "log").read_text()
        done = shell(f"set_password nobody {tmp_path}/new", PGHOST=str(postgres.folder), PGPORT=str(postgres.port))
        assert done.returncode == 1
        assert "nothing else was" in done.stderr
    finally:
        postgres.stop()
