"""Operations: rows that say what was accepted, how far it is and how it ended.

What always holds: an operation's rows have one writer, its owner (a service on a member); a status never goes back; the row that ends it
frees its locks and tells its event in the same change. An ended operation stays readable for `store.operations_ttl` seconds, then the
log drops it.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from chassis import clock, once
from chassis.errors import Conflict, NotFound
from chassis.kinds import Versioned
from chassis.operation import (
    CANCELLED,
    CANCELLING,
    FAILURE,
    LOCK,
    OPERATION,
    RUNNING,
    STATUS,
    SUCCESS,
    Accepted,
    Entry,
    Lock,
    LockKey,
    Operation,
    busy,
    cancelled,
    event_of,
    put_state,
    refuse_cancel,
    render,
    requestor_of,
)
from chassis.store import Change, Store

__all__ = [
    "CANCELLED",
    "CANCELLING",
    "FAILURE",
    "LOCK",
    "OPERATION",
    "RUNNING",
    "STATUS",
    "SUCCESS",
    "Accepted",
    "Entry",
    "Lock",
    "LockKey",
    "Operation",
    "Operations",
    "busy",
    "cancelled",
    "event_of",
    "put_state",
    "refuse_cancel",
    "render",
    "requestor_of",
]

Making = Callable[[], "Change | None"]  # makes what is to be added to a change, or raises a fault

_ATTEMPTS = 20
_KEYS = uuid.UUID("6f2f54c5-54a8-4d5c-9f19-1d8b2c5a7c11")


class Operations:
    """The operations of one service on one member. Made before `store.start()`."""

    def __init__(self, store: Store, service: str, member: str = "none") -> None:
        self.store = store
        self.service = service
        self.member = member
        self.rows = store.mirror(OPERATION)
        self.locks = store.mirror(LOCK)
        self.on_cancel: dict[str, Callable[[], Any]] = {}
        self.accepting = True

    def one(self, id: str) -> Versioned[Operation]:
        row = self.rows.get(id)
        if row is None:
            raise NotFound("Operation not found")
        return row

    def mine(self, operation: Operation) -> bool:
        return operation.owner == self.service and operation.location == self.member

    def holder(self, lock: LockKey) -> Operation | None:
        """The running operation that holds a lock, if any."""
        row = self.locks.get(*lock)
        held = self.rows.get(row.value.operation) if row else None
        return held.value if held and not held.value.final else None

    def refuse_busy(self, locks: Sequence[LockKey]) -> None:
        """LXD's busy error when one of these is held."""
        for lock in locks:
            held = self.holder(lock)
            if held is not None:
                raise busy(lock, held)

    async def open(
        self,
        kind: str,
        *,
        description: str,
        project: str = "default",
        resources: Mapping[str, Sequence[str]] | None = None,
        metadata: dict[str, Any] | None = None,
        locks: Sequence[LockKey] = (),
        may_cancel: bool = False,
        saga: str = "",
        args: dict[str, Any] | None = None,
        change: Change | Making | None = None,
        key: str = "",
        waited: str | None = None,
    ) -> Accepted:
        """Accept an operation: its row, its locks, its event and `change` in one batch. When this returns it is durable.

        Conflict with LXD's busy text when a lock is held, Conflict as well when a guard of `change` fails. Where `change` is a
        function, it is called on mirrors that are as new as the locks: what it checks there (raising a fault to refuse) still
        holds when the operation is accepted, as far as it is under these locks. The same idempotency `key` (per project) gives
        the same operation again.
        """
        now = clock.now()
        operation = Operation(
            id=str(uuid.uuid5(_KEYS, f"{project}\n{key}")) if key else str(uuid.uuid4()),
            kind=kind,
            description=description,
            project=project,
            location=self.member,
            owner=self.service,
            created_at=now,
            updated_at=now,
            resources={noun: tuple(urls) for noun, urls in (resources or {}).items()},
            metadata=metadata,
            may_cancel=may_cancel,
            saga=saga,
            args=args or {},
            locks=tuple((noun, of, name) for noun, of, name in locks),
            requestor=requestor_of(),
            requested=key,
        )
        once.accepted(operation.id, waited)
        return await self._accept(operation, change)

    async def _accept(self, operation: Operation, extra: Change | Making | None) -> Accepted:
        for _attempt in range(_ATTEMPTS):
            known = self.rows.get(operation.id)
            if known is not None:
                return Accepted(known.value.id, render(known.value), known.revision, known.value)
            self.refuse_busy(operation.locks)
            change = Change()
            change.put(OPERATION, operation, expect=0)
            for lock in operation.locks:
                change.put(LOCK, Lock(*lock, operation.id), expect=self.locks.revision(*lock), exact=True)
            change.event(event_of(operation))
            added = extra() if callable(extra) else extra
            if added is not None:
                change.merge(added)
            try:
                revision = await self.store.commit(change)
            except Conflict:
                # Somebody took a lock or the same key, or a guard of the caller's own failed: only the log can tell.
                await self.store.refresh()
                if isinstance(extra, Change) and await self.store.outdated(extra):
                    raise
                continue
            return Accepted(operation.id, render(operation), revision, operation)
        raise Conflict("The object is being changed by somebody else")

    async def open_socket(
        self,
        *,
        description: str,
        project: str = "default",
        resources: Mapping[str, Sequence[str]] | None = None,
        metadata: dict[str, Any] | None = None,
        fds: Sequence[str] = ("0", "control"),
        on_cancel: Callable[[], Any] | None = None,
        locks: Sequence[LockKey] = (),
    ) -> Accepted:
        """A websocket operation (exec, console): a secret for each of `fds` in metadata. Its owner must call `end`.

        When the owner starts anew it ends as a Failure, because its connections are gone.
        """
        given = {**(metadata or {}), "fds": {fd: secrets.token_hex(32) for fd in fds}}
        accepted = await self.open(
            "websocket",
            description=description,
            project=project,
            resources=resources,
            metadata=given,
            may_cancel=on_cancel is not None,
            locks=locks,
        )
        if on_cancel is not None:
            self.on_cancel[accepted.id] = on_cancel
        return accepted

    async def open_token(
        self,
        *,
        description: str,
        project: str = "default",
        resources: Mapping[str, Sequence[str]] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Accepted:
        """A token operation (certificate add, cluster join): it stays until it is used (`end`) or cancelled."""
        return await self.open(
            "token",
            description=description,
            project=project,
            resources=resources,
            metadata=metadata,
            may_cancel=True,
        )

    async def update(self, id: str, metadata: Mapping[str, Any]) -> int:
        """Lay `metadata` over what the operation has, durably, and tell it. Not for the operations of a running saga."""
        return await self._write(id, lambda o: msgspec.structs.replace(o, metadata={**(o.metadata or {}), **metadata}))

    async def end(
        self,
        id: str,
        *,
        err: str = "",
        status_code: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        change: Change | None = None,
    ) -> int:
        """End an operation that no saga runs: Success, or Failure with a text. Ending it twice changes nothing."""
        code = status_code or (FAILURE if err else SUCCESS)
        self.on_cancel.pop(id, None)

        def ended(o: Operation) -> Operation:
            given = {**(o.metadata or {}), **metadata} if metadata else o.metadata
            return msgspec.structs.replace(o, status_code=code, err=err, metadata=given, may_cancel=False)

        return await self._write(id, ended, change)

    async def cancel(self, id: str) -> None:
        """Cancel an operation that no saga runs. BadRequest with LXD's text when it cannot be."""
        operation = self.one(id).value
        refuse_cancel(operation)
        on_cancel = self.on_cancel.pop(id, None)
        if on_cancel is not None:
            told = on_cancel()
            if hasattr(told, "__await__"):
                await told
        await self.end(id, status_code=CANCELLED, change=Change().event(cancelled(operation)))

    async def sweep(self) -> None:
        """At the start of a service: what no saga ran (websockets, commands) went with the process that ran it."""
        for row in self.rows.select():
            operation = row.value
            if self.mine(operation) and operation.kind != "token" and not operation.final and not operation.saga:
                lost = "connection" if operation.kind == "websocket" else "command"
                await self.end(operation.id, err=f"The {lost} was lost when the service restarted")

    async def wait(self, id: str, timeout: float | None = None) -> Operation:
        """Until it is final; the operation as it is after `timeout` seconds."""
        row = await self.store.until(OPERATION, (id,), lambda row: row is None or row.value.final, timeout)
        if row is None:
            raise NotFound("Operation not found")
        return row.value

    async def _write(self, id: str, made: Callable[[Operation], Operation], extra: Change | None = None) -> int:
        for _attempt in range(_ATTEMPTS):
            row = self.one(id)
            if row.value.final:
                return row.revision
            change = Change()
            if extra is not None:
                change.merge(extra)
            put_state(change, made(row.value), row.revision, self.store.operations_ttl, self.locks.get)
            try:
                return await self.store.commit(change, patience=None)
            except Conflict:
                await self.store.refresh()
        raise Conflict(f"Operation {id} is being changed by somebody else")
