"""The platform as processes, watched by a real Prometheus with the shipped configuration.

A head, two workers with the built-in model, PostgreSQL, a Redis cluster of six, Kong's Redis and both exporters are real. What
Kong, DCGM, cert-manager and kubelet would say is read from prometheus/*.prom. Kubernetes is an API that knows their pods."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from prometheus_cluster import Cluster, node, pod
from prometheus_queries import MONITORING, RULES
from prometheus_tools import ROOT, programs

CANNED = Path(__file__).resolve().parent / "prometheus"
MODEL = "vlinders-demo"
# One that is offered and that no worker has.
IDLE_MODEL = "nobody-serves-this"
PASSWORD = "butterfly-7"
KONG_PASSWORD = "gate-7"
API_KEY = "sk-prometheus-test"
# Of a consumer that may ask once a minute.
LIMITED_KEY = "sk-prometheus-limited"
PATIENCE = 60


class Platform:
    """Everything that runs; `close` ends it."""

    def __init__(self):
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="vlinders-prometheus-")))
        self.folder.chmod(0o755)
        self.processes = {}
        self.stack.callback(self.stop_all)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def close(self):
        self.stack.close()

    # === Processes ===

    def run(self, name, command, **options):
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(
            list(map(str, command)), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )
        log.close()
        self.processes[name] = process
        return process

    def stop(self, name, how=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGKILL)
        for process in self.processes.values():
            process.wait()

    def until(self, what, holds, patience=PATIENCE):
        """Wait for something that other processes do; nothing depends on how long it takes."""
        deadline = time.monotonic() + patience
        while not (result := holds()):
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise AssertionError(f"{name} has ended:\n{self.log(name)}")
            logs = "\n".join(f"--- {name}\n{self.log(name)}" for name in self.processes)
            assert time.monotonic() < deadline, f"not in {patience} s: {what}\n{logs}"
            time.sleep(0.1)
        return result

    def log(self, name):
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-15:])

    def write(self, name, content, mode=0o644):
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        path.chmod(mode)
        return path

    # === Start ===

    def start(self):
        self.start_databases()
        self.start_vlinders()
        self.start_exporters()
        self.start_prometheus()

    def start_databases(self):
        self.postgres = free_port()
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        data = self.folder / "postgres"
        data.mkdir()
        # it refuses to be root
        account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        as_account = {"user": account.pw_uid, "group": account.pw_gid} if os.geteuid() == 0 else {}
        os.chown(data, account.pw_uid, account.pw_gid)
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=data, **as_account,
        )
        self.run(
            "postgres",
            [binaries / "postgres", "-D", data, "-p", self.postgres, "-c", "listen_addresses=127.0.0.1",
             "-c", "fsync=off", "-k", data],
            **as_account,
        )
        self.redis = [free_port() for _ in range(6)]
        self.kong_redis = free_port()
        for number, port in enumerate(self.redis):
            folder = self.folder / f"redis-{number}"
            folder.mkdir()
            cluster = ["--cluster-enabled", "yes", "--cluster-port", free_port(), "--masterauth", PASSWORD]
            self.start_redis(f"redis-{number}", port, PASSWORD, folder, cluster)
        folder = self.folder / "kong-redis"
        folder.mkdir()
        self.start_redis("kong-redis", self.kong_redis, KONG_PASSWORD, folder, ["--maxmemory", "64mb"])
        self.until("PostgreSQL answers", lambda: self.sql("SELECT 1", check=False).returncode == 0)
        self.sql("CREATE ROLE vlinders LOGIN", "CREATE DATABASE vlinders OWNER vlinders")
        self.sql("CREATE ROLE exporter LOGIN", "GRANT pg_monitor TO exporter")
        # it notes when it is done, which the exporter reads
        (self.folder / "backups").mkdir()
        subprocess.run(
            [ROOT / "deploy" / "scripts" / "backup.sh", self.folder / "backups"],
            env={**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(self.postgres), "PGUSER": "postgres",
                 "PGDATABASE": "vlinders"},
            check=True, stderr=subprocess.DEVNULL,
        )
        for port in [*self.redis, self.kong_redis]:
            self.until(f"Redis {port} answers", lambda port=port: reachable(port))
        nodes = [f"127.0.0.1:{port}" for port in self.redis]
        done = subprocess.run(
            ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"],
            env={**os.environ, "REDISCLI_AUTH": PASSWORD}, capture_output=True, text=True, check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start_redis(self, name, port, password, folder, more):
        self.run(
            name,
            ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--requirepass",
             password, "--maxmemory", "128mb", *more],
        )

    def sql(self, *statements, check=True):
        command = ["psql", "-h", "127.0.0.1", "-p", str(self.postgres), "-U", "postgres", "-q", "-v", "ON_ERROR_STOP=1"]
        for statement in statements:
            command += ["-c", statement]
        return subprocess.run(command, check=check, capture_output=True, text=True)

    def start_vlinders(self):
        binary = os.environ.get("VLINDERS_TEST_BINARY", str(ROOT / "target" / "debug" / "vlinders"))
        self.binary = binary
        models = self.write(
            "models.yaml",
            {"models": [{"name": MODEL, "path": "builtin:vlinders-demo", "enabled": True, "max_num_seqs": 4}]},
        )
        offered = self.write(
            "offered.yaml",
            {"models": [
                {"name": MODEL, "path": "builtin:vlinders-demo", "enabled": True},
                {"name": IDLE_MODEL, "path": "/models/nobody", "enabled": True},
            ]},
        )
        self.write("api-keys", f"tester {API_KEY}\nlimited {LIMITED_KEY}\n")
        self.write("worker-key", "worker-key-of-the-test\n")
        self.write("database-url", f"postgresql://vlinders@127.0.0.1:{self.postgres}/vlinders\n")
        self.write("redis-url", "".join(f"redis://:{PASSWORD}@127.0.0.1:{port}\n" for port in self.redis))
        (self.folder / "spool").mkdir()
        worker = self.write("worker.yaml", {"auth": {"api_key_file": "worker-key"}})
        self.worker_command = [
            binary, "worker", "--model", MODEL, "--models", models, "--server", worker, "--host", "127.0.0.1",
        ]
        self.workers = [free_port() for _ in range(3)]
        head = self.write(
            "head.yaml",
            {
                "auth": {"api_key_file": "api-keys"},
                "rate_limits": {
                    "requests_per_minute": 100000,
                    "consumers": {"limited": {"requests_per_minute": 1}},
                    "redis": {"url_file": "redis-url", "cluster": True, "timeout": "1s"},
                },
                "ledger": {"database_url_file": "database-url", "spool": str(self.folder / "spool")},
                "head": {
                    "workers": [{"addresses": [f"127.0.0.1:{port}" for port in self.workers]}],
                    "worker_key_file": "worker-key",
                    "queue": {"timeout": "1s"},
                },
            },
        )
        for number in range(2):
            self.start_worker(number)
        self.head = free_port()
        self.run(
            "head",
            [binary, "head", "--models", offered, "--server", head, "--host", "127.0.0.1", "--port", self.head,
             "--dashboard-port", "0"],
        )
        for port in [*self.workers[:2], self.head]:
            self.until(f"{port} is ready", lambda port=port: status(f"http://127.0.0.1:{port}/ready") == 200)

    def start_worker(self, number):
        self.run(f"worker-{number}", [*self.worker_command, "--port", self.workers[number]])

    def start_exporters(self):
        found = programs()
        self.exporters = {"postgres": free_port(), "redis": free_port()}
        self.run(
            "postgres-exporter",
            [found["prometheus-postgres-exporter"], f"--web.listen-address=127.0.0.1:{self.exporters['postgres']}",
             f"--extend.query-path={MONITORING}/exporters/queries.yaml"],
            env={
                "DATA_SOURCE_URI": f"127.0.0.1:{self.postgres}/vlinders?sslmode=disable",
                "DATA_SOURCE_USER": "exporter",
                "DATA_SOURCE_PASS_FILE": str(self.write("exporter-password", "unused")),
            },
        )
        passwords = {f"redis://127.0.0.1:{port}": PASSWORD for port in self.redis}
        passwords[f"redis://127.0.0.1:{self.kong_redis}"] = KONG_PASSWORD
        self.run(
            "redis-exporter",
            [found["prometheus-redis-exporter"], "--redis.addr=", f"--redis.password-file="
             f"{self.write('passwords.json', passwords)}", f"--web.listen-address=127.0.0.1:{self.exporters['redis']}"],
        )

    def start_prometheus(self):
        self.canned = {}
        for name in ["kong", "dcgm", "cert-manager"]:
            self.canned[name] = self.serve({"/metrics": name})
        self.canned["kubelet"] = self.serve({"/metrics": "kubelet", "/metrics/cadvisor": "cadvisor"})
        self.cluster = Cluster(self.pods(), [node("node-a", self.canned["kubelet"])])
        self.stack.callback(self.cluster.close)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.write("prometheus.yml", derived(self))
        self.run(
            "prometheus",
            [programs()["prometheus"], "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        )
        self.until("Prometheus answers", lambda: status(f"{self.url}/-/ready") == 200)
        # what is counted from here on is seen to rise
        self.until("every target was asked", lambda: self.targets() and all(self.targets().values()))

    def pods(self):
        """Pods as the manifests make them, those that must not be scraped among them."""
        def labels(name, **more):
            return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "vlinders", **more}

        inference, platform, monitoring = "vlinders-inference", "vlinders-platform", "vlinders-monitoring"
        slug = {"vlinders.io/model": MODEL}
        closed = free_port()
        redis = [
            pod(platform, f"redis-{number}", labels("redis"), {"redis": port, "bus": closed})
            for number, port in enumerate(self.redis)
        ]
        workers = [
            pod(inference, f"worker-{number}", labels("worker", **slug), {"http": self.workers[number], "group": closed})
            for number in range(2)
        ]
        return [
            pod(inference, "vlinders-head-0", labels("head"), {"http": self.head, "dashboard": closed, "scaler": closed}),
            *workers,
            pod(inference, "worker-0-1", labels("worker-follower", **slug), {"http": closed}),
            pod(inference, "worker-gone", labels("worker", **slug), {"http": closed}, phase="Succeeded"),
            pod(inference, "stranger", {"app.kubernetes.io/name": "worker"}, {"http": closed}),
            pod(platform, "kong-gateway-0", labels("kong"), {"proxy": closed, "status": self.canned["kong"]}),
            *redis,
            pod(platform, "kong-redis-0", labels("kong-redis"), {"redis": self.kong_redis}),
            pod(platform, "postgres-0", labels("postgres"), {"postgres": self.postgres}),
            pod(monitoring, "postgres-exporter-0", labels("postgres-exporter"), {"metrics": self.exporters["postgres"]}),
            pod(monitoring, "redis-exporter-0", labels("redis-exporter"), {"metrics": self.exporters["redis"]}),
            pod(monitoring, "grafana-0", labels("grafana"), {"http": closed}),
            pod("vlinders-gpu-metrics", "dcgm-exporter-0", labels("dcgm-exporter"), {"metrics": self.canned["dcgm"]}),
            pod("cert-manager", "cert-manager-0", {"app.kubernetes.io/name": "cert-manager"},
                {"http-metrics": self.canned["cert-manager"]}),
        ]

    def serve(self, files):
        """Serve files of canned metrics on a port; what counts goes up from one scrape to the next."""
        def scaled(line, scrapes):
            name, _, value = line.rpartition(" ")
            counts = name.partition("{")[0].endswith(("_total", "_bucket", "_count", "_sum", "_bandwidth_bytes"))
            return f"{name} {float(value) * scrapes}" if counts and not line.startswith("#") else line

        class Handler(BaseHTTPRequestHandler):
            scrapes = 0

            def do_GET(self):
                Handler.scrapes += 1
                lines = (CANNED / f"{files[self.path]}.prom").read_text().splitlines()
                body = "\n".join(scaled(line, Handler.scrapes) for line in lines) + "\n"
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.stack.callback(lambda: (server.shutdown(), server.server_close()))
        return server.server_port

    # === Load ===

    def load(self):
        """Requests of each kind that a series tells of: answered, failed, refused and retried ones."""
        ask = {"model": MODEL, "stream": True, "max_tokens": 24, "messages": [{"role": "user", "content": "Hello"}]}
        threads = [
            threading.Thread(target=self.ask, args=({**ask, "messages": [{"role": "user", "content": f"Tell {n}"}]},))
            for n in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.ask({**ask, "model": IDLE_MODEL})[0] == 503
        asked = [self.ask({**ask, "max_tokens": 1}, LIMITED_KEY)[0] for _ in range(2)]
        assert asked == [200, 429]
        self.retry(ask)

    def ask(self, body, key=API_KEY):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.head}/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def retry(self, ask):
        """Kill a worker that the head believes in: what it is asked next goes elsewhere, unless the head noticed first."""
        head = f"http://127.0.0.1:{self.head}/metrics"
        ready = f'vlinders_head_workers{{model_name="{MODEL}",state="ready"}} 3'
        for attempt in range(5):
            self.start_worker(2)
            self.until("the head knows a third worker", lambda: ready in get(head))
            self.stop("worker-2", signal.SIGKILL)
            for number in range(8):
                words = {"role": "user", "content": f"Once more {attempt} {number}"}
                self.ask({**ask, "max_tokens": 2, "messages": [words]})
            if "vlinders_head_retries_total{" in get(head):
                return
        raise AssertionError("no request was sent to a worker twice")

    # === Prometheus ===

    def api(self, path, **parameters):
        query = urllib.parse.urlencode(parameters)
        try:
            answer = get(f"{self.url}/api/v1/{path}?{query}")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path} {parameters}: {error.read().decode()}") from error
        return json.loads(answer)["data"]

    def targets(self):
        """Job and pod (or node) of each target, and whether it was asked yet."""
        found = {}
        for target in self.api("targets", state="active")["activeTargets"]:
            labels = target["labels"]
            found[labels["job"], labels.get("pod", labels.get("node"))] = target["health"] != "unknown"
        return found

    def query(self, expression):
        return self.api("query", query=expression)["result"]

    def parse(self, expression):
        return self.api("parse_query", query=expression)


def derived(platform):
    """The shipped configuration, with this machine's addresses, files and a shorter breath."""
    config = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text())
    config["global"].update(scrape_interval="1s", scrape_timeout="1s", evaluation_interval="1s")
    rules = platform.folder / "rules"
    shutil.copytree(RULES, rules)
    config["rule_files"] = [f"{rules}/*.yaml"]
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    for discovered in [*jobs.values(), *config["alerting"]["alertmanagers"]]:
        for discovery in discovered.get("kubernetes_sd_configs", []):
            discovery["api_server"] = platform.cluster.url
    jobs["prometheus"]["static_configs"][0]["targets"] = [f"127.0.0.1:{platform.port}"]
    for name in ["kubelet", "cadvisor"]:
        # no certificate and no token here
        assert jobs[name].pop("scheme") == "https" and jobs[name].pop("authorization") and jobs[name].pop("tls_config")
    moved = {
        "redis://$1.redis.vlinders-platform:$2": "redis://127.0.0.1:$2",
        "redis://kong-redis.vlinders-platform:$1": "redis://127.0.0.1:$1",
        "redis-exporter.vlinders-monitoring:9121": f"127.0.0.1:{platform.exporters['redis']}",
    }
    for rule in jobs["redis"]["relabel_configs"]:
        if rule.get("replacement") in moved:
            rule["replacement"] = moved.pop(rule["replacement"])
    assert not moved, f"prometheus.yml does not say {list(moved)}"
    return yaml.safe_dump(config)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def reachable(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
urllib.request.install_opener(OPENER)


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read().decode()


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
