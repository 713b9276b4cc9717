"""The checks that every saga gets for free: `await check_saga(SAGA, make_world)`.

In each of many small worlds one thing goes wrong: a step fails before or after its effect; the service is killed before or after a step,
an undo, the end; each step and each undo runs twice; the service stops at each border; each write to the log is lost or its answer is;
the operation is cancelled at each border. Then: the operation has ended as it must, no lock is left, and after a failure nothing is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from chassis.errors import Fault, Internal
from chassis.operations import CANCELLED, FAILURE, SUCCESS, Operation
from chassis.saga import Context, Saga, Step
from chassis.sagas import Sagas
from chassis.store import Change, Store
from chassis.testing.memory import Connection, MemoryLog

DEADLINE = 30.0
GRACE = 1.0  # seconds that a step may go on when the service stops


class World(Protocol):
    """What surrounds one run: the host as the steps see it (it outlives a kill of the service), and what is expected of it."""

    args: dict[str, Any]
    locks: Sequence[tuple[str, str, str]]

    def parts(self, store: Store) -> Any:
        """The wiring that steps find in `ctx.parts`; asks the store for its mirrors. Called at each start of the service."""

    async def given(self, store: Store) -> None:
        """Put the rows and things that exist before."""

    def leftovers(self) -> list[str]:
        """What exists beyond what was given; must be empty after a failure."""

    def achieved(self) -> list[str]:
        """What is missing after a success; must be empty."""


CHECKED: set[str] = set()  # the names of the sagas that were checked to the end, for the suite's own bookkeeping


@runtime_checkable
class Nesting(Protocol):
    """What a world has besides when its saga accepts operations of its own: the other sagas of the service, and the engine."""

    others: Sequence[Saga]

    def wired(self, sagas: Sagas) -> None:
        """Called at each start of the service."""


class Killed(BaseException):
    """The service died here."""


Plan = dict[str, str]  # point to what happens there, once: fail, kill, twice, stop, cancel


class _Scene:
    """One world, one plan, one operation."""

    def __init__(self, saga: Saga, world: World, plan: Plan, unlucky: Callable[[], str] = lambda: "") -> None:
        self.world = world
        self.plan = plan
        self.fired: Counter[str] = Counter()
        self.log = MemoryLog(unlucky=unlucky)
        self.saga = _wrapped(saga, self)
        self.sagas: Sagas | None = None
        self._connection: Connection | None = None
        self._restart = asyncio.Event()
        self._id = ""

    async def point(self, name: str) -> None:
        """Something may happen here."""
        what = self.plan.get(name)
        if what is None or self.fired[name]:
            return
        self.fired[name] += 1
        if what == "fail":
            raise Internal(f"made to fail at {name}")
        if what == "kill":
            assert self._connection is not None
            self._connection.kill()
            self._restart.set()
            raise Killed(name)
        assert self.sagas is not None
        if what == "stop":
            self._restart.set()
        elif what == "cancel":
            await self.sagas.cancel(self._id)

    def twice(self, name: str) -> bool:
        return self.plan.get(name) == "twice"

    async def play(self) -> Operation:
        """From acceptance to the end, across all restarts."""
        await self._start(first=True)
        assert self.sagas is not None
        accepted = await self.sagas.accept(self.saga, self.world.args, locks=self.world.locks)
        self._id = accepted.id
        while True:
            waiting = asyncio.ensure_future(self.sagas.operations.wait(accepted.id))
            restart = asyncio.ensure_future(self._restart.wait())
            await asyncio.wait({waiting, restart}, return_when=asyncio.FIRST_COMPLETED)
            restart.cancel()
            if waiting.done() and waiting.result().final:
                await self._settle()
                await self._stop()
                return waiting.result()
            waiting.cancel()
            self._restart.clear()
            await self._stop()
            await self._start()

    async def _settle(self) -> None:
        """Until the operations that it left behind have ended as well."""
        assert self.sagas is not None
        for row in list(self.sagas.operations.rows.select()):
            await self.sagas.operations.wait(row.value.id)

    async def _start(self, *, first: bool = False) -> None:
        self._connection = self.log.connect()
        store = Store(self._connection, "test")
        parts = self.world.parts(store)
        nesting = self.world if isinstance(self.world, Nesting) else None
        self.sagas = Sagas(store, "test", [self.saga, *(nesting.others if nesting else ())], parts=parts)
        if nesting:
            nesting.wired(self.sagas)
        self.sagas.operations.rows.watch(self._note)
        await store.start()
        if first:
            await self.world.given(store)
        await self.sagas.start()

    def _note(self, _key: tuple[str, ...], _old: Any, row: Any) -> None:
        if row is not None and row.value.saga == self.saga.name:
            self._id = row.value.id

    async def _stop(self) -> None:
        assert self.sagas is not None
        await self.sagas.stop(GRACE)


def _wrapped(saga: Saga, scene: _Scene) -> Saga:
    """The same saga with a point before and after everything."""
    steps = [_wrapped_step(step, scene) for step in saga.steps]

    async def finish(ctx: Context, change: Change) -> None:
        await scene.point("finish")
        if saga.finish is not None:
            told = saga.finish(ctx, change)
            if told is not None:
                await told

    return Saga(
        saga.name,
        steps,
        description=saga.description,
        finish=finish,
        abandon=saga.abandon,
        may_cancel=True,
        patience=saga.patience,
    )


def _wrapped_step(step: Step, scene: _Scene) -> Step:
    async def do(ctx: Context) -> Any:
        await scene.point(f"{step.name}.do.before")
        result = await step.do(ctx)
        if scene.twice(f"{step.name}.do"):
            result = await step.do(ctx)
        await scene.point(f"{step.name}.do.after")
        return result

    async def undo(ctx: Context) -> None:
        await scene.point(f"{step.name}.undo.before")
        assert step.undo is not None
        await step.undo(ctx)
        if scene.twice(f"{step.name}.undo"):
            await step.undo(ctx)
        await scene.point(f"{step.name}.undo.after")

    undone = undo if step.undo is not None else None
    return Step(step.name, do, undone, light=step.light)


async def check_saga(saga: Saga, make_world: Callable[[], World]) -> int:
    """Run every scene; AssertionError with the plan of the one that broke. Returns how many scenes there were."""
    scenes = _scenes(saga)
    for plan, expected in scenes:
        await _check(saga, make_world(), plan, expected)
    writes = await _check(saga, make_world(), {}, SUCCESS)
    for number in range(1, writes + 1):
        for luck in ("lost", "unacknowledged"):
            await _check(saga, make_world(), {}, SUCCESS, _once(number, luck))
    CHECKED.add(saga.name)
    return len(scenes) + 2 * writes


def _scenes(saga: Saga) -> list[tuple[Plan, int]]:
    names = [step.name for step in saga.steps]
    undoing = [step.name for step in saga.steps if step.undo is not None]
    scenes: list[tuple[Plan, int]] = [({f"{name}.do": "twice" for name in names}, SUCCESS)]
    scenes += [({"finish": "fail"}, FAILURE), ({"finish": "kill"}, SUCCESS)]
    scenes.append(({"finish": "fail", **{f"{name}.undo": "twice" for name in undoing}}, FAILURE))
    for name in names:
        for side in ("before", "after"):
            point = f"{name}.do.{side}"
            scenes += [({point: "fail"}, FAILURE), ({point: "kill"}, SUCCESS), ({point: "stop"}, SUCCESS)]
        scenes.append(({f"{name}.do.before": "cancel"}, CANCELLED))
        scenes.append(({f"{name}.do.after": "fail", **{f"{n}.undo": "twice" for n in undoing}}, FAILURE))
    for name in undoing:
        for side in ("before", "after"):
            for what in ("kill", "stop", "fail"):
                scenes.append(({"finish": "fail", f"{name}.undo.{side}": what}, FAILURE))
    return scenes


def _once(number: int, luck: str) -> Callable[[], str]:
    """The luck of the n-th append."""
    count = 0

    def draw() -> str:
        nonlocal count
        count += 1
        return luck if count == number else ""

    return draw


async def _check(saga: Saga, world: World, plan: Plan, expected: int, unlucky: Callable[[], str] = lambda: "") -> int:
    """One scene; how many writes to the log it took."""
    scene = _Scene(saga, world, plan, unlucky)
    told = f"{saga.name} with {plan or 'nothing going wrong'}"
    try:
        async with asyncio.timeout(DEADLINE):
            ended = await scene.play()
    except TimeoutError:
        raise AssertionError(f"{told}: it did not end") from None
    except Fault as e:
        raise AssertionError(f"{told}: {type(e).__name__}: {e.text}") from e
    assert ended.status_code == expected, f"{told}: ended {ended.status_code}, not {expected}: {ended.err}"
    assert not scene.log.rows("lock"), f"{told}: a lock is left"
    left = world.achieved() if expected == SUCCESS else world.leftovers()
    assert not left, f"{told}: {'missing' if expected == SUCCESS else 'left'}: {left}"
    return scene.log.appends
