"""A kubectl without a cluster: writes down what it is asked, remembers what is applied, and fails where a test wants it to.

`kubectl.json` of the folder FAKE_KUBECTL has `rules`: the first whose `when` is in the words of a call decides it (`status`, `out`,
`err`, `sleep` seconds first; `times` calls at most). Without one, a call does what a cluster in which all is well would do.
"""

import base64
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["FAKE_KUBECTL"])
# A real one ends by the signal, which its caller notices.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def load(name, default):
    file = FOLDER / name
    return json.loads(file.read_text()) if file.exists() else default


def store(name, value):
    (FOLDER / f"{name}.new").write_text(json.dumps(value))
    (FOLDER / f"{name}.new").rename(FOLDER / name)


def record(words):
    with (FOLDER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(words) + "\n")


def option(words, *names):
    for position, word in enumerate(words):
        for name in names:
            if word == name:
                return words[position + 1]
            if word.startswith(name + "="):
                return word[len(name) + 1:]
    return None


def documents(words):
    file = option(words, "-f")
    text = sys.stdin.read() if file == "-" else Path(file).read_text()
    # Most calls do without, and are started without the folder that it is in, which is faster.
    sys.path.append(os.environ["FAKE_KUBECTL_SITE"])
    import yaml

    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def key(document):
    meta = document["metadata"]
    return f"{document['kind'].lower()} {meta.get('namespace', '-')} {meta['name']}"


def plain(words):
    """The words that are no options."""
    takes = {"-n", "--namespace", "--context", "-o", "-l", "-f", "-c", "--type", "--for"}
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in takes:
            skip = True
        elif not word.startswith("-"):
            found.append(word)
    return found


def main(words):
    record(words)
    settings = load("kubectl.json", {"rules": []})
    said = " ".join(words)
    for number, rule in enumerate(settings["rules"]):
        if rule["when"] not in said or rule.get("times", 1) == 0:
            continue
        if "times" in rule:
            settings["rules"][number]["times"] -= 1
            store("kubectl.json", settings)
        time.sleep(rule.get("sleep", 0))
        print(rule.get("out", ""), end="")
        print(rule.get("err", ""), end="", file=sys.stderr)
        return rule.get("status", 0)
    return as_a_cluster(words)


def as_a_cluster(words):
    objects = load("objects.json", {})
    namespace = option(words, "-n", "--namespace") or "-"
    verb, *rest = plain(words)
    output = option(words, "-o") or ""
    if verb == "config":
        print("test" if "current-context" in words else "https://cluster.test", end="")
    elif verb == "version":
        print(json.dumps({"clientVersion": {"gitVersion": "v1.32.4"}, "serverVersion": {"gitVersion": "v1.28.2-eks-1"}}, indent=2))
    elif verb == "kustomize":
        print((FOLDER / "rendered.yaml").read_text())
    elif verb == "apply":
        for document in documents(words):
            if not any("--dry-run" in word for word in words):
                old = objects.get(key(document))
                document["revision"] = old["revision"] + (old["text"] != json.dumps(document)) if old else 1
                document["text"] = json.dumps({k: v for k, v in document.items() if k not in ("revision", "text")})
                objects[key(document)] = document
                record([f"applied {key(document)}"])
            print(f"{document['kind']}/{document['metadata']['name']} serverside-applied")
        store("objects.json", objects)
    elif verb == "delete":
        objects.pop(f"{rest[0]} {namespace} {rest[1]}", None)
        store("objects.json", objects)
    elif verb == "get":
        return get(objects, namespace, rest, words, output)
    elif verb == "logs":
        print("last words of the pod")
    elif verb == "port-forward":
        print(f"Forwarding from 127.0.0.1:{os.environ.get('FAKE_KUBECTL_FORWARD', '1')} -> 8443", flush=True)
        time.sleep(60)
    return 0


def get(objects, namespace, rest, words, output):
    if rest and rest[0] == "secrets":
        for there in objects.values():
            if there.get("kind") == "Secret" and there["metadata"]["namespace"] == namespace:
                print("\n".join(f"{there['metadata']['name']} {name} {value}" for name, value in there["data"].items()))
        return 0
    if option(words, "-f"):
        for document in documents(words):
            there = objects.get(key(document))
            if there:
                kind, place, name = there["kind"], there["metadata"].get("namespace", "<none>"), there["metadata"]["name"]
                print(kind, place, name, there["revision"], f"{name}-{there['revision']}", there["revision"])
        return 0
    kind, name = (rest[0].split("/") + rest[1:] + [None])[:2]
    kind = kind.removesuffix(".apps")
    if kind == "crd":
        return 0 if "metallb" not in name else 1
    if kind == "apiservice":
        print("True")
    elif kind == "csidriver":
        pass
    elif kind == "storageclass":
        print("gp2 true\nfast-ssd <none>")
    elif kind == "nodes":
        print("8\n<none>" if "gpu" in output else "aws:///i-1")
    elif kind == "job":
        print("Complete", end="")
    elif kind == "controllerrevision":
        print(name.rsplit("-", 1)[1], end="")
    elif kind == "secret":
        there = objects.get(f"secret {namespace} {name}")
        wanted = re.search(r"\{\.data(?:\['|\.)(.+?)(?:'\])?\}$", output)[1].replace("\\.", ".")
        print(there["data"].get(wanted, ""), end="")
    elif name:
        there = objects.get(f"{kind} {namespace} {name}")
        if there and "revision" in output:
            print(there["revision"], end="")
        elif there and "updateRevision" in output:
            print(f"{name}-{there['revision']}", end="")
        elif there and "readyReplicas" in output and output.startswith("jsonpath"):
            print("1", end="")
        elif there and output.startswith("custom-columns"):
            print("1 1 <none> <none>")
        elif there and output == "name":
            print(f"{kind}/{name}")
        elif not there and "--ignore-not-found" not in words:
            print(f"Error from server (NotFound): {kind} {name} not found", file=sys.stderr)
            return 1
    elif kind == "pods":
        label = option(words, "-l").rsplit("=", 1)[1]
        if output == "name":
            names = {"redis": [f"pod/redis-{number}" for number in range(6)]}.get(label, [f"pod/{label}-0"])
            print("\n".join(names))
    elif kind == "deployments":
        print("\n".join(f"deployment.apps/{k.split()[2]}" for k in objects if k.startswith(f"deployment {namespace} worker-")))
    return 0


sys.exit(main(sys.argv[1:]))
