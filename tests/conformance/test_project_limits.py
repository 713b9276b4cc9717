"""What a project's limits add up and refuse: CPUs, memory, processes and disk of instances, custom volumes and images."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.conformance import images
from tests.conformance.client import Client
from tests.conformance.test_projects import project, remove, within
from tests.conformance.world import World, unique

MIB = 1024**2
SMALL = {"limits.cpu": "1", "limits.memory": "100MiB", "limits.processes": "100"}
CREATION = "Failed checking if instance creation allowed: "
USAGE = f"{CREATION}Failed getting usage of project entities: "


def limited(world: World, **limits: str) -> tuple[str, Client]:
    """A project with these limits, which makes instances from the session's image."""
    name = project(world, features__images="false", **{f"limits__{key}": text for key, text in limits.items()})
    return name, within(world, name)


def body(world: World, name: str, config: dict[str, str], size: str = "10MiB", **fields: Any) -> dict[str, Any]:
    root = {"type": "disk", "path": "/", "pool": world.ground.pool, "size": size}
    return world.body(name, config, {"root": root if size else {**root, "size": ""}}, **fields)


def made(world: World, inside: Client, config: dict[str, str], size: str = "10MiB", **fields: Any) -> str:
    name = unique("c")
    world.finally_do(partial(remove, inside, f"/1.0/instances/{name}"))
    inside.post("/1.0/instances", body(world, name, config, size, **fields))
    return name


def volume(world: World, inside: Client, size: str) -> str:
    name = unique("v")
    volumes = f"/1.0/storage-pools/{world.ground.pool}/volumes/custom"
    world.finally_do(partial(remove, inside, f"{volumes}/{name}"))
    inside.post(volumes, {"name": name, "config": {"size": size}})
    return f"{volumes}/{name}"


def resources(world: World, name: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = world.api.get(f"/1.0/projects/{name}/state")["resources"]
    return found


def lower(world: World, name: str, **limits: str) -> str:
    """Why a project's limits may not be these."""
    path = f"/1.0/projects/{name}"
    config = {**world.api.get(path)["config"], **{f"limits.{key}": text for key, text in limits.items()}}
    refusal = world.api.refusal("PUT", path, {"config": config})
    assert refusal.status == 500
    return refusal.text


@pytest.mark.extension("projects_limits")
@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("limits.cpu", "", 'has no "limits.cpu" config, either directly or via a profile'),
        ("limits.memory", "", 'has no "limits.memory" config, either directly or via a profile'),
        ("limits.processes", "", 'has no "limits.processes" config, either directly or via a profile'),
        ("limits.cpu", "0-1", 'Failed parsing "limits.cpu" for instance'),
        ("limits.memory", "50%", 'Failed parsing "limits.memory" for instance'),
        ("limits.cpu", "5", 'Reached maximum aggregate value "4" for "limits.cpu"'),
        ("limits.memory", "2GiB", 'Reached maximum aggregate value "1GiB" for "limits.memory"'),
        ("limits.processes", "501", 'Reached maximum aggregate value "500" for "limits.processes"'),
    ],
)
def test_an_instance_beyond_a_limit_is_not_made(world: World, key: str, text: str, reason: str) -> None:
    _, inside = limited(world, cpu="4", memory="1GiB", processes="500")
    refusal = inside.refusal("POST", "/1.0/instances", body(world, unique("c"), {**SMALL, key: text}))
    assert refusal.status == 500
    assert refusal.text.startswith(CREATION)
    assert reason in refusal.text
    assert inside.get("/1.0/instances") == []


@pytest.mark.extension("projects_limits")
def test_limits_are_added_up_over_instances_and_their_changes(world: World) -> None:
    name, inside = limited(world, cpu="4", memory="1GiB", processes="500")
    first = made(world, inside, SMALL)
    used = resources(world, name)
    assert used["cpu"] == {"Limit": 4, "Usage": 1}
    assert used["memory"] == {"Limit": 1024 * MIB, "Usage": 100 * MIB}
    assert used["processes"] == {"Limit": 500, "Usage": 100}
    assert used["disk"] == {"Limit": -1, "Usage": 10 * MIB}
    second = made(world, inside, {**SMALL, "limits.cpu": "3"})
    assert resources(world, name)["cpu"] == {"Limit": 4, "Usage": 4}
    for config, reason in (
        ({"limits.cpu": "4"}, 'Reached maximum aggregate value "4" for "limits.cpu"'),
        ({"limits.cpu": ""}, 'has no "limits.cpu" config'),
        ({"limits.memory": "950MiB"}, 'Reached maximum aggregate value "1GiB" for "limits.memory"'),
    ):
        refusal = inside.refusal("PATCH", f"/1.0/instances/{first}", {"config": config})
        assert "Failed checking if instance update allowed: " in refusal.text
        assert reason in refusal.text
    config = inside.get(f"/1.0/instances/{first}")["config"]
    refusal = inside.refusal("PUT", f"/1.0/instances/{first}", {"config": {**config, "limits.cpu": "2"}})
    assert "Reached maximum aggregate value" in refusal.text or "root disk" in refusal.text
    inside.patch(f"/1.0/instances/{second}", {"config": {"limits.cpu": "2"}})
    inside.patch(f"/1.0/instances/{first}", {"config": {"limits.cpu": "2"}})
    assert resources(world, name)["cpu"]["Usage"] == 4


@pytest.mark.extension("projects_limits")
def test_a_profile_counts_for_each_of_its_instances(world: World) -> None:
    name, inside = limited(world, memory="1GiB")
    profile = unique("p")
    world.finally_do(partial(remove, inside, f"/1.0/profiles/{profile}"))
    inside.post("/1.0/profiles", {"name": profile, "config": {"limits.memory": "300MiB"}})
    for _ in range(2):
        made(world, inside, {}, profiles=[profile])
    assert resources(world, name)["memory"]["Usage"] == 600 * MIB
    refusal = inside.refusal("PATCH", f"/1.0/profiles/{profile}", {"config": {"limits.memory": "600MiB"}})
    assert 'Reached maximum aggregate value "1GiB" for "limits.memory"' in refusal.text
    assert "Failed checking if profile update allowed: " in refusal.text
    assert inside.get(f"/1.0/profiles/{profile}")["config"] == {"limits.memory": "300MiB"}
    refusal = inside.refusal("PUT", f"/1.0/profiles/{profile}", {"config": {}})
    assert 'has no "limits.memory" config' in refusal.text
    inside.patch(f"/1.0/profiles/{profile}", {"config": {"limits.memory": "500MiB"}})
    assert resources(world, name)["memory"]["Usage"] == 1000 * MIB


@pytest.mark.extension("projects_limits")
def test_a_limit_does_not_become_less_than_what_is_there(world: World) -> None:
    name, inside = limited(world)
    made(world, inside, SMALL)
    for key, text, reason in (
        ("cpu", "0", '"limits.cpu" is too low: current total is "1"'),
        ("memory", "10MiB", '"limits.memory" is too low: current total is "100.0MiB"'),
        ("processes", "5", '"limits.processes" is too low: current total is "100"'),
        ("disk", "9MiB", '"limits.disk" is too low: current total is "10.0MiB"'),
    ):
        assert lower(world, name, **{key: text}) == reason
    made(world, inside, {})
    assert 'has no "limits.cpu" config, either directly or via a profile' in lower(world, name, cpu="100")


@pytest.mark.extension("projects_limits_disk")
def test_disks_of_instances_and_volumes_and_images_share_a_limit(world: World) -> None:
    name, inside = limited(world, disk="100MiB")
    refusal = inside.refusal("POST", "/1.0/instances", body(world, unique("c"), {}, size=""))
    assert refusal.text.startswith(USAGE)
    assert 'has no "size" config set on the root device either directly or via a profile' in refusal.text
    made(world, inside, {}, size="40MiB")
    volumes = f"/1.0/storage-pools/{world.ground.pool}/volumes/custom"
    for config, reason in (
        ({"size": "80MiB"}, 'Reached maximum aggregate value "100MiB" for "limits.disk"'),
        ({}, 'has no "size" config set'),
    ):
        refusal = inside.refusal("POST", volumes, {"name": unique("v"), "config": config})
        assert refusal.status == 500
        assert refusal.text.startswith("Failed checking if volume creation allowed: ")
        assert reason in refusal.text
    small = volume(world, inside, "10MiB")
    assert resources(world, name)["disk"] == {"Limit": 100 * MIB, "Usage": 50 * MIB}
    refusal = inside.refusal("PUT", small, {"config": {"size": "61MiB"}})
    assert "Failed checking if volume update allowed: Reached maximum aggregate value" in refusal.text
    copy = {"name": unique("v"), "config": {"size": "60MiB"}}
    source = {"type": "copy", "name": small.rpartition("/")[2], "pool": world.ground.pool}
    refusal = inside.refusal("POST", volumes, {**copy, "source": source})
    assert "Failed checking if volume creation allowed: Reached maximum aggregate value" in refusal.text
    assert lower(world, name, disk="30MiB") == '"limits.disk" is too low: current total is "50.0MiB"'
    inside.put(small, {"config": {"size": "60MiB"}})
    assert resources(world, name)["disk"]["Usage"] == 100 * MIB


@pytest.mark.differs("5.0.2 does not hold a PATCH of a volume to the limit")
def test_a_patch_of_a_volume_is_held_to_the_limit(world: World) -> None:
    name, inside = limited(world, disk="100MiB")
    small = volume(world, inside, "10MiB")
    refusal = inside.refusal("PATCH", small, {"config": {"size": "101MiB"}})
    assert "Failed checking if volume update allowed: Reached maximum aggregate value" in refusal.text
    inside.patch(small, {"config": {"size": "100MiB"}})
    assert resources(world, name)["disk"]["Usage"] == 100 * MIB


@pytest.mark.extension("projects_limits_disk")
def test_an_upload_beyond_what_is_left_is_cut(world: World) -> None:
    name = project(world, limits__disk="12MiB")
    inside = within(world, name)
    volume(world, inside, "10MiB")
    refusal = inside.refusal("POST", "/1.0/images", os.urandom(16 * MIB))
    assert refusal.status == 500
    told = re.fullmatch(rf"reached (\d+) bytes, exceeding quota of {2 * MIB}", refusal.text)
    assert told is not None, refusal.text
    assert 2 * MIB < int(told[1]) < 8 * MIB
    assert inside.get("/1.0/images") == []
    data = images.unified_with({"session": name}, "tar.gz")
    assert len(data) < 2 * MIB
    world.finally_do(partial(inside.delete, f"/1.0/images/{images.fingerprint(data)}"))
    images.upload(inside, data)


@pytest.mark.extension("projects_limits_disk")
def test_an_image_is_not_published_beyond_what_is_left(world: World) -> None:
    left = 100_000
    own = project(world, limits__disk=f"{10 * MIB + left}B", features__profiles="false")
    inside = within(world, own)
    data = images.unified_with({"session": own}, "tar.gz")
    fingerprint = images.fingerprint(data)
    assert len(data) > left
    world.finally_do(partial(inside.delete, f"/1.0/images/{fingerprint}"))
    images.upload(inside, data)
    name = unique("c")
    world.finally_do(partial(remove, inside, f"/1.0/instances/{name}"))
    made_from = {"source": {"type": "image", "fingerprint": fingerprint}}
    inside.post("/1.0/instances", {**body(world, name, {}), **made_from})
    refusal = inside.refusal("POST", "/1.0/images", {"source": {"type": "instance", "name": name}})
    assert f", exceeding quota of {left}" in refusal.text
    assert [image["fingerprint"] for image in inside.get("/1.0/images?recursion=1")] == [fingerprint]


@pytest.mark.extension("projects_limits_disk")
def test_a_backup_is_not_restored_beyond_the_limit(world: World) -> None:
    _, inside = limited(world, disk="15MiB")
    small = volume(world, inside, "10MiB")
    inside.post(f"{small}/backups", {"name": "b"})
    archive = inside.request("GET", f"{small}/backups/b/export").body
    volumes, name = small.rpartition("/")[0], unique("v")
    refusal = inside.refusal("POST", volumes, archive, {"X-LXD-name": name})
    assert 'Reached maximum aggregate value "15MiB" for "limits.disk"' in refusal.text
    assert inside.request("GET", f"{volumes}/{name}").status == 404


@pytest.mark.differs("5.0.2 adds up first and makes later: all are made")
def test_many_at_once_do_not_pass_a_sum(world: World) -> None:
    """Instances and volumes are made by different services: what one takes the other does not have."""
    name, inside = limited(world, disk="25MiB")
    volumes = f"/1.0/storage-pools/{world.ground.pool}/volumes/custom"
    names = [unique("x") for _ in range(4)]
    jobs: list[tuple[str, dict[str, Any]]] = []
    for one in names:
        jobs.append(("/1.0/instances", body(world, one, {})))
        jobs.append((volumes, {"name": one, "config": {"size": "10MiB"}}))
        world.finally_do(partial(remove, inside, f"/1.0/instances/{one}"))
        world.finally_do(partial(remove, inside, f"{volumes}/{one}"))

    def make(job: tuple[str, dict[str, Any]]) -> bool:
        answer = inside.request("POST", *job)
        if answer.status == 202:
            return bool(inside.finished(answer.operation)["status"] == "Success")
        return answer.status in (200, 201)

    with ThreadPoolExecutor(len(jobs)) as threads:
        assert sum(threads.map(make, jobs)) == 2
    assert resources(world, name)["disk"] == {"Limit": 25 * MIB, "Usage": 20 * MIB}


@pytest.mark.extension("projects_limits")
def test_a_network_that_a_project_cannot_have_is_refused(world: World) -> None:
    inside = within(world, project(world, features__networks="true", limits__networks="0"))
    refusal = inside.refusal("POST", "/1.0/networks", {"name": unique("nb"), "type": "bridge"})
    assert (refusal.status, refusal.text) == (400, "Network type does not support non-default projects")
