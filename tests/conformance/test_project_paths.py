"""Paths of the host that a restricted project may use: these alone, whatever a link in them says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.conformance import process
from tests.conformance.client import Client, eventually
from tests.conformance.test_projects import project, remove, within
from tests.conformance.world import World, unique


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """One that the project may use, and one that it may not."""
    allowed, closed = tmp_path / "allowed", tmp_path / "closed"
    for folder in (allowed, allowed / "inner", closed):
        folder.mkdir(mode=0o755)
        (folder / "mark").write_text(f"{folder.name}\n")
    return allowed, closed


def fenced(world: World, allowed: Path) -> Client:
    config = {"restricted__devices__disk": "allow", "restricted__devices__disk__paths": f"/nosuch,{allowed}"}
    return within(world, project(world, features__images="false", restricted="true", **config))


def disk(source: Path | str) -> dict[str, dict[str, str]]:
    return {"data": {"type": "disk", "source": str(source), "path": "/data"}}


def instance(world: World, inside: Client, source: Path) -> str:
    name = unique("c")
    world.finally_do(partial(stopped_and_gone, inside, f"/1.0/instances/{name}"))
    inside.post("/1.0/instances", world.body(name, devices=disk(source)))
    return name


def stopped_and_gone(inside: Client, path: str) -> None:
    state = inside.request("GET", f"{path}/state")
    if state.status == 200 and state.metadata["status"] != "Stopped":
        act(inside, path, "stop")
    remove(inside, path)


def act(inside: Client, path: str, action: str) -> None:
    inside.put(f"{path}/state", {"action": action, "force": action == "stop", "timeout": 30})


@pytest.mark.extension("projects_restrictions")
def test_a_disk_comes_from_an_allowed_path(world: World, folders: tuple[Path, Path]) -> None:
    allowed, closed = folders
    inside = fenced(world, allowed)
    name = instance(world, inside, allowed / "inner")
    path = f"/1.0/instances/{name}"
    for source in (closed, f"{allowed}/../closed", f"{allowed}x", "/"):
        refusal = inside.refusal("PATCH", path, {"devices": disk(source)})
        assert f'Disk source path "{source}" not allowed' in refusal.text
        refusal = inside.refusal("POST", "/1.0/instances", world.body(unique("c"), devices=disk(source)))
        assert f'Disk source path "{source}" not allowed' in refusal.text
    act(inside, path, "start")
    assert process.output(inside, name, "cat", "/data/mark") == "inner"


@pytest.mark.extension("projects_restrictions")
def test_a_link_may_lead_about_within_an_allowed_path(world: World, folders: tuple[Path, Path]) -> None:
    allowed, _ = folders
    (allowed / "link").symlink_to("inner")
    inside = fenced(world, allowed)
    name = instance(world, inside, allowed / "link")
    act(inside, f"/1.0/instances/{name}", "start")
    assert process.output(inside, name, "cat", "/data/mark") == "inner"


@pytest.mark.extension("projects_restrictions")
@pytest.mark.parametrize("running", [False, True])
def test_a_link_does_not_lead_out_of_an_allowed_path(world: World, folders: tuple[Path, Path], running: bool) -> None:
    allowed, closed = folders
    inside = fenced(world, allowed)
    name = instance(world, inside, allowed / "inner")
    path = f"/1.0/instances/{name}"
    (allowed / "inner" / "mark").unlink()
    (allowed / "inner").rmdir()
    (allowed / "inner").symlink_to(closed)
    if running:
        inside.patch(path, {"devices": {"data": {"type": "none"}}})
        act(inside, path, "start")
        inside.refusal("PATCH", path, {"devices": disk(allowed / "inner")})
        assert process.run(inside, name, "cat", "/data/mark").code != 0
    else:
        inside.refusal("PUT", f"{path}/state", {"action": "start", "timeout": 30})
        eventually(lambda: inside.get(f"{path}/state")["status"] == "Stopped")


@pytest.mark.extension("projects_restrictions")
def test_a_path_that_is_none_is_refused(api: Client) -> None:
    config = {"restricted.devices.disk.paths": "srv"}
    refusal = api.refusal("POST", "/1.0/projects", {"name": unique("pr"), "config": config})
    assert refusal.status == 400
    assert 'Item "srv": Must be absolute file path' in refusal.text
