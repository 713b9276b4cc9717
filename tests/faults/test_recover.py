"""The log is lost: a backup brings it back; without one `nubibus recover` rebuilds it from the node, and says what it cannot know."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import eventually
from tools.faults.subject import DEADLINE, Subject, subject

ROOT = Path(__file__).parents[2]


def recover(found: Subject, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return run(found, "recover", *arguments, answer=answer)


def run(found: Subject, what: str, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", what, "--dir", str(found.directory), *arguments]
    return subprocess.run(
        command, cwd=ROOT, input=answer, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def documents(found: Subject, names: list[str], profile: str) -> dict[str, Any]:
    """What must be as before: everything that clients see of these, but what a restart changes."""
    paths = [f"/1.0/instances/{name}" for name in names]
    paths += [f"/1.0/profiles/{profile}", "/1.0/profiles/default", f"/1.0/networks/{found.bridge.name}"]
    paths += [
        f"/1.0/storage-pools/{found.world.ground.pool}",
        f"/1.0/images/{found.world.ground.image}",
        "/1.0/projects/default",
    ]
    shown = {path: found.api.get(path) for path in paths}
    for document in shown.values():
        document.pop("last_used_at", None)
    return shown


@pytest.mark.timeout(400)
def test_a_lost_log_is_rebuilt_from_the_node() -> None:
    with subject() as found:
        profile = found.world.profile({"user.kept": "yes"})
        names = [found.world.instance(profiles=[profile], config={"user.number": "1"}), found.world.instance()]
        found.api.patch("/1.0/profiles/default", {"config": {"user.default": "changed"}})
        before = documents(found, names, profile)
        copies = found.directory / "copies"
        eventually(lambda: len(list(copies.glob("instances_instance/*.json"))) == 2, DEADLINE)
        eventually(
            lambda: "user.default" in (copies / "instances_profile" / "default.default.json").read_text(), DEADLINE
        )
        refused = recover(found)
        assert refused.returncode == 1
        assert "a server runs in" in refused.stderr
        found.server.leave()
        shutil.rmtree(found.directory / "nats")
        (copies / "instances_instance" / f"default.{names[1]}.json").unlink()  # this one has its backup.yaml alone
        asked = recover(found, answer="no\n")
        assert asked.returncode == 1
        assert "Nothing was written" in asked.stdout
        assert "cannot be known" in asked.stdout
        done = recover(found, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"instance {names[1]} of project default: from its backup.yaml" in done.stdout
        found.server.start()
        found.wait_ready()
        after = documents(found, names, profile)
        for path, document in before.items():
            assert after[path] == document, path
        found.world.start(names[0])
        found.world.start(names[1])
        found.server.leave()
        again = recover(found, "--yes")
        assert "Nothing on this node is missing" in again.stdout, again.stdout
        found.server.start()


@pytest.mark.timeout(400)
def test_a_backup_brings_a_lost_log_back(tmp_path: Path) -> None:
    with subject() as found:
        name, file = found.world.instance(), str(tmp_path / "log.gz")
        found.world.start(name)
        pid = found.api.get(f"/1.0/instances/{name}/state")["pid"]
        done = run(found, "log-backup", file)
        assert done.returncode == 0, done.stderr
        found.api.patch("/1.0/profiles/default", {"config": {"user.later": "than the backup"}})
        assert "a server runs in" in run(found, "log-restore", file, "--yes").stderr
        found.server.leave()
        shutil.rmtree(found.directory / "nats")
        assert "Nothing was written" in run(found, "log-restore", file, answer="no\n").stdout
        done = run(found, "log-restore", file, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        found.server.start()
        found.wait_ready()
        assert "user.later" not in found.api.get("/1.0/profiles/default")["config"]
        state = found.api.get(f"/1.0/instances/{name}/state")
        assert (state["status"], state["pid"]) == ("Running", pid)
