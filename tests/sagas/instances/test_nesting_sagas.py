"""The sagas that accept operations of their own and wait for them, through the standard checks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chassis.saga import Saga
from chassis.sagas import Sagas
from chassis.store import Store
from chassis.testing import virtual
from chassis.testing.memory import Connection
from chassis.testing.sagas import check_saga
from rows.profile import Profile
from services.instances.body import StateBody
from services.instances.host.spec import Key
from services.instances.sagas import bulk, hurry, reach, rename_profile, start, stop, update
from services.instances.sagas.subject import locks
from tests.sagas.instances.test_instance_sagas import RUNNING, missing
from tests.sagas.instances.world import FakeHost, InstanceWorld, instance

NAMES = ("c1", "c2")


class NestingWorld(InstanceWorld):
    """The instances c1 and c2. What was done to one of them stays done when the whole fails: there is nothing to undo."""

    others: Sequence[Saga] = ()
    locks: Sequence[tuple[str, str, str]] = ()

    def __init__(self, folder: Path, args: dict[str, Any], achieved: Callable[[Any], list[str]], **given: Any) -> None:
        config = RUNNING if given.get("running") else {}
        rows = tuple(instance(name=name, powered=bool(config), config=config) for name in NAMES)
        super().__init__(folder, args, rows=rows, achieved=achieved, locks=(), **given)
        self.engine: Sagas | None = None

    def parts(self, store: Store) -> Any:
        self.wiring = super().parts(store)
        return self.wiring

    def wired(self, sagas: Sagas) -> None:
        self.engine = self.wiring.sagas = sagas

    def leftovers(self) -> list[str]:
        assert self.engine is not None
        return [row.value.saga for row in self.engine.operations.rows.select() if not row.value.final]

    def operations(self, saga: Saga) -> int:
        """How many there were of a kind."""
        assert self.engine is not None
        return sum(row.value.saga == saga.name for row in self.engine.operations.rows.select())


class BulkWorld(NestingWorld):
    others = (start.SAGA,)


@pytest.mark.saga(bulk.SAGA)
async def test_bulk(tmp_path: Path) -> None:
    def achieved(world: BulkWorld) -> list[str]:
        return missing(
            run=world.host.running.keys() == {Key("default", name) for name in NAMES},
            once_each=world.operations(start.SAGA) == 2,
        )

    args = bulk.arguments(NAMES, StateBody(action="start"))
    await check_saga(bulk.SAGA, lambda: BulkWorld(tmp_path, args, achieved))


class ReachWorld(NestingWorld):
    """c1 and c2 run and are reached; c3, which is no more, and c4 are told of."""

    others = (update.SAGA,)

    def told(self) -> list[str]:
        assert self.engine is not None
        return events_of(self.engine.operations.store)


def events_of(store: Store) -> list[str]:
    """ "instance-updated c1" and so on, in order."""
    log = store.log
    assert isinstance(log, Connection)
    events = [json.loads(each.data) for each in log._log.history if each.subject.startswith("event.lifecycle")]
    return [f"{e['metadata']['action']} {e['metadata']['source'].rpartition('/')[2]}" for e in events]


@pytest.mark.saga(reach.SAGA)
async def test_reach(tmp_path: Path) -> None:
    def achieved(world: ReachWorld) -> list[str]:
        limited = {"limits.memory": "1GiB"}
        told = world.told()
        return missing(
            limits=world.host.limits == {Key("default", name): limited for name in NAMES},
            once_each=world.operations(update.SAGA) == 2,
            told=set(told) >= {f"instance-updated {name}" for name in ("c1", "c2", "c4")},
            profile_last=told[-1:] == ["profile-updated default"] and told.count("profile-updated default") == 1,
        )

    before = Profile(project="default", name="default")
    after = Profile(project="default", name="default", config={"limits.memory": "1GiB"})
    users = [("default", name) for name in (*NAMES, "c3")]
    args = reach.arguments(before, after, reached=users, told=[("default", "c4")])
    await check_saga(reach.SAGA, lambda: ReachWorld(tmp_path, args, achieved, running=True))


class RenameProfileWorld(NestingWorld):
    """c1 and c2 use the profile "default", which becomes "new"."""

    def profiles(self) -> tuple[set[str], set[tuple[str, ...]]]:
        """Those that there are, and what the instances name."""
        roster = self.wiring.roster
        return {row.value.name for row in roster.profiles.select()}, {
            row.value.profiles for row in roster.rows.select()
        }

    def leftovers(self) -> list[str]:
        found = self.profiles()
        return [] if found == ({"default"}, {("default",)}) else [str(found)]


@pytest.mark.saga(rename_profile.SAGA)
async def test_rename_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rename_profile, "AT_ONCE", 1)

    def achieved(world: RenameProfileWorld) -> list[str]:
        return missing(moved=world.profiles() == ({"new"}, {("new",)}))

    args = rename_profile.arguments("default", "default", "new")
    await check_saga(rename_profile.SAGA, lambda: RenameProfileWorld(tmp_path, args, achieved))


CLEAN = 5  # seconds (of virtual time) that the clean stop waits: longer than a service lets a step go on that is to end


class DeafHost(FakeHost):
    """No init of it minds a clean stop."""

    async def shutdown(self, key: Key, timeout: float | None = None) -> bool:
        await asyncio.sleep(timeout or 0)
        return False


class HurryWorld(NestingWorld):
    """A clean stop of c1 waits in vain."""

    others = (stop.SAGA,)

    def __init__(self, folder: Path, achieved: Callable[[Any], list[str]]) -> None:
        super().__init__(folder, {"name": "c1"}, achieved, running=True)
        self.host = DeafHost()

    async def given(self, store: Store) -> None:
        await super().given(store)
        assert self.engine is not None
        args = stop.arguments("c1", force=False, timeout=CLEAN)
        waits = await self.engine.accept(stop.SAGA, args, locks=locks("default", "c1"))
        self.args["waits_for"] = waits.id

    def leftovers(self) -> list[str]:
        """Whether it was told to hurry or fails for itself, the clean stop ends, and nothing else is changed."""
        return [*super().leftovers(), *(["c2"] if Key("default", "c2") not in self.host.running else [])]


@pytest.mark.saga(hurry.SAGA)
def test_hurry(tmp_path: Path) -> None:
    def achieved(world: HurryWorld) -> list[str]:
        row = world.row()
        return missing(
            stopped_alone=world.host.running.keys() == {Key("default", "c2")},
            row=row is not None and not row.powered,
        )

    virtual.run(check_saga(hurry.SAGA, lambda: HurryWorld(tmp_path, achieved)))
