"""Whether the scripts are sound: by shellcheck, and by what each of them has to begin with."""

import re
import subprocess


def scripts_of(root):
    found = [path for folder in ("deploy", "tests/deploy") for path in sorted((root / folder).rglob("*.sh")) if ".local" not in path.parts]
    assert len(found) >= 15
    return found


def test_shellcheck_has_nothing_to_say(root):
    # What is only sourced is looked at with those that source it.
    words = [path for path in scripts_of(root) if path.parent.name != "lib"]
    done = subprocess.run(["shellcheck", *words], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_each_says_what_it_decides_and_stops_at_the_first_failure(root):
    for path in scripts_of(root):
        lines = path.read_text().splitlines()
        first = lines[1] if lines[0].startswith("#!") else lines[0]
        assert re.match(r"# [A-Z].+[.:]", first), path
        # Images of pods have no bash, and their shells no pipefail.
        wanted = "set -eu" if lines[0] == "#!/bin/sh" else "set -Eeuo pipefail"
        assert wanted in lines, path


def test_what_runs_in_pods_needs_no_bash(root):
    for path in scripts_of(root):
        if path.read_text().startswith("#!/bin/sh"):
            done = subprocess.run(["dash", "-n", path], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_pods_get_their_scripts_by_name(root):
    """A ConfigMap mounts them; a script that is renamed must not be missing there only."""
    text = (root / "deploy" / "scripts" / "kustomization.yaml").read_text()
    for name in ("redis-cluster.sh", "backup.sh", "restore.sh"):
        assert name in text, name
