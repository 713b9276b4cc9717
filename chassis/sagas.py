"""The sagas of a service: accepting, running, resuming and cancelling them.

    sagas = Sagas(store, "instances", [start.SAGA, stop.SAGA], parts=wiring)      # before store.start()
    await sagas.start()                                                           # after it: resumes what was left
    accepted = await sagas.accept(start.SAGA, {"name": "c1"}, project="default", resources={...}, locks=(...,))

An operation runs where its row says (owner and location); the row in the own mirror is what starts it, so accepting for another member
is the same as accepting for oneself.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from chassis import calls
from chassis.errors import Unavailable
from chassis.kinds import Versioned
from chassis.operations import Accepted, LockKey, Making, Operation, Operations, refuse_cancel
from chassis.run import Run
from chassis.saga import Saga, check
from chassis.store import Change, Store

log = structlog.get_logger(__name__)


class Sagas:
    """See the module. `operations` are the same rows seen as operations (websocket and token ones too)."""

    def __init__(
        self,
        store: Store,
        service: str,
        sagas: Sequence[Saga],
        *,
        parts: Any = None,
        member: str = "none",
    ) -> None:
        self.operations = Operations(store, service, member)
        self.parts = parts
        self._store = store
        self._known = {saga.name: saga for saga in sagas}
        self._runs: dict[str, tuple[Run, asyncio.Task[None]]] = {}
        self._end_watch: Callable[[], None] | None = None
        self._stopping = False
        self._starting = False

    async def start(self) -> None:
        """Resume what this service left unfinished, and run from now on what is accepted for it."""
        await self.operations.sweep()
        self._starting = True
        self._end_watch = self.operations.rows.watch(self._consider)
        self._starting = False

    resume = start

    async def stop(self, grace: float = 10.0) -> None:
        """Let the running ones come to a step border; after `grace` seconds they are broken off as a crash would do it."""
        self._stopping = True
        if self._end_watch is not None:
            self._end_watch()
        for run, _ in self._runs.values():
            run.stop()
        tasks = [task for _, task in self._runs.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(
        self,
        saga: Saga,
        args: dict[str, Any],
        *,
        project: str = "default",
        resources: Mapping[str, Sequence[str]] | None = None,
        locks: Sequence[LockKey] = (),
        change: Change | Making | None = None,
        metadata: dict[str, Any] | None = None,
        description: str = "",
        key: str = "",
        kind: str = "task",
        waited: str | None = None,
    ) -> Accepted:
        """Accept an operation; durable when this returns. Errors as `Operations.open`.

        `waited`: the caller is answered when the operation has ended, with this location ("": without one). Where the call is only to
        be validated, the saga's checks are made.
        """
        if self._stopping:
            raise Unavailable(f"The service {self.operations.service} is stopping")
        if saga.name not in self._known:
            raise RuntimeError(f"Saga {saga.name} is not registered")
        if calls.current().validate_only:
            self.operations.refuse_busy(locks)
            await check(saga, args, project, self._store, self.parts)
        return await self.operations.open(
            kind,
            description=description or saga.description,
            project=project,
            resources=resources,
            metadata=metadata,
            locks=locks,
            may_cancel=saga.may_cancel,
            saga=saga.name,
            args=args,
            change=change,
            key=key,
            waited=waited,
        )

    async def cancel(self, id: str) -> None:
        """Cancel an operation of this service; returns when the wish is durable, the undoing follows."""
        operation = self.operations.one(id).value
        refuse_cancel(operation)
        running = self._runs.get(id)
        if running is not None:
            await running[0].cancel()
        elif operation.saga:
            raise Unavailable("The operation rests until its service starts again")
        else:
            await self.operations.cancel(id)

    @property
    def running(self) -> int:
        return len(self._runs)

    def _consider(
        self, _key: tuple[str, ...], old: Versioned[Operation] | None, row: Versioned[Operation] | None
    ) -> None:
        """A row that appeared in the log: run it if it is ours."""
        if old is not None or row is None or row.value.final or not row.value.saga:
            return
        if self._stopping or not self.operations.mine(row.value):
            return
        saga = self._known.get(row.value.saga)
        if saga is None:
            log.error("An operation asks for an unknown saga", saga=row.value.saga, operation=row.value.id)
            return
        run = Run(saga, row, self.operations, self.parts, resumed=self._starting)
        # A context of its own: the call that accepted it has ended when it runs.
        task = asyncio.get_running_loop().create_task(
            self._run(run), name=f"{saga.name} {row.value.id}", context=contextvars.Context()
        )
        self._runs[row.value.id] = run, task

    async def _run(self, run: Run) -> None:
        try:
            await run()
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("A saga cannot go on", saga=run.saga.name, operation=run.operation.id)
        finally:
            self._runs.pop(run.operation.id, None)
