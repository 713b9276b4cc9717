"""`lxc` elsewhere: admitted by a token on the administrator's terms; projects that are switched to."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.clients.lxc import Lxc
from tests.conformance.client import Client
from tests.conformance.servers import Server
from tests.conformance.world import Ground, World, unique

pytestmark = pytest.mark.skipif(shutil.which("lxc") is None, reason="Debian's lxd-client is not installed")


@pytest.mark.parametrize("lxc", ["https"], indirect=True)
def test_a_token_admits_a_client_as_the_administrator_said(
    lxc: Lxc, server: Server, world: World, tmp_path: Path
) -> None:
    api = world.api
    name, project = unique("guest"), unique("pr")
    world.finally_do(lambda: world.gone(f"/1.0/projects/{project}"))
    lxc("project", "create", project)
    administrator = Lxc(server.directory, tmp_path)
    token = administrator("config", "trust", "add", "--name", name, "--restricted", "--projects", project).split()[-1]
    assert name in administrator("config", "trust", "list-tokens", "--format=csv")
    guest = Lxc(tmp_path / "nowhere", tmp_path / "guest")
    guest.home.mkdir()
    guest("remote", "add", "far", token, "--accept-certificate", "--project", project)
    try:
        assert guest("remote", "switch", "far") == ""
        assert guest.json("list") == []
        assert "not authorized" in guest.refuses("list", "--project", "default").lower()
        again = Lxc(tmp_path / "nowhere", tmp_path / "again")
        again.home.mkdir()
        again.refuses("remote", "add", "far", token, "--accept-certificate")
    finally:
        mine = [entry for entry in api.get("/1.0/certificates?recursion=1") if entry["name"] == name]
        for entry in mine:
            api.delete(f"/1.0/certificates/{entry['fingerprint']}")
    assert len(mine) == 1


@pytest.mark.parametrize("lxc", ["https"], indirect=True)
def test_a_project_is_switched_to(lxc: Lxc, ground: Ground, bb: str, world: World) -> None:
    project, name = unique("pr"), unique("c")
    world.finally_do(lambda: world.gone(f"/1.0/projects/{project}"))
    own = Client(world.api.socket, project)
    there = World(Ground(own, ground.pool, ground.image))
    world.finally_do(lambda: there.remove_instance(name))
    lxc("project", "create", project, "-c", "features.images=false", "-c", "features.profiles=false")
    lxc("project", "switch", project)
    try:
        assert "(current)" in next(
            line for line in lxc("project", "list", "--format=csv").splitlines() if project in line
        )
        lxc("launch", bb, name, "--storage", ground.pool)
        assert [entry["name"] for entry in lxc.json("list")] == [name]
        assert lxc("exec", name, "--", "hostname") == f"{name}\n"
        assert name not in lxc("list", "--project", "default", "--format=csv")
        assert bb in lxc("image", "list", "--format=csv")
        assert "Only empty projects" in lxc.refuses("project", "delete", project)
        assert lxc.yaml("project", "show", project)["used_by"] == [f"/1.0/instances/{name}?project={project}"]
        lxc("delete", "-f", name)
    finally:
        lxc("project", "switch", "default")
    lxc("project", "delete", project)
