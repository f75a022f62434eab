"""The rendered overlays and the shipped configuration of Prometheus agree: each pod that has metrics is found on its port, under
the job that alerts ask for, and no other is."""

import json
import subprocess
import time
import urllib.request

import pytest
import yaml

from prometheus_cluster import Cluster, node
from prometheus_platform import free_port
from prometheus_queries import MONITORING
from prometheus_tools import ROOT, programs

# Job: the names of its pods (by workload) and the port.
EVERYWHERE = {
    "vlinders-head": {("vlinders-head", 8000)},
    "kong": {("kong-gateway", 8100)},
    "postgres": {("postgres-exporter", 9187)},
    "redis": {("redis", 6379), ("kong-redis", 6379)},
}
EXPECTED = {
    "dev-cpu": EVERYWHERE | {"vlinders-worker": {("worker-vlinders-demo", 8000)}},
    "production": EVERYWHERE
    | {
        "vlinders-worker": {("worker-llama-3-8b", 8000), ("worker-llama-3-70b", 8000)},
        "dcgm": {("dcgm-exporter", 9400)},
    },
}


@pytest.mark.parametrize("overlay", EXPECTED)
def test_every_pod_with_metrics_is_found(overlay, tmp_path):
    cluster = Cluster(list(pods_of(overlay)), [node("node-a", 10250)])
    port = free_port()
    process = None
    try:
        (tmp_path / "prometheus.yml").write_text(pointed_at(cluster))
        process = subprocess.Popen(
            [programs()["prometheus"], "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             f"--web.listen-address=127.0.0.1:{port}"],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(tmp_path / "log", "wb"),
        )
        jobs = len(EXPECTED[overlay])
        found = until(lambda: targets(port), lambda found: len(found) >= jobs, tmp_path / "log")
        assert found == EXPECTED[overlay]
    finally:
        if process:
            process.kill()
            process.wait()
        cluster.close()


def pods_of(overlay):
    """One pod of each workload, with the labels and ports of its template."""
    command = ["kubectl", "kustomize", ROOT / "deploy" / "overlays" / overlay]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for workload in yaml.safe_load_all(rendered):
        spec = workload.get("spec", {})
        template = spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template")
        if template:
            yield {
                "metadata": {
                    "namespace": workload["metadata"]["namespace"],
                    "name": workload["metadata"]["name"],
                    "uid": workload["metadata"]["name"],
                    "labels": template["metadata"].get("labels", {}),
                },
                "spec": {"nodeName": "node-a", "containers": template["spec"]["containers"]},
                "status": {"phase": "Running", "podIP": "127.0.0.1", "hostIP": "127.0.0.1"},
            }


def pointed_at(cluster):
    """The shipped configuration, asking this API, and no target within the time of the test."""
    config = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text())
    del config["rule_files"], config["alerting"]
    config["global"]["scrape_interval"] = "1h"
    for job in config["scrape_configs"]:
        for discovery in job.get("kubernetes_sd_configs", []):
            discovery["api_server"] = cluster.url
    return yaml.safe_dump(config)


def targets(port):
    """Job: pods and their ports, of what is discovered by pod."""
    url = f"http://127.0.0.1:{port}/api/v1/targets?state=active"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            active = json.load(answer)["data"]["activeTargets"]
    except OSError:
        return {}
    found = {}
    for target in active:
        before = target["discoveredLabels"]
        if "__meta_kubernetes_pod_name" in before:
            number = int(before["__meta_kubernetes_pod_container_port_number"])
            found.setdefault(target["labels"]["job"], set()).add((before["__meta_kubernetes_pod_name"], number))
    return found


def until(ask, settled, log):
    """What `ask` gives once it is settled and the same twice."""
    deadline = time.monotonic() + 30
    before = ask()
    while not (settled(before) and before == (now := ask())):
        assert time.monotonic() < deadline, f"found {before}\n{log.read_text()}"
        time.sleep(0.3)
        before = ask()
    return now
