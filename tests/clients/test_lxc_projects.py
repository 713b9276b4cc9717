"""Projects with Debian's own `lxc`: made, switched to, and what moves and is copied from one to another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.lxc import Lxc
from tests.conformance.servers import Server
from tests.conformance.world import Ground, World, unique

pytestmark = pytest.mark.skipif(shutil.which("lxc") is None, reason="Debian's lxd-client is not installed")


@pytest.fixture
def command(server: Server, tmp_path: Path) -> Lxc:
    return Lxc(server.directory, tmp_path)


def two_projects(command: Lxc, world: World) -> tuple[str, str]:
    names = unique("pr"), unique("pr")
    for name in names:
        world.finally_do(lambda name=name: world.gone(f"/1.0/projects/{name}"))
        command("project", "create", name, "-c", "features.images=false", "-c", "limits.instances=1")
    return names


def test_an_instance_and_a_volume_move_and_a_profile_is_copied(command: Lxc, world: World, ground: Ground) -> None:
    here, there = two_projects(command, world)
    name, volume, profile = unique("c"), unique("v"), unique("p")
    for project in (here, there):
        world.finally_do(lambda project=project: world.gone(f"/1.0/instances/{name}?project={project}"))
        path = f"/1.0/storage-pools/{ground.pool}/volumes/custom/{volume}"
        world.finally_do(lambda path=f"{path}?project={project}": world.gone(path))
        world.finally_do(lambda project=project: world.gone(f"/1.0/profiles/{profile}?project={project}"))
    command("init", ground.image, name, "--project", here, "--storage", ground.pool)
    command("move", name, name, "--project", here, "--target-project", there)
    assert [found["name"] for found in command.json("list", "--project", there)] == [name]
    assert command.json("list", "--project", here) == []

    at = f"{ground.pool}/{volume}"
    command("storage", "volume", "create", ground.pool, volume, "--project", here)
    command("storage", "volume", "move", at, at, "--project", here, "--target-project", there)
    assert command.yaml("storage", "volume", "show", ground.pool, volume, "--project", there)["project"] == there
    assert "not found" in command.refuses("storage", "volume", "show", ground.pool, volume, "--project", here).lower()

    command("profile", "create", profile, "--project", here)
    command("profile", "set", profile, "user.color", "blue", "--project", here)
    command("profile", "copy", profile, profile, "--project", here, "--target-project", there)
    assert command("profile", "get", profile, "user.color", "--project", there) == "blue\n"


def test_a_project_is_switched_to_and_tells_what_it_uses(command: Lxc, world: World, ground: Ground) -> None:
    here, _ = two_projects(command, world)
    name = unique("c")
    world.finally_do(lambda: world.gone(f"/1.0/instances/{name}?project={here}"))
    command("project", "switch", here)
    command("init", ground.image, name, "--storage", ground.pool)
    assert [found["name"] for found in command.json("list")] == [name]
    told = command("project", "info", here, "--format=csv").splitlines()
    assert "INSTANCES,1,1" in told
    refusal = command.refuses("init", ground.image, unique("c"), "--storage", ground.pool)
    assert f'Reached maximum number of instances in project "{here}"' in refusal
    assert "Only empty projects can be removed" in command.refuses("project", "delete", here)
