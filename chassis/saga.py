"""Sagas: what an operation does, as a table of named steps, each a (do, undo) pair; and what a step is given.

A step may run twice and an undo may find nothing: both must lead to the same end. What a step learns is its return value (kept in the
journal, as JSON); names and ids are drawn before the first step and stand in `args`. `finish` puts the entity's rows and lifecycle
events into the change that ends the operation; it may be called again with fresh rows. `abandon` is the same for an operation that
failed or was cancelled, after everything is undone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from chassis import clock
from chassis.events import Event
from chassis.operations import Operation
from chassis.store import Change, Store

if TYPE_CHECKING:
    from chassis.run import Run

Do = Callable[["Context"], Awaitable[Any]]
Undo = Callable[["Context"], Awaitable[None]]
Finish = Callable[["Context", Change], Awaitable[None] | None]


class Step:
    """One step. `interruptible`: a cancel may break into `do`. `light`: its record travels with the next one's.

    A light step saves a write to the log; after a crash it runs again. Give it to steps that take less than a write (1 ms).
    `checks`: until it writes to the log it only looks, so it is run for a request that is only to be validated.
    """

    __slots__ = ("checks", "do", "interruptible", "light", "name", "undo")

    def __init__(
        self,
        name: str,
        do: Do,
        undo: Undo | None = None,
        *,
        interruptible: bool = False,
        light: bool = False,
        checks: bool = False,
    ) -> None:
        self.name = name
        self.do = do
        self.undo = undo
        self.interruptible = interruptible
        self.light = light
        self.checks = checks

    def __repr__(self) -> str:
        return f"Step({self.name!r})"


class Saga:
    """A verb: `Saga("instance.start", steps=(...), description="Starting instance", finish=fn)`.

    The part of the name behind the dot is the action that LXD's busy error names. `patience`: how many seconds a `do` is tried again
    while another part is away (Unavailable); an undo is tried again until it succeeds. The log being away never fails a saga.
    """

    def __init__(
        self,
        name: str,
        steps: Sequence[Step],
        *,
        description: str = "",
        finish: Finish | None = None,
        abandon: Finish | None = None,
        may_cancel: bool = False,
        patience: float = 10.0,
    ) -> None:
        names = [step.name for step in steps]
        if len(set(names)) != len(names) or "finish" in names:
            raise ValueError(f"Saga {name} has two steps of one name, or one that is called finish: {names}")
        self.name = name
        self.steps = tuple(steps)
        self.description = description
        self.finish = finish
        self.abandon = abandon
        self.may_cancel = may_cancel
        self.patience = patience

    def __repr__(self) -> str:
        return f"Saga({self.name!r})"


class Trial:
    """Stands for the run of an operation that is not to be: for a request that is only to be validated."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def announce(self, metadata: dict[str, Any]) -> None:
        """Nobody is told."""

    def tell(self, event: Event) -> None:
        """Nobody is told."""

    async def update(self, metadata: dict[str, Any]) -> None:
        """Nothing is kept."""


class Context:
    """What a step, an undo, finish and abandon are given."""

    def __init__(self, run: Run | Trial, store: Store, parts: Any) -> None:
        self._run = run
        self.store = store
        self.parts = parts
        self.results: dict[str, Any] = {}

    @property
    def operation(self) -> Operation:
        """The operation's row as it is now."""
        return self._run.operation

    @property
    def args(self) -> dict[str, Any]:
        """What was accepted; as JSON gives it back (lists for tuples)."""
        return self._run.operation.args

    @property
    def project(self) -> str:
        return self._run.operation.project

    @property
    def err(self) -> str:
        """Why it is being undone; for `abandon`."""
        return self._run.operation.err

    @property
    def cancel_requested(self) -> bool:
        return self._run.operation.cancel_requested

    def progress(self, metadata: dict[str, Any]) -> None:
        """Tell those who listen how far it is. Not stored."""
        self._run.announce(metadata)

    async def update(self, metadata: dict[str, Any]) -> None:
        """Change the operation's metadata for good, with an event."""
        await self._run.update(metadata)

    def announce(self, event: Event) -> None:
        """An event that is not kept."""
        self._run.tell(event)


async def check(saga: Saga, args: dict[str, Any], project: str, store: Store, parts: Any) -> None:
    """Run the leading steps that check, as far as they only look. Raises what they refuse."""
    now = clock.now()
    given = msgspec.json.decode(msgspec.json.encode(args))
    operation = Operation(id="", project=project, created_at=now, updated_at=now, saga=saga.name, args=given)
    ctx = Context(Trial(operation), store, parts)
    for step in saga.steps:
        if not step.checks:
            return
        ctx.results[step.name] = msgspec.json.decode(msgspec.json.encode(await step.do(ctx)))
