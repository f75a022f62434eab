"""Real servers for tests: PostgreSQL, and the program itself as worker and head. Each ends with the test."""

import glob
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

PASSWORD = "butterfly-7"


class Postgres:
    """A server with the roles and the database of the platform, which asks for passwords over TCP."""

    def __init__(self, port):
        self.port = port
        # Its account may not look into the folders of tests.
        self.folder = folder = Path(tempfile.mkdtemp(prefix="vlinders-postgres-"))
        self.programs = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        # It refuses to be root.
        self.account = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        (folder / "password").write_text(PASSWORD)
        if self.account:
            for path in (folder, folder / "password"):
                os.chown(path, self.account.pw_uid, self.account.pw_gid)
        self.run("initdb", "-D", folder / "data", "-U", "postgres", "--pwfile", folder / "password",
                 "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
        words = ["-D", folder / "data", "-k", folder, "-p", port, "-h", "127.0.0.1", "-c", "fsync=off"]
        log = (folder / "log").open("ab")
        self.process = subprocess.Popen([self.programs / "postgres", *map(str, words)], stdout=log, stderr=log, **self.as_account())
        while subprocess.run([self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode:
            assert self.process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)

    def as_account(self):
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "cwd": "/"} if self.account else {}

    def run(self, program, *words):
        words = [str(self.programs / program), *map(str, words)]
        subprocess.run(words, check=True, capture_output=True, **self.as_account())

    def sql(self, database, statement, user="postgres"):
        words = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", user, "-d", database, "-qtA", "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run(words, env=dict(os.environ, PGPASSWORD=PASSWORD), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def environment(self, **more):
        """What pods that talk to it get."""
        return dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(self.port), PGUSER="postgres", PGDATABASE="vlinders",
                    PGPASSWORD_FILE=str(self.folder / "password"), **more)

    def stop(self):
        # Fast: connections are ended.
        self.process.send_signal(2)
        self.process.wait()
        shutil.rmtree(self.folder)


class Program:
    """`vlinders` with some arguments, until it says that it is ready."""

    def __init__(self, vlinders, folder, name, *words):
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([vlinders, *map(str, words)], cwd=folder, stdout=log, stderr=log)
        self.url = "http://" + self.said(r"ready: .*address=([0-9.:]+)")

    def said(self, expression):
        for _ in range(1200):
            found = re.search(expression, self.log.read_text())
            if found:
                return found[1]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"it never said {expression}: {self.log.read_text()}")

    def stop(self):
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0, self.log.read_text()


def ask(url, token=None, body=None):
    """Status and text of an answer."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
