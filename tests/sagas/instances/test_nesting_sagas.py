"""The sagas that accept operations of their own and wait for them, through the standard checks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chassis.saga import Saga
from chassis.sagas import Sagas
from chassis.store import Store
from chassis.testing import virtual
from chassis.testing.sagas import check_saga
from services.instances.body import StateBody
from services.instances.host.spec import Key
from services.instances.sagas import bulk, hurry, reach, start, stop, update
from services.instances.sagas.subject import locks
from tests.sagas.instances.test_instance_sagas import RUNNING, missing
from tests.sagas.instances.world import DEVICES, FakeHost, InstanceWorld, instance

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
    others = (update.SAGA,)


@pytest.mark.saga(reach.SAGA)
async def test_reach(tmp_path: Path) -> None:
    def achieved(world: ReachWorld) -> list[str]:
        limited = {"limits.memory": "1GiB"}
        return missing(
            limits=world.host.limits == {Key("default", name): limited for name in NAMES},
            once_each=world.operations(update.SAGA) == 2,
        )

    side = {"config": {}, "devices": DEVICES}
    plan = {"row": None, "before": side, "after": {**side, "config": {"limits.memory": "1GiB"}}, "drawn": {}}
    args = {"plans": [{"project": "default", "name": name, "plan": plan} for name in NAMES]}
    await check_saga(reach.SAGA, lambda: ReachWorld(tmp_path, args, achieved, running=True))


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
