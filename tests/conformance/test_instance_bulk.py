"""The state of all instances of a project at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conformance.client import Client
from tests.conformance.world import World, unique


def states(world: World, *names: str) -> list[str]:
    return [world.api.get(f"/1.0/instances/{name}/state")["status"] for name in names]


@pytest.fixture
def apart(world: World) -> World:
    """The same world in a project of its own, so that the instances of other tests are let be."""
    project = unique("pr")
    world.finally_do(lambda: world.gone(f"/1.0/projects/{project}"))
    config = {"features.images": "false", "features.profiles": "false", "features.storage.volumes": "false"}
    world.api.post("/1.0/projects", {"name": project, "config": config})
    made = World(replace(world.ground, api=Client(world.api.socket, project=project)))
    world.finally_do(made.close)
    return made


@pytest.mark.extension("instance_bulk_state_change")
def test_all_instances_of_a_project_are_stopped_and_started(world: World, apart: World) -> None:
    elsewhere = world.instance(start=True)
    one, two = apart.instance(start=True), apart.instance()

    apart.api.put("/1.0/instances", {"state": {"action": "start", "timeout": 30}})
    assert states(apart, one, two) == ["Running", "Running"]
    apart.api.put("/1.0/instances", {"state": {"action": "stop", "force": True, "timeout": 30}})
    assert states(apart, one, two) == ["Stopped", "Stopped"]
    assert states(world, elsewhere) == ["Running"]


@pytest.mark.extension("instance_bulk_state_change")
def test_one_that_fails_is_told_of_and_the_others_are_done(apart: World) -> None:
    good, bad = apart.instance(), apart.instance(config={"linux.sysctl.kernel.nonsense": "1"})
    refusal = apart.api.refusal("PUT", "/1.0/instances", {"state": {"action": "start", "timeout": 30}})
    assert "The following instances failed to update state:" in refusal.text
    assert f" - Instance: {bad}: " in refusal.text
    assert states(apart, good, bad) == ["Running", "Stopped"]


@pytest.mark.parametrize("action", ["bogus", ""])
def test_an_unknown_action_is_refused(apart: World, action: str) -> None:
    refusal = apart.api.refusal("PUT", "/1.0/instances", {"state": {"action": action}})
    assert (refusal.status, "Unknown action" in refusal.text) == (400, True)
