"""Whether members of the cluster find each other again after an outage in which all of them got other addresses."""

import os
import shutil
import subprocess

import pytest
from redis_nodes import PASSWORD, wait_for

NUMBER = 6


class Pods:
    """What six pods run, on addresses of this machine: names are resolved, and the server is asked, as in a pod."""

    def __init__(self, root, folder):
        self.root, self.folder, self.processes = root, folder, {}
        self.addresses = folder / "addresses"
        self.addresses.mkdir()
        (folder / "password").write_text(PASSWORD + "\n")
        programs = folder / "programs"
        programs.mkdir()
        # In a pod, 127.0.0.1 is the server of that pod.
        self.program("redis-cli", f'case " $* " in *" -h "*) exec {shutil.which("redis-cli")} "$@" ;; esac\n'
                                  f'exec {shutil.which("redis-cli")} -h "$POD_IP" "$@"')
        self.program("getent", f'cat "{self.addresses}/$2" 2>/dev/null')

    def program(self, name, does):
        path = self.folder / "programs" / name
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def name(self, idx):
        return f"redis-{idx}.redis.vlinders-platform"

    def start(self, idx, address):
        (self.addresses / self.name(idx)).write_text(f"{address}  {self.name(idx)}\n")
        etc, run, data = (self.folder / f"{what}-{idx}" for what in ("etc", "run", "data"))
        for path in (etc, run, data):
            path.mkdir(exist_ok=True)
        base = self.root / "deploy" / "base" / "redis"
        settings = (base / "cluster.conf").read_text().replace("bind * -::*", f"bind {address}").replace("dir /data", f"dir {data}")
        (etc / "redis.conf").write_text(settings)
        shutil.copy(base / "start.sh", etc)
        environment = dict(
            os.environ, PATH=f"{self.folder}/programs:{os.environ['PATH']}", POD_IP=address, REDIS_RUN_DIR=str(run),
            REDIS_HOSTNAME=self.name(idx), REDIS_PEERS=" ".join(map(self.name, range(NUMBER))),
            REDIS_PASSWORD_FILE=str(self.folder / "password"),
        )
        log = (self.folder / f"log-{idx}").open("ab")
        # A group of its own: what greets the others is a child that has to end too.
        self.processes[idx] = subprocess.Popen(["sh", etc / "start.sh"], env=environment, stdout=log, stderr=log, start_new_session=True)
        wait_for(lambda: self.ask(address, "ping") == "PONG", f"redis at {address}")

    def ask(self, address, *words):
        environment = dict(os.environ, REDISCLI_AUTH=PASSWORD)
        command = ["redis-cli", "-h", address, *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()

    def is_whole(self, address):
        nodes = self.ask(address, "cluster", "nodes").splitlines()
        connected = [line for line in nodes if " connected" in line and "fail" not in line.split()[2]]
        return len(nodes) == NUMBER == len(connected) and "cluster_state:ok" in self.ask(address, "cluster", "info")

    def stop(self):
        # Again and again: one that writes its first log refuses to end.
        wait_for(lambda: not [self.end(process) for process in self.processes.values() if process.poll() is None], "the end of all")
        self.processes.clear()

    def end(self, process):
        os.killpg(process.pid, 15)


@pytest.fixture
def pods(root, tmp_path):
    pods = Pods(root, tmp_path)
    yield pods
    pods.stop()


def addresses(net):
    return [f"127.0.{net}.{10 + idx}" for idx in range(NUMBER)]


def form(pods, scripts, net):
    nodes = " ".join(f"{address}:6379" for address in addresses(net))
    environment = dict(os.environ, REDIS_NODES=nodes, REDIS_PASSWORD_FILE=str(pods.folder / "password"), REDIS_PATIENCE="60")
    done = subprocess.run(["sh", scripts / "redis-cluster.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_come_back_with_other_addresses(pods, scripts):
    for idx, address in enumerate(addresses(71)):
        pods.start(idx, address)
    form(pods, scripts, 71)
    # Clients are told names, which stay.
    answers = {pods.ask(addresses(71)[0], "set", key, "1") for key in ("a", "b", "c", "d", "e")}
    moved = [answer.split()[2] for answer in answers if answer.startswith("MOVED")]
    assert moved and all(place.endswith(".redis.vlinders-platform:6379") for place in moved)

    pods.stop()
    for idx, address in enumerate(addresses(72)):
        pods.start(idx, address)
    for address in addresses(72):
        wait_for(lambda address=address: pods.is_whole(address), f"the cluster as {address} sees it")


def test_a_server_alone_greets_nobody(pods):
    """Forming the cluster is the bootstrap's task: it refuses nodes that know each other already."""
    for idx, address in enumerate(addresses(73)[:2]):
        pods.start(idx, address)
    # Its background task has ended: of the session only the server is left.
    for process in pods.processes.values():
        wait_for(lambda pid=process.pid: members_of(pid) == 1, "the end of greeting")
    assert "cluster_known_nodes:1" in pods.ask(addresses(73)[0], "cluster", "info")


def members_of(session):
    found = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True).stdout.split()
    return len([state for state in found if not state.startswith("Z")])


def test_nobody_is_let_in_without_the_password(pods):
    address = addresses(74)[0]
    pods.start(0, address)
    anybody = subprocess.run(["redis-cli", "-h", address, "ping"], capture_output=True, text=True)
    assert "NOAUTH" in anybody.stdout
    arguments = open(f"/proc/{pods.processes[0].pid}/cmdline").read()
    assert "redis-server" in arguments and PASSWORD not in arguments
    assert (pods.folder / "run-0" / "redis.conf").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("password", ["", 'quoted"', "two words"])
def test_a_password_that_would_break_the_configuration_is_refused(pods, password):
    (pods.folder / "password").write_text(password)
    environment = dict(os.environ, REDIS_RUN_DIR=str(pods.folder), REDIS_PASSWORD_FILE=str(pods.folder / "password"))
    start = pods.root / "deploy" / "base" / "redis" / "start.sh"
    done = subprocess.run(["sh", start], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "has characters other than" in done.stderr
