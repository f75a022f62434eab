"""Whether local.sh starts the whole platform as processes with the files that pods get, serves, and leaves nothing behind."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import prometheus_tools
import pytest
from redis_nodes import wait_for
from servers import ask

BODY = b'{"model": "vlinders-demo", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}'


def free_base():
    """The first of ports that are all free: of the programs, and of the buses between Redis servers. Above those of redis_nodes."""
    for base in range(22000, 22700, 50):
        try:
            for port in [*range(base, base + 17), *range(base + 10011, base + 10017)]:
                with socket.socket() as listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


class Local:
    def __init__(self, root, vlinders, prometheus):
        self.script = root / "deploy" / "local.sh"
        # The account of PostgreSQL has to get there.
        self.folder = Path(tempfile.mkdtemp(prefix="vlinders-local-"))
        self.base = free_base()
        self.settings = {"VLINDERS": vlinders, "PROMETHEUS": prometheus, "VLINDERS_LOCAL_DIR": str(self.folder / "state"),
                         "VLINDERS_LOCAL_PORT": str(self.base)}
        self.folder.chmod(0o711)

    def run(self, *words, **settings):
        environment = dict(os.environ, **{**self.settings, **settings})
        return subprocess.run([self.script, *words], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)

    def pids(self):
        return {path.stem: int(path.read_text().split()[0]) for path in (self.folder / "state" / "run").glob("*.pid")}

    def secrets(self):
        """Every value that nobody may see."""
        texts = [path.read_text() for path in (self.folder / "state" / "secrets").rglob("*") if path.is_file() and path.name != "jwt.pem"]
        return {word for text in texts for word in re.findall(r"[0-9a-f]{64}", text)}

    def token(self, root):
        words = [root / "deploy" / "scripts" / "make-token.sh", "--consumer", "tester", "--key", self.folder / "state" / "secrets" / "jwt-private.pem"]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def local(root, vlinders):
    local = Local(root, vlinders, prometheus_tools.programs()["prometheus"])
    yield local
    local.run("down")
    shutil.rmtree(local.folder)


@pytest.fixture(scope="module")
def up(local):
    done = local.run("up")
    assert done.returncode == 0, done.stderr
    return done


def test_without_a_binary_it_says_how_to_get_one(local):
    done = local.run("up", VLINDERS="/nowhere/vlinders")
    assert done.returncode == 1
    assert "cargo build" in done.stderr
    assert local.pids() == {}


def test_up_asks_with_a_token_and_shows_metrics_and_ledger(local, up):
    assert re.search(r'vlinders_head_requests_total\{[^}]*outcome="finished"\} 2', up.stdout)
    assert re.search(r'vlinders_head_workers\{[^}]*state="ready"\} 2', up.stdout)
    assert re.search(r"smoke +vlinders-demo +2 ", up.stdout)
    assert sorted(local.pids()) == ["head", "postgres", "prometheus", *(f"redis-{n}" for n in range(6)), "worker-0", "worker-1"]
    assert local.run("status").returncode == 0


def test_the_head_asks_for_a_token_and_the_workers_for_the_key(root, local, up):
    url = f"http://127.0.0.1:{local.base}/v1/chat/completions"
    assert ask(url, body=BODY)[0] == 401
    assert ask(url, local.token(root), BODY)[0] == 200
    worker = f"http://127.0.0.1:{local.base + 1}/v1/chat/completions"
    assert ask(worker, local.token(root), BODY)[0] == 401
    key = (local.folder / "state" / "secrets" / "worker-key" / "key").read_text()
    assert ask(worker, key, BODY)[0] == 200


def test_configuration_is_that_of_the_pods_but_for_addresses_and_folders(root, local, up):
    config = root / "deploy" / "base" / "config"
    pairs = [(config / "head.yaml", "head.yaml", r"/run/secrets/vlinders/|spool: |scaler_port: |peers: "),
             (config / "server.yaml", "server.yaml", r"/run/secrets/vlinders/"),
             (root / "deploy" / "overlays" / "dev-cpu" / "models.yaml", "models.yaml", r"$^")]
    for original, name, may_differ in pairs:
        lines = original.read_text().splitlines()
        placed = (local.folder / "state" / "config" / name).read_text().splitlines()
        assert len(lines) == len(placed)
        differing = [line for line, other in zip(lines, placed) if line != other]
        assert [line for line in differing if not re.search(may_differ, line)] == []
    redis = (root / "deploy" / "base" / "redis" / "cluster.conf").read_text().splitlines()
    placed = (local.folder / "state" / "redis-3" / "redis.conf").read_text().splitlines()
    differing = [line.split()[0] for line, other in zip(redis, placed) if line != other]
    assert sorted(differing) == ["bind", "cluster-preferred-endpoint-type", "dir", "port"]


def test_limits_are_counted_in_the_redis_cluster(local, up):
    """Of the consumers that have asked there are keys, on whichever of the six."""
    password = (local.folder / "state" / "secrets" / "redis-auth" / "password").read_text()
    keys = ""
    for number in range(6):
        words = ["redis-cli", "-p", str(local.base + 11 + number), "--scan", "--pattern", "vlinders:limits:*"]
        keys += subprocess.run(words, env=dict(os.environ, REDISCLI_AUTH=password), capture_output=True, text=True).stdout
    assert "smoke" in keys


def test_prometheus_has_heads_and_workers_and_the_rules(local, up):
    def value(query):
        from urllib.parse import quote

        _, text = ask(f"http://127.0.0.1:{local.base + 3}/api/v1/query?query={quote(query)}")
        results = json.loads(text)["data"]["result"]
        return results[0]["value"][1] if results else None

    wait_for(lambda: value('sum(up{job=~"vlinders-(head|worker)"})') == "3", "three that are asked")
    _, rules = ask(f"http://127.0.0.1:{local.base + 3}/api/v1/rules")
    assert len(json.loads(rules)["data"]["groups"]) >= 5


def test_no_secret_is_an_argument_or_a_file_of_others(local, up):
    secrets = local.secrets()
    assert len(secrets) >= 8
    for name, pid in local.pids().items():
        arguments = Path(f"/proc/{pid}/cmdline").read_text()
        assert not [secret for secret in secrets if secret in arguments], name
    readable = [path for path in (local.folder / "state").rglob("*") if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in readable:
        text = path.read_bytes().decode(errors="replace")
        assert not [secret for secret in secrets if secret in text], path


def test_up_again_starts_nothing_that_runs(local, up):
    before = local.pids()
    done = local.run("up")
    assert done.returncode == 0, done.stderr
    assert local.pids() == before
    assert "nothing to do" in done.stderr


def test_where_ports_are_taken_nothing_is_left_running(local, up):
    elsewhere = local.folder / "other"
    done = local.run("up", VLINDERS_LOCAL_DIR=str(elsewhere))
    assert done.returncode == 1
    assert "in use" in done.stderr and "VLINDERS_LOCAL_PORT" in done.stderr
    assert list((elsewhere / "run").iterdir()) == []


def test_down_leaves_nothing_and_up_brings_everything_back(local, up):
    pids = local.pids()
    assert local.run("down").returncode == 0
    assert [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()] == []
    assert local.pids() == {}
    assert local.run("status").returncode == 1
    assert local.run("down").returncode == 0
    done = local.run("up")
    assert done.returncode == 0, done.stderr
    # The ledger of before is still there.
    assert int(re.search(r"smoke +vlinders-demo +(\d+) ", done.stdout)[1]) > 2
    pids = local.pids()
    assert local.run("down", "--delete").returncode == 0
    assert not (local.folder / "state").exists()
    assert [name for name, pid in pids.items() if Path(f"/proc/{pid}").exists()] == []
