"""The service on a log in memory, with a host, storage, network and images that are made up: what follows from what."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chassis.errors import BadRequest, Conflict, Internal, NotFound, PreconditionFailed
from chassis.testing.memory import MemoryLog
from gen.nubibus.instances.v1 import instance_pb2, power_pb2
from services.instances.host.spec import Exit, Key
from tests.sagas.instances.world import InstanceWorld, instance
from tests.unit.instances.service import CALL, ROOT, Service


async def test_a_life(service: Service) -> None:
    assert await service.create("c1", config={"user.a": "1"}) == ""
    assert await service.act("c1", "start") == ""
    assert service.row().powered
    assert await service.act("c1", "start") == "The instance is already running"
    assert await service.act("c1", "freeze") == ""
    assert await service.act("c1", "freeze") == "The container is already frozen"
    assert await service.act("c1", "unfreeze") == ""
    assert await service.act("c1", "restart", force=True) == ""
    with pytest.raises(BadRequest, match="Instance is running"):
        await service.instances.Delete(instance_pb2.InstanceRequest(name="c1"), CALL)
    assert await service.act("c1", "stop", force=True) == ""
    assert await service.act("c1", "stop", force=True) == "The instance is already stopped"
    assert await service.done(await service.instances.Delete(instance_pb2.InstanceRequest(name="c1"), CALL)) == ""
    assert service.told() == [
        "instance-created", "instance-started", "instance-paused", "instance-resumed", "instance-restarted", "instance-stopped",
        "instance-deleted",
    ]  # fmt: skip
    assert not service.world.volumes.volumes


async def test_wrong_requests_leave_nothing(service: Service) -> None:
    record = "Failed creating instance record: "
    assert await service.create("c1", config={"foo": "1"}) == f"{record}Unknown configuration key: foo"
    assert await service.create("c1", devices={"e": {"type": "foo"}}) == f"{record}Invalid device type foo"
    assert "No root device could be found" in await service.create("c1", devices={})
    assert "Storage pool not found" in await service.create("c1", devices={"root": {**ROOT["root"], "pool": "nope"}})
    assert "not supported by this server yet" in await service.create("c1", devices={**ROOT, "g": {"type": "gpu"}})
    assert service.row() is None
    assert not service.world.volumes.volumes
    assert await service.create("c1") == ""
    assert 'This "instances" entry already exists' in await service.create("c1")
    assert service.row() is not None


async def test_a_container_that_ends_by_itself_becomes_stopped(service: Service) -> None:
    await service.create("c1", devices={**ROOT, "eth0": {"type": "nic", "nictype": "p2p"}})
    await service.act("c1", "start")
    assert service.row().config["volatile.eth0.host_name"]
    await service.world.host.kill(Key("default", "c1"))
    service.exits.note(Key("default", "c1"), Exit("stop", 1))
    await service.until(lambda: not service.row().powered)
    assert service.told()[-1] == "instance-shutdown"
    assert "volatile.eth0.host_name" not in service.row().config
    assert not service.world.nics.links


async def test_a_reboot_from_within_starts_it_again(service: Service) -> None:
    await service.create("c1")
    await service.act("c1", "start")
    await service.world.host.kill(Key("default", "c1"))
    service.exits.note(Key("default", "c1"), Exit("reboot", 1))
    await service.until(lambda: service.told()[-2:] == ["instance-shutdown", "instance-restarted"])
    await service.until(lambda: service.row().powered)  # the log is ahead of its mirrors


async def test_an_ephemeral_one_that_ends_is_gone(service: Service) -> None:
    await service.create("c1", ephemeral=True)
    await service.act("c1", "start")
    await service.world.host.kill(Key("default", "c1"))
    service.exits.note(Key("default", "c1"), Exit("stop", 1))
    await service.until(lambda: service.row() is None)
    assert service.told()[-2:] == ["instance-shutdown", "instance-deleted"]
    assert not service.world.volumes.volumes


async def test_a_forced_stop_overtakes_a_clean_one(service: Service) -> None:
    await service.create("c1")
    await service.act("c1", "start")

    async def never(key: Key, timeout: float | None = None) -> bool:
        await asyncio.sleep(3600)
        return False

    service.world.host.shutdown = never  # type: ignore[method-assign]
    clean = await service.put_state("c1", "stop", timeout=3000)
    with pytest.raises(Conflict, match='Instance is busy running a "stop" operation'):
        await service.put_state("c1", "start")
    assert await service.act("c1", "stop", force=True) == ""
    assert await service.done(clean) == ""
    assert not service.row().powered


async def test_a_forced_stop_overtakes_a_restart_that_waits(service: Service) -> None:
    await service.create("c1")
    await service.act("c1", "start")

    async def never(key: Key, timeout: float | None = None) -> bool:
        await asyncio.sleep(3600)
        return False

    service.world.host.shutdown = never  # type: ignore[method-assign]
    restarting = await service.put_state("c1", "restart", timeout=3000)
    assert await service.act("c1", "stop", force=True) == ""
    assert await service.done(restarting) == ""
    assert not service.row().powered
    assert service.told()[-2:] == ["instance-restarted", "instance-stopped"]


@pytest.mark.extension("container_protection_delete")
async def test_a_protected_one_is_not_deleted(service: Service) -> None:
    await service.create("c1", config={"security.protection.delete": "true"})
    refused = await service.done(await service.instances.Delete(instance_pb2.InstanceRequest(name="c1"), CALL))
    assert refused == "Container is protected"
    assert service.row() is not None


async def test_patching_merges_and_minds_the_etag(service: Service) -> None:
    await service.create("c1", config={"user.a": "1"})
    before = await service.instances.Get(instance_pb2.InstanceRequest(name="c1"), CALL)
    await service.patch("c1", config={"user.b": "2"}, if_match=before.etag)
    assert service.row().config["user.a"] == "1"
    assert service.row().config["user.b"] == "2"
    with pytest.raises(PreconditionFailed):
        await service.patch("c1", config={"user.b": "3"}, if_match=before.etag)
    await service.patch("c1", config={"user.a": ""})
    assert "user.a" not in service.row().config
    with pytest.raises(Internal, match="Invalid config: Unknown configuration key: foo"):
        await service.patch("c1", config={"foo": "1"})
    with pytest.raises(NotFound, match="Profile not found"):
        await service.patch("c1", profiles=["nope"])
    with pytest.raises(Internal, match='Cannot update root disk device pool name to "q"'):
        await service.patch("c1", devices={"root": {**ROOT["root"], "pool": "q"}})


async def test_a_put_that_drops_the_id_map_is_refused(service: Service) -> None:
    await service.create("c1")
    body = json.dumps({"config": {"user.x": "y"}, "devices": ROOT}).encode()
    answer = await service.instances.Put(instance_pb2.PutInstanceRequest(name="c1", body=body), CALL)
    assert await service.done(answer) == "Volatile idmap keys can't be deleted by the user"


async def test_renaming(service: Service) -> None:
    await service.create("c1")
    await service.create("c2")
    with pytest.raises(Conflict, match='Name "c2" already in use'):
        await service.instances.Rename(instance_pb2.PutInstanceRequest(name="c1", body=b'{"name":"c2"}'), CALL)
    answer = await service.instances.Rename(instance_pb2.PutInstanceRequest(name="c1", body=b'{"name":"c3"}'), CALL)
    assert await service.done(answer) == ""
    assert service.row() is None
    assert service.row("c3").config["volatile.apply_template"] == "rename"


@pytest.mark.extension("container_stop_priority")
async def test_the_host_goes_down_in_order_and_comes_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, world = MemoryLog(), InstanceWorld(tmp_path, {})
    service = Service(log, world)
    await service.start()
    await world.given(service.store)
    await service.create("a", config={"boot.autostart.priority": "1"})
    await service.create("b", config={"boot.stop.priority": "10"})
    await service.create("c", config={"boot.autostart": "false"})
    last = {"boot.autostart": "true", "boot.autostart.priority": "10", "boot.autostart.delay": "7"}
    await service.create("d", config=last)
    for name in ("a", "b", "c"):
        assert await service.act(name, "start") == ""
    answer = await service.boot.Shutdown(power_pb2.ShutdownRequest(), CALL)
    assert list(answer.stopped) == ["/1.0/instances/b", "/1.0/instances/a", "/1.0/instances/c"]
    assert not world.host.running
    await service.stop()

    again = Service(log, world)
    await again.start()
    pause, waited = asyncio.sleep, []

    async def sleep(seconds: float) -> None:
        if seconds == 7:
            waited.append([key.name for key in world.host.running])
        await pause(0 if seconds == 7 else seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await again.boot.keep()
    monkeypatch.undo()
    assert waited == [["d"]], "the others wait for as long as it says"
    assert [key.name for key in world.host.running] == ["d", "a", "b"]
    assert again.told()[-3:] == ["instance-started"] * 3
    await again.stop()


async def test_a_mere_restart_of_the_service_starts_only_what_ended_meanwhile(tmp_path: Path) -> None:
    log, world = MemoryLog(), InstanceWorld(tmp_path, {})
    service = Service(log, world)
    await service.start()
    await world.given(service.store)
    for name, autostart in (("a", "true"), ("b", "true"), ("c", "true"), ("d", "false")):
        await service.create(name, config={"boot.autostart": autostart})
    for name in ("a", "b", "d"):
        await service.act(name, "start")
    await service.stop()
    before = world.host.running[Key("default", "a")].pid
    await world.host.kill(Key("default", "b"))
    await world.host.kill(Key("default", "d"))

    again = Service(log, world)
    await again.start()
    await again.boot.keep()
    await again.until(lambda: not again.row("d").powered)
    assert sorted(key.name for key in world.host.running) == ["a", "b"], "c was stopped all along, d may not start"
    assert world.host.running[Key("default", "a")].pid == before
    assert sorted(again.told()[-2:]) == ["instance-shutdown", "instance-started"]
    await again.stop()


async def test_a_list_of_instances_as_urls_and_as_objects(service: Service) -> None:
    await service.create("c1")
    await service.create("c2", config={"user.a": "x"})

    async def listed(**fields: Any) -> Any:
        request = instance_pb2.ListInstancesRequest(**fields)
        return json.loads(b"".join([chunk.data async for chunk in service.instances.List(request, CALL)]))

    assert await listed() == ["/1.0/instances/c1", "/1.0/instances/c2"]
    assert await listed(path_type="containers") == ["/1.0/containers/c1", "/1.0/containers/c2"]
    assert await listed(path_type="virtual-machines") == []
    assert [found["name"] for found in await listed(recursion=1, filter="config.user.a eq x")] == ["c2"]
    full = (await listed(recursion=2))[0]
    assert full["state"]["status"] == "Stopped"
    assert (full["snapshots"], full["backups"]) == (None, None)


def test_the_made_up_instance_is_whole() -> None:
    assert instance().name == "c1"
