"""Whether redis-cluster.sh makes one cluster of six real servers, leaves it alone, and mends it."""

import os
import subprocess

import pytest
from redis_nodes import PASSWORD, start_nodes, wait_for

KEYS = {f"key-{number}": f"value-{number}" for number in range(60)}


class Cluster:
    def __init__(self, scripts, folder):
        self.script = scripts / "redis-cluster.sh"
        self.password = folder / "password"
        self.password.write_text(PASSWORD + "\n")
        self.nodes = start_nodes(folder, 6)

    def bootstrap(self, password=None, **environment):
        environment = dict(
            os.environ,
            REDIS_NODES=" ".join(node.address for node in self.nodes),
            REDIS_PASSWORD_FILE=str(password or self.password),
            REDIS_PATIENCE="60",
            **environment,
        )
        return subprocess.run([self.script], env=environment, capture_output=True, text=True, timeout=300)

    def bootstrapped(self):
        done = self.bootstrap()
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stderr

    def roles(self):
        flags = [flags for _, flags, _, _ in self.nodes[0].members().values()]
        return sorted("master" if "master" in words else "slave" for words in flags)

    def masters(self):
        by_port = {node.port: node for node in self.nodes}
        alive = [node for node in self.nodes if node.process.poll() is None]
        members = alive[0].members().values()
        return [by_port[port] for port, flags, _, _ in members if "master" in flags and "fail" not in flags]

    def fail_over(self, master):
        """Kill it, and wait until its replica has taken its place; gives the others."""
        others = [node for node in self.nodes if node is not master]
        master.kill()
        wait_for(lambda: len(self.masters()) == 3 and master not in self.masters(), "another master")
        wait_for(lambda: all(node.cluster()["cluster_state"] == "ok" for node in others), "a cluster of five")
        return others

    def fill(self):
        for key, value in KEYS.items():
            assert self.nodes[0].put(key, value) == "OK"
        # Replicas follow a moment later.
        wait_for(lambda: sum(int(node.ask("dbsize")) for node in self.nodes) >= 2 * len(KEYS), "replicas with all keys")

    def holds_everything(self, node):
        return all(node.get(key) == value for key, value in KEYS.items())

    def is_whole(self):
        """Three masters, each with its replica, and everybody knows exactly these six."""
        # The first one hears of roles a moment after those who have them.
        wait_for(lambda: self.roles() == ["master"] * 3 + ["slave"] * 3, "three masters and three replicas")
        wait_for(lambda: all(node.is_in_step() for node in self.nodes), "replicas that have the data")
        assert self.roles() == ["master"] * 3 + ["slave"] * 3
        masters_of_replicas = {master for _, flags, master, _ in self.nodes[0].members().values() if "slave" in flags}
        assert len(masters_of_replicas) == 3
        ports = sorted(node.port for node in self.nodes)
        for node in self.nodes:
            assert sorted(port for port, *_ in node.members().values()) == ports
            assert node.cluster()["cluster_state"] == "ok"
            assert node.cluster()["cluster_slots_assigned"] == "16384"


@pytest.fixture(scope="module")
def cluster(scripts, tmp_path_factory):
    """One for all tests: each leaves it whole, and the script has to cope with what the one before it did."""
    cluster = Cluster(scripts, tmp_path_factory.mktemp("redis"))
    yield cluster
    for node in cluster.nodes:
        node.kill()


def test_a_wrong_password_is_said_at_once(cluster, tmp_path):
    (tmp_path / "other").write_text("moth-8\n")
    done = cluster.bootstrap(password=tmp_path / "other")
    assert done.returncode == 1
    assert "refuses the password" in done.stderr
    assert "moth-8" not in done.stderr


def test_six_servers_become_one_cluster_once(cluster):
    assert "creating a cluster of 6 nodes" in cluster.bootstrapped()
    cluster.is_whole()
    cluster.fill()
    before = [node.ask("cluster", "nodes").split()[0] for node in cluster.nodes]
    assert "nothing to do" in cluster.bootstrapped()
    assert [node.ask("cluster", "nodes").split()[0] for node in cluster.nodes] == before
    assert cluster.holds_everything(cluster.nodes[3])


def test_a_replica_takes_over_from_a_master_that_is_killed(cluster):
    killed = cluster.masters()[0]
    alive = cluster.fail_over(killed)
    assert cluster.holds_everything(alive[0])
    killed.start()
    cluster.bootstrapped()
    cluster.is_whole()
    assert killed not in cluster.masters()


def test_a_master_that_comes_back_at_once_without_its_volume_is_replaced(cluster):
    """The others take it for alive, and wait for ever. (Its replica may have copied the emptiness by then, so nothing is
    said of the data.)"""
    lost = cluster.masters()[0]
    lost.forget_everything()
    assert "lost its state" in cluster.bootstrapped()
    cluster.is_whole()
    assert lost not in cluster.masters()


def test_a_master_that_was_replaced_comes_back_without_its_volume(cluster):
    cluster.fill()
    lost = cluster.masters()[0]
    cluster.fail_over(lost)
    lost.forget_everything()
    cluster.bootstrapped()
    cluster.is_whole()
    assert lost not in cluster.masters()
    assert cluster.holds_everything(lost)


def test_a_node_that_lost_only_its_nodes_conf_comes_back(cluster):
    lost = cluster.masters()[1]
    lost.forget_the_cluster()
    assert int(lost.ask("dbsize")) > 0
    assert "lost its state" in cluster.bootstrapped()
    cluster.is_whole()
    assert cluster.holds_everything(lost)


def test_nodes_that_lost_each_others_addresses_meet_again(cluster):
    """What a restart of all pods at once does: every address that is written down is one of yesterday."""
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        file = node.folder / "nodes.conf"
        # 127.0.0.9 is nobody's; its own line a node corrects by itself.
        lines = [line if "myself" in line else line.replace(" 127.0.0.1:", " 127.0.0.9:") for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines) + "\n")
    for node in cluster.nodes:
        node.start()
    wait_for(lambda: cluster.nodes[0].cluster()["cluster_state"] == "fail", "a cluster that has fallen apart")
    cluster.bootstrapped()
    cluster.is_whole()
    assert cluster.holds_everything(cluster.nodes[2])


def test_a_half_made_cluster_without_data_is_made_anew_and_one_with_data_is_left_alone(cluster):
    for node in cluster.nodes:
        node.ask("flushall")
        node.ask("cluster", "reset", "hard")
    assert cluster.nodes[0].ask("cluster", "addslotsrange", "0", "99") == "OK"
    assert cluster.nodes[0].ask("cluster", "meet", "127.0.0.1", cluster.nodes[1].port) == "OK"
    wait_for(lambda: cluster.nodes[0].cluster()["cluster_known_nodes"] == "2", "two that know each other")
    assert "creating" in cluster.bootstrapped()
    cluster.is_whole()

    cluster.fill()
    for node in cluster.nodes:
        node.forget_the_cluster()
    done = cluster.bootstrap()
    assert done.returncode == 1
    assert "holds data" in done.stderr
    assert sum(int(node.ask("dbsize")) for node in cluster.nodes) >= len(KEYS)
