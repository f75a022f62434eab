"""Every PromQL expression of the deployment, where it stands, and what of it has to give data while all is well."""

import json
import re

import yaml

from prometheus_tools import ROOT

MONITORING = ROOT / "deploy" / "base" / "monitoring"
RULES = MONITORING / "prometheus" / "rules"
DASHBOARDS = MONITORING / "grafana" / "dashboards"
COMPARISONS = ("==", "!=", ">", "<", ">=", "<=")


def rules():
    """All rules with the name of their file."""
    for path in sorted(RULES.glob("*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path.name, rule


def alerts():
    return {rule["alert"]: rule for _, rule in rules() if "alert" in rule}


def dashboards():
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard):
    """Panels that show something, those inside rows included."""
    for panel in dashboard["panels"]:
        yield from panels(panel) if panel["type"] == "row" else [panel]


def scalers():
    """Queries of KEDA in the overlays."""
    for path in sorted(ROOT.glob("deploy/overlays/*/models/*.scaledobject.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            for trigger in document["spec"]["triggers"]:
                if trigger["type"] == "prometheus":
                    where = f"{path.relative_to(ROOT)} {trigger.get('name', '')}".strip()
                    yield where, trigger["metadata"]["query"]


def expressions():
    """Where each expression stands, and the expression as Prometheus gets it; but those of KEDA, which are about one model."""
    for name, rule in rules():
        yield f"{name} {rule.get('alert') or rule['record']}", rule["expr"]
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield f"{name} {panel['title']} {target['refId']}", filled(target["expr"])
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                yield f"{name} ${variable['name']}", filled(label_values(variable["query"]["query"])[0])
    yield from runbook()


def runbook():
    """Queries that the runbook has its reader ask: code that begins as PromQL does and names a series."""
    for span in re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "runbook.md").read_text()):
        names = r"\b(vlinders_|model:|kong_|redis_|pg_|container_|kubelet_|DCGM_|certmanager_)\w"
        if re.match(r"(sum|rate|increase|max|min)\b|[\w:]+(\{[^}]*\})?$", span) and re.search(names, span):
            yield f"runbook.md {span}", span


def filled(expression):
    """What Grafana makes of its variables when all is chosen."""
    expression = expression.replace("$__rate_interval", "1m").replace("$__range", "1h")
    return re.sub(r"\$\{?(\w+)\}?", ".+", expression)


def label_values(query):
    """Series and label of the query of a variable."""
    found = re.fullmatch(r"label_values\((.+), *(\w+)\)", query)
    assert found, f"{query!r} is no label_values(series, label)"
    return found[1], found[2]


# === What has to give data ===


def arms(tree):
    """The parts of a parsed expression that stand for themselves: both sides of `or` and of `unless`."""
    if tree["type"] == "parenExpr":
        return arms(tree["expr"])
    if tree["type"] == "binaryExpr" and tree["op"] in ("or", "unless"):
        return arms(tree["lhs"]) + arms(tree["rhs"])
    return [text(tree)]


def text(tree):
    """PromQL of a parsed expression, without its comparisons: they hold only when something is wrong."""
    kind = tree["type"]
    if kind == "vectorSelector":
        return selector(tree) + moved(tree)
    if kind == "matrixSelector":
        return f"{selector(tree)}[{tree['range']}ms]" + moved(tree)
    if kind == "subquery":
        step = f"{tree['step']}ms" if tree["step"] else ""
        return f"{text(tree['expr'])}[{tree['range']}ms:{step}]" + moved(tree)
    if kind == "numberLiteral":
        return tree["val"]
    if kind == "stringLiteral":
        return json.dumps(tree["val"])
    if kind == "parenExpr":
        return f"({text(tree['expr'])})"
    if kind == "unaryExpr":
        return f"{tree['op']}{text(tree['expr'])}"
    if kind == "call":
        arguments = ", ".join(map(text, tree["args"]))
        return arguments if tree["func"]["name"] == "absent" else f"{tree['func']['name']}({arguments})"
    if kind == "aggregation":
        grouping = f"{'without' if tree['without'] else 'by'} ({', '.join(tree['grouping'])})"
        parameter = f"{text(tree['param'])}, " if tree["param"] else ""
        return f"{tree['op']} {grouping} ({parameter}{text(tree['expr'])})"
    if kind == "binaryExpr":
        left, right, op = tree["lhs"], tree["rhs"], tree["op"]
        if op in COMPARISONS and not tree["bool"] and is_scalar(right):
            return f"({text(left)})"
        if op in COMPARISONS and not tree["bool"]:
            op = "-"
        return f"({text(left)} {op}{' bool' if tree['bool'] else ''} {matching(tree)} {text(right)})"
    raise AssertionError(f"PromQL has {kind}, which this does not know")


def is_scalar(tree):
    if tree["type"] in ("parenExpr", "unaryExpr"):
        return is_scalar(tree["expr"])
    if tree["type"] == "binaryExpr":
        return is_scalar(tree["lhs"]) and is_scalar(tree["rhs"])
    return tree["type"] == "numberLiteral"


def selector(tree):
    matchers = [
        f"{matcher['name']}{matcher['type']}{json.dumps(matcher['value'])}"
        for matcher in tree["matchers"]
        if matcher["name"] != "__name__"
    ]
    return f"{tree['name']}{{{', '.join(matchers)}}}"


def moved(tree):
    return f" offset {tree['offset']}ms" if tree.get("offset") else ""


def matching(tree):
    how = tree.get("matching")
    if not how or (not how["on"] and not how["labels"]):
        return ""
    out = f"{'on' if how['on'] else 'ignoring'} ({', '.join(how['labels'])})"
    side = {"many-to-one": "group_left", "one-to-many": "group_right"}.get(how["card"])
    return out + (f" {side} ({', '.join(how['include'])})" if side else "")
