"""A simulation of clients, a service and a log on a loop with virtual time; one seed decides everything that happens.

    .venv/bin/python -m tests.sagas.simulation --seed 4711      one schedule, with its story
    .venv/bin/python -m tests.sagas.simulation --count 100000   many

Clients make and remove things that share few names; the service dies at any moment and comes back; the log goes away, loses messages
or acknowledgements, and is slow. What must hold at the end is in `broken`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import defaultdict
from typing import Any

import msgspec

from chassis import events
from chassis.errors import BadRequest, Conflict, Internal, NotFound, Unavailable
from chassis.log import HEADER_BATCH
from chassis.operations import OPERATION, SUCCESS, Operation
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Kind, Store
from chassis.testing import virtual
from chassis.testing.memory import Connection, Dead, MemoryLog

NAMES = ("a", "b", "c")
PARTS = ("folder", "mount", "process")


class Thing(msgspec.Struct, frozen=True):
    name: str
    made_by: str


THING = Kind("sim_thing", Thing, ("name",))


class Host:
    """The kernel's side: which parts of which thing exist. It outlives the service."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.parts: dict[str, set[str]] = defaultdict(set)
        self.writer: dict[str, str] = {}
        self.faults: list[str] = []

    async def touch(self, ctx: Context) -> None:
        """Take a while, and perhaps fail; note when two operations work on one thing."""
        name, mine = ctx.args["name"], ctx.operation.id
        before = self.writer.setdefault(name, mine)
        if before != mine and not _ended(ctx, before):
            self.faults.append(f"{mine} and {before} work on {name} at once")
        self.writer[name] = mine
        await asyncio.sleep(self.dice.choice((0, 0.001, 0.02)))
        chance = self.dice.random()
        if chance < 0.06:
            raise Internal("the kernel refused")
        if chance < 0.1:
            raise Unavailable("another part is away")


def _ended(ctx: Context, id: str) -> bool:
    row = ctx.store.mirror(OPERATION).get(id)
    return row is None or row.value.final


def _make(part: str) -> Step:
    async def do(ctx: Context) -> str:
        await ctx.parts.touch(ctx)
        ctx.parts.parts[ctx.args["name"]].add(part)
        await asyncio.sleep(ctx.parts.dice.choice((0, 0.001)))
        return part

    async def undo(ctx: Context) -> None:
        await asyncio.sleep(ctx.parts.dice.choice((0, 0.001)))
        ctx.parts.parts[ctx.args["name"]].discard(part)

    return Step(part, do, undo, light=part == "mount", interruptible=part == "folder")


def _remove(part: str) -> Step:
    async def do(ctx: Context) -> None:
        await asyncio.sleep(ctx.parts.dice.choice((0, 0.001, 0.02)))
        ctx.parts.parts[ctx.args["name"]].discard(part)

    return Step(part, do)


def _made(ctx: Context, change: Change) -> None:
    name = ctx.args["name"]
    change.put(THING, Thing(name, ctx.operation.id), expect=ctx.store.mirror(THING).revision(name))
    change.event(events.lifecycle("thing-created", f"/1.0/things/{name}"))


def _gone(ctx: Context, change: Change) -> None:
    row = ctx.store.mirror(THING).get(ctx.args["name"])
    if row is not None:
        change.delete(THING, row.key, expect=row.revision)
    change.event(events.lifecycle("thing-deleted", f"/1.0/things/{ctx.args['name']}"))


CREATE = Saga("thing.create", [_make(part) for part in PARTS], finish=_made, may_cancel=True, patience=0.5)
DELETE = Saga("thing.delete", [_remove(part) for part in reversed(PARTS)], finish=_gone)


class Simulation:
    """One schedule. `play` runs it, `broken` says what does not hold."""

    def __init__(self, seed: int, *, clients: int = 3, requests: int = 4, told: bool = False) -> None:
        self.dice = random.Random(seed)
        self.told = told
        self.clients = clients
        self.requests = requests
        self.host = Host(self.dice)
        self.log = MemoryLog(unlucky=self._luck, delay=self._delay)
        self.accepted: dict[str, str] = {}
        self._connection: Connection | None = None
        self._sagas: Sagas | None = None
        self._store: Store | None = None
        self._calm = False
        self._tasks: set[asyncio.Task[Any]] = set()

    async def play(self) -> list[str]:
        await self._start()
        trouble = asyncio.create_task(self._trouble())
        await asyncio.gather(*(self._client(n) for n in range(self.clients)))
        self._calm = True
        await trouble
        self.log.rise()
        if self._sagas is None:
            await self._start()
        assert self._store is not None
        assert self._sagas is not None
        try:
            async with asyncio.timeout(120):
                while any(not operation.final for operation in self._operations()):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass
        await self._store.refresh()
        found = self.broken()
        await self._sagas.stop()
        await self._store.stop()
        return found

    # What must hold.

    def broken(self) -> list[str]:
        found = list(self.host.faults)
        operations = {operation.id: operation for operation in self._operations()}
        found += [f"{id} was accepted and is gone" for id in self.accepted if id not in operations]
        found += [f"{o.id} has not ended: {o}" for o in operations.values() if not o.final]
        found += [f"the lock {m.subject} is left" for m in self.log.rows("lock")]
        things = {m.subject.rpartition(".")[2] for m in self.log.rows(THING.name)}
        for name in NAMES:
            parts = self.host.parts[name]
            if name in things and parts != set(PARTS):
                found.append(f"{name} exists with {sorted(parts)} only")
            if name not in things and parts:
                found.append(f"{name} does not exist and {sorted(parts)} is left")
        return found + self._history(operations)

    def _history(self, operations: dict[str, Operation]) -> list[str]:
        """No operation goes backwards; each ends once; the end of a Success and its lifecycle event are one change."""
        found: list[str] = []
        status: dict[str, int] = defaultdict(int)
        ends: dict[str, list[str]] = defaultdict(list)
        lifecycle: dict[str, int] = defaultdict(int)
        for stored in self.log.history:
            batch = stored.headers[HEADER_BATCH]
            if stored.subject.startswith("event.lifecycle."):
                lifecycle[batch] += 1
            if stored.subject.startswith("row.operation."):
                operation = OPERATION.decode(stored.data)
                if operation.status_code < status[operation.id]:
                    found.append(f"{operation.id} went from {status[operation.id]} to {operation.status_code}")
                status[operation.id] = operation.status_code
                if operation.final:
                    ends[operation.id].append(batch)
        for id, batches in ends.items():
            code = operations[id].status_code
            if len(batches) != 1:
                found.append(f"{id} ended {len(batches)} times")
            if lifecycle[batches[0]] != (code == SUCCESS):
                found.append(f"{id} ended {code} with {lifecycle[batches[0]]} lifecycle events")
        return found

    def _operations(self) -> list[Operation]:
        return [OPERATION.decode(stored.data) for stored in self.log.rows("operation")]

    # Who acts.

    async def _client(self, number: int) -> None:
        for _ in range(self.requests):
            await asyncio.sleep(self.dice.choice((0, 0.003, 0.03, 0.2)))
            if self._sagas is None:
                continue
            try:
                await self._request(number)
            except (Conflict, Unavailable, NotFound, BadRequest, asyncio.CancelledError, Dead) as e:
                self._tell(f"client {number}: {type(e).__name__} {e}")

    async def _request(self, number: int) -> None:
        assert self._store is not None
        assert self._sagas is not None
        name = self.dice.choice(NAMES)
        saga = DELETE if self._store.mirror(THING).get(name) else CREATE
        sagas, things = self._sagas, self._store.mirror(THING)

        def still() -> None:
            if (things.get(name) is None) != (saga is CREATE):
                raise Conflict(f"{name} is not as it was")

        # As in a service: the call runs in the process and dies with it.
        task = asyncio.ensure_future(sagas.accept(saga, {"name": name}, locks=(("thing", "", name),), change=still))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        accepted = await task
        self.accepted[accepted.id] = name
        self._tell(f"client {number}: {saga.name} {name} is {accepted.id}")
        if self.dice.random() < 0.3 and saga.may_cancel:
            await asyncio.sleep(self.dice.choice((0, 0.002, 0.02)))
            if self._sagas is sagas:
                cancel = asyncio.ensure_future(sagas.cancel(accepted.id))
                self._tasks.add(cancel)
                cancel.add_done_callback(self._tasks.discard)
                await cancel

    async def _trouble(self) -> None:
        while not self._calm:
            await asyncio.sleep(self.dice.choice((0.002, 0.01, 0.05, 0.3)))
            act = self.dice.choice(("kill", "kill", "stop", "away", "nothing"))
            if act == "kill":
                self._kill()
                await asyncio.sleep(self.dice.choice((0, 0.01)))
                await self._start()
            elif act == "stop" and self._sagas is not None and self._store is not None:
                self._tell("the service stops")
                await self._sagas.stop(grace=self.dice.choice((0.001, 1.0)))
                await self._store.stop()
                self._kill()
                await self._start()
            elif act == "away":
                self._tell("the log goes away")
                self.log.down()
                await asyncio.sleep(self.dice.choice((0.001, 0.1, 1.0)))
                self.log.rise()

    async def _start(self) -> None:
        await self.log.when_up()
        self._connection = self.log.connect()
        store = Store(self._connection, "sim")
        store.mirror(THING)
        sagas = Sagas(store, "sim", [CREATE, DELETE], parts=self.host)
        await store.start()
        await sagas.start()
        self._store, self._sagas = store, sagas
        self._tell("the service is there")

    def _kill(self) -> None:
        """As kill -9: nothing of the process goes on."""
        if self._connection is None or self._sagas is None:
            return
        self._tell("the service is killed")
        self._connection.kill()
        for task in [*(task for _, task in self._sagas._runs.values()), *self._tasks]:
            task.cancel()
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
        self._sagas._stopping = True
        self._sagas = None

    def _luck(self) -> str:
        if self._calm:
            return ""
        return self.dice.choices(("", "lost", "unacknowledged"), (90, 5, 5))[0]

    def _delay(self) -> float:
        return 0.0 if self._calm else self.dice.choice((0, 0, 0.0005, 0.002, 0.01))

    def _tell(self, text: str) -> None:
        if self.told:
            print(f"{asyncio.get_running_loop().time():8.4f}  {text}")


def simulate(seed: int, *, told: bool = False) -> list[str]:
    """Play one seed; what is broken."""
    return virtual.run(Simulation(seed, told=told).play())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="play this one and tell its story")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    if options.seed is not None:
        found = simulate(options.seed, told=True)
        print("\n".join(found) or "nothing is broken")
        return 1 if found else 0
    began = time.monotonic()
    bad = 0
    for seed in range(options.first, options.first + options.count):
        found = simulate(seed)
        if found:
            bad += 1
            print(f"--seed {seed}: {found[0]}")
            if bad >= 10:
                break
    print(f"{seed - options.first + 1} schedules, {bad} broken, {time.monotonic() - began:.1f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
