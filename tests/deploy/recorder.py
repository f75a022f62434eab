"""Puts the fake kubectl in the place of the real one, says what it has to answer, and reads what it was asked."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

HERE = Path(__file__).parent


class Recorder:
    def __init__(self, folder, rendered=None):
        self.folder = folder / "kubectl"
        self.state = folder / "state"
        self.programs = folder / "programs"
        for path in (self.folder, self.programs):
            path.mkdir(parents=True)
        program = self.programs / "kubectl"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{HERE / "fake_kubectl.py"}" "$@"\n')
        program.chmod(0o755)
        (self.folder / "rendered.yaml").write_text((rendered or HERE / "rendered.yaml").read_text())
        self.rules = []

    def rule(self, when, **answer):
        """The first rule that fits decides a call."""
        self.rules.append({"when": when, **answer})
        (self.folder / "kubectl.json").write_text(json.dumps({"rules": self.rules}))

    def environment(self):
        return dict(os.environ, PATH=f"{self.programs}:{os.environ['PATH']}", FAKE_KUBECTL=str(self.folder), FAKE_KUBECTL_SITE=str(Path(yaml.__file__).parents[1]),
                    VLINDERS_STATE=str(self.state), VLINDERS_POLL_SECONDS="0.05")

    def run(self, *words, **more):
        return subprocess.run([str(word) for word in words], env=self.environment(), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=120, **more)

    def interrupted(self, *words, at):
        """Run, and send what Ctrl-C sends, to all of its processes, once kubectl was asked for `at`."""
        process = subprocess.Popen([str(word) for word in words], env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, text=True, start_new_session=True)
        while not any(at in call for call in self.calls()):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def calls(self):
        """Each as one text, without the context."""
        file = self.folder / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [" ".join(json.loads(line)).removeprefix("--context test ") for line in lines]

    def forget_calls(self):
        (self.folder / "calls.jsonl").unlink(missing_ok=True)

    def objects(self):
        file = self.folder / "objects.json"
        return json.loads(file.read_text()) if file.exists() else {}
