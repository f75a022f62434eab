"""Whether make-secrets.sh makes each secret once, changes one with all who use it, and shows none to anybody."""

import base64
import json
import re
import shutil
import stat
import subprocess

import pytest
import yaml
from recorder import Recorder

# What the manifests mount: namespace, secret, keys.
WANTED = {
    "vlinders-platform postgres-superuser": ["password"],
    "vlinders-platform postgres-vlinders": ["password"],
    "vlinders-platform postgres-exporter": ["password"],
    "vlinders-monitoring postgres-exporter": ["password"],
    "vlinders-inference head-database": ["url"],
    "vlinders-platform redis-auth": ["password"],
    "vlinders-inference head-redis": ["url"],
    "vlinders-monitoring redis-exporter": ["passwords.json"],
    "vlinders-platform kong-redis-auth": ["password"],
    "vlinders-platform kong-jwt-public-key": ["jwt.pem"],
    "vlinders-platform kong-internal-secret": ["secret"],
    "vlinders-inference head-internal-secret": ["secret"],
    "vlinders-inference head-jwt-public-key": ["jwt.pem"],
    "vlinders-inference worker-key": ["key"],
    "vlinders-inference registry-credentials": [".dockerconfigjson"],
    "vlinders-monitoring grafana-admin": ["password", "user"],
}
GIVEN = {
    "registry.json": '{"auths":{"registry.test":{"auth":"cmVnaXN0cnktc2VjcmV0"}}}',
    "hf-token": "hf_given_secret",
    "aws-access-key-id": "AKIAGIVEN",
    "aws-secret-access-key": "aws-given-secret",
    "stripe-secret-key": "sk_given_secret",
    "stripe-webhook-secret": "whsec_given_secret",
    "tls.crt": "certificate",
    "tls.key": "tls-given-secret",
}


class Maker(Recorder):
    def __init__(self, scripts, folder):
        super().__init__(folder)
        self.script = scripts / "make-secrets.sh"
        self.said = ""

    def make(self, *words):
        done = self.run(self.script, "--context", "test", *words)
        self.said += done.stdout + done.stderr
        return done

    def made(self, *words):
        done = self.make(*words)
        assert done.returncode == 0, done.stderr
        return self.secrets()

    def secrets(self):
        """NAMESPACE NAME -> key -> value"""
        found = {name.removeprefix("secret "): document["data"] for name, document in self.objects().items() if name.startswith("secret ")}
        return {name: {key: base64.b64decode(value).decode() for key, value in data.items()} for name, data in found.items()}

    def shows(self, text):
        """Whether it was said, or was an argument of any program."""
        calls = self.folder / "calls.jsonl"
        return text in self.said or text in calls.read_text()

    def with_workloads(self):
        """As after an installation."""
        objects = self.objects()
        names = ["statefulset vlinders-platform postgres", "statefulset vlinders-platform redis", "statefulset vlinders-platform kong-redis",
                 "deployment vlinders-platform kong-gateway", "deployment vlinders-inference vlinders-head",
                 "deployment vlinders-inference worker-llama-3-8b", "deployment vlinders-monitoring grafana",
                 "deployment vlinders-monitoring postgres-exporter", "deployment vlinders-monitoring redis-exporter"]
        for name in names:
            kind, namespace, short = name.split()
            objects[name] = {"kind": kind, "metadata": {"namespace": namespace, "name": short}, "revision": 1, "text": ""}
        (self.folder / "objects.json").write_text(json.dumps(objects))
        self.forget_calls()


@pytest.fixture
def maker(scripts, tmp_path, private_key):
    maker = Maker(scripts, tmp_path)
    folder = maker.state / "test"
    folder.mkdir(parents=True)
    shutil.copy(private_key, folder)
    return maker


@pytest.fixture
def given(tmp_path):
    folder = tmp_path / "given"
    folder.mkdir()
    for name, text in GIVEN.items():
        (folder / name).write_text(text)
    return folder


def values(secrets):
    """Everything that nobody may see."""
    public = {"jwt.pem", "user", "tls.crt"}
    texts = [value for keys in secrets.values() for key, value in keys.items() if key not in public and value != '{"auths":{}}']
    return [word for text in texts for word in re.findall(r"[A-Za-z0-9_+/=-]{9,}", text) if word not in ("postgresql", "vlinders-platform", "kong-redis", "registry")]


def test_each_is_made_once_as_its_users_want_it(maker):
    secrets = maker.made()
    assert {name: sorted(keys) for name, keys in secrets.items()} == WANTED
    password = secrets["vlinders-platform postgres-vlinders"]["password"]
    assert secrets["vlinders-inference head-database"]["url"] == f"postgresql://vlinders:{password}@postgres.vlinders-platform:5432/vlinders"
    redis = secrets["vlinders-platform redis-auth"]["password"]
    urls = secrets["vlinders-inference head-redis"]["url"].splitlines()
    assert urls == [f"redis://:{redis}@redis-{number}.redis.vlinders-platform:6379" for number in range(6)]
    passwords = json.loads(secrets["vlinders-monitoring redis-exporter"]["passwords.json"])
    assert passwords["redis://redis-5.redis.vlinders-platform:6379"] == redis
    assert passwords["redis://kong-redis.vlinders-platform:6379"] == secrets["vlinders-platform kong-redis-auth"]["password"]
    assert secrets["vlinders-platform kong-internal-secret"] == secrets["vlinders-inference head-internal-secret"]
    assert secrets["vlinders-platform kong-jwt-public-key"] == secrets["vlinders-inference head-jwt-public-key"]
    # Nothing is anybody else's.
    random = [secrets[name][key] for name, key in (
        ("vlinders-platform postgres-superuser", "password"), ("vlinders-platform postgres-vlinders", "password"),
        ("vlinders-platform postgres-exporter", "password"), ("vlinders-platform redis-auth", "password"),
        ("vlinders-platform kong-redis-auth", "password"), ("vlinders-platform kong-internal-secret", "secret"),
        ("vlinders-inference worker-key", "key"), ("vlinders-monitoring grafana-admin", "password"))]
    assert len(set(random)) == len(random)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in random)
    assert maker.made() == secrets
    for document in maker.objects().values():
        assert document["metadata"]["labels"]["app.kubernetes.io/part-of"] == "vlinders"
        assert document["type"] == ("kubernetes.io/dockerconfigjson" if document["metadata"]["name"] == "registry-credentials" else "Opaque")


def test_one_that_is_missing_is_made_from_what_is_there(maker):
    secrets = maker.made()
    objects = maker.objects()
    for name in ("vlinders-inference head-redis", "vlinders-monitoring postgres-exporter", "vlinders-inference head-jwt-public-key"):
        del objects[f"secret {name}"]
    (maker.folder / "objects.json").write_text(json.dumps(objects))
    assert maker.made() == secrets


def test_the_private_key_stays_with_the_operator(maker):
    shutil.rmtree(maker.state)
    secrets = maker.made()
    key = maker.state / "test" / "jwt-private.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert "PRIVATE KEY" not in (maker.folder / "objects.json").read_text()
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True, text=True).stdout
    assert secrets["vlinders-platform kong-jwt-public-key"]["jwt.pem"] == public
    # Another operator has none, and the cluster's key stays.
    key.unlink()
    assert maker.made() == secrets
    assert not key.exists()


def test_what_was_given_is_put_where_it_is_used(maker, given):
    secrets = maker.made("--from", given)
    assert secrets["vlinders-inference registry-credentials"] == {".dockerconfigjson": GIVEN["registry.json"]}
    assert secrets["vlinders-inference model-source"] == {name: GIVEN[name] for name in ("hf-token", "aws-access-key-id", "aws-secret-access-key")}
    assert secrets["vlinders-platform billing"] == {"secret-key": GIVEN["stripe-secret-key"], "webhook-secret": GIVEN["stripe-webhook-secret"]}
    assert secrets["vlinders-platform kong-tls"] == {"tls.crt": GIVEN["tls.crt"], "tls.key": GIVEN["tls.key"]}
    assert maker.objects()["secret vlinders-platform kong-tls"]["type"] == "kubernetes.io/tls"


def test_the_list_of_secrets_is_what_is_made(root, maker, given):
    """deploy/secrets.yaml, against which the manifests are held."""
    listed = {f"{entry['namespace']} {entry['name']}": sorted(entry["keys"]) for entry in yaml.safe_load((root / "deploy" / "secrets.yaml").read_text())["secrets"]}
    assert {name: sorted(keys) for name, keys in maker.made("--from", given).items()} == listed


def test_none_is_shown(maker, given):
    secrets = maker.made("--from", given)
    maker.with_workloads()
    maker.rule("redis-cli", out="OK\n")
    for name in ("redis-auth", "postgres-vlinders", "worker-key", "internal-secret", "jwt", "model-source"):
        secrets_then = maker.made("--rotate", name, "--from", given)
        for value in values(secrets) + values(secrets_then):
            assert not maker.shows(value), name
        # Nor as Kubernetes writes them down.
        for value in (value for keys in secrets_then.values() for key, value in keys.items() if key not in ("user", "jwt.pem")):
            assert not maker.shows(base64.b64encode(value.encode()).decode()), name
    assert len(values(secrets)) > 20
    assert not list(maker.folder.parent.glob("**/vlinders.*"))


def test_files_are_their_owners_alone(scripts, tmp_path):
    (tmp_path / "umask").mkdir()
    words = f"umask 000; exec '{scripts}/make-secrets.sh' --dir '{tmp_path}/secrets' --self-signed localhost"
    subprocess.run(["bash", "-c", words], check=True, capture_output=True)
    files = [path for path in (tmp_path / "secrets").rglob("*") if path.is_file()]
    assert len(files) >= 18
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").rglob("*") if path.is_dir()} == {0o700}
    before = {path: path.read_bytes() for path in files}
    subprocess.run(["bash", "-c", words], check=True, capture_output=True)
    assert {path: path.read_bytes() for path in files} == before


def steps(maker):
    """What happens to whom, in order."""
    found = []
    for call in maker.calls():
        if match := re.match(r"applied secret \S+ (\S+)", call):
            found.append(f"put {match[1]}")
        elif match := re.search(r"rollout (restart|status) (\S+?)(?: |$)", call):
            found.append(f"{match[1]} {match[2].removeprefix('deployment.apps/').split('/')[-1]}")
        elif match := re.search(r"exec -i (\S+) .*(acl setuser|masterauth|ALTER ROLE)", call, re.DOTALL):
            found.append(f"{match[2]} {match[1]}")
    return found


def rotated(maker, name, *words):
    before = maker.made()
    maker.with_workloads()
    maker.rule("redis-cli", out="OK\n")
    after = maker.made("--rotate", name, *words)
    changed = sorted(secret for secret in after if after[secret] != before.get(secret))
    return changed, steps(maker), after


def test_a_role_gets_its_new_password_before_anybody_uses_it(maker):
    changed, done, _ = rotated(maker, "postgres-vlinders")
    assert changed == ["vlinders-inference head-database", "vlinders-platform postgres-vlinders"]
    assert done == ["ALTER ROLE postgres-0", "put postgres-vlinders", "put head-database", "restart vlinders-head", "status vlinders-head"]


def test_redis_takes_both_passwords_until_all_have_the_new_one(maker):
    changed, done, _ = rotated(maker, "redis-auth")
    assert changed == ["vlinders-inference head-redis", "vlinders-monitoring redis-exporter", "vlinders-platform redis-auth"]
    pods = [f"pod/redis-{number}" for number in range(6)]
    assert done == [f"acl setuser {pod}" for pod in pods] + [f"masterauth {pod}" for pod in pods] + [
        "put redis-auth", "put head-redis", "put redis-exporter", "restart vlinders-head", "status vlinders-head",
        "restart redis-exporter", "status redis-exporter", "restart redis", "status redis"]


def test_a_server_that_refuses_leaves_every_secret_as_it_is(maker):
    before = maker.made()
    maker.with_workloads()
    maker.rule("exec -i pod/redis-3", out="ERR no\n")
    maker.rule("redis-cli", out="OK\n")
    done = maker.make("--rotate", "redis-auth")
    assert done.returncode == 1
    assert "no secret was changed" in done.stderr
    assert maker.secrets() == before


def test_heads_take_both_while_the_gateway_changes(maker):
    _, done, after = rotated(maker, "internal-secret")
    assert [step for step in done if not step.startswith("status")] == [
        "put head-internal-secret", "restart vlinders-head", "put kong-internal-secret", "restart kong-gateway",
        "put head-internal-secret", "restart vlinders-head"]
    assert after["vlinders-inference head-internal-secret"] == after["vlinders-platform kong-internal-secret"]


def test_workers_take_both_keys_before_heads_send_the_new_one(maker):
    _, done, after = rotated(maker, "worker-key")
    assert [step for step in done if not step.startswith("status")] == [
        "put worker-key", "restart worker-llama-3-8b", "put worker-key", "restart vlinders-head", "put worker-key", "restart worker-llama-3-8b"]
    assert "\n" not in after["vlinders-inference worker-key"]["key"]


def test_a_new_pair_of_keys_keeps_the_old_private_one_for_its_owner(maker):
    changed, done, _ = rotated(maker, "jwt")
    assert changed == ["vlinders-inference head-jwt-public-key", "vlinders-platform kong-jwt-public-key"]
    assert "restart kong-gateway" in done and "restart vlinders-head" in done
    assert (maker.state / "test" / "jwt-private.pem.old").exists()


@pytest.mark.parametrize("words, complaint", [
    (["--rotate", "everything"], "no secret everything"),
    (["--rotate", "billing"], "give --from a folder"),
    (["--from", "/nowhere"], "is no folder"),
    (["--now"], "--now"),
])
def test_what_can_not_be_done_is_said(maker, words, complaint):
    done = maker.make(*words)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_a_cluster_that_does_not_answer_makes_no_new_secrets(maker):
    secrets = maker.made()
    maker.rule("get secrets", status=1, err="Unable to connect to the server\n")
    done = maker.make()
    assert done.returncode == 1
    assert maker.secrets() == secrets
