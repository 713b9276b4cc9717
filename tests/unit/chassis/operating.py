"""A service with three sagas on a log in memory, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

import msgspec

from chassis.errors import Internal
from chassis.operations import Operations
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Kind, Store
from chassis.testing import virtual
from chassis.testing.memory import MemoryLog

C1 = ("instance", "default", "c1")


class Thing(msgspec.Struct, frozen=True):
    name: str


THING = Kind("test_thing", Thing, ("name",))


async def wait(ctx: Context) -> None:
    await asyncio.sleep(ctx.args.get("seconds", 0))


async def fail(ctx: Context) -> None:
    raise Internal("Failed to run it")


def tell(ctx: Context, change: Change) -> None:
    change.put(THING, Thing(ctx.args.get("name", "t")), expect=None)


START = Saga("instance.start", [Step("wait", wait)], description="Starting instance", finish=tell)


SLOW = Saga("instance.copy", [Step("wait", wait, interruptible=True)], may_cancel=True)


BROKEN = Saga("instance.stop", [Step("wait", wait), Step("fail", fail)], abandon=tell)


class Service:
    """One service on a log, started."""

    def __init__(self, log: MemoryLog | None = None, member: str = "none") -> None:
        self.log = log or MemoryLog()
        self.store = Store(self.log, "instances")
        self.things = self.store.mirror(THING)
        self.sagas = Sagas(self.store, "instances", [START, SLOW, BROKEN], member=member)
        self.operations: Operations = self.sagas.operations

    async def __aenter__(self) -> Service:
        await self.store.start()
        await self.sagas.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sagas.stop()
        await self.store.stop()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(m.data) for m in self.log.history if m.subject.startswith("event.")]


def play(story: Coroutine[Any, Any, None]) -> None:
    virtual.run(story)
