"""Rules: promtool accepts them, each alert fires on what it is for and is quiet just beside it, and has a runbook entry."""

import re
from pathlib import Path

import pytest
import yaml

import prometheus_queries as queries
from prometheus_tools import ROOT, run

# All as text: 0x20 is twenty zeros here, not 32.
CASES = yaml.load((Path(__file__).parent / "prometheus" / "alert_cases.yaml").read_text(), yaml.BaseLoader)
ALERTS = queries.alerts()
SEVERITIES = {"critical", "warning", "info"}


def test_promtool_accepts_all_rules():
    said = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted(queries.RULES.glob("*.yaml")))
    found = sum(int(number) for number in re.findall(r"(\d+) rules found", said))
    assert found == len(list(queries.rules()))


def test_every_alert_has_a_case():
    assert set(CASES) == set(ALERTS)


FILES = sorted({name for name, rule in queries.rules() if "alert" in rule})


@pytest.mark.parametrize("file", FILES)
def test_alerts_fire_and_are_quiet(file, tmp_path):
    """`ALERTS` says what fires, with its labels. Other files' alerts are left out, which promtool would evaluate in vain."""
    document = {
        "rule_files": [str(queries.RULES / name) for name in {"recording.yaml", file}],
        "evaluation_interval": "1m",
        "tests": [
            case_of(rule, kind)
            for name, rule in queries.rules()
            if name == file and "alert" in rule
            for kind in ("fires", "quiet")
        ],
    }
    path = tmp_path / "cases.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert "SUCCESS" in run("promtool", "test", "rules", path)


def case_of(rule, kind):
    alert, case = rule["alert"], CASES[rule["alert"]][kind]
    assert ("labels" in case) == (kind == "fires"), f"{alert}: {kind}"
    same = {"alertname": alert, "alertstate": "firing", "severity": rule["labels"]["severity"]}
    return {
        "name": f"{alert} {kind}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case["series"].items()],
        "promql_expr_test": [{
            "expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}}',
            "eval_time": case["at"],
            "exp_samples": [
                {"labels": labelled("ALERTS", {**same, **labels}), "value": 1} for labels in case.get("labels", [])
            ],
        }],
    }


def test_the_spool_alarms_at_half_of_what_it_may_hold():
    """Of the overlays' heads; the rule names the number, since no series does."""
    half = re.fullmatch(r"vlinders_ledger_spool_bytes > (\d+) \* 1024 \* 1024", ALERTS["LedgerSpoolFilling"]["expr"])
    head = yaml.safe_load((ROOT / "deploy" / "base" / "config" / "head.yaml").read_text())
    assert head["ledger"]["max_spool_bytes"] == f"{int(half[1]) * 2 // 1024}GiB"


def labelled(name, labels):
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


@pytest.mark.parametrize("alert", ALERTS)
def test_what_an_alert_says_is_filled_in(alert):
    """Labels that its text names are there when it fires."""
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    for labels in CASES[alert]["fires"]["labels"]:
        assert named <= set(labels) | GIVEN, f"{alert} names {named - set(labels)}"


# Labels of any scraped series, left out in most cases for brevity.
GIVEN = {"pod", "node", "namespace", "instance", "job"}


def test_each_alert_has_its_entry_in_the_runbook_and_each_entry_its_alert():
    text = (ROOT / "docs" / "runbook.md").read_text()
    entries = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    titles = [entry.splitlines()[0].strip() for entry in entries]
    assert sorted(titles) == sorted(ALERTS)
    for entry in entries:
        title = entry.splitlines()[0].strip()
        assert ALERTS[title]["annotations"]["runbook_url"] == f"docs/runbook.md#{title.lower()}"
        for part in ["**Means**", "**Users notice**", "**Look**", "**Do**"]:
            assert part in entry, f"{title} has no {part}"
