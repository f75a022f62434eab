"""Real Redis servers in cluster mode, which can be killed, started again, and made to forget."""

import os
import shutil
import socket
import subprocess
import time

PASSWORD = "butterfly-7"


class Node:
    def __init__(self, folder, port):
        self.folder = folder
        self.port = port
        self.process = None
        folder.mkdir()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        words = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", "", "--appendonly", "yes"]
        words += ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000"]
        # A replica that has never got the data of its master does not replace it.
        words += ["--repl-diskless-sync-delay", "0", "--requirepass", PASSWORD, "--masterauth", PASSWORD]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(["redis-server", *map(str, words)], stdout=log, stderr=log)
        wait_for(lambda: self.ask("ping") == "PONG", f"redis on {self.port}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def forget_everything(self):
        """As if its volume had been lost."""
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.start()

    def forget_the_cluster(self):
        """Its data is still there."""
        self.kill()
        (self.folder / "nodes.conf").unlink()
        self.start()

    def ask(self, *words):
        command = ["redis-cli", "-p", str(self.port), *map(str, words)]
        environment = dict(os.environ, REDISCLI_AUTH=PASSWORD)
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()

    def cluster(self):
        """Fields of CLUSTER INFO."""
        return dict(line.split(":", 1) for line in self.ask("cluster", "info").split() if ":" in line)

    def members(self):
        """What it knows of the nodes: id -> (port, flags, id of the master, state of the link)."""
        lines = [line.split() for line in self.ask("cluster", "nodes").splitlines()]
        return {f[0]: (int(f[1].split("@")[0].rsplit(":", 1)[1]), f[2].split(","), f[3], f[7]) for f in lines}

    def is_in_step(self):
        """A master, or a replica that has what its master has."""
        replication = self.ask("info", "replication")
        return "role:master" in replication or "master_link_status:up" in replication

    def put(self, key, value):
        """Follows MOVED."""
        return self.ask("-c", "set", key, value)

    def get(self, key):
        return self.ask("-c", "get", key)


def start_nodes(folder, number):
    nodes = []
    while len(nodes) < number:
        port = cluster_port()
        if port in [node.port for node in nodes]:
            continue
        node = Node(folder / f"node-{len(nodes)}", port)
        node.start()
        nodes.append(node)
    return nodes


def cluster_port():
    """A free port, whose bus port 10000 above is free too."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            # Below the ports that systems give to clients, both; tests that run at the same time have their own hundreds.
            worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
            port = 20000 + 500 * worker + first.getsockname()[1] % 500
        try:
            for candidate in (port, port + 10000):
                with socket.socket() as second:
                    second.bind(("127.0.0.1", candidate))
        except OSError:
            continue
        return port


def wait_for(true, what, patience=60):
    """Until it is true; far longer than it should take on a busy machine."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {patience} s"
        time.sleep(0.05)
