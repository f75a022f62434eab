"""Whether a real head takes the tokens of make-token.sh, and none that another key, another algorithm or an old date made."""

import base64
import hashlib
import hmac
import json
import stat
import subprocess

import pytest
from servers import Program, ask

SERVER = """\
auth:
  jwt:
    public_key_file: secrets/head-jwt-public-key/jwt.pem
    audiences: [vlinders]
    leeway: 0s
dashboard:
  enabled: false
shutdown:
  delay: 0s
"""


class Keys:
    def __init__(self, scripts, folder):
        self.scripts = scripts
        self.folder = folder
        words = [scripts / "make-secrets.sh", "--dir", folder / "secrets", "--jwt-private-key", folder / "private.pem"]
        subprocess.run(words, check=True, capture_output=True)

    def make(self, *words, key="private.pem"):
        words = [self.scripts / "make-token.sh", "--key", self.folder / key, *words]
        return subprocess.run(words, capture_output=True, text=True)

    def token(self, *words, **more):
        done = self.make(*words, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def keys(scripts, tmp_path_factory):
    return Keys(scripts, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def head(vlinders, keys):
    (keys.folder / "server.yaml").write_text(SERVER)
    head = Program(vlinders, keys.folder, "head", "head", "--server", "server.yaml", "--host", "127.0.0.1", "--port", "0", "--worker", "127.0.0.1:9")
    yield head
    head.stop()


def decoded(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def encoded(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def status(head, token):
    return ask(head.url + "/v1/models", token)[0]


def test_a_head_takes_the_token_of_the_documented_command(head, keys):
    token = keys.token("--consumer", "smoke", "--ttl", "15m")
    assert status(head, token) == 200
    header, claims, _ = token.split(".")
    assert decoded(header) == {"alg": "RS256", "typ": "JWT"}
    claims = decoded(claims)
    assert (claims["sub"], claims["aud"]) == ("smoke", "vlinders")
    assert claims["exp"] - claims["iat"] == 15 * 60


def test_a_head_refuses_everything_else(head, keys):
    good = keys.token("--consumer", "smoke")
    header, claims, signature = good.split(".")
    assert status(head, None) == 401
    assert status(head, keys.token("--consumer", "smoke", "--audience", "billing")) == 401

    other = subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], check=True, capture_output=True)
    (keys.folder / "other.pem").write_bytes(other.stdout)
    assert status(head, keys.token("--consumer", "smoke", key="other.pem")) == 401

    # Signed with the right key, but of yesterday.
    past = encoded({**decoded(claims), "iat": 1700000000, "exp": 1700003600})
    text = f"{header}.{past}"
    signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", keys.folder / "private.pem"], input=text.encode(), check=True, capture_output=True)
    code, answer = ask(head.url + "/v1/models", f"{text}.{encoded(signed.stdout)}")
    assert (code, json.loads(answer)["error"]["code"]) == (401, "token_expired")

    # The public key, taken for a shared secret; and no signature at all.
    public = (keys.folder / "secrets" / "head-jwt-public-key" / "jwt.pem").read_bytes()
    text = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{claims}"
    assert status(head, f"{text}.{encoded(hmac.new(public, text.encode(), hashlib.sha256).digest())}") == 401
    assert status(head, f"{encoded({'alg': 'none'})}.{claims}.") == 401
    assert status(head, f"{header}.{encoded({**decoded(claims), 'sub': 'root'})}.{signature}") == 401


def test_a_token_goes_to_a_file_of_its_owner_alone(keys):
    file = keys.folder / "token"
    file.write_text("older")
    file.chmod(0o644)
    done = keys.make("--consumer", "smoke", "--out", file)
    assert (done.returncode, done.stdout) == (0, "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().count(".") == 2


@pytest.mark.parametrize(
    "words, complaint",
    [
        ([], "--consumer"),
        (["--consumer", 'a","sub":"root'], "characters"),
        (["--consumer", "smoke", "--ttl", "31d"], "30d"),
        (["--consumer", "smoke", "--ttl", "soon"], "is no time"),
        (["--consumer", "smoke", "--forever"], "--forever"),
    ],
)
def test_what_is_no_token_is_said(keys, words, complaint):
    done = keys.make(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert complaint in done.stderr
