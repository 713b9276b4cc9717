"""What a project decides for what is in it: whether snapshots and backups may be made, how archives are packed, which networks it sees."""

from __future__ import annotations

import tarfile
from functools import partial
from io import BytesIO
from typing import Any

import pytest

from tests.conformance import images
from tests.conformance.client import Client
from tests.conformance.test_projects import project, remove, within
from tests.conformance.world import World, unique

GZIP, XZ, BZIP2 = b"\x1f\x8b", b"\xfd7zXZ\x00", b"BZh"


def volumes_of(world: World) -> str:
    return f"/1.0/storage-pools/{world.ground.pool}/volumes/custom"


def volume(world: World, inside: Client) -> str:
    path = f"{volumes_of(world)}/{unique('v')}"
    world.finally_do(partial(remove, inside, path))
    inside.post(volumes_of(world), {"name": path.rpartition("/")[2]})
    return path


def configure(world: World, name: str, **config: str) -> None:
    path = f"/1.0/projects/{name}"
    changed = {key.replace("__", "."): text for key, text in config.items()}
    world.api.put(path, {"config": {**configured(world, name), **changed}})


def configured(world: World, name: str) -> dict[str, str]:
    """A project's configuration: 5.0.2's PATCH forgets what is not sent."""
    found: dict[str, str] = world.api.get(f"/1.0/projects/{name}")["config"]
    return found


def names_in(archive: bytes) -> list[str]:
    """Of the members of a tar that is not packed."""
    with tarfile.open(fileobj=BytesIO(archive), mode="r:") as opened:
        return opened.getnames()


@pytest.mark.extension("projects_restricted_backups_and_snapshots")
@pytest.mark.parametrize(("what", "plural"), [("snapshot", "snapshots"), ("backup", "backups")])
def test_a_restricted_project_makes_no_snapshots_and_backups_unless_it_may(
    world: World, what: str, plural: str
) -> None:
    name = project(world, restricted="true")
    inside = within(world, name)
    path = volume(world, inside)
    refusal = inside.refusal("POST", f"{path}/{plural}", {"name": "one"})
    assert (refusal.status, refusal.text) == (500, f'Project "{name}" doesn\'t allow for {what} creation')
    assert inside.get(f"{path}/{plural}") == []
    configure(world, name, **{f"restricted__{plural}": "allow"})
    inside.post(f"{path}/{plural}", {"name": "one"})
    assert len(inside.get(f"{path}/{plural}")) == 1
    configure(world, name, **{f"restricted__{plural}": "block"})
    assert inside.request("POST", f"{path}/{plural}", {"name": "two"}).status == 500
    wrong = {**configured(world, name), f"restricted.{plural}": "maybe"}
    refusal = world.api.refusal("PUT", f"/1.0/projects/{name}", {"config": wrong})
    assert refusal.status == 400
    assert 'Invalid value "maybe" (not one of [block allow])' in refusal.text


def exported(inside: Client, path: str, **request: Any) -> bytes:
    """The bytes of a new backup of a volume."""
    name = unique("b")
    inside.post(f"{path}/backups", {"name": name, **request})
    return inside.request("GET", f"{path}/backups/{name}/export").body


@pytest.mark.extension("projects_compression")
@pytest.mark.differs("5.0.2 minds the project's key in backups of instances alone")
def test_backups_are_packed_as_the_project_says(world: World) -> None:
    name = project(world)
    inside = within(world, name)
    path = volume(world, inside)
    assert exported(inside, path).startswith(GZIP)
    configure(world, name, backups__compression_algorithm="xz")
    assert exported(inside, path).startswith(XZ)
    assert exported(inside, path, compression_algorithm="bzip2").startswith(BZIP2)
    configure(world, name, backups__compression_algorithm="none")
    assert names_in(exported(inside, path))[0].startswith("backup")


@pytest.mark.extension("projects_compression")
def test_images_are_packed_as_the_project_says(world: World) -> None:
    name = project(world, features__profiles="false", images__compression_algorithm="none")
    inside, instance = within(world, name), unique("c")
    data = images.unified_with({"session": name}, "tar.gz")
    world.finally_do(partial(remove, inside, f"/1.0/images/{images.fingerprint(data)}"))
    fingerprint = images.upload(inside, data)
    world.finally_do(partial(remove, inside, f"/1.0/instances/{instance}"))
    body = {**world.body(instance), "source": {"type": "image", "fingerprint": fingerprint}}
    inside.post("/1.0/instances", body)
    for algorithm in ("none", "xz"):
        configure(world, name, images__compression_algorithm=algorithm)
        source = {"source": {"type": "instance", "name": instance}, "properties": {"packed": algorithm}}
        published = inside.post("/1.0/images", source)["metadata"]["fingerprint"]
        world.finally_do(partial(remove, inside, f"/1.0/images/{published}"))
        found = inside.request("GET", f"/1.0/images/{published}/export").body
        if algorithm == "none":
            assert "metadata.yaml" in names_in(found)
        else:
            assert found.startswith(XZ)


@pytest.mark.extension("projects_compression")
@pytest.mark.parametrize("key", ["backups.compression_algorithm", "images.compression_algorithm"])
def test_an_algorithm_that_there_is_not_is_refused(api: Client, key: str) -> None:
    refusal = api.refusal("POST", "/1.0/projects", {"name": unique("pr"), "config": {key: "nope"}})
    assert refusal.status == 400
    assert 'Invalid compression algorithm "nope"' in refusal.text


@pytest.mark.extension("usedby_consistency")
def test_what_uses_a_thing_is_listed_whole_and_with_its_project(world: World) -> None:
    pool, name = unique("pool"), project(world)
    inside, label = within(world, name), unique("u")
    world.finally_do(partial(world.gone, f"/1.0/storage-pools/{pool}"))
    world.api.post("/1.0/storage-pools", {"name": pool, "driver": "btrfs", "config": {"size": "256MiB"}})
    data = images.unified_with({"session": name}, "tar.gz")
    everywhere = []
    for client in (world.api, inside):
        made = {
            "image": f"/1.0/images/{images.fingerprint(data)}",
            "volume": f"/1.0/storage-pools/{pool}/volumes/custom/{label}",
            "profile": f"/1.0/profiles/{label}",
            "instance": f"/1.0/instances/{label}",
        }
        for path in made.values():
            world.finally_do(partial(remove, client, path))
        images.upload(client, data)
        client.post(f"/1.0/storage-pools/{pool}/volumes/custom", {"name": label})
        devices = {
            "root": {"type": "disk", "path": "/", "pool": pool},
            "data": {"type": "disk", "path": "/data", "pool": pool, "source": label},
        }
        client.post("/1.0/profiles", {"name": label, "devices": devices})
        source = {"type": "image", "fingerprint": images.fingerprint(data)}
        own = {"data": devices["data"]}
        client.post("/1.0/instances", {"name": label, "source": source, "profiles": [label], "devices": own})
        client.post(f"{made['volume']}/snapshots", {"name": "s0"})
        query = "" if client.project is None else f"?project={name}"
        shown = {noun: f"{path}{query}" for noun, path in made.items()}
        everywhere += [*shown.values(), f"{made['volume']}/snapshots/s0{query}"]
        assert client.get(made["profile"])["used_by"] == [shown["instance"]]
        assert set(client.get(made["volume"])["used_by"]) == {shown["instance"], shown["profile"]}
    assert set(world.api.get(f"/1.0/storage-pools/{pool}")["used_by"]) == set(everywhere)
    held = {*(f"{path}?project={name}" for path in made.values()), f"/1.0/profiles/default?project={name}"}
    assert set(world.api.get(f"/1.0/projects/{name}")["used_by"]) == held


@pytest.mark.extension("projects_restrictions")
def test_a_project_uses_and_sees_the_networks_that_it_may(world: World) -> None:
    open_, closed = world.bridge().name, world.bridge().name
    name = project(world, features__images="false", restricted="true", restricted__networks__access=open_)
    inside, instance = within(world, name), unique("c")
    world.finally_do(partial(remove, inside, f"/1.0/instances/{instance}"))
    assert [network["name"] for network in inside.get("/1.0/networks?recursion=1")] == [open_]
    assert inside.get(f"/1.0/networks/{open_}")["name"] == open_
    for verb, path in (
        ("GET", f"/1.0/networks/{closed}"),
        ("GET", f"/1.0/networks/{closed}/state"),
        ("GET", f"/1.0/networks/{closed}/leases"),
        ("GET", f"/1.0/networks/{closed}/forwards"),
        ("PATCH", f"/1.0/networks/{closed}"),
        ("DELETE", f"/1.0/networks/{closed}"),
        ("GET", "/1.0/networks/lo"),
    ):
        answer = inside.request(verb, path, {"description": "x"} if verb == "PATCH" else None)
        assert (answer.status, answer.error) == (404, "Network not found"), path
    refusal = inside.refusal("POST", "/1.0/networks", {"name": unique("nb"), "type": "bridge"})
    assert (refusal.status, refusal.text) == (403, "Network not allowed in project")
    nic = {"eth0": {"type": "nic", "network": closed}}
    refusal = inside.refusal("POST", "/1.0/instances", world.body(instance, devices=nic))
    assert 'Invalid device "eth0"' in refusal.text
    assert "Network not allowed in project" in refusal.text
    inside.post("/1.0/instances", world.body(instance, devices={"eth0": {"type": "nic", "network": open_}}))
    refusal = inside.refusal("PATCH", f"/1.0/instances/{instance}", {"devices": nic})
    assert "Network not allowed in project" in refusal.text
    other = {**configured(world, name), "restricted.networks.access": closed}
    refusal = world.api.refusal("PUT", f"/1.0/projects/{name}", {"config": other})
    assert "Conflict detected when changing" in refusal.text


@pytest.mark.differs("5.0.2 lists the names of all networks")
def test_the_names_of_hidden_networks_are_not_listed(world: World) -> None:
    open_ = world.bridge().name
    inside = within(world, project(world, restricted="true", restricted__networks__access=open_))
    assert inside.get("/1.0/networks") == [f"/1.0/networks/{open_}"]


@pytest.mark.extension("projects_restrictions")
def test_what_the_server_notes_is_not_written_in_a_restricted_project(world: World) -> None:
    inside, name = within(world, project(world, features__images="false", restricted="true")), unique("c")
    world.finally_do(partial(remove, inside, f"/1.0/instances/{name}"))
    refusal = inside.refusal("POST", "/1.0/instances", world.body(name, config={"volatile.idmap.base": "0"}))
    assert f'Setting "volatile.idmap.base" on container "{name}" in project ' in refusal.text
    inside.post("/1.0/instances", world.body(name))
    refusal = inside.refusal("PATCH", f"/1.0/instances/{name}", {"config": {"volatile.idmap.base": "77"}})
    assert f'Changing "volatile.idmap.base" on container "{name}" in project ' in refusal.text
