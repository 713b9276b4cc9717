"""The log is lost: `nubibus recover` rebuilds it from what lies on the node, asks first, and says what it cannot know."""

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
    command = [sys.executable, "-m", "cli", "recover", "--dir", str(found.directory), *arguments]
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
