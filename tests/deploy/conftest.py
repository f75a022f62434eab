"""What every test of the deployment needs: where things are, and free ports."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def scripts(root):
    return root / "deploy" / "scripts"


@pytest.fixture(scope="session")
def vlinders():
    """The program, as built."""
    return os.environ["VLINDERS_TEST_BINARY"]


@pytest.fixture(scope="session")
def free_port():
    """Gives a port that nobody listens on now."""

    def choose():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return listener.getsockname()[1]

    return choose


@pytest.fixture(scope="session")
def private_key(tmp_path_factory):
    """One for tests that do not ask whether one is made, which takes long."""
    file = tmp_path_factory.mktemp("key") / "jwt-private.pem"
    words = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", file]
    subprocess.run(words, check=True, capture_output=True)
    return file
