"""Whether components that no overlay has by itself fit the platform: the same secrets from another place, and models of several nodes."""

import json
import os
import re
import subprocess

import pytest
import yaml


@pytest.fixture(scope="module")
def render(root, tmp_path_factory):
    def render(*components):
        folder = tmp_path_factory.mktemp("overlay")
        deploy = os.path.relpath(root / "deploy", folder)
        text = {
            "resources": [f"{deploy}/base"],
            "components": [f"{deploy}/components/{component}" for component in components],
            "images": [{"name": name, "newName": "vlinders/vlinders", "newTag": tag} for name, tag in (("vlinders", "1"), ("vlinders-gpu", "1-gpu"))],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(text))
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))

    return render


@pytest.fixture(scope="module")
def made(root, tmp_path_factory):
    """What make-secrets.sh makes when everything is given: secret -> key -> text."""
    folder, given = tmp_path_factory.mktemp("secrets"), tmp_path_factory.mktemp("given")
    (given / "registry.json").write_text('{"auths":{}}')
    for name in ("hf-token", "aws-access-key-id", "aws-secret-access-key"):
        (given / name).write_text("x")
    script = root / "deploy" / "scripts" / "make-secrets.sh"
    done = subprocess.run(["bash", script, "--dir", folder, "--from", given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path.name: {key.name: key.read_text() for key in path.iterdir()} for path in folder.iterdir() if path.is_dir()}


def filled(template, values):
    """The few forms of Go templates that the component uses."""
    loop = re.search(r"\{\{- range \$node := until (\d+) \}\}\n(.*?)\n\{\{- end \}\}", template, re.S)
    if loop:
        template = template.replace(loop[0], "\n".join(loop[2].replace("{{ $node }}", str(idx)) for idx in range(int(loop[1]))))
    template = re.sub(r"\{\{ \$?\.(\w+) \| toJson \}\}", lambda found: json.dumps(values[found[1]]), template)
    template = re.sub(r"\{\{ \$?\.(\w+) \}\}", lambda found: values[found[1]], template)
    assert "{{" not in template
    return template


def test_secrets_from_a_store_are_those_that_the_script_makes(render, made):
    objects = [it for it in render("external-secrets") if it["kind"] == "ExternalSecret"]
    # Values of the store, taken from what the script has made.
    store = {f"vlinders/{name}": next(iter(keys.values())) for name, keys in made.items() if len(keys) == 1}
    store["vlinders/jwt-public-key"] = made["kong-jwt-public-key"]["jwt.pem"]
    store["vlinders/internal-secret"] = made["kong-internal-secret"]["secret"]
    for name in ("grafana-admin", "model-source"):
        store.update({f"vlinders/{name}#{key}": text for key, text in made[name].items()})

    from_store = {}
    for it in objects:
        assert it["spec"]["target"]["name"] == it["metadata"]["name"]
        values = {}
        for entry in it["spec"]["data"]:
            place = entry["remoteRef"]
            values[entry["secretKey"]] = store["#".join(filter(None, (place["key"], place.get("property"))))]
        template = it["spec"]["target"].get("template", {}).get("data")
        keys = {key: filled(text, values) for key, text in template.items()} if template else values
        from_store[it["metadata"]["name"]] = keys

    assert set(from_store) == set(made)
    for name, keys in made.items():
        assert set(from_store[name]) == set(keys), name
        for key, text in keys.items():
            ours = from_store[name][key]
            same = json.loads(ours) == json.loads(text) if key.endswith("json") else ours.split() == text.split()
            assert same, f"{name}/{key}"


def test_each_namespace_has_the_secrets_that_its_pods_mount(render):
    objects = render("external-secrets")
    there = {(it["metadata"]["namespace"], it["metadata"]["name"]) for it in objects if it["kind"] == "ExternalSecret"}
    mounted = set()
    for it in objects:
        for name in re.findall(r"secretName: (\S+)", yaml.safe_dump(it.get("spec", {}))):
            mounted.add((it["metadata"].get("namespace"), name))
    # Its certificate is another component's.
    assert mounted - there == {("vlinders-platform", "kong-tls")}


def test_pods_of_a_group_find_what_they_name(render):
    """Kustomize knows nothing of a LeaderWorkerSet by itself: neither the hashes of ConfigMaps nor images would get into it."""
    objects = render("leader-worker-set")
    configs = {it["metadata"]["name"] for it in objects if it["kind"] == "ConfigMap" and it["metadata"]["namespace"] == "vlinders-inference"}
    group = next(it for it in objects if it["kind"] == "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    for pod in (group["leaderTemplate"]["spec"], group["workerTemplate"]["spec"]):
        assert [container["image"] for container in pod["containers"]] == ["vlinders/vlinders:1-gpu"]
        named = {source["configMap"]["name"] for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])}
        assert len(named) == 2 and named <= configs
    # Heads look for the leader alone: the others answer no requests.
    service = next(it for it in objects if it["kind"] == "Service" and it["metadata"]["name"] == "workers")
    name = service["spec"]["selector"]["app.kubernetes.io/name"]
    assert group["leaderTemplate"]["metadata"]["labels"]["app.kubernetes.io/name"] == name
    assert group["workerTemplate"]["metadata"]["labels"]["app.kubernetes.io/name"] != name
    assert group["restartPolicy"] == "RecreateGroupOnPodRestart"
    container = group["leaderTemplate"]["spec"]["containers"][0]
    told = {variable["name"]: variable["value"] for variable in container["env"]}
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert told["VLINDERS_RANKS_HERE"] == gpus and int(told["VLINDERS_RANKS"]) == group["size"] * int(gpus) == 4
