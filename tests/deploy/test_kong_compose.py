"""Whether the file that Kong loads is what its template, the key and the secrets of the moment make, and nothing else gets into it."""

import os
import stat
import subprocess

import pytest
import yaml

KEY = "-----BEGIN PUBLIC KEY-----\nbW9uYXJjaA==\ncGFpbnRlZA==\n-----END PUBLIC KEY-----\n"
INTERNAL = "0123456789abcdef~+/="


class Pod:
    """The folders that the container has, and a Kong that takes everything or nothing."""

    def __init__(self, root, folder):
        self.script = root / "deploy" / "base" / "kong" / "compose.sh"
        self.secrets = folder / "secrets"
        self.file = folder / "run" / "kong.yml"
        self.file.parent.mkdir()
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.write("kong-jwt-public-key/jwt.pem", KEY)
        self.write("kong-internal-secret/secret", INTERNAL + "\n")
        self.write("kong-redis-auth/password", "monarch-7")
        self.kong("exit 0")

    def write(self, name, text):
        path = self.secrets / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())

    def kong(self, does):
        program = self.programs / "kong"
        program.write_text(f'#!/bin/sh\necho "$@" >> {self.programs}/asked\n{does}\n')
        program.chmod(0o755)

    def asked(self):
        return (self.programs / "asked").read_text().splitlines()

    def compose(self):
        environment = {"PATH": f"{self.programs}:{os.environ['PATH']}", "SECRETS_DIR": str(self.secrets), "KONG_DECLARATIVE_CONFIG": str(self.file)}
        return subprocess.run(["sh", self.script], env=environment, capture_output=True, text=True)

    def composed(self):
        return yaml.safe_load(self.file.read_text())


@pytest.fixture
def pod(root, tmp_path):
    return Pod(root, tmp_path)


def plugin(file, name):
    return next(plugin["config"] for plugin in file["services"][0]["plugins"] if plugin["name"] == name)


def test_key_and_secrets_stand_where_they_belong(pod):
    done = pod.compose()
    assert done.returncode == 0, done.stderr
    file = pod.composed()
    keys = [secret["rsa_public_key"] for consumer in file["consumers"] for secret in consumer["jwt_secrets"]]
    assert len(keys) >= 2 and set(keys) == {KEY}
    assert plugin(file, "request-transformer")["add"]["headers"] == ["X-Internal-Secret:" + INTERNAL]
    assert plugin(file, "rate-limiting")["redis"]["password"] == "monarch-7"
    assert "@" not in pod.file.read_text()
    assert stat.S_IMODE(pod.file.stat().st_mode) == 0o600


def test_kong_has_looked_before_the_file_counts(pod):
    pod.compose()
    before = pod.file.read_text()
    # What Kong is asked about has its very name, since it tells YAML from JSON by that.
    assert pod.asked() == [f"config parse {pod.file}.new.yml"]
    pod.write("kong-redis-auth/password", "painted-8")
    pod.kong("exit 1")
    done = pod.compose()
    assert done.returncode == 1 and "Kong does not take" in done.stderr
    assert pod.file.read_text() == before
    pod.kong("exit 0")
    assert pod.compose().returncode == 0
    assert plugin(pod.composed(), "rate-limiting")["redis"]["password"] == "painted-8"


def test_a_key_from_windows_is_the_same_key(pod):
    pod.write("kong-jwt-public-key/jwt.pem", KEY.replace("\n", "\r\n"))
    assert pod.compose().returncode == 0
    assert pod.composed()["consumers"][0]["jwt_secrets"][0]["rsa_public_key"] == KEY


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("kong-internal-secret/secret", 'x"\nplugins: []', "has characters other than"),
        ("kong-internal-secret/secret", "$(os.execute)", "has characters other than"),
        ("kong-redis-auth/password", "", "is empty or not there"),
        ("kong-jwt-public-key/jwt.pem", KEY.replace("PUBLIC", "PRIVATE"), "is no public key"),
        ("kong-jwt-public-key/jwt.pem", "", "is no public key"),
    ],
)
def test_what_does_not_fit_is_refused_and_not_repeated(pod, name, text, what):
    pod.write(name, text)
    done = pod.compose()
    assert done.returncode == 1 and what in done.stderr
    assert not text or text not in done.stderr
    assert not pod.file.exists()


def test_secrets_are_in_no_argument(pod):
    """Everything that runs beside the script could see them there."""
    for program in ("awk", "sed", "grep"):
        real = subprocess.run(["which", program], capture_output=True, text=True, check=True).stdout.strip()
        wrapper = pod.programs / program
        wrapper.write_text(f'#!/bin/sh\necho "$@" >> {pod.programs}/arguments\nexec {real} "$@"\n')
        wrapper.chmod(0o755)
    assert pod.compose().returncode == 0
    arguments = (pod.programs / "arguments").read_text()
    assert arguments and INTERNAL not in arguments and "monarch-7" not in arguments and "bW9uYXJjaA==" not in arguments
