"""Custom volumes and their snapshots, on both drivers that work everywhere."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.world import World, unique

COLLECTION = "/1.0/storage-pools"


@dataclass(frozen=True)
class Pool:
    """A pool and where its volumes lie on this host."""

    world: World
    name: str
    driver: str
    path: Path

    @property
    def url(self) -> str:
        return f"{COLLECTION}/{self.name}/volumes/custom"

    def volume(self, name: str = "v1", **fields: Any) -> Path:
        """Makes a volume; where its content lies."""
        self.world.finally_do(lambda: self.empty(name))
        answer = self.world.api.request("POST", self.url, {"name": name, **fields})
        assert (answer.status, answer.metadata) == (200, {}), answer.body
        return self.place(name)

    def place(self, name: str) -> Path:
        return self.path / "custom" / f"default_{name}"

    def empty(self, name: str) -> None:
        answer = self.world.api.request("DELETE", f"{self.url}/{name}")
        assert answer.status in (200, 404), answer.body

    def list(self, of: str = "") -> list[str]:
        """Names of the custom volumes, or of the snapshots of one."""
        url = f"{self.url}/{of}/snapshots" if of else self.url
        return [path.removeprefix(f"{url}/") for path in self.world.api.get(url)]


def seen(world: World, path: Path) -> Path:
    """A folder of the server, which may have mounted it in a namespace of its own: as the server itself sees it.

    No other process will do: one of the namespace may be gone in a moment, a tool or a container that starts.
    """
    pid = world.api.get("/1.0")["environment"]["server_pid"]
    return Path(f"/proc/{pid}/root") / path.relative_to("/")


def make(world: World, driver: str) -> Pool:
    name = unique("pool")
    config = {"size": "256MiB"} if driver == "btrfs" else {}
    world.finally_do(lambda: world.gone(f"{COLLECTION}/{name}"))
    world.api.post(COLLECTION, {"name": name, "driver": driver, "config": config})
    source = Path(world.api.get(f"{COLLECTION}/{name}")["config"]["source"])
    return Pool(world, name, driver, seen(world, source.parent.parent / "storage-pools" / name))


@pytest.fixture(params=["dir", "btrfs"])
def pool(request: pytest.FixtureRequest, world: World) -> Pool:
    supported = {driver["Name"] for driver in world.api.get("/1.0")["environment"]["storage_supported_drivers"]}
    if request.param not in supported:
        pytest.skip(f"{request.param} does not work on this machine")
    return make(world, request.param)


@pytest.mark.extension("storage")
def test_a_volume_is_made_shown_and_deleted(pool: Pool) -> None:
    place = pool.volume("v1", description="mine", config={"user.mine": "x"})
    shown = pool.world.api.get(f"{pool.url}/v1")
    assert (shown["name"], shown["type"], shown["description"]) == ("v1", "custom", "mine")
    assert (shown["config"], shown["content_type"], shown["used_by"]) == ({"user.mine": "x"}, "filesystem", [])
    assert place.stat().st_mode & 0o777 == 0o711
    assert f"{COLLECTION}/{pool.name}/volumes/custom/v1" in pool.world.api.get(f"{COLLECTION}/{pool.name}")["used_by"]
    assert pool.world.api.request("DELETE", f"{COLLECTION}/{pool.name}").status == 400
    pool.world.api.delete(f"{pool.url}/v1")
    assert not place.exists()
    assert pool.list() == []


@pytest.mark.extension("storage")
def test_the_pool_gives_new_volumes_their_defaults(pool: Pool) -> None:
    pool.world.api.patch(f"{COLLECTION}/{pool.name}", {"config": {"volume.snapshots.expiry": "3d"}})
    pool.volume("v1")
    assert pool.world.api.get(f"{pool.url}/v1")["config"] == {"snapshots.expiry": "3d"}


@pytest.mark.extension("storage")
@pytest.mark.parametrize(
    ("type_", "body", "status", "text"),
    [
        ("custom", {"name": ""}, 400, "No name provided"),
        ("custom", {"name": "a/b"}, 400, "Storage volume names may not contain slashes"),
        ("custom", {"name": "v", "content_type": "zz"}, 400, "Invalid volume content type name"),
        ("custom", {"name": "v", "config": {"foo": "x"}}, 500, 'Invalid option for volume "default_v" option "foo"'),
        (
            "custom",
            {"name": "v", "config": {"size": "x"}},
            500,
            'Invalid value for volume "default_v" option "size": Invalid value: x',
        ),
        ("custom", {"name": "v", "source": {"type": "bogus"}}, 400, 'Unknown source type "bogus"'),
        ("container", {"name": "v"}, 400, 'Currently not allowed to create storage volumes of type "container"'),
        ("image", {"name": "v"}, 400, 'Currently not allowed to create storage volumes of type "image"'),
    ],
)
def test_what_is_refused(pool: Pool, type_: str, body: dict[str, Any], status: int, text: str) -> None:
    answer = pool.world.api.request("POST", f"{COLLECTION}/{pool.name}/volumes/{type_}", body)
    assert (answer.status, answer.error) == (status, text)
    assert pool.list() == []


@pytest.mark.extension("storage")
def test_a_taken_name_is_refused(pool: Pool) -> None:
    pool.volume("v1")
    answer = pool.world.api.request("POST", pool.url, {"name": "v1"})
    assert (answer.status, answer.error) == (409, "Volume by that name already exists")


@pytest.mark.extension("storage")
def test_a_volume_keeps_its_data_across_instances(pool: Pool, world: World) -> None:
    pool.volume("v1")
    device = {"type": "disk", "pool": pool.name, "source": "v1", "path": "/mnt"}
    one = world.instance(start=True, devices={"data": device})
    world.shell(one, "echo kept > /mnt/file && chown 7:8 /mnt/file")
    assert pool.world.api.get(f"{pool.url}/v1")["used_by"] == [f"/1.0/instances/{one}"]
    refused = world.api.request("DELETE", f"{pool.url}/v1")
    assert (refused.status, refused.error) == (400, "The storage volume is still in use")
    world.stop(one)
    world.start(one)
    assert world.shell(one, "cat /mnt/file; stat -c %u:%g /mnt /mnt/file").split() == ["kept", "0:0", "7:8"]
    world.remove_instance(one)
    assert pool.world.api.get(f"{pool.url}/v1")["used_by"] == []
    two = world.instance(start=True, devices={"data": device})
    assert world.shell(two, "cat /mnt/file; stat -c %u:%g /mnt/file").split() == ["kept", "7:8"]


ISOLATED = {"security.idmap.isolated": "true"}


@pytest.mark.extension("storage_shifted")
@pytest.mark.differs("needs shiftfs or an idmapped mount that this host's LXD does not make")
def test_a_shifted_volume_is_roots_in_every_instance(pool: Pool, world: World) -> None:
    place = pool.volume("v1", config={"security.shifted": "true"})
    device = {"type": "disk", "pool": pool.name, "source": "v1", "path": "/mnt"}
    for mark in ("one", "two"):
        instance = world.instance(start=True, devices={"data": device}, config=ISOLATED)
        world.shell(instance, f"echo {mark} > /mnt/{mark}")
        assert world.shell(instance, f"stat -c %u:%g /mnt /mnt/{mark}").split() == ["0:0", "0:0"]
    assert {(path.name, path.stat().st_uid) for path in place.iterdir()} == {("one", 0), ("two", 0)}


@pytest.mark.extension("storage_unmapped")
def test_an_unmapped_volume_belongs_to_nobody_inside(pool: Pool, world: World) -> None:
    place = pool.volume("v1", config={"security.unmapped": "true"})
    place.chmod(0o777)
    device = {"type": "disk", "pool": pool.name, "source": "v1", "path": "/mnt"}
    owners = set()
    for mark in ("one", "two"):
        instance = world.instance(start=True, devices={"data": device}, config=ISOLATED)
        assert world.shell(instance, "stat -c %u:%g /mnt") == "65534:65534"
        world.shell(instance, f"echo {mark} > /mnt/{mark}")
        owners.add((place / mark).stat().st_uid)
    assert place.stat().st_uid == 0
    assert len(owners) == 2
    assert 0 not in owners
    assert "volatile.idmap.last" not in world.api.get(f"{pool.url}/v1")["config"]
    both = {"name": "v2", "config": {"security.shifted": "true", "security.unmapped": "true"}}
    answer = world.api.request("POST", pool.url, both)
    if answer.status == 200:  # LXD 5.0.2 refuses it only when it is attached
        pool.empty("v2")
    else:
        assert (answer.status, "mutually exclusive" in answer.error) == (500, True)


@pytest.mark.extension("etag")
@pytest.mark.extension("patch")
def test_a_volume_is_changed_in_part_or_whole(pool: Pool) -> None:
    pool.volume("v1", config={"user.a": "1"})
    tag = pool.world.api.etag(f"{pool.url}/v1")
    pool.world.api.patch(f"{pool.url}/v1", {"config": {"user.b": "2"}})
    assert pool.world.api.get(f"{pool.url}/v1")["config"] == {"user.a": "1", "user.b": "2"}
    stale = pool.world.api.request("PUT", f"{pool.url}/v1", {"config": {}}, {"If-Match": tag})
    assert stale.status == 412
    pool.world.api.put(f"{pool.url}/v1", {"config": {"user.c": "3"}, "description": "new"})
    shown = pool.world.api.get(f"{pool.url}/v1")
    assert (shown["config"], shown["description"]) == ({"user.c": "3"}, "new")


@pytest.mark.extension("storage_api_volume_rename")
def test_a_volume_is_renamed_with_its_content_and_snapshots(pool: Pool) -> None:
    (pool.volume("v1") / "file").write_text("kept")
    pool.world.api.post(f"{pool.url}/v1/snapshots", {"name": "s0"})
    pool.world.finally_do(lambda: pool.empty("v1r"))
    answer = pool.world.api.request("POST", f"{pool.url}/v1", {"name": "v1r"})
    assert (answer.status, answer.headers["location"]) == (201, f"{pool.url}/v1r")
    assert (pool.place("v1r") / "file").read_text() == "kept"
    assert pool.list("v1r") == ["s0"]
    assert pool.world.api.request("GET", f"{pool.url}/v1").status == 404
    pool.volume("v2")
    answer = pool.world.api.request("POST", f"{pool.url}/v1r", {"name": "v2"})
    assert (answer.status, answer.error) == (409, "Volume by that name already exists")


@pytest.mark.extension("storage_api_local_volume_handling")
def test_a_volume_is_copied_within_and_across_pools_and_moved(pool: Pool, world: World) -> None:
    (pool.volume("v1", description="mine") / "file").write_text("one")
    world.api.post(f"{pool.url}/v1/snapshots", {"name": "s0"})
    other = make(world, "dir")
    for target in (pool, other):
        world.finally_do(lambda target=target: target.empty("v2"))  # type: ignore[misc]
        source = {"type": "copy", "pool": pool.name, "name": "v1"}
        world.api.post(target.url, {"name": "v2", "source": source})
        assert (target.place("v2") / "file").read_text() == "one"
        assert target.list("v2") == ["s0"]
        assert world.api.get(f"{target.url}/v2")["description"] == "mine"
        taken = world.api.request("POST", target.url, {"name": "v2", "source": source})
        assert (taken.status, taken.error) == (409, "Volume by that name already exists")
    (pool.place("v1") / "file").write_text("changed")
    assert (other.place("v2") / "file").read_text() == "one"
    world.finally_do(lambda: other.empty("v3"))
    world.api.post(f"{pool.url}/v2", {"name": "v3", "pool": other.name})
    assert (other.place("v3") / "file").read_text() == "one"
    assert other.list("v3") == ["s0"]
    assert not pool.place("v2").exists()
    assert world.api.request("GET", f"{pool.url}/v2").status == 404


@pytest.mark.extension("storage_api_local_volume_handling")
def test_a_copy_of_what_does_not_exist_is_refused(pool: Pool) -> None:
    source = {"type": "copy", "pool": pool.name, "name": "nope"}
    assert "not found" in pool.world.api.refusal("POST", pool.url, {"name": "v2", "source": source}).text
    assert pool.list() == []


@pytest.mark.differs("copies all the same")
def test_the_keys_of_a_copy_are_looked_at(pool: Pool) -> None:
    pool.volume("v1")
    source = {"type": "copy", "pool": pool.name, "name": "v1"}
    refusal = pool.world.api.refusal("POST", pool.url, {"name": "v2", "source": source, "config": {"bogus": "1"}})
    assert 'Invalid option for volume "default_v2" option "bogus"' in refusal.text
    assert pool.list() == ["v1"]


@pytest.mark.extension("custom_volume_refresh")
def test_a_copy_is_refreshed_only_when_told(pool: Pool) -> None:
    place = pool.volume("v1")
    pool.world.finally_do(lambda: pool.empty("v2"))
    source = {"type": "copy", "pool": pool.name, "name": "v1"}
    pool.world.api.post(pool.url, {"name": "v2", "source": source})
    (place / "new").write_text("new")
    pool.world.api.post(f"{pool.url}/v1/snapshots", {"name": "s9"})
    assert pool.world.api.request("POST", pool.url, {"name": "v2", "source": source}).status == 409
    pool.world.api.post(pool.url, {"name": "v2", "source": {**source, "refresh": True}})
    assert (pool.place("v2") / "new").read_text() == "new"
    assert pool.list("v2") == ["s9"]


@pytest.mark.extension("storage_api_project")
@pytest.mark.extension("storage_volume_project_move")
def test_a_volume_is_copied_and_moved_between_projects(pool: Pool, world: World) -> None:
    (pool.volume("v1") / "file").write_text("one")
    project = unique("pr")
    world.finally_do(lambda: world.gone(f"/1.0/projects/{project}"))
    world.api.post("/1.0/projects", {"name": project, "config": {"features.storage.volumes": "true"}})
    for name in ("v2", "v3"):
        world.finally_do(lambda name=name: world.api.request("DELETE", f"{pool.url}/{name}?project={project}"))  # type: ignore[misc]
    source = {"type": "copy", "pool": pool.name, "name": "v1", "project": "default"}
    world.api.post(f"{pool.url}?project={project}", {"name": "v2", "source": source})
    assert (pool.path / "custom" / f"{project}_v2" / "file").read_text() == "one"
    assert pool.list() == ["v1"]
    world.api.post(f"{pool.url}/v1", {"name": "v3", "pool": pool.name, "project": project})
    assert pool.list() == []
    listed = world.api.get(f"{pool.url}?project={project}")
    assert sorted(listed) == [f"{pool.url}/v2?project={project}", f"{pool.url}/v3?project={project}"]


@pytest.mark.extension("storage_api_volume_snapshots")
def test_a_snapshot_gives_back_what_was(pool: Pool) -> None:
    place = pool.volume("v1")
    (place / "file").write_text("old")
    pool.world.api.post(f"{pool.url}/v1/snapshots", {"name": "s0"})
    (place / "file").write_text("new")
    pool.world.api.put(f"{pool.url}/v1", {"restore": "s0"})
    assert (pool.place("v1") / "file").read_text() == "old"
    pool.world.api.post(f"{pool.url}/v1/snapshots/s0", {"name": "s9"})
    assert pool.list("v1") == ["s9"]
    source = {"type": "copy", "pool": pool.name, "name": "v1/s9"}
    pool.world.finally_do(lambda: pool.empty("v2"))
    pool.world.api.post(pool.url, {"name": "v2", "source": source})
    assert (pool.place("v2") / "file").read_text() == "old"
    assert pool.list("v2") == []
    pool.world.api.delete(f"{pool.url}/v1/snapshots/s9")
    assert pool.list("v1") == []


@pytest.mark.extension("storage_api_volume_snapshots")
def test_snapshots_are_shown_and_changed(pool: Pool) -> None:
    pool.volume("v1", config={"user.x": "y"})
    pool.world.api.post(f"{pool.url}/v1/snapshots", {})
    pool.world.api.post(f"{pool.url}/v1/snapshots", {})
    assert sorted(pool.list("v1")) == ["snap0", "snap1"]
    shown = pool.world.api.get(f"{pool.url}/v1/snapshots/snap0")
    assert (shown["name"], shown["config"], shown["content_type"]) == ("snap0", {"user.x": "y"}, "filesystem")
    names = [entry["name"] for entry in pool.world.api.get(f"{pool.url}/v1/snapshots?recursion=1")]
    assert sorted(names) == ["v1/snap0", "v1/snap1"]
    pool.world.api.put(f"{pool.url}/v1/snapshots/snap0", {"description": "x", "expires_at": "2030-01-01T00:00:00Z"})
    shown = pool.world.api.get(f"{pool.url}/v1/snapshots/snap0")
    assert (shown["description"], shown["expires_at"]) == ("x", "2030-01-01T00:00:00Z")


@pytest.mark.extension("storage_api_volume_snapshots")
@pytest.mark.parametrize(
    ("name", "status", "text"), [("s0", 409, 'Snapshot "s0" already in use'), ("a/b", 400, "Snapshot names may not")]
)
def test_a_snapshot_that_is_refused(pool: Pool, name: str, status: int, text: str) -> None:
    pool.volume("v1")
    pool.world.api.post(f"{pool.url}/v1/snapshots", {"name": "s0"})
    answer = pool.world.api.request("POST", f"{pool.url}/v1/snapshots", {"name": name})
    assert answer.status == status
    if status == 409:
        assert answer.error == text
    assert pool.list("v1") == ["s0"]
    assert pool.world.api.request("GET", f"{pool.url}/v1/snapshots/nope").status == 404


@pytest.mark.extension("custom_volume_snapshot_expiry")
def test_a_snapshot_ends_by_the_volumes_rule_or_by_its_own(pool: Pool) -> None:
    pool.volume("v1", config={"snapshots.expiry": "1d"})
    pool.world.api.post(f"{pool.url}/v1/snapshots", {"name": "ruled"})
    pool.world.api.post(f"{pool.url}/v1/snapshots", {"name": "own", "expires_at": "2030-01-01T00:00:00Z"})
    assert pool.world.api.get(f"{pool.url}/v1/snapshots/own")["expires_at"] == "2030-01-01T00:00:00Z"
    assert pool.world.api.get(f"{pool.url}/v1/snapshots/ruled")["expires_at"] > "2026"
    answer = pool.world.api.request("PATCH", f"{pool.url}/v1", {"config": {"snapshots.expiry": "soon"}})
    assert "Invalid expiry expression" in answer.error


@pytest.mark.extension("storage_volume_api_filtering")
def test_volumes_are_filtered(pool: Pool) -> None:
    pool.volume("v1")
    pool.volume("blk", content_type="block", config={"size": "10MiB"})
    query = "type%20eq%20custom%20and%20content_type%20eq%20block"
    assert pool.world.api.get(f"{COLLECTION}/{pool.name}/volumes?filter={query}") == [f"{pool.url}/blk"]
    assert pool.world.api.request("GET", f"{pool.url}?filter=bad").status >= 400
    assert (pool.place("blk") / "root.img").stat().st_size == 10 * 1024 * 1024


@pytest.mark.extension("storage_volume_state")
def test_usage_of_a_volume_is_told_where_it_is_known(pool: Pool) -> None:
    place = pool.volume("v1", config={"size": "50MiB"} if pool.driver == "btrfs" else {})
    (place / "data").write_bytes(b"x" * 8 * 1024 * 1024)
    answer = pool.world.api.request("GET", f"{pool.url}/v1/state")
    if pool.driver == "dir":
        assert (answer.status, answer.error) == (500, "Not supported")
        return
    os.sync()
    usage = pool.world.api.get(f"{pool.url}/v1/state")["usage"]["used"]
    assert 8 * 1024 * 1024 <= usage < 10 * 1024 * 1024
    assert pool.world.api.request("GET", f"{pool.url}/nope/state").status == 404


@pytest.mark.extension("storage_rsync_bwlimit")
def test_a_limited_pool_copies_slowly(world: World) -> None:
    pool = make(world, "dir")
    (pool.volume("v1") / "data").write_bytes(os.urandom(3_000_000))
    world.api.patch(f"{COLLECTION}/{pool.name}", {"config": {"rsync.bwlimit": "1MB"}})
    world.finally_do(lambda: pool.empty("v2"))
    began = time.monotonic()
    world.api.post(pool.url, {"name": "v2", "source": {"type": "copy", "pool": pool.name, "name": "v1"}})
    assert time.monotonic() - began > 1.5
    assert (pool.place("v2") / "data").stat().st_size == 3_000_000
    answer = world.api.request("PATCH", f"{COLLECTION}/{pool.name}", {"config": {"rsync.bwlimit": "xyz"}})
    assert answer.status == 400
    assert 'Invalid value for option "rsync.bwlimit"' in answer.error


@pytest.mark.parametrize("what", ["snapshot", "backup"])
def test_a_restricted_project_allows_what_it_says(world: World, what: str) -> None:
    pool, project = make(world, "dir"), unique("pr")
    world.finally_do(lambda: world.gone(f"/1.0/projects/{project}"))
    features = ("images", "profiles", "storage.volumes")
    config = {"restricted": "true", **{f"features.{name}": "true" for name in features}}
    world.api.post("/1.0/projects", {"name": project, "config": config})
    world.finally_do(lambda: world.gone(f"{pool.url}/v1?project={project}"))
    world.api.post(f"{pool.url}?project={project}", {"name": "v1"})
    refusal = world.api.refusal("POST", f"{pool.url}/v1/{what}s?project={project}", {"name": "x"})
    assert f'Project "{project}" doesn\'t allow for {what} creation' in refusal.text
    world.api.put(f"/1.0/projects/{project}", {"config": {**config, f"restricted.{what}s": "allow"}})
    world.api.post(f"{pool.url}/v1/{what}s?project={project}", {"name": "x"})
