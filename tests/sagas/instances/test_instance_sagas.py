"""Every saga of the instances service through the standard checks: failures, kills, repetitions, lost writes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chassis.store import Change
from chassis.testing.sagas import check_saga
from rows.control import PROJECT, Project
from services.instances import creation
from services.instances.body import NewInstance
from services.instances.host.spec import Key
from services.instances.sagas import create, delete, freeze, move, rename, restart, start, stop, update
from tests.sagas.instances.world import DEVICES, IMAGE, InstanceWorld, instance

KEY = Key("default", "c1")
DRAWN = {"eth0": {"host_name": "veth1", "hwaddr": "00:16:3e:00:00:01", "name": "eth0"}}
START = {"name": "c1", "drawn": DRAWN, "action": "instance-started"}
RUNNING = {"volatile.eth0.host_name": "veth0", "volatile.eth0.name": "eth0", "volatile.last_state.power": "RUNNING"}


def missing(**claims: bool) -> list[str]:
    return [name for name, holds in claims.items() if not holds]


@pytest.mark.saga(create.SAGA)
async def test_create(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        row = world.row()
        return missing(
            row=row is not None and row.config["image.os"] == "busybox",
            volume=bool(world.volumes.volumes),
            backup=next(tmp_path.rglob("backup.yaml"), None) is not None,
        )

    def world() -> InstanceWorld:
        body = NewInstance(name="c1", devices=DEVICES)
        image = {"project": "default", "fingerprint": IMAGE.fingerprint}
        args = creation.arguments(body, "c1", "container", image, datetime.now(UTC))
        return InstanceWorld(tmp_path, args, achieved=achieved)

    await check_saga(create.SAGA, world)


@pytest.mark.saga(start.SAGA)
async def test_start(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        row = world.row()
        assert row is not None
        return missing(
            runs=KEY in world.host.running,
            powered=row.powered,
            power=row.config["volatile.last_state.power"] == "RUNNING",
            host_name=row.config["volatile.eth0.host_name"] == "veth1",
            one_link=list(world.nics.links) == ["veth1"],
        )

    await check_saga(start.SAGA, lambda: InstanceWorld(tmp_path, START, rows=(instance(),), achieved=achieved))


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.saga(stop.SAGA)
async def test_stop(tmp_path: Path, force: bool) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        row = world.row()
        assert row is not None
        return missing(
            stopped=not world.host.running,
            row=not row.powered and row.config["volatile.last_state.power"] == "STOPPED",
            links=not world.nics.links,
            mounts=not world.volumes.mounted,
        )

    rows = (instance(powered=True, config=RUNNING),)
    args = stop.arguments("c1", force=force, timeout=5)
    await check_saga(stop.SAGA, lambda: InstanceWorld(tmp_path, args, rows=rows, running=True, achieved=achieved))


@pytest.mark.saga(stop.SAGA)
async def test_stop_of_an_ephemeral_one_deletes_it(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        return [f"{kind} still there" for kind, things in world.things().items() if things]

    rows = (instance(powered=True, ephemeral=True, config=RUNNING),)
    args = stop.arguments("c1", force=True)
    await check_saga(stop.SAGA, lambda: InstanceWorld(tmp_path, args, rows=rows, running=True, achieved=achieved))


@pytest.mark.saga(restart.SAGA)
async def test_restart(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        row = world.row()
        assert row is not None
        return missing(
            runs=KEY in world.host.running and world.host.running[KEY].pid != 7,
            row=row.powered,
            one_link=list(world.nics.links) == ["veth1"],
        )

    rows = (instance(powered=True, config=RUNNING),)
    args = {**stop.arguments("c1", force=True), **START, "action": "instance-restarted"}
    await check_saga(restart.SAGA, lambda: InstanceWorld(tmp_path, args, rows=rows, running=True, achieved=achieved))


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.saga(freeze.FREEZE, freeze.UNFREEZE)
async def test_freeze_and_unfreeze(tmp_path: Path, frozen: bool) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        return missing(frozen=world.host.running[KEY].frozen is frozen)

    class Thawing(InstanceWorld):
        async def given(self, store: Any) -> None:
            await super().given(store)
            await self.host.freeze(KEY)

    kind = InstanceWorld if frozen else Thawing
    rows = (instance(powered=True, config=RUNNING),)
    saga = freeze.FREEZE if frozen else freeze.UNFREEZE
    await check_saga(saga, lambda: kind(tmp_path, {"name": "c1"}, rows=rows, running=True, achieved=achieved))


@pytest.mark.saga(delete.SAGA)
async def test_delete(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        return [f"{kind} still there" for kind, things in world.things().items() if things]

    await check_saga(
        delete.SAGA, lambda: InstanceWorld(tmp_path, {"name": "c1"}, rows=(instance(),), achieved=achieved)
    )


@pytest.mark.saga(rename.SAGA)
async def test_rename(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        row = world.row("c2")
        return missing(
            row=row is not None and world.row() is None and row.config["volatile.apply_template"] == "rename",
            volume={volume.name for volume in world.volumes.volumes} == {"c2"},
            folder=world.host.folders == {Key("default", "c2")},
        )

    locks = (("instance", "default", "c1"), ("instance", "default", "c2"))
    args = {"name": "c1", "new_name": "c2"}
    await check_saga(
        rename.SAGA, lambda: InstanceWorld(tmp_path, args, rows=(instance(),), achieved=achieved, locks=locks)
    )


@pytest.mark.saga(move.SAGA)
async def test_move_to_another_project(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        row = world.row("c2", "there")
        return missing(
            row=row is not None and world.row() is None and row.uid == "u1",
            volume={(volume.project, volume.name) for volume in world.volumes.volumes} == {("there", "c2")},
            folder=world.host.folders == {Key("there", "c2")},
        )

    class TwoProjects(InstanceWorld):
        async def given(self, store: Any) -> None:
            config = {"features.profiles": "false", "limits.instances": "1"}
            await store.commit(Change().put(PROJECT, Project(name="there", config=config), expect=0))
            await super().given(store)

    locks = (("instance", "default", "c1"), ("instance", "there", "c2"))
    args = {"name": "c1", "new_project": "there", "new_name": "c2"}
    await check_saga(move.SAGA, lambda: TwoProjects(tmp_path, args, rows=(instance(),), achieved=achieved, locks=locks))


@pytest.mark.saga(update.SAGA)
async def test_update_of_a_running_one_plugs_unplugs_and_limits(tmp_path: Path) -> None:
    def achieved(world: InstanceWorld) -> list[str]:
        row = world.row()
        assert row is not None
        return missing(
            row=row.devices.keys() == {"root", "eth1"} and row.config["limits.memory"] == "1GiB",
            volatile="volatile.eth0.host_name" not in row.config and bool(row.config.get("volatile.eth1.host_name")),
            nics=len(world.nics.links) == 1 and set(world.nics.links.values()) == {("c1", "eth1")},
            limits=world.host.limits[KEY] == {"limits.memory": "1GiB"},
        )

    row = instance(powered=True, config=RUNNING)
    devices = {"root": DEVICES["root"], "eth1": {"type": "nic", "nictype": "p2p"}}
    config = {**row.config, "volatile.idmap.base": "0", "limits.memory": "1GiB"}
    args = {"name": "c1", "body": {"profiles": ["default"], "config": config, "devices": devices}}
    await check_saga(update.SAGA, lambda: InstanceWorld(tmp_path, args, rows=(row,), running=True, achieved=achieved))
