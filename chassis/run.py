"""One run of a saga: forward through its steps, or back; each border is written to the log before the next step begins.

Transitions: forward -> finished (Success), forward -> undoing -> ended (Failure or Cancelled). A run that is interrupted (a stop or a
crash of the service) leaves the row as it is, and the next run of the same operation goes on from there.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Container
from typing import Any

import msgspec
import structlog

from chassis import calls
from chassis.calls import Call
from chassis.errors import Cancelled, Conflict, Fault, Unavailable
from chassis.events import Event
from chassis.failpoint import failpoint
from chassis.kinds import Versioned
from chassis.operations import (
    CANCELLED,
    CANCELLING,
    FAILURE,
    OPERATION,
    SUCCESS,
    Entry,
    Operation,
    Operations,
    cancelled,
    event_of,
    put_state,
    refuse_cancel,
)
from chassis.saga import Context, Finish, Saga, Step
from chassis.store import Change

log = structlog.get_logger(__name__)

FINISH = "finish"
_CONFLICTS = 12
_UNDO_ATTEMPTS = 4
_LONGEST_PAUSE = 2.0


class Stopped(Exception):
    """The run ends here without an end of the operation: the service stops, or somebody else runs it."""


class Run:
    """One run. `start` makes the task; `task` ends when the operation is final or the run was stopped."""

    def __init__(
        self, saga: Saga, row: Versioned[Operation], operations: Operations, parts: Any, *, resumed: bool
    ) -> None:
        self.saga = saga
        self.operation = row.value
        self._revision = row.revision
        self._operations = operations
        self._store = operations.store
        self._context = Context(self, operations.store, parts)
        self._context.results = {e.step: e.result for e in row.value.journal if e.state == "done"}
        self._reach = _reach(saga, self._context.results) if resumed else -1
        self._pending: list[Entry] = []
        self._writing = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._doing: asyncio.Task[Any] | None = None
        self._announcing: set[asyncio.Task[None]] = set()
        self._log = log.bind(saga=saga.name, operation=self.operation.id)
        self._loop_time = asyncio.get_running_loop().time

    # What others may ask of it.

    async def cancel(self) -> None:
        """Ask it to turn back at the next border (at once in an interruptible step). Durable when this returns."""
        async with self._writing:
            refuse_cancel(self.operation)
            told = Change().event(cancelled(self.operation))
            await self._put(told, cancel_requested=True, status_code=CANCELLING, may_cancel=False)
        if self._doing is not None:
            self._doing.cancel()

    def stop(self) -> None:
        """Ask it to stop at the next border; the operation goes on at the next start of the service."""
        self._stopping.set()

    async def update(self, metadata: dict[str, Any]) -> None:
        await self._write(metadata={**(self.operation.metadata or {}), **metadata}, told=True)

    def announce(self, progress: dict[str, Any]) -> None:
        self.tell(event_of(self.operation, progress))

    def tell(self, event: Event) -> None:
        task = asyncio.ensure_future(self._store.announce(event))
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    # The run.

    async def __call__(self) -> None:
        # What who asked for it had seen came before its row: the parts that it asks must have seen that too.
        calls.enter(Call(revision=self._revision))
        try:
            if not self.operation.undo_from and await self._forward():
                return
            await self._backward()
        except Stopped as e:
            self._log.info("The operation rests", reason=str(e))

    async def _forward(self) -> bool:
        """Through the steps that are not done and to the end; false when it must turn back."""
        at = FINISH
        try:
            for step in self.saga.steps:
                at = step.name
                if at in self._context.results:
                    continue
                self._border()
                await self._do(step)
            at = FINISH
            self._border()
            await self._finish()
            return True
        except Stopped:
            raise
        except Exception as e:
            await self._turn_back(at, e)
            return False

    async def _do(self, step: Step) -> None:
        began = self._loop_time()
        await failpoint(self.saga.name, f"{step.name}.do.before")
        # As the journal will give it back, so that a resumed run sees the same.
        result = msgspec.json.decode(msgspec.json.encode(await self._attempt(step)))
        await failpoint(self.saga.name, f"{step.name}.do.after")
        self._context.results[step.name] = result
        self._pending.append(Entry(step.name, "done", result, self._since(began)))
        # The last record travels with the end: a crash in between only makes the step run again.
        if not step.light and step is not self.saga.steps[-1]:
            await self._write()

    async def _attempt(self, step: Step) -> Any:
        """The step; again and again while a part that it needs is away and patience lasts."""
        waited = 0.0
        pause = 0.05
        while True:
            try:
                return await self._one_attempt(step)
            except Unavailable:
                if self._store.log.up:
                    if waited >= self.saga.patience:
                        raise
                    await self._pause(pause)
                    waited += pause
                    pause = min(pause * 2, _LONGEST_PAUSE)
                else:
                    await self._log_back()
                self._border()

    async def _one_attempt(self, step: Step) -> Any:
        if not step.interruptible:
            return await step.do(self._context)
        self._doing = asyncio.ensure_future(step.do(self._context))
        try:
            return await self._doing
        except asyncio.CancelledError:
            if self.operation.cancel_requested and self._doing.cancelled():
                raise Cancelled("Operation cancelled") from None
            self._doing.cancel()
            raise
        finally:
            self._doing = None

    async def _finish(self) -> None:
        await failpoint(self.saga.name, "finish.before")
        await self._end(self.saga.finish, status_code=SUCCESS)
        await failpoint(self.saga.name, "finish.after")

    async def _turn_back(self, at: str, error: Exception) -> None:
        """Note durably that it only undoes from now on, and why."""
        if not isinstance(error, Fault):
            self._log.error("A step failed in an unforeseen way", step=at, exc_info=error)
        text = error.text if isinstance(error, Fault) else str(error) or type(error).__name__
        self._log.info("The operation turns back", step=at, error=text)
        names = [step.name for step in self.saga.steps]
        if at in names and names.index(at) < self._reach:
            at = names[self._reach]
        wanted = isinstance(error, Cancelled) and self.operation.cancel_requested
        await self._write(undo_from=at, err=text, may_cancel=False, cancel_requested=wanted)

    async def _backward(self) -> None:
        """Undo from the step in progress down to the first, then end it."""
        undone = {e.step for e in self.operation.journal if e.state == "undone"}
        names = [step.name for step in self.saga.steps]
        at = self.operation.undo_from
        count = names.index(at) + 1 if at in names else len(names)
        for step in reversed(self.saga.steps[:count]):
            if step.undo is None or step.name in undone:
                continue
            self._rest_if_stopping()
            await self._undo(step)
        status_code = CANCELLED if self.operation.cancel_requested else FAILURE
        try:
            await self._end(self.saga.abandon, status_code=status_code)
        except (Stopped, Unavailable):
            raise
        except Exception as e:
            # An operation must end, whatever its abandon does; what it left is for the converging tasks.
            self._log.error("An operation could not be abandoned properly", exc_info=e)
            await self._end(None, status_code=status_code)

    async def _undo(self, step: Step) -> None:
        assert step.undo is not None
        began = self._loop_time()
        pause = 0.05
        failures = 0
        while True:
            try:
                await failpoint(self.saga.name, f"{step.name}.undo.before")
                await step.undo(self._context)
                await failpoint(self.saga.name, f"{step.name}.undo.after")
                break
            except Unavailable:
                await self._log_back()
            except Exception as e:
                failures += 1
                self._log.error("An undo failed", step=step.name, attempt=failures, exc_info=e)
                if failures >= _UNDO_ATTEMPTS:
                    break
            await self._pause(pause)
            self._rest_if_stopping()
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._pending.append(Entry(step.name, "undone", None, self._since(began)))
        await self._write()

    async def _end(self, put: Finish | None, *, status_code: int) -> None:
        """The change that ends the operation: what `put` adds, the final row, its event, the freed locks."""
        pause = 0.005
        for attempt in range(_CONFLICTS):
            change = Change()
            if put is not None:
                await self._collect(put, change)
            try:
                async with self._writing:
                    await self._put(change, status_code=status_code, may_cancel=False)
                return
            except Conflict:
                if attempt == _CONFLICTS - 1:
                    raise
                await self._own()
                await asyncio.sleep(pause)
                pause *= 2
                await self._store.refresh()

    async def _collect(self, put: Finish, change: Change) -> None:
        """Let finish or abandon add to the change; it is asked again while a part that it needs is away."""
        waited = 0.0
        while True:
            try:
                told = put(self._context, change)
                if inspect.isawaitable(told):
                    await told
                return
            except Unavailable:
                change.rows.clear()
                change.events.clear()
                if self._store.log.up and put is self.saga.finish and waited >= self.saga.patience:
                    raise
                await self._log_back()
                await self._pause(0.2)
                waited += 0.2
                self._rest_if_stopping()

    # The row.

    async def _write(self, *, told: bool = False, **changed: Any) -> None:
        """Write the row with what is pending in the journal; with an event if it should be told."""
        async with self._writing:
            try:
                await self._put(told=told, **changed)
            except Conflict:
                raise Stopped("somebody else runs it") from None

    async def _put(self, change: Change | None = None, *, told: bool = False, **changed: Any) -> None:
        """One change with the row's next state. Only with `_writing` held."""
        operation = self._next(**changed)
        if change is not None or told:
            change = change or Change()
            retention, lock_of = self._store.operations_ttl, self._operations.locks.get
            operation = put_state(change, operation, self._revision, retention, lock_of)
        else:
            change = Change().put(OPERATION, operation, expect=self._revision)
        await self._store.commit(change, patience=None, wait=operation.final)
        self._revision = change.revisions[OPERATION.subject((operation.id,))]
        self.operation = operation
        self._pending.clear()

    def _since(self, began: float) -> float:
        """Milliseconds since a moment of the loop's clock."""
        return round((self._loop_time() - began) * 1000, 3)

    def _next(self, **changed: Any) -> Operation:
        return msgspec.structs.replace(self.operation, journal=(*self.operation.journal, *self._pending), **changed)

    async def _own(self) -> None:
        """Whether the row is still the one that this run wrote; Stopped if not."""
        row = await self._store.fetch(OPERATION, self.operation.id)
        if row is None or row.revision != self._revision:
            raise Stopped("somebody else runs it")

    # Borders.

    def _border(self) -> None:
        """Between two steps: turn back if it was cancelled, rest if the service stops."""
        if self.operation.cancel_requested:
            raise Cancelled("Operation cancelled")
        self._rest_if_stopping()

    def _rest_if_stopping(self) -> None:
        if self._stopping.is_set():
            raise Stopped("the service stops")

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _log_back(self) -> None:
        """Wait for the log, or for the service to stop."""
        while not await self._store.log.when_up(0.2):
            self._rest_if_stopping()


def _reach(saga: Saga, done: Container[str]) -> int:
    """The last step that may have run before, though the journal does not say so: light ones leave no trace of their own."""
    left = [number for number, step in enumerate(saga.steps) if step.name not in done]
    for number in left:
        if not saga.steps[number].light:
            return number
    return left[-1] if left else -1
