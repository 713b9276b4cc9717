"""Profiles: whom a change reaches, and what it must not break."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chassis.errors import Forbidden, Internal
from gen.nubibus.instances.v1 import profile_pb2
from services.instances.host.spec import Key
from tests.unit.instances.service import CALL, ROOT, Service


async def put_profile(service: Service, name: str, **fields: Any) -> None:
    await service.profiles.Put(profile_pb2.PutProfileRequest(name=name, body=json.dumps(fields).encode()), CALL)


async def test_a_profile_reaches_the_running_instances_that_use_it(service: Service) -> None:
    await service.profiles.Create(profile_pb2.CreateProfileRequest(body=b'{"name":"p1"}'), CALL)
    await service.create("c1", profiles=["p1"])
    await service.act("c1", "start")
    await put_profile(
        service, "p1", config={"limits.processes": "5"}, devices={"eth0": {"type": "nic", "nictype": "p2p"}}
    )
    assert service.world.host.limits[Key("default", "c1")] == {"limits.processes": "5"}
    assert list(service.world.nics.links.values()) == [("c1", "eth0")]
    await put_profile(service, "p1")
    assert not service.world.nics.links
    assert "volatile.eth0.host_name" not in service.row().config
    updates = [action for action in service.told() if action.endswith("-updated")]
    assert updates == ["instance-updated", "profile-updated"] * 2


async def test_profiles_are_guarded(service: Service) -> None:
    await service.profiles.Create(profile_pb2.CreateProfileRequest(body=b'{"name":"p1"}'), CALL)
    await service.create("c1", profiles=["p1"])
    with pytest.raises(Internal, match="Profile is currently in use"):
        await service.profiles.Delete(profile_pb2.ProfileRequest(name="p1"), CALL)
    with pytest.raises(Internal, match="The profile already exists"):
        await service.profiles.Create(profile_pb2.CreateProfileRequest(body=b'{"name":"p1"}'), CALL)
    with pytest.raises(Forbidden):
        await service.profiles.Delete(profile_pb2.ProfileRequest(name="default"), CALL)
    with pytest.raises(Internal, match="Unknown configuration key: foo"):
        await put_profile(service, "p1", config={"foo": "1"})
    renamed = profile_pb2.PutProfileRequest(name="p1", body=b'{"name":"p2"}')
    await service.profiles.Rename(renamed, CALL)
    assert service.row().profiles == ("p2",)
    shown = json.loads((await service.profiles.Get(profile_pb2.ProfileRequest(name="p2"), CALL)).json)
    assert shown["used_by"] == ["/1.0/instances/c1"]


async def test_a_profile_with_the_root_disk_in_use_keeps_it(service: Service) -> None:
    body = json.dumps({"name": "p1", "devices": ROOT}).encode()
    await service.profiles.Create(profile_pb2.CreateProfileRequest(body=body), CALL)
    await service.create("c1", profiles=["p1"], devices={})
    with pytest.raises(Internal, match="At least one instance relies on this profile's root disk device"):
        await put_profile(service, "p1")


async def test_the_ids_follow_a_profile_at_the_next_start(service: Service) -> None:
    body = b'{"name":"p1","config":{"security.privileged":"true"}}'
    await service.profiles.Create(profile_pb2.CreateProfileRequest(body=body), CALL)
    await service.create("c1", profiles=["p1"])
    await service.act("c1", "start")
    assert service.world.host.specs[Key("default", "c1")].idmap is None
    assert service.row().config["volatile.idmap.current"] == "[]"
    await put_profile(service, "p1", config={"security.idmap.isolated": "true"})
    await service.act("c1", "restart", force=True)
    isolated = service.world.host.specs[Key("default", "c1")].idmap
    assert isolated is not None
    assert service.row().config["volatile.idmap.base"] == str(isolated.base)
    await service.act("c1", "restart", force=True)
    assert service.world.host.specs[Key("default", "c1")].idmap == isolated, "it keeps the range that it has"
