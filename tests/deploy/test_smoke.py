"""Whether the last request of deploy.sh finds out what a client would: through a port-forward, with the certificate of the gateway."""

import base64
import json
import shutil
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from recorder import Recorder

EVENT = 'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n'


class Gateway(ThreadingHTTPServer):
    """What Kong and a head would answer; `broken` names what it does wrong."""

    def __init__(self, certificate, key):
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken = None
        self.hosts = set()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.hosts.add(self.headers["Host"])
        if not self.allowed():
            return self.answer(401, '{"message":"Unauthorized"}')
        models = [] if self.server.broken == "no model" else [{"id": "llama-3-8b", "object": "model"}]
        self.answer(200, json.dumps({"object": "list", "data": models}))

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.broken == "no worker":
            return self.answer(503, '{"error":{"message":"no worker is ready"}}')
        if not request.get("stream"):
            tokens = 0 if self.server.broken == "no token" else 8
            return self.answer(200, json.dumps({"choices": [], "usage": {"completion_tokens": tokens}}))
        kind = "application/json" if self.server.broken == "no stream" else "text/event-stream"
        end = "" if self.server.broken == "half a stream" else "data: [DONE]\n\n"
        self.answer(200, EVENT + EVENT + end, kind)

    def allowed(self):
        """A token that has three parts and names `smoke`."""
        if self.server.broken == "open to all":
            return True
        parts = self.headers.get("Authorization", "").removeprefix("Bearer ").split(".")
        return len(parts) == 3 and json.loads(base64.urlsafe_b64decode(parts[1] + "=="))["sub"] == "smoke" and self.server.broken != "other key"

    def answer(self, status, text, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Platform(Recorder):
    def __init__(self, root, folder, private_key):
        super().__init__(folder)
        self.script = root / "deploy" / "deploy.sh"
        (self.state / "test").mkdir(parents=True)
        shutil.copy(private_key, self.state / "test" / "jwt-private.pem")
        self.certificates = folder / "secrets"
        words = [root / "deploy" / "scripts" / "make-secrets.sh", "--dir", self.certificates, "--self-signed", "llm.test", "--jwt-private-key", private_key]
        subprocess.run(words, check=True, capture_output=True)
        certificate = self.certificates / "kong-tls" / "tls.crt"
        self.gateway = Gateway(certificate, self.certificates / "kong-tls" / "tls.key")
        self.rule("get secret kong-tls", out=base64.b64encode(certificate.read_bytes()).decode())
        self.rule("get deployment worker-llama-3-8b", out="1")

    def environment(self):
        return dict(super().environment(), FAKE_KUBECTL_FORWARD=str(self.gateway.server_address[1]))

    def smoke(self, *words):
        return self.run(self.script, *words, "smoke")


@pytest.fixture
def platform(root, tmp_path, private_key):
    platform = Platform(root, tmp_path, private_key)
    yield platform
    platform.gateway.shutdown()


def test_a_platform_that_serves_passes(platform):
    done = platform.smoke()
    assert done.returncode == 0, done.stderr
    assert "llama-3-8b answers, whole and as a stream" in done.stderr
    # By the name of the certificate, not by that of the tunnel.
    assert platform.gateway.hosts == {"llm.test"}
    calls = [call for call in platform.calls() if "port-forward" in call]
    assert calls == ["-n vlinders-platform port-forward service/kong-gateway :443"]
    token = [word for call in platform.calls() for word in call.split() if word.count(".") == 2 and word.startswith("ey")]
    assert token == []


@pytest.mark.parametrize("broken, complaint", [
    ("open to all", "without a token nobody may ask"),
    ("other key", "the token is not accepted"),
    ("no model", "no model is offered"),
    ("no worker", "no head or no worker is ready"),
    ("no token", "holds no token"),
    ("no stream", "is not one of events"),
    ("half a stream", "broke off"),
])
def test_a_platform_that_does_not_is_found_out(platform, broken, complaint):
    platform.gateway.broken = broken
    done = platform.smoke()
    assert done.returncode == 1
    assert complaint in done.stderr


def test_another_certificate_is_not_trusted(platform, root, tmp_path, private_key):
    words = [root / "deploy" / "scripts" / "make-secrets.sh", "--dir", tmp_path / "others", "--self-signed", "llm.test", "--jwt-private-key", private_key]
    subprocess.run(words, check=True, capture_output=True)
    other = (tmp_path / "others" / "kong-tls" / "tls.crt").read_bytes()
    platform.rules.insert(0, {"when": "get secret kong-tls", "out": base64.b64encode(other).decode()})
    platform.rule("nothing")
    done = platform.smoke()
    assert done.returncode == 1
    assert "certificate is not trusted" in done.stderr


def test_a_model_that_is_scaled_to_zero_is_not_woken(platform):
    platform.rules.insert(0, {"when": "get deployment worker-llama-3-8b", "out": ""})
    platform.rule("nothing")
    done = platform.smoke()
    assert done.returncode == 0, done.stderr
    assert "llama-3-8b has no worker now; it is not asked" in done.stderr


def test_no_way_to_the_gateway_is_said(platform):
    platform.rule("port-forward", status=1, err="error: unable to forward port because pod is not running\n")
    platform.rules.insert(0, platform.rules.pop())
    platform.rule("nothing")
    done = platform.smoke()
    assert done.returncode == 1
    assert "pod is not running" in done.stderr
