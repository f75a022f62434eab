"""Whether the manifests are written as deploy/.yamllint says."""

import subprocess


def test_manifests_are_written_alike(root):
    done = subprocess.run(["yamllint", "--strict", "-c", ".yamllint", "."], cwd=root / "deploy", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_each_file_says_what_it_decides(root):
    silent = [path for path in (root / "deploy").rglob("*.y*ml") if not path.read_text().startswith("# ")]
    assert silent == []


def test_overlays_put_policies_before_what_runs(root):
    """`kubectl apply -k` creates in the order of the rendered set: a pod must not be there before the rules for it."""
    for overlay in ("production", "dev-cpu"):
        folder = root / "deploy" / "overlays" / overlay
        rendered = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True).stdout
        kinds = [line.removeprefix("kind: ") for line in rendered.splitlines() if line.startswith("kind: ")]
        last = {kind: idx for idx, kind in enumerate(kinds)}
        assert kinds[0] == "Namespace"
        for runs in ("Deployment", "StatefulSet", "Job", "CronJob"):
            assert last["NetworkPolicy"] < kinds.index(runs), overlay
