"""The disk is full: what needs room is refused or ends as a clean Failure, what does not is served, and with room all goes on."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance import images
from tests.conformance.client import eventually
from tests.conformance.world import unique
from tools.faults import debris
from tools.faults.subject import DEADLINE, Subject, subject


def fill(folder: Path) -> Path:
    """A file that takes what is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while out.write(bytes(1 << 16)):
            pass
    return path


@pytest.mark.timeout(400)
def test_a_full_disk_harms_nothing() -> None:
    with subject(small_disk=96) as found:
        name = found.world.instance(start=True)
        found.world.remove_instance(found.world.instance())
        before = debris.look(found)
        filler = fill(found.directory)
        others = [unique("c") for _ in range(3)]
        asked = [found.try_request("POST", "/1.0/instances", found.world.body(other)) for other in others]
        found.try_request("POST", "/1.0/images", images.unified_with({"n": unique("i")}))
        assert all(answer.status == 202 or answer.status >= 400 for answer in asked), asked
        assert found.api.request("GET", "/1.0/operations").status == 200
        assert found.api.request("GET", "/1.0/instances?recursion=1").status == 200
        filler.unlink()
        found.wait_ready()
        for answer in asked:
            if answer.status == 202:  # it was accepted: it ends, however it ends
                eventually(lambda path=answer.operation: found.api.finished(path, 10), DEADLINE)
        for other in others:
            found.world.remove_instance(other)
        eventually(lambda: debris.look(found) == before or _differs(found, before), DEADLINE, pause=0.5)
        assert found.api.get(f"/1.0/instances/{name}/state")["status"] == "Running"
        found.api.post("/1.0/instances", found.world.body(others[0]))
        found.world.remove_instance(others[0])


def _differs(found: Subject, before: Counter[str]) -> bool:
    now = debris.look(found)
    raise AssertionError(f"left: {[*(now - before)]}, missing: {[*(before - now)]}")
