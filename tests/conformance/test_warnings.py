"""Warnings: told when something goes wrong, acknowledged, resolved by themselves when it goes right, deleted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.conftest import prepare
from tests.conformance.servers import Server
from tests.conformance.world import World

FAILED = "Failed to autostart instance"


@pytest.fixture
def own(own_server: Server) -> Iterator[World]:
    made = World(prepare(Client(own_server.socket)))
    yield made
    if own_server.started is None:
        own_server.start()
    made.close()


def about(api: Client, instance: str) -> dict[str, Any] | None:
    """The warning about the start of an instance."""
    for found in api.get("/1.0/warnings?recursion=1"):
        if found["type"] == FAILED and f"/1.0/instances/{instance}" in found["entity_url"]:
            return dict(found)
    return None


@pytest.mark.extension("warnings")
def test_a_warning_lives_from_the_failure_to_its_end(own: World, own_server: Server, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    disk = {"d": {"type": "disk", "source": str(source), "path": "/mnt"}}
    name = own.instance(config={"boot.autostart": "true"}, devices=disk)
    assert about(own.api, name) is None

    shutil.rmtree(source)
    own_server.leave()
    own_server.start()
    found = eventually(lambda: about(own.api, name))
    told = (found["status"], found["severity"], found["project"], found["location"])
    assert told == ("new", "low", "default", "none")
    assert found["count"] >= 1
    assert found["last_message"]
    path = f"/1.0/warnings/{found['uuid']}"
    of_project = own.api.get("/1.0/warnings?recursion=1&project=default")
    assert found["uuid"] in {one["uuid"] for one in of_project}
    assert {one["project"] for one in of_project} == {"default"}  # those that are about no project are not its own
    assert not own.api.get("/1.0/warnings?project=another")
    refusal = own.api.refusal("PUT", path, {"status": "bogus"})
    assert (refusal.status, refusal.text) == (400, 'Invalid warning type "bogus"')
    own.api.put(path, {"status": "acknowledged"})
    assert own.api.get(path)["status"] == "acknowledged"

    source.mkdir()
    own_server.leave()
    own_server.start()
    eventually(lambda: own.api.get(f"/1.0/instances/{name}")["status"] == "Running")
    eventually(lambda: own.api.get(path)["status"] == "resolved")
    assert own.api.get(path)["first_seen_at"] == found["first_seen_at"]
    own.api.delete(path)
    assert own.api.request("GET", path).status == 404


@pytest.mark.extension("warnings")
def test_a_warning_is_counted_from_start_to_start(own: World, own_server: Server) -> None:
    """What this machine lacks is found out at each start."""

    def one() -> dict[str, Any]:
        return dict(eventually(lambda: own.api.get("/1.0/warnings?recursion=1"))[0])

    first = one()
    own_server.leave()
    own_server.start()

    def again() -> bool:
        now = own.api.get(f"/1.0/warnings/{first['uuid']}")
        return bool(now["count"] > first["count"] and now["last_seen_at"] > first["last_seen_at"])

    eventually(again)
