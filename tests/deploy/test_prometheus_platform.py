"""A real Prometheus, with the shipped configuration, over real heads, workers, databases and exporters: what it finds, and that
every query of rules, dashboards and autoscalers has an answer."""

import math
import re

import pytest
import yaml

import prometheus_queries as queries
from prometheus_platform import IDLE_MODEL, MODEL, Platform
from prometheus_queries import MONITORING

# Expressions without data while all is well, and why. Everything else must have some.
WITHOUT_DATA = {
    "overview.json Alerts that fire A": "nothing fires",
    "overview.json Alerts A": "nothing fires",
}

@pytest.fixture(scope="module")
def platform():
    running = Platform()
    try:
        running.load()
        yield running
    finally:
        running.close()


def test_targets_are_those_and_only_those_that_have_metrics(platform):
    nodes = {"redis": [f"redis-{number}" for number in range(6)] + ["kong-redis-0"]}
    expected = {
        ("prometheus", "prometheus-0"),
        ("vlinders-head", "vlinders-head-0"),
        ("vlinders-worker", "worker-0"),
        ("vlinders-worker", "worker-1"),
        ("kong", "kong-gateway-0"),
        ("postgres", "postgres-exporter-0"),
        *(("redis", name) for name in nodes["redis"]),
        # its pod label is left to what it says of GPUs, so the node stands for it; likewise cert-manager
        ("dcgm", "node-a"),
        ("cert-manager", "node-a"),
        ("kubelet", "node-a"),
        ("cadvisor", "node-a"),
    }
    assert set(platform.targets()) == expected
    platform.until("every target is up", lambda: len(platform.query("up == 1")) == len(expected))


def test_series_say_where_they_come_from(platform):
    [head] = platform.query(f'vlinders_head_queue_depth{{model_name="{MODEL}"}}')
    assert head["metric"].items() >= {
        "namespace": "vlinders-inference", "pod": "vlinders-head-0", "node": "node-a", "job": "vlinders-head",
    }.items()
    workers = platform.query("vlinders_engine_up == 1")
    assert {found["metric"]["pod"] for found in workers} == {"worker-0", "worker-1"}
    assert all(found["metric"]["model"] == found["metric"]["model_name"] == MODEL for found in workers)
    [gpu] = platform.query("DCGM_FI_DEV_GPU_UTIL")
    assert (gpu["metric"]["pod"], gpu["metric"]["namespace"]) == ("worker-llama-3-8b-0", "vlinders-inference")
    [certificate] = platform.query("certmanager_certificate_expiration_timestamp_seconds")
    assert (certificate["metric"]["name"], certificate["metric"]["namespace"]) == ("kong-gateway", "vlinders-platform")
    servers = platform.query("redis_up == 1")
    assert {found["metric"]["server"] for found in servers} == {"redis", "kong-redis"}


def test_the_age_of_the_last_backup_is_known(platform):
    """From the real backup script to the series that alerts ask for."""
    [found] = platform.query("time() - pg_backup_last_success_timestamp_seconds")
    assert found["metric"]["datname"] == "vlinders"
    assert 0 <= float(found["value"][1]) < 3600


def test_what_nobody_asks_for_is_dropped(platform):
    names = set(platform.api("label/__name__/values"))
    assert not names & {"container_tasks_state", "certmanager_http_acme_client_request_count"}
    assert "kubelet_volume_stats_available_bytes" not in names
    assert {found["metric"]["namespace"] for found in platform.query("container_start_time_seconds")} == {
        "vlinders-inference", "vlinders-platform",
    }
    assert not platform.query('container_start_time_seconds{container=""}')
    assert not platform.query('kubelet_volume_stats_used_bytes{namespace="other"}')


def test_prometheus_may_list_what_it_discovers_through(platform):
    documents = yaml.safe_load_all((MONITORING / "prometheus" / "rbac.yaml").read_text())
    [role] = [document for document in documents if document["kind"] == "ClusterRole"]
    allowed = {
        resource
        for rule in role["rules"]
        if {"get", "list", "watch"} <= set(rule["verbs"])
        for resource in rule["resources"]
    }
    asked = {resource for resource, _ in platform.cluster.asked}
    assert asked == allowed


def test_every_rule_is_evaluated(platform):
    def settled():
        groups = platform.api("rules")["groups"]
        found = [rule for group in groups for rule in group["rules"]]
        return found if all(rule["health"] != "unknown" for rule in found) else None

    found = platform.until("every rule was evaluated", settled)
    assert len(found) == len(list(queries.rules()))
    assert [(rule["name"], rule["lastError"]) for rule in found if rule["health"] != "ok"] == []


def test_nothing_fires_while_all_is_well(platform):
    states = {(found["labels"]["alertname"], found["state"]) for found in platform.api("alerts")["alerts"]}
    # the model without workers, what this machine has none of, and what a slow machine is slow at
    expected = {"AlertsGoNowhere", "HeadModelWithoutWorkers", "HeadNoReadyWorker", "HeadErrorRatioHigh"}
    slow = {alert for alert, _ in states if alert.startswith(("TimeToFirst", "InterToken")) or alert.endswith("Slow")}
    assert {alert for alert, _ in states} <= expected | slow, states
    assert not [alert for alert, state in states if state == "firing"]


def test_every_expression_has_data(platform):
    """Also that of alerts, without their comparisons: what they compare is there."""
    pending = {}
    for where, expression in [*queries.expressions(), *triggers()]:
        for arm in queries.arms(platform.parse(expression)):
            pending[where, arm] = None
    excepted = {key for key in pending if key[0] in WITHOUT_DATA and "ALERTS" in key[1]}
    assert {where for where, _ in excepted} == set(WITHOUT_DATA), "an exception is gone"
    for key in excepted:
        assert not platform.query(key[1]), f"{key[0]} has data: it is no exception"
        del pending[key]

    def answered():
        for where, arm in list(pending):
            if has_data(platform.query(arm)):
                del pending[where, arm]
        return not pending

    try:
        platform.until("all data is there", answered, patience=30)
    except AssertionError:
        lines = "\n".join(f"{where}: {arm}" for where, arm in pending)
        pytest.fail(f"no data for\n{lines}", pytrace=False)


def has_data(result):
    if isinstance(result, list) and result and not isinstance(result[0], dict):
        return True  # a scalar
    return any(not math.isnan(float(found["value"][1])) for found in result)


def triggers():
    """Queries of KEDA, for the model that there is here."""
    return [(where, of_model(query, MODEL)) for where, query in queries.scalers()]


def of_model(query, model):
    asked = re.sub(r'model_name="[^"]+"', f'model_name="{model}"', query)
    assert f'"{model}"' in asked, f"{query} is about no model"
    return asked


def test_autoscalers_get_one_number_from_the_first_moment(platform):
    """For a model that is served, one that nobody serves, and one that no series tells of: never nothing, never two."""
    found = list(queries.scalers())
    assert found, "no overlay has triggers"
    for where, query in found:
        for model in [MODEL, IDLE_MODEL, "never-heard-of"]:
            assert len(platform.query(of_model(query, model))) == 1, where


def test_alerts_and_legends_name_labels_that_are_there(platform):
    missing = []
    for alert, rule in queries.alerts().items():
        named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        for arm in queries.arms(platform.parse(rule["expr"])):
            missing += [(alert, label) for label in named if not all_have(platform.query(arm), label)]
    for name, dashboard in queries.dashboards().items():
        for panel in queries.panels(dashboard):
            for target in panel["targets"]:
                named = re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", ""))
                result = platform.query(queries.filled(target["expr"])) if named else []
                if f"{name} {panel['title']} {target['refId']}" not in WITHOUT_DATA:
                    missing += [(name, panel["title"], label) for label in named if not all_have(result, label)]
    assert not missing


def all_have(result, label):
    return bool(result) and all(label in found["metric"] for found in result)
