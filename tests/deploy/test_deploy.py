"""Whether deploy.sh looks before it changes, applies in order, waits, says why something fails, and takes back what it did."""

import re
import shutil
import subprocess

import pytest
from recorder import Recorder

ALLOWED = "auth can-i * *"


class Deployer(Recorder):
    def __init__(self, root, folder, private_key):
        super().__init__(folder)
        self.script = root / "deploy" / "deploy.sh"
        (self.state / "test").mkdir(parents=True)
        shutil.copy(private_key, self.state / "test" / "jwt-private.pem")

    def deploy(self, *words):
        return self.run(self.script, "--yes", "--skip-smoke", *words)

    def installed(self, *words):
        done = self.deploy("install", *words)
        assert done.returncode == 0, done.stderr
        return done

    def change(self, old, new):
        """Another version of what is rendered."""
        file = self.folder / "rendered.yaml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def changes(self):
        """What was asked for that is no question."""
        asks = r"(--dry-run\S* )?(config|version|kustomize|auth|get|-n \S+ get|-n \S+ logs|diff)\b"
        return [call for call in self.calls() if not re.match(asks, call)]


@pytest.fixture
def deployer(root, tmp_path, private_key):
    return Deployer(root, tmp_path, private_key)


def applied(calls):
    return [call.split()[1:] for call in calls if call.startswith("applied ")]


def position(calls, *parts):
    """Of the first call with all of these words."""
    for number, call in enumerate(calls):
        if all(part in call for part in parts):
            return number
    raise AssertionError(f"nobody asked for {parts} in: " + "\n".join(calls))


# === install ===


def test_stages_are_applied_in_order_and_each_is_awaited(deployer):
    deployer.installed()
    calls = deployer.calls()
    kinds = [f"{kind} {name}" for kind, _, name in applied(calls)]
    secrets = [name for name in kinds if name.startswith("secret ")]
    assert len(secrets) == 16
    assert [name for name in kinds if name not in secrets] == [
        "namespace vlinders-inference", "namespace vlinders-platform",
        "networkpolicy head",
        "serviceaccount vlinders-head", "configmap models-abc",
        "storageclass shared-models", "persistentvolumeclaim models",
        "statefulset postgres", "statefulset redis", "cronjob postgres-backup",
        "job redis-bootstrap",
        "job model-loader",
        "deployment vlinders-head", "deployment worker-llama-3-8b",
        "service kong-gateway", "deployment kong-gateway", "certificate kong-tls",
        "statefulset prometheus",
        "horizontalpodautoscaler vlinders-head", "scaledobject worker-llama-3-8b"]
    order = [("applied networkpolicy",), ("applied secret vlinders-platform postgres-superuser",), ("applied configmap",),
             ("rollout status statefulset/postgres",), ("rollout status statefulset/redis",), ("delete job redis-bootstrap",),
             ("applied job vlinders-platform redis-bootstrap",), ("get job redis-bootstrap",), ("delete job model-loader",),
             ("applied job vlinders-inference model-loader",), ("get job model-loader",), ("applied deployment vlinders-inference vlinders-head",),
             ("rollout status deployment/worker-llama-3-8b",), ("applied deployment vlinders-platform kong",),
             ("rollout status deployment/kong-gateway",), ("rollout status statefulset/prometheus",), ("applied scaledobject",)]
    places = [position(calls, *parts) for parts in order]
    assert places == sorted(places)
    for call in calls:
        assert not re.search(r"\bwait\b.* -l ", call)
        if re.search(r"^apply|\bapply ", call):
            assert "--server-side --field-manager=vlinders" in call


def test_every_call_names_the_context(deployer):
    deployer.installed()
    raw = (deployer.folder / "calls.jsonl").read_text().splitlines()
    others = [line for line in raw if '"--context", "test"' not in line and '"applied ' not in line and "current-context" not in line]
    assert others == []


def test_a_second_run_changes_nothing_that_is_there(deployer):
    deployer.installed()
    before = deployer.objects()
    deployer.forget_calls()
    deployer.installed()
    assert deployer.objects() == before
    assert not [call for call in applied(deployer.calls()) if call[0] == "secret"]


def test_a_real_overlay_leaves_no_object_without_a_stage(root, deployer):
    """Rendered as it is; the names of stages are those that are documented."""
    script = f"""
        set -Eeuo pipefail; work=$(mktemp -d); deploy={root}/deploy; context=; least_version=1.28
        . $deploy/scripts/lib/say.sh; . $deploy/scripts/lib/render.sh
        cluster() {{ kubectl "$@"; }}
        for overlay in production dev-cpu; do rm -rf "$work/set"; render $overlay; cat "$set/index"; echo "models: $(model_names | tr '\\n' ' ')"; done
        rm -rf "$work" """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[1:] for line in lines if line[0] == "models:"] == [["llama-3-8b", "llama-3-70b"], ["vlinders-demo"]]
    lines = [line for line in lines if line[0] != "models:"]
    assert len(lines) > 150
    assert [line for line in lines if line[0] == "others"] == []
    staged = {(kind, name): stage for stage, kind, _, name, *_ in lines}
    assert staged["Deployment", "vlinders-head"] == staged["Deployment", "worker-vlinders-demo"] == "inference"
    assert staged["Deployment", "kong-gateway"] == staged["Certificate", "kong-tls"] == "gateway"
    assert staged["StatefulSet", "kong-redis"] == staged["CronJob", "postgres-backup"] == "databases"
    assert staged["Deployment", "grafana"] == "monitoring"


# === before anything is changed ===


@pytest.mark.parametrize("when, answer, complaint", [
    ("config current-context", {"status": 1}, "no context is chosen"),
    ("version -o json", {"status": 1, "err": "connection refused\n"}, "does not answer"),
    ("version -o json", {"out": '{"clientVersion": {\n"gitVersion": "v1.32.4"},\n"serverVersion": {\n"gitVersion": "v1.27.9"}}'}, "Kubernetes 1.27"),
    ("version -o json", {"out": '{"clientVersion": {\n"gitVersion": "v1.26.0"},\n"serverVersion": {\n"gitVersion": "v1.30.0"}}'}, "kubectl is 1.26"),
    ("kustomize", {"status": 1, "err": "unknown field\n"}, "can not be rendered"),
    ("get crd scaledobjects.keda.sh", {"status": 1}, "KEDA"),
    ("get crd certificates.cert-manager.io", {"status": 1}, "cert-manager"),
    ("get apiservice", {"out": "False"}, "metrics-server"),
    ("get storageclass", {"out": "gp2 true\n"}, "storage class fast-ssd"),
    ("get csidriver", {"status": 1}, "efs.csi.aws.com"),
    ("get nodes -o custom-columns=G", {"out": "<none>\n2\n2\n"}, "models need 8, 4 of them on one node; nodes have 4, at most 2 on one"),
    ("get nodes -o custom-columns=G", {"out": "<none>\n4\n"}, "nodes have 4, at most 4 on one"),
])
def test_what_a_cluster_lacks_is_said_before_anything_is_changed(deployer, when, answer, complaint):
    deployer.rule(when, **answer)
    done = deployer.deploy("install")
    assert done.returncode == 1
    assert complaint in done.stderr
    assert deployer.changes() == []


def test_all_that_is_missing_is_said_at_once(deployer):
    deployer.rule("get crd", status=1)
    deployer.rule("get csidriver", status=1)
    deployer.rule(ALLOWED, status=1)
    deployer.rule("auth can-i patch storageclasses", status=1)
    done = deployer.deploy("install")
    assert done.returncode == 1
    for complaint in ("KEDA", "cert-manager", "efs.csi.aws.com", "you may not patch storageclasses", "4 things are missing"):
        assert complaint in done.stderr


def test_nodes_that_are_added_when_pods_wait_need_no_gpus_now(deployer):
    deployer.rule("get nodes -o custom-columns=G", out="<none>\n")
    deployer.installed("--skip-gpu-check")


def test_names_of_the_example_are_not_installed(deployer):
    deployer.change("name: kong-tls\n", "name: kong-tls\n  annotations:\n    host: api.example.org\n")
    done = deployer.deploy("install")
    assert done.returncode == 1
    assert "api.example.org" in done.stderr


def test_nobody_to_ask_is_a_no(deployer):
    done = deployer.run(deployer.script, "install")
    assert done.returncode == 1
    assert "--yes" in done.stderr
    assert deployer.changes() == []


def test_a_dry_run_asks_the_server_and_changes_nothing(deployer):
    deployer.rule("get namespace vlinders-inference", out="namespace/vlinders-inference\n")
    done = deployer.deploy("install", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert deployer.objects() == {}
    changes = deployer.changes()
    assert changes and all("--dry-run=server" in call or "--dry-run=client" in call for call in changes)
    # Only of a namespace that is not there can the server say nothing.
    assert any("--dry-run=server" in call and "inference.yaml" in call for call in changes)
    assert any("--dry-run=client" in call and "databases.yaml" in call for call in changes)
    assert not (deployer.state / "test" / "last-production").exists()


def test_a_difference_is_shown_and_is_no_failure(deployer):
    deployer.rule("diff --server-side", status=1, out="+ replicas: 4\n")
    done = deployer.deploy("diff")
    assert (done.returncode, "replicas: 4" in done.stdout) == (0, True)
    assert deployer.changes() == []
    deployer.rules.clear()
    deployer.rule("diff --server-side", status=2, err="no\n")
    assert deployer.deploy("--diff").returncode == 1


# === what fails ===


PODS = "get pods -l app.kubernetes.io/name=worker"


@pytest.mark.parametrize("pod, remedy", [
    ("Pending False <none> <none> <none> <none>", "no node takes it"),
    ("Pending False ImagePullBackOff <none> <none> <none>", "the image can not be fetched"),
    ("Running False CrashLoopBackOff <none> OOMKilled <none>", "more memory"),
    ("Running False CrashLoopBackOff <none> Error <none>", "the program ends"),
    ("Pending False CreateContainerConfigError <none> <none> <none>", "make-secrets.sh"),
    ("Pending False ContainerCreating <none> <none> <none>", "is not there yet"),
])
def test_a_rollout_that_fails_is_explained_and_nothing_follows(deployer, pod, remedy):
    deployer.rule("rollout status deployment/worker-llama-3-8b", status=1, err="error: timed out waiting\n")
    deployer.rule(PODS, out=f"worker-llama-3-8b-7f-1 {pod}\n")
    deployer.rule("get events --field-selector involvedObject.name=worker-llama-3-8b-7f-1", out="1s Warning what happened\n")
    deployer.rule("--previous", out="the last words\n")
    done = deployer.deploy("install")
    assert done.returncode == 1
    assert "what happened" in done.stderr
    assert remedy in done.stderr
    assert ("the last words" in done.stderr) == (not pod.startswith("Pending"))
    assert "deploy.sh undo" in done.stderr
    assert not [call for call in applied(deployer.calls()) if call[2] == "kong-gateway"]


def test_a_workload_without_any_pod_is_explained_by_its_namespace(deployer):
    deployer.rule("rollout status statefulset/postgres", status=1)
    deployer.rule("get events --sort-by", out="1s Warning FailedCreate violates PodSecurity\n")
    done = deployer.deploy("install")
    assert done.returncode == 1
    assert "violates PodSecurity" in done.stderr


def test_a_job_that_fails_is_explained(deployer):
    deployer.rule("get job model-loader", times=2)
    deployer.rule("get job model-loader", out="FailureTarget Failed")
    deployer.rule("logs job/model-loader", out="llama-3-8b: checksum differs\n")
    done = deployer.deploy("install")
    assert done.returncode == 1
    assert "job model-loader: llama-3-8b: checksum differs" in done.stderr
    assert "job model-loader failed" in done.stderr
    assert not [call for call in applied(deployer.calls()) if call[0] == "deployment"]


def test_a_refused_object_ends_the_run(deployer):
    deployer.rule("storage.yaml", status=1, err="Apply failed with 1 conflict\n")
    deployer.rules.insert(0, {"when": "get -f", "status": 0})
    deployer.rule("nothing")
    done = deployer.deploy("install")
    assert done.returncode == 1
    assert "--force-conflicts" in done.stderr
    assert not [call for call in applied(deployer.calls()) if call[0] == "statefulset"]


def test_secrets_from_a_store_are_awaited_and_none_is_made(deployer):
    deployer.change("apiVersion: cert-manager.io/v1", "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata:\n  name: redis-auth\n"
                    "  namespace: vlinders-platform\n---\napiVersion: cert-manager.io/v1")
    deployer.installed()
    calls = deployer.calls()
    assert position(calls, "applied externalsecret") < position(calls, "wait externalsecret/redis-auth --for=condition=Ready") < position(calls, "applied configmap")
    assert not [call for call in applied(calls) if call[0] == "secret"]
    deployer.rule("wait externalsecret", status=1)
    done = deployer.deploy("install")
    assert done.returncode == 1
    assert "does not come from its store" in done.stderr


def test_a_run_that_is_interrupted_says_so_and_can_be_undone(deployer):
    deployer.rule("rollout status statefulset/redis", sleep=30)
    status, said = deployer.interrupted(deployer.script, "--yes", "--skip-smoke", "install", at="rollout status statefulset/redis")
    assert status == 130
    assert "interrupted in stage databases" in said
    assert not list(deployer.folder.parent.glob("vlinders.*"))
    deployer.rules.clear()
    deployer.rule("nothing")
    done = deployer.deploy("undo")
    assert done.returncode == 0, done.stderr
    left = {name.split()[0] for name in deployer.objects()}
    assert left == {"namespace", "storageclass", "persistentvolumeclaim", "secret"}


# === undo ===


def test_undo_of_a_first_install_keeps_what_may_hold_data(deployer):
    deployer.installed()
    deployer.forget_calls()
    done = deployer.deploy("undo")
    assert done.returncode == 0, done.stderr
    deleted = [call for call in deployer.calls() if " delete " in f" {call}"]
    # Backwards: who asks goes before who is asked.
    assert position(deleted, "delete scaledobject") < position(deleted, "delete deployment kong-gateway") < position(deleted, "delete deployment vlinders-head") \
        < position(deleted, "delete statefulset postgres") < position(deleted, "delete networkpolicy head")
    assert {name.split()[0] for name in deployer.objects()} == {"namespace", "storageclass", "persistentvolumeclaim", "secret"}
    assert "kept, since data may be in them" in done.stderr
    again = deployer.deploy("undo")
    assert again.returncode == 1
    assert "on record" in again.stderr


def test_purge_deletes_the_rest_too(deployer):
    deployer.installed()
    assert deployer.deploy("undo", "--purge").returncode == 0
    kinds = {name.split()[0] for name in deployer.objects()}
    # Secrets that scripts made go with their namespaces, which the fake does not know.
    assert kinds <= {"secret"}


def test_undo_of_an_update_rolls_back_what_changed_and_deletes_what_is_new(deployer):
    deployer.installed()
    deployer.change("template: first", "template: second")
    deployer.change("replicas: 6", "replicas: 6\n  template: second")
    deployer.change("models-abc", "models-def")
    deployer.installed()
    deployer.forget_calls()
    done = deployer.deploy("undo")
    assert done.returncode == 0, done.stderr
    changes = [call for call in deployer.calls() if "rollout undo" in call or "delete" in call]
    assert changes == [
        "-n vlinders-inference rollout undo deployment/vlinders-head --to-revision=1",
        "-n vlinders-platform rollout undo statefulset/redis --to-revision=1",
        "--namespace=vlinders-inference delete configmap models-def --ignore-not-found --wait=true"]
    assert position(deployer.calls(), "rollout undo deployment/vlinders-head") < position(deployer.calls(), "rollout status deployment/vlinders-head")


def test_undo_asks_before_it_deletes(deployer):
    deployer.installed()
    done = deployer.run(deployer.script, "undo")
    assert done.returncode == 1
    assert not [call for call in deployer.calls() if " delete deployment" in call]


def test_undo_all_needs_no_record(deployer):
    deployer.installed()
    shutil.rmtree(deployer.state)
    assert deployer.deploy("undo", "--all").returncode == 0
    assert {name.split()[0] for name in deployer.objects()} == {"namespace", "storageclass", "persistentvolumeclaim", "secret"}


# === status ===


def test_status_says_what_is_not_well(deployer):
    deployer.installed()
    done = deployer.deploy("status")
    assert done.returncode == 0, done.stderr
    assert re.search(r"Deployment +vlinders-inference +vlinders-head +1/1", done.stdout)
    deployer.rule("get statefulset redis", out="4 6 <none> <none>\n")
    done = deployer.deploy("status")
    assert done.returncode == 1
    assert re.search(r"StatefulSet +vlinders-platform +redis +4/6", done.stdout)
    assert "1 workloads are not well" in done.stderr


@pytest.mark.parametrize("words, complaint", [
    ([], "say what"),
    (["install", "--overlay", "staging"], "no overlay staging"),
    (["destroy"], "destroy"),
])
def test_what_is_no_command_is_said(deployer, words, complaint):
    done = deployer.deploy(*words)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert deployer.calls() == []
