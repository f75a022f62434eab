"""Whether Kong loads again what changes while it runs, and goes on with what it has when that is of no use."""

import os
import subprocess

import pytest
from redis_nodes import wait_for

# Stands for nginx, which reads its configuration again on this signal.
KONG = """#!/usr/bin/env python3
import signal, sys, time
def note(word):
    with open("{notes}", "a") as notes:
        notes.write(word + "\\n")
signal.signal(signal.SIGHUP, lambda *_: note("again"))
note(" ".join(sys.argv[1:]))
while True:
    time.sleep(1)
"""


@pytest.fixture
def kong(root, tmp_path):
    etc, secrets = tmp_path / "etc", tmp_path / "secrets" / "kong-tls"
    etc.mkdir()
    secrets.mkdir(parents=True)
    (secrets / "tls.crt").write_text("first")
    (etc / "start.sh").write_text((root / "deploy" / "base" / "kong" / "start.sh").read_text())
    # Takes every state but one.
    (etc / "compose.sh").write_text(f'echo composed >> {tmp_path}/notes\n! grep -q broken {secrets}/tls.crt\n')
    entrypoint = tmp_path / "entrypoint"
    entrypoint.write_text(KONG.format(notes=tmp_path / "notes"))
    entrypoint.chmod(0o755)
    environment = dict(os.environ, SECRETS_DIR=str(secrets.parent), KONG_ENTRYPOINT=str(entrypoint), KONG_WATCH_SECONDS="0.1")
    process = subprocess.Popen(["sh", etc / "start.sh"], env=environment, stderr=(tmp_path / "log").open("wb"), start_new_session=True)
    wait_for(lambda: notes(tmp_path) == ["kong docker-start"], "Kong")
    yield secrets, tmp_path, process
    os.killpg(process.pid, 9)
    process.wait()


def notes(folder):
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_a_new_certificate_is_loaded_and_a_broken_state_is_not(kong):
    secrets, folder, process = kong
    (secrets / "tls.crt").write_text("broken")
    wait_for(lambda: "Kong keeps what it has" in (folder / "log").read_text(), "the refusal")
    (secrets / "tls.crt").write_text("second")
    wait_for(lambda: notes(folder)[-1] == "again", "the signal")
    # Asked for once each; signalled once: the broken state was not loaded.
    assert notes(folder) == ["kong docker-start", "composed", "composed", "again"]
    assert process.poll() is None
