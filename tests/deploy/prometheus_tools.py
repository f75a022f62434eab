"""Where promtool, Prometheus and the exporters come from: the PATH if they are new enough, else a newer Debian suite.

Debian 12's Prometheus is 2.42 and built without Kubernetes discovery, Debian 13's is 2.53; the configuration is for 3.x.
Packages of a newer suite are fetched with apt, which checks their signatures, from the mirror that this machine uses, and
unpacked under target/ without being installed."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target" / "deploy" / "prometheus"
SUITE = "forky"
# Package: program.
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "promtool",
    "prometheus-postgres-exporter": "prometheus-postgres-exporter",
    "prometheus-redis-exporter": "prometheus-redis-exporter",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def programs():
    """The path of each program, by its name."""
    found = {program: shutil.which(program) for program in PACKAGES.values()}
    if all(found.values()) and is_new(found["promtool"]) and is_new(found["prometheus"]):
        return found
    if not (FOLDER / "usr").is_dir():
        fetch()
    return {program: str(FOLDER / "usr" / "bin" / program) for program in PACKAGES.values()}


def is_new(program):
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version (\d+)\.", said.stdout + said.stderr)
    return version is not None and int(version[1]) >= 3


def fetch():
    """Download and unpack the packages; the folder is there only when it is complete."""
    mirror = debian_mirror()
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as work:
        work = Path(work)
        for folder in ["lists/partial", "cache/archives/partial", "debs", "unpacked"]:
            (work / folder).mkdir(parents=True)
        keyring = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (work / "sources.list").write_text(f"deb {keyring}{mirror} {SUITE} main\n")
        options = {
            "Dir::Etc::sourcelist": work / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": work / "lists",
            "Dir::Cache": work / "cache",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        apt = ["apt-get", "-q"] + [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "download", *PACKAGES], cwd=work / "debs", check=True)
        for package in (work / "debs").glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, work / "unpacked"], check=True)
        for program in PACKAGES.values():
            assert os.access(work / "unpacked" / "usr" / "bin" / program, os.X_OK), f"{SUITE} has no {program}"
        shutil.rmtree(FOLDER, ignore_errors=True)
        (work / "unpacked").rename(FOLDER)


def debian_mirror():
    """Where this machine gets the packages of its own release from."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    if release.get("ID") == "debian" and shutil.which("apt-get"):
        # says what would be fetched, which it knows before any list is there
        command = ["apt-get", "--print-uris", "update"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = re.search(rf"^'(\S+)/dists/{release['VERSION_CODENAME']}/InRelease'", printed, re.MULTILINE)
        if found:
            return found[1]
    raise RuntimeError(
        "the tests need Prometheus 3: put prometheus, promtool, prometheus-postgres-exporter and "
        "prometheus-redis-exporter on the PATH, or run them on Debian"
    )


def run(program, *arguments, **options):
    """Run one of the programs; the test fails with what it said if it fails."""
    command = [programs()[program], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr
