"""Which users of the host the users of an instance are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import servers
from tests.conformance.world import World

Entry = tuple[int, int, int]


def uid_map(world: World, name: str, kind: str = "uid") -> list[Entry]:
    """The map as the container sees it: (first inside, first on the host, how many)."""
    lines = world.shell(name, f"cat /proc/1/{kind}_map").splitlines()
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in lines)]


def stored(world: World, name: str, key: str) -> list[Entry]:
    """The uid entries of one of the volatile.idmap keys."""
    text = world.api.get(f"/1.0/instances/{name}")["config"][f"volatile.{key}"]
    entries: list[dict[str, Any]] = json.loads(text)
    return [(e["Nsid"], e["Hostid"], e["Maprange"]) for e in entries if e["Isuid"]]


def host_owner(world: World, name: str, path: str) -> int:
    """The uid that a file of a running container has for the host, whatever storage and shifting is used."""
    return Path(f"/proc/{world.pid(name)}/root{path}").stat().st_uid


@pytest.mark.extension("id_map")
def test_isolated_instances_have_ranges_that_do_not_meet(world: World) -> None:
    names = [world.instance(start=True, config={"security.idmap.isolated": "true"}) for _ in range(2)]
    (first,), (second,) = (uid_map(world, name) for name in names)
    assert first[0] == second[0] == 0
    assert first[2] == second[2] == 65536
    assert abs(first[1] - second[1]) >= 65536


@pytest.mark.extension("id_map")
def test_root_of_an_instance_is_its_base_on_the_host(world: World) -> None:
    name = world.instance(start=True, config={"security.idmap.isolated": "true"})
    world.shell(name, "touch /root/f; chown 7:8 /root/f; touch /root/g")
    base = uid_map(world, name)[0][1]
    assert base > 0
    assert host_owner(world, name, "/root/f") == base + 7
    assert host_owner(world, name, "/root/g") == base
    assert world.shell(name, "stat -c %u /bin/busybox") == "0"


@pytest.mark.extension("id_map")
def test_the_size_of_the_range_can_be_chosen(world: World) -> None:
    config = {"security.idmap.isolated": "true", "security.idmap.size": "100000"}
    name = world.instance(start=True, config=config)
    assert uid_map(world, name)[0][2] == 100000
    assert uid_map(world, name, "gid")[0][2] == 100000


@pytest.mark.extension("id_map")
def test_a_range_that_the_host_does_not_have_is_refused(world: World) -> None:
    config = {"security.idmap.isolated": "true", "security.idmap.size": "4000000000"}
    refusal = world.api.refusal("PATCH", f"/1.0/instances/{world.instance()}", {"config": config})
    assert refusal.status == 500
    assert "Not enough uid/gid available" in refusal.text


@pytest.mark.extension("id_map")
def test_raw_idmap_puts_a_hole_into_the_map(world: World) -> None:
    host = servers.SPARE_ID
    name = world.instance(config={"raw.idmap": f"both {host} 3000"})
    world.start(name)
    assert (3000, host, 1) in uid_map(world, name)
    assert len(uid_map(world, name)) == 3
    world.shell(name, "touch /root/f; chown 3000 /root/f")
    assert host_owner(world, name, "/root/f") == host


@pytest.mark.extension("id_map")
def test_a_malformed_raw_idmap_is_refused(world: World) -> None:
    refusal = world.api.refusal("PATCH", f"/1.0/instances/{world.instance()}", {"config": {"raw.idmap": "bogus"}})
    assert refusal.status == 500
    assert 'Invalid ID map line "bogus"' in refusal.text


@pytest.mark.extension("id_map_base")
def test_the_base_of_an_isolated_instance_can_be_chosen(world: World) -> None:
    base = 2_000_000
    config = {"security.idmap.isolated": "true", "security.idmap.size": "70000", "security.idmap.base": str(base)}
    name = world.instance(start=True, config=config)
    assert uid_map(world, name) == [(0, base, 70000)]
    assert host_owner(world, name, "/bin/busybox") == base
    assert world.api.get(f"/1.0/instances/{name}")["config"]["volatile.idmap.base"] == str(base)


@pytest.mark.extension("id_map_current")
def test_the_current_map_is_the_one_in_force(world: World) -> None:
    name = world.instance(start=True, config={"security.idmap.isolated": "true"})
    assert stored(world, name, "idmap.current") == uid_map(world, name)


@pytest.mark.extension("id_map_current")
def test_a_new_map_waits_for_the_next_start(world: World) -> None:
    name = world.instance(start=True)
    before = uid_map(world, name)
    world.set(name, security_idmap_isolated="true", security_idmap_size="70000")
    assert stored(world, name, "idmap.current") == before
    coming = stored(world, name, "idmap.next")
    assert coming[0][2] == 70000

    world.state(name, "restart", force=True)

    assert uid_map(world, name) == coming == stored(world, name, "idmap.current")
    assert world.shell(name, "stat -c %u /bin/busybox") == "0"


@pytest.mark.differs("stores the map, and the next start maps the files by it")
def test_a_client_sets_no_id_map(world: World) -> None:
    name = world.instance(start=True)
    path = f"/1.0/instances/{name}"
    config = world.api.get(path)["config"]
    own = {key: text for key, text in config.items() if "idmap" in key}
    evil = '[{"Isuid":true,"Isgid":true,"Hostid":0,"Nsid":0,"Maprange":65536}]'
    world.api.patch(path, {"config": dict.fromkeys(own, evil)})
    assert {key: text for key, text in world.api.get(path)["config"].items() if "idmap" in key} == own
    made = world.instance(config={"volatile.idmap.current": evil, "volatile.idmap.next": "garbage"})
    assert evil not in world.api.get(f"/1.0/instances/{made}")["config"].values()
