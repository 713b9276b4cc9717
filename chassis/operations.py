"""Operations: rows that say what was accepted, how far it is and how it ended.

What always holds: an operation's rows have one writer, its owner (a service on a member); a status never goes back; the row that ends it
frees its locks and tells its event in the same change. An ended operation stays readable for `retention` seconds, then the log drops it.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from chassis import calls, clock, events
from chassis.errors import BadRequest, Conflict, NotFound
from chassis.events import Requestor
from chassis.kinds import Kind, Versioned
from chassis.store import Change, Store

STATUS = {
    100: "Operation created",
    101: "Started",
    102: "Stopped",
    103: "Running",
    104: "Cancelling",
    105: "Pending",
    106: "Starting",
    107: "Stopping",
    108: "Aborting",
    109: "Freezing",
    110: "Frozen",
    111: "Thawed",
    112: "Error",
    113: "Ready",
    200: "Success",
    400: "Failure",
    401: "Cancelled",
}
RUNNING, CANCELLING, SUCCESS, FAILURE, CANCELLED = 103, 104, 200, 400, 401
RETENTION = 3600

LockKey = tuple[str, ...]


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One line of a journal: `state` is "done" (with what the step returned) or "undone"."""

    step: str
    state: str
    result: Any = None


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An operation. `owner` and `location`: the service and the member that run it. `kind`: task, websocket or token.

    `undo_from` is the step at which it turned back: once set, it only undoes. `requested` is the caller's idempotency key.
    """

    id: str
    kind: str = "task"
    description: str = ""
    project: str = "default"
    location: str = "none"
    owner: str = ""
    created_at: str
    updated_at: str
    status_code: int = RUNNING
    resources: dict[str, tuple[str, ...]] = {}
    metadata: dict[str, Any] | None = None
    err: str = ""
    may_cancel: bool = False
    saga: str = ""
    args: dict[str, Any] = {}
    journal: tuple[Entry, ...] = ()
    undo_from: str = ""
    cancel_requested: bool = False
    locks: tuple[LockKey, ...] = ()
    requestor: Requestor | None = None
    requested: str = ""

    @property
    def final(self) -> bool:
        return self.status_code >= SUCCESS

    @property
    def url(self) -> str:
        return f"/1.0/operations/{self.id}"

    @property
    def secrets(self) -> dict[str, str]:
        """Websockets of the operation: name ("0", "control") to secret."""
        fds = (self.metadata or {}).get("fds")
        return dict(fds) if isinstance(fds, Mapping) else {}


class Lock(msgspec.Struct, frozen=True):
    """One writer of one entity. Void when its operation is final or gone."""

    noun: str
    project: str
    name: str
    operation: str


OPERATION = Kind("operation", Operation, ("id",))
LOCK = Kind("lock", Lock, ("noun", "project", "name"))


class Accepted(NamedTuple):
    """What an accepted operation answers with: its id, the rendered document, the revision of its row, and the row."""

    id: str
    operation: bytes
    revision: int
    row: Operation


class _Rendered(msgspec.Struct):
    """The operation as LXD writes it; the order of fields is LXD's."""

    id: str
    class_: str = msgspec.field(name="class")
    description: str
    created_at: str
    updated_at: str
    status: str
    status_code: int
    resources: dict[str, tuple[str, ...]] | None
    metadata: dict[str, Any] | None
    may_cancel: bool
    err: str
    location: str


_encoder = msgspec.json.Encoder()


def render(operation: Operation, progress: Mapping[str, Any] | None = None) -> bytes:
    """The operation as JSON, in LXD's shape; `progress` is laid over its metadata."""
    metadata = {**(operation.metadata or {}), **progress} if progress else operation.metadata
    return _encoder.encode(
        _Rendered(
            operation.id,
            operation.kind,
            operation.description,
            operation.created_at,
            operation.updated_at,
            STATUS[operation.status_code],
            operation.status_code,
            operation.resources or None,
            metadata,
            operation.may_cancel,
            operation.err,
            operation.location,
        )
    )


def event_of(operation: Operation, progress: Mapping[str, Any] | None = None) -> events.Event:
    """The operation event that tells of its present state."""
    return events.operation(
        render(operation, progress), project=operation.project, location=operation.location
    )


def requestor_of(call: calls.Call | None = None) -> Requestor | None:
    """Who asks, for the events of what follows; nobody when a service acts on its own."""
    caller = (call or calls.current()).caller
    if caller.protocol == "internal":
        return None
    return Requestor(caller.username, caller.protocol, caller.address)


class Operations:
    """The operations of one service on one member. Made before `store.start()`."""

    def __init__(self, store: Store, service: str, member: str = "none") -> None:
        self.store = store
        self.service = service
        self.member = member
        self.retention = RETENTION
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
        change: Change | None = None,
        key: str = "",
    ) -> Accepted:
        """Accept an operation: its row, its locks, its event and `change` in one batch. When this returns it is durable.

        Conflict with LXD's busy text when a lock is held, Conflict as well when a guard of `change` fails. The same idempotency
        `key` (per project) gives the same operation again.
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
            locks=tuple(tuple(lock) for lock in locks),
            requestor=requestor_of(),
            requested=key,
        )
        return await self._accept(operation, change)

    async def _accept(self, operation: Operation, extra: Change | None) -> Accepted:
        for _attempt in range(_ATTEMPTS):
            known = self.rows.get(operation.id)
            if known is not None:
                return Accepted(known.value.id, render(known.value), known.revision, known.value)
            self.refuse_busy(operation.locks)
            change = Change()
            change.put(OPERATION, operation, expect=0)
            for lock in operation.locks:
                change.put(LOCK, Lock(*lock, operation=operation.id), expect=self.locks.revision(*lock))
            change.event(event_of(operation))
            if extra is not None:
                change.merge(extra)
            try:
                revision = await self.store.commit(change)
            except Conflict:
                # Somebody took a lock or the same key, or a guard of the caller's own failed: only the log can tell.
                await self.store.refresh()
                if extra is not None and await self.store.outdated(extra):
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

    def by_secret(self, id: str, secret: str) -> str:
        """The websocket of an operation that a secret opens ("0", "control"); NotFound if none does."""
        for fd, expected in self.one(id).value.secrets.items():
            if secrets.compare_digest(expected, secret):
                return fd
        raise NotFound("Operation not found")

    async def update(self, id: str, metadata: Mapping[str, Any]) -> int:
        """Lay `metadata` over what the operation has, durably, and tell it. Not for the operations of a running saga."""
        return await self._write(
            id, lambda o: msgspec.structs.replace(o, metadata={**(o.metadata or {}), **metadata})
        )

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
        await self.end(id, status_code=CANCELLED)

    async def sweep(self) -> None:
        """At the start of a service: its websocket operations of before have lost their connections."""
        for row in self.rows.select():
            operation = row.value
            if (
                self.mine(operation)
                and operation.kind == "websocket"
                and not operation.final
                and not operation.saga
            ):
                await self.end(operation.id, err="The connection was lost when the service restarted")

    async def wait(self, id: str, timeout: float | None = None) -> Operation:
        """Until it is final; the operation as it is after `timeout` seconds."""
        row = await self.store.until(OPERATION, (id,), lambda row: row is None or row.value.final, timeout)
        if row is None:
            raise NotFound("Operation not found")
        return row.value

    async def _write(
        self, id: str, made: Callable[[Operation], Operation], extra: Change | None = None
    ) -> int:
        for _attempt in range(_ATTEMPTS):
            row = self.one(id)
            if row.value.final:
                return row.revision
            change = Change()
            put_state(change, made(row.value), row.revision, self.retention, self.locks.get)
            if extra is not None:
                change.merge(extra)
            try:
                return await self.store.commit(change, patience=None)
            except Conflict:
                await self.store.refresh()
        raise Conflict(f"Operation {id} is being changed by somebody else")


def put_state(
    change: Change,
    operation: Operation,
    expect: int,
    retention: int,
    lock_of: Callable[..., Versioned[Lock] | None],
) -> Operation:
    """Put a new state of an operation and its event; a final one frees its locks and gets a time to live. Returns what was put."""
    operation = msgspec.structs.replace(operation, updated_at=clock.now())
    change.put(OPERATION, operation, expect=expect, ttl=retention if operation.final else 0)
    change.event(event_of(operation))
    if operation.final:
        for lock in operation.locks:
            row = lock_of(*lock)
            if row is not None and row.value.operation == operation.id:
                change.delete(LOCK, row.key, expect=row.revision)
    return operation


def refuse_cancel(operation: Operation) -> None:
    if operation.final:
        raise BadRequest("Only running operations can be cancelled")
    if not operation.may_cancel:
        raise BadRequest("This operation can't be cancelled")


def busy(lock: LockKey, holder: Operation) -> Conflict:
    """LXD's words for an entity that another operation holds."""
    action = holder.saga.rpartition(".")[2] or holder.description.split(" ")[0].lower()
    noun = lock[0].replace("_", " ").replace("-", " ").capitalize()
    return Conflict(f'{noun} is busy running a "{action}" operation')


_ATTEMPTS = 20
_KEYS = uuid.UUID("6f2f54c5-54a8-4d5c-9f19-1d8b2c5a7c11")
