"""Instances and custom volumes that move from one project to another: whole, within the limits there, and not by halves."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.conformance.client import Client
from tests.conformance.test_projects import project, remove, within
from tests.conformance.world import World, unique


def two_projects(world: World, **there: str) -> tuple[Client, Client]:
    """Where things come from, and where they go."""
    shared = {"features__images": "false"}
    return within(world, project(world, **shared)), within(world, project(world, **shared, **there))


def instance(world: World, here: Client, there: Client, **fields: Any) -> str:
    name = unique("c")
    for client in (here, there):
        world.finally_do(partial(remove, client, f"/1.0/instances/{name}"))
    here.post("/1.0/instances", world.body(name, **fields))
    return name


def move(here: Client, there: Client, name: str, **more: Any) -> dict[str, Any]:
    """As `lxc move NAME NAME --project HERE --target-project THERE` asks for it."""
    body = {"name": name, "project": there.project, "migration": True, **more}
    return here.post(f"/1.0/instances/{name}", body)


def put(client: Client, name: str, path: str, content: bytes) -> None:
    answer = client.request("POST", f"/1.0/instances/{name}/files?path={path}", content, {"X-LXD-type": "file"})
    assert answer.status == 200, answer.body


@pytest.mark.extension("instance_project_move")
def test_an_instance_moves_to_another_project_with_all_that_is_its_own(world: World) -> None:
    here, there = two_projects(world)
    profile = unique("p")
    for client, text in ((here, "from here"), (there, "from there")):
        world.finally_do(partial(remove, client, f"/1.0/profiles/{profile}"))
        client.post("/1.0/profiles", {"name": profile, "config": {"user.profile": text}})
    name = instance(world, here, there, config={"user.own": "yes"}, profiles=[profile])
    put(here, name, "/root/mark", b"was here")
    path = f"/1.0/instances/{name}"
    with world.api.events(query="&all-projects=true") as events:
        operation = move(here, there, name)
        made = events.wait_for(action="instance-created", source=name)
        gone = events.wait_for(action="instance-deleted", source=name)
    assert operation["description"] == "Migrating instance"
    assert (made["project"], gone["project"]) == (there.project, here.project)
    assert here.request("GET", path).status == 404
    found = there.get(path)
    assert found["project"] == there.project
    assert found["expanded_config"]["user.own"] == "yes"
    assert found["expanded_config"]["user.profile"] == "from there"
    assert there.request("GET", f"{path}/files?path=/root/mark").body == b"was here"
    assert there.get(f"/1.0/profiles/{profile}")["used_by"] == [f"{path}?project={there.project}"]
    assert here.get(f"/1.0/profiles/{profile}")["used_by"] == []
    there.put(f"{path}/state", {"action": "start", "timeout": 30})
    assert there.get(f"{path}/state")["status"] == "Running"
    there.put(f"{path}/state", {"action": "stop", "force": True, "timeout": 30})


@pytest.mark.extension("instance_project_move")
def test_a_move_may_give_another_name(world: World) -> None:
    here, there = two_projects(world)
    name, other = instance(world, here, there), unique("c")
    world.finally_do(partial(remove, there, f"/1.0/instances/{other}"))
    here.post(f"/1.0/instances/{name}", {"name": other, "project": there.project, "migration": True})
    assert there.get("/1.0/instances") == [f"/1.0/instances/{other}?project={there.project}"]
    assert here.get("/1.0/instances") == []


@pytest.mark.extension("instance_project_move")
def test_what_cannot_move_stays_as_it_was(world: World) -> None:
    here, there = two_projects(world)
    profile = unique("p")
    world.finally_do(partial(remove, here, f"/1.0/profiles/{profile}"))
    here.post("/1.0/profiles", {"name": profile})
    name = instance(world, here, there, profiles=[profile])
    other = instance(world, there, here)
    path = f"/1.0/instances/{name}"
    for body, reason in (
        ({"name": name, "project": there.project}, f'Requested profile "{profile}" doesn\'t exist'),
        ({"name": "a/b", "project": there.project}, "reserved for snapshots"),
    ):
        refusal = here.refusal("POST", path, {**body, "migration": True})
        assert reason in refusal.text
    for body, reason in (
        ({"name": name, "project": here.project}, 'This "instances" entry already exists'),
        ({"name": other, "project": unique("nosuch")}, "Project not found"),
    ):
        refusal = there.refusal("POST", f"/1.0/instances/{other}", {**body, "migration": True})
        assert reason in refusal.text
    here.patch(path, {"config": {"user.still": "here"}})
    here.put(f"{path}/state", {"action": "start", "timeout": 30})
    assert there.request("GET", path).status == 404
    here.refusal("POST", path, {"name": name, "project": there.project, "migration": True})
    assert here.get(f"{path}/state")["status"] == "Running"
    here.put(f"{path}/state", {"action": "stop", "force": True, "timeout": 30})


@pytest.mark.differs("5.0.2 moves into a full or a restricted project what could not be made there")
@pytest.mark.parametrize(
    ("config", "limit", "reason"),
    [
        ({}, {"limits__instances": "0"}, "Reached maximum number of instances"),
        ({}, {"limits__memory": "1GiB"}, 'has no "limits.memory" config'),
        ({"security.nesting": "true"}, {"restricted": "true"}, "Container nesting is forbidden"),
    ],
)
def test_a_move_is_held_to_what_the_other_project_allows(
    world: World, config: dict[str, str], limit: dict[str, str], reason: str
) -> None:
    here, there = two_projects(world, **limit)
    name = instance(world, here, there, config=config)
    refusal = here.refusal(
        "POST", f"/1.0/instances/{name}", {"name": name, "project": there.project, "migration": True}
    )
    assert reason in refusal.text
    assert here.get(f"/1.0/instances/{name}")["project"] == here.project
    assert there.get("/1.0/instances") == []


@pytest.mark.extension("storage_volume_project_move")
def test_a_custom_volume_moves_to_another_project_with_its_snapshots(world: World) -> None:
    here, there = two_projects(world)
    name, volumes = unique("v"), f"/1.0/storage-pools/{world.ground.pool}/volumes/custom"
    path = f"{volumes}/{name}"
    for client in (here, there):
        world.finally_do(partial(remove, client, path))
    here.post(volumes, {"name": name, "config": {"user.own": "yes"}})
    here.post(f"{path}/snapshots", {"name": "s0"})
    with world.api.events(query="&all-projects=true") as events:
        here.post(path, {"name": name, "pool": world.ground.pool, "project": there.project})
        made = events.wait_for(action="storage-volume-created")
        gone = events.wait_for(action="storage-volume-deleted")
    assert (made["project"], gone["project"]) == (there.project, here.project)
    assert here.request("GET", path).status == 404
    assert there.get(path)["config"]["user.own"] == "yes"
    assert [found.partition("?")[0] for found in there.get(f"{path}/snapshots")] == [f"{path}/snapshots/s0"]


@pytest.mark.differs("5.0.2 does not hold a volume that moves to the limit")
def test_a_volume_does_not_move_beyond_a_limit(world: World) -> None:
    here, there = two_projects(world, limits__disk="9MiB")
    name, volumes = unique("v"), f"/1.0/storage-pools/{world.ground.pool}/volumes/custom"
    world.finally_do(partial(remove, here, f"{volumes}/{name}"))
    here.post(volumes, {"name": name, "config": {"size": "10MiB"}})
    body = {"name": name, "pool": world.ground.pool, "project": there.project}
    refusal = here.refusal("POST", f"{volumes}/{name}", body)
    assert 'Reached maximum aggregate value "9MiB" for "limits.disk"' in refusal.text
    assert here.get(f"{volumes}/{name}")["name"] == name
    assert there.get(volumes) == []
