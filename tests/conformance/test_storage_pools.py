"""Storage pools of the driver `dir`, and the volumes of instances on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conformance.client import Client
from tests.conformance.world import Ground, World, unique

COLLECTION = "/1.0/storage-pools"


def pool(world: World, **fields: Any) -> str:
    name = unique("pool")
    world.finally_do(lambda: world.gone(f"{COLLECTION}/{name}"))
    answer = world.api.request("POST", COLLECTION, {"name": name, "driver": "dir", **fields})
    assert (answer.status, answer.headers["location"]) == (201, f"{COLLECTION}/{name}"), answer.body
    return name


@pytest.mark.extension("storage")
def test_a_pool_is_shown_with_its_driver_source_and_state(world: World) -> None:
    name = pool(world, description="mine")
    shown = world.api.get(f"{COLLECTION}/{name}")
    assert (shown["name"], shown["driver"], shown["description"]) == (name, "dir", "mine")
    assert (shown["status"], shown["locations"]) == ("Created", ["none"])
    assert shown["config"]["source"].endswith(f"/storage-pools/{name}")
    assert f"{COLLECTION}/{name}" in world.api.get(COLLECTION)
    assert name in [entry["name"] for entry in world.api.get(f"{COLLECTION}?recursion=1")]


@pytest.mark.extension("storage")
def test_a_pool_can_stand_on_a_directory_of_the_host_that_is_empty(world: World, tmp_path: Path) -> None:
    source = tmp_path / "pool"
    source.mkdir()
    name = pool(world, config={"source": str(source)})
    instance = world.instance(devices={"root": {"type": "disk", "path": "/", "pool": name}})
    assert (source / "containers" / instance / "rootfs" / "bin" / "busybox").exists()
    world.remove_instance(instance)
    world.api.delete(f"{COLLECTION}/{name}")
    assert list(source.rglob("*")) == []


@pytest.mark.extension("storage")
def test_an_instance_lives_on_the_pool_of_its_root_disk(world: World) -> None:
    name = pool(world)
    instance = world.instance(start=True, devices={"root": {"type": "disk", "path": "/", "pool": name}})
    assert world.shell(instance, "hostname") == instance
    assert world.api.get(f"{COLLECTION}/{name}")["used_by"] == [f"/1.0/instances/{instance}"]
    volume = world.api.get(f"{COLLECTION}/{name}/volumes/container/{instance}")
    assert (volume["type"], volume["content_type"], volume["used_by"]) == (
        "container",
        "filesystem",
        [f"/1.0/instances/{instance}"],
    )
    assert f"{COLLECTION}/{name}/volumes/container/{instance}" in world.api.get(f"{COLLECTION}/{name}/volumes")

    refusal = world.api.refusal("DELETE", f"{COLLECTION}/{name}")
    assert (refusal.status, refusal.text) == (400, "The storage pool is currently in use")
    world.remove_instance(instance)


@pytest.mark.extension("storage")
def test_the_root_disk_of_a_profile_is_used_and_keeps_its_pool(world: World) -> None:
    name = pool(world)
    profile = world.profile(devices={"root": {"type": "disk", "path": "/", "pool": name}})
    body = world.body(unique("c"), profiles=[profile])
    del body["devices"]["root"]
    world.finally_do(lambda: world.remove_instance(body["name"]))

    world.api.post("/1.0/instances", body)

    used_by = world.api.get(f"{COLLECTION}/{name}")["used_by"]
    assert sorted(used_by) == [f"/1.0/instances/{body['name']}", f"/1.0/profiles/{profile}"]


@pytest.mark.extension("resources")
def test_the_resources_of_a_pool_are_those_of_its_file_system(world: World, ground: Ground) -> None:
    resources = world.api.get(f"{COLLECTION}/{ground.pool}/resources")
    assert 0 < resources["space"]["used"] <= resources["space"]["total"]
    assert 0 < resources["inodes"]["used"] <= resources["inodes"]["total"]


@pytest.mark.extension("patch")
def test_patch_merges_the_config_of_a_pool(world: World) -> None:
    path = f"{COLLECTION}/{pool(world, config={'user.a': '1'})}"
    source = world.api.get(path)["config"]["source"]
    world.api.patch(path, {"config": {"rsync.bwlimit": "1MiB"}})
    assert world.api.get(path)["config"] == {"source": source, "user.a": "1", "rsync.bwlimit": "1MiB"}


@pytest.mark.extension("entity_description")
def test_a_pool_has_a_description(world: World) -> None:
    path = f"{COLLECTION}/{pool(world)}"
    world.api.patch(path, {"description": "new"})
    assert world.api.get(path)["description"] == "new"


@pytest.mark.extension("etag")
@pytest.mark.differs("GET of a pool has no ETag")
def test_a_pool_is_not_changed_with_an_old_etag(world: World) -> None:
    path = f"{COLLECTION}/{pool(world)}"
    old = world.api.etag(path)
    world.api.patch(path, {"config": {"user.a": "1"}}, If_Match=old)
    assert world.api.refusal("PATCH", path, {"config": {"user.a": "2"}}, {"If-Match": old}).status == 412
    assert world.api.get(path)["config"]["user.a"] == "1"


@pytest.mark.extension("etag")
def test_a_pool_is_not_changed_with_a_wrong_etag(world: World) -> None:
    path = f"{COLLECTION}/{pool(world)}"
    assert world.api.refusal("PATCH", path, {"config": {"user.a": "2"}}, {"If-Match": "wrong"}).status == 412
    assert "user.a" not in world.api.get(path)["config"]


def test_the_source_of_a_pool_cannot_be_changed(world: World) -> None:
    path = f"{COLLECTION}/{pool(world)}"
    before = world.api.get(path)
    refusal = world.api.refusal("PUT", path, {"config": {"source": "/other"}})
    assert refusal.status == 500
    assert "source cannot be changed" in refusal.text
    assert world.api.get(path) == before


@pytest.mark.extension("event_lifecycle")
def test_the_life_of_a_pool_is_seen_in_events(world: World) -> None:
    with world.api.events() as events:
        name = pool(world)
        world.api.patch(f"{COLLECTION}/{name}", {"config": {"user.a": "1"}})
        world.api.delete(f"{COLLECTION}/{name}")
        events.wait_for(action="storage-pool-deleted", source=name)
    assert events.actions(name) == ["storage-pool-created", "storage-pool-updated", "storage-pool-deleted"]


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"name": ""}, 400, "No name provided"),
        ({"name": "a/b"}, 400, "Storage pool names may not contain slashes"),
        ({"driver": ""}, 400, "No driver provided"),
        ({"driver": "bogus"}, 500, "Unknown driver"),
        ({"config": {"bogus": "1"}}, 500, 'Invalid option "bogus"'),
        ({"config": {"source": "/no/such/directory"}}, 500, "Source path '/no/such/directory' doesn't exist"),
        ({"config": {"rsync.compression": "maybe"}}, 500, 'Invalid value for a boolean "maybe"'),
        ({"config": {"volume.size": "x"}}, 500, 'Invalid value for option "volume.size"'),
    ],
)
def test_a_pool_that_is_not_valid_is_refused(api: Client, fields: dict[str, Any], status: int, text: str) -> None:
    refusal = api.refusal("POST", COLLECTION, {"name": "pool-bad", "driver": "dir", **fields})
    assert refusal.status == status
    assert text in refusal.text
    assert "/1.0/storage-pools/pool-bad" not in api.get(COLLECTION)


def test_a_second_pool_of_a_name_is_refused(api: Client, ground: Ground) -> None:
    refusal = api.refusal("POST", COLLECTION, {"name": ground.pool, "driver": "dir"})
    assert refusal.status == 409
    assert "storage pool already exists" in refusal.text


@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_a_missing_pool_is_not_found(api: Client, verb: str) -> None:
    refusal = api.refusal(verb, f"{COLLECTION}/no-such-pool")
    assert (refusal.status, refusal.text) == (404, "Storage pool not found")


def test_a_missing_volume_is_not_found(api: Client, ground: Ground) -> None:
    assert api.refusal("GET", f"{COLLECTION}/{ground.pool}/volumes/container/no-such-instance").status == 404
