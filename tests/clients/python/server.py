"""A server seen from outside: plain HTTP, metrics, and a process for tests that end one."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.parse


class Server:
    """Where a server listens."""

    def __init__(self, url: str):
        self.url = url
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname, parts.port

    def request(self, method: str, path: str, body=None, headers=None, timeout=60):
        """One request on a connection of its own: status, headers, body."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def get(self, path: str) -> tuple[int, bytes]:
        status, _, body = self.request("GET", path)
        return status, body

    def get_json(self, path: str):
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, body, headers=None, timeout=60) -> tuple[int, dict]:
        """Posts a value as JSON, or bytes as they are; the answer has to be JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json"} | (headers or {})
        status, _, answer = self.request("POST", path, raw, headers, timeout)
        return status, json.loads(answer)

    def tokenize(self, text: str) -> list[int]:
        status, answer = self.post("/tokenize", {"prompt": text, "add_special_tokens": False})
        assert status == 200, answer
        return answer["tokens"]

    def detokenize(self, tokens: list[int]) -> str:
        status, answer = self.post("/detokenize", {"tokens": tokens})
        assert status == 200, answer
        return answer["prompt"]

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=30)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels; zero when there are none yet."""
        total = 0.0
        for line in self.get("/metrics")[1].decode().splitlines():
            if line.startswith("#") or not line.startswith(name):
                continue
            series, _, value = line.rpartition(" ")
            full_name, _, pairs = series.partition("{")
            wanted = all(f'{key}="{wanted}"' in pairs for key, wanted in labels.items())
            if full_name == name and wanted:
                total += float(value)
        return total

    def running(self) -> float:
        return self.metric("vllm:num_requests_running")

    def waiting(self) -> float:
        return self.metric("vllm:num_requests_waiting")

    def kv_usage(self) -> float:
        return self.metric("vllm:kv_cache_usage_perc")

    def idle(self) -> bool:
        return self.running() == 0 and self.waiting() == 0 and self.kv_usage() == 0

    def wait_until(self, condition, what: str, seconds: float = 30) -> float:
        """Waits for a condition and returns how long it took, from the start to the last look."""
        start = time.monotonic()
        while True:
            looked = time.monotonic()
            if condition():
                return looked - start
            assert looked - start < seconds, f"not within {seconds} s: {what}"
            time.sleep(0.005)

    def wait_until_idle(self) -> float:
        return self.wait_until(self.idle, "no request running, none waiting, no KV block held")


class Process(Server):
    """A server of the test's own, which the test may end."""

    def __init__(self, *arguments: str):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        super().__init__(f"http://127.0.0.1:{port}")
        command = [os.environ["VLINDERS_TEST_BINARY"], "serve", "builtin:vlinders-demo"]
        command += ["--host", "127.0.0.1", "--port", str(port), *arguments]
        self.process = subprocess.Popen(command)

    def __enter__(self):
        self.wait_until(self.ready, "the server is ready", seconds=60)
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def ready(self) -> bool:
        assert self.process.poll() is None, "the server ended while starting"
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)
