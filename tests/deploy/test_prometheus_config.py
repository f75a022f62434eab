"""The configuration of Prometheus, Grafana and the exporters: promtool accepts it, and files, mounts, names and ports agree."""

import json
import re

import pytest
import yaml

import prometheus_queries as queries
from prometheus_queries import MONITORING
from prometheus_tools import run

CONFIG = MONITORING / "prometheus" / "prometheus.yml"


def documents(path):
    return [document for document in yaml.safe_load_all((MONITORING / path).read_text()) if document]


def one(path, kind):
    [found] = [document for document in documents(path) if document["kind"] == kind]
    return found


def container_of(workload):
    [container] = workload["spec"]["template"]["spec"]["containers"]
    return container


def mounts_of(workload):
    """Where each ConfigMap and Secret is seen: (name, file or None, path)."""
    volumes = {volume["name"]: volume for volume in workload["spec"]["template"]["spec"]["volumes"]}
    for mount in container_of(workload)["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        name = volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName")
        if name:
            yield name, mount.get("subPath"), mount["mountPath"]


def generated(path):
    """Files of each generated ConfigMap."""
    kustomization = yaml.safe_load((MONITORING / path / "kustomization.yaml").read_text())
    assert "disableNameSuffixHash" not in str(kustomization), "without the suffix a change would roll nothing out"
    return {made["name"]: made["files"] for made in kustomization["configMapGenerator"]}


def test_promtool_accepts_the_configuration(tmp_path):
    """With Kubernetes discovery; only the paths of the pod are those of this machine."""
    token = tmp_path / "token"
    token.write_text("none")
    text = CONFIG.read_text()
    moved = text.replace("/var/run/secrets/kubernetes.io/serviceaccount/token", str(token))
    moved = moved.replace("/etc/prometheus/rules/*.yaml", str(queries.RULES / "*.yaml"))
    assert str(token) in moved and str(queries.RULES) in moved
    (tmp_path / "prometheus.yml").write_text(moved)
    said = run("promtool", "check", "config", "--lint=all", "--lint-fatal", tmp_path / "prometheus.yml")
    assert f"{len(list(queries.RULES.glob('*.yaml')))} rule files found" in said


def test_promtool_refuses_what_discovery_does_not_know(tmp_path):
    """A promtool without Kubernetes discovery would accept anything here."""
    (tmp_path / "prometheus.yml").write_text(CONFIG.read_text().replace("role: node", "role: nodes", 1))
    with pytest.raises(AssertionError, match="unknown Kubernetes SD role"):
        run("promtool", "check", "config", "--syntax-only", tmp_path / "prometheus.yml")


def test_every_rule_and_dashboard_is_shipped():
    rules = generated("prometheus")
    assert sorted(rules["prometheus-rules"]) == sorted(f"rules/{path.name}" for path in queries.RULES.glob("*"))
    dashboards = generated("grafana")["grafana-dashboards"]
    assert sorted(dashboards) == sorted(f"dashboards/{path.name}" for path in queries.DASHBOARDS.glob("*"))


def test_prometheus_finds_its_files():
    workload = one("prometheus/statefulset.yaml", "StatefulSet")
    mounts = set(mounts_of(workload))
    assert mounts == {
        ("prometheus-config", "prometheus.yml", "/etc/prometheus/prometheus.yml"),
        ("prometheus-rules", None, "/etc/prometheus/rules"),
    }
    arguments = container_of(workload)["args"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in arguments
    assert yaml.safe_load(CONFIG.read_text())["rule_files"] == ["/etc/prometheus/rules/*.yaml"]
    [claim] = workload["spec"]["volumeClaimTemplates"]
    [data] = [mount for mount in container_of(workload)["volumeMounts"] if mount["name"] == claim["metadata"]["name"]]
    assert f"--storage.tsdb.path={data['mountPath']}" in arguments
    [kept] = [argument.partition("=")[2] for argument in arguments if "retention.size" in argument]
    size = claim["spec"]["resources"]["requests"]["storage"]
    assert int(kept.removesuffix("GB")) * 10**9 <= 0.85 * int(size.removesuffix("Gi")) * 2**30, "the volume would fill"


def test_grafana_finds_its_files():
    workload = one("grafana/deployment.yaml", "Deployment")
    mounts = {(name, file): path for name, file, path in mounts_of(workload)}
    files = generated("grafana")["grafana-config"]
    assert {file for name, file in mounts if name == "grafana-config"} == set(files)
    [provider] = yaml.safe_load((MONITORING / "grafana" / "provider.yaml").read_text())["providers"]
    folder = mounts["grafana-dashboards", None]
    assert provider["options"]["path"] == folder
    assert f"default_home_dashboard_path = {folder}/overview.json" in (MONITORING / "grafana" / "grafana.ini").read_text()
    admin = mounts["grafana-admin", None]
    environment = {item["name"]: item["value"] for item in container_of(workload)["env"]}
    assert environment == {
        "GF_SECURITY_ADMIN_USER__FILE": f"{admin}/user",
        "GF_SECURITY_ADMIN_PASSWORD__FILE": f"{admin}/password",
    }


def test_grafana_asks_the_prometheus_there_is():
    [source] = yaml.safe_load((MONITORING / "grafana" / "datasource.yaml").read_text())["datasources"]
    service = one("prometheus/service.yaml", "Service")
    assert source["url"] == address(service)
    interval = yaml.safe_load(CONFIG.read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    for name, dashboard in queries.dashboards().items():
        for panel in queries.panels(dashboard):
            for part in [panel, *panel["targets"]]:
                assert part["datasource"] == {"type": source["type"], "uid": source["uid"]}, name
        for variable in dashboard["templating"]["list"]:
            assert variable["datasource"]["uid"] == source["uid"]


def test_redis_is_asked_through_the_exporter_there_is():
    service = one("exporters/redis-exporter.yaml", "Service")
    assert f"replacement: {address(service).removeprefix('http://')}\n" in CONFIG.read_text()
    workload = one("exporters/redis-exporter.yaml", "Deployment")
    [(secret, _, path)] = mounts_of(workload)
    assert secret == "redis-exporter"
    assert f"--redis.password-file={path}/passwords.json" in container_of(workload)["args"]


def test_postgres_is_asked_with_our_queries():
    workload = one("exporters/postgres-exporter.yaml", "Deployment")
    mounts = {name: path for name, _, path in mounts_of(workload)}
    assert f"--extend.query-path={mounts['postgres-exporter-queries']}/queries.yaml" in container_of(workload)["args"]
    environment = {item["name"]: item["value"] for item in container_of(workload)["env"]}
    assert environment["DATA_SOURCE_PASS_FILE"] == f"{mounts['postgres-exporter']}/password"


def test_services_lead_to_their_pods():
    for path in ["prometheus/service.yaml", "grafana/deployment.yaml", "exporters/redis-exporter.yaml"]:
        service = one(path, "Service")
        file = "prometheus/statefulset.yaml" if path == "prometheus/service.yaml" else path
        [workload] = [document for document in documents(file) if document["kind"] in ("Deployment", "StatefulSet")]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        [port] = service["spec"]["ports"]
        assert (port["targetPort"], port["port"]) in {
            (port["name"], port["containerPort"]) for port in container_of(workload)["ports"]
        }


def address(service):
    [port] = service["spec"]["ports"]
    meta = service["metadata"]
    return f"http://{meta['name']}.{meta['namespace']}:{port['port']}"


@pytest.mark.parametrize("name", queries.dashboards())
def test_a_dashboard_is_well_formed(name):
    dashboard = queries.dashboards()[name]
    assert dashboard["uid"] == f"vlinders-{name.removesuffix('.json')}"
    assert dashboard["title"] and dashboard["description"]
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    taken, ids, titles = set(), set(), set()
    for panel in dashboard["panels"]:
        assert panel["id"] not in ids
        ids.add(panel["id"])
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
    for panel in queries.panels(dashboard):
        assert panel["title"] not in titles, f"two panels are called {panel['title']}"
        titles.add(panel["title"])
        for target in panel["targets"]:
            used = {part.strip("${}") for part in variables(target["expr"])}
            assert used <= defined | {"__rate_interval"}, f"{panel['title']}: {used - defined}"
    assert all(f"${variable}" in json.dumps(dashboard["panels"]) for variable in defined), "a variable nobody uses"


def variables(expression):
    return re.findall(r"\$\{?\w+\}?", expression)
