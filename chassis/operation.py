"""An operation as a row of the log, and as LXD's clients see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from chassis import calls, clock, events
from chassis.errors import BadRequest, Conflict
from chassis.events import Requestor
from chassis.kinds import Kind, Versioned
from chassis.store import Change

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

LockKey = tuple[str, str, str]  # noun, project, name


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One line of a journal: `state` is "done" (with what the step returned) or "undone". It took so many milliseconds."""

    step: str
    state: str
    result: Any = None
    milliseconds: float = 0.0


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


OPERATION = Kind("operation", Operation, ("id",), fleeting=True)
LOCK = Kind("lock", Lock, ("noun", "project", "name"), fleeting=True)


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
    steps: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()


def render(operation: Operation, progress: Mapping[str, Any] | None = None, *, steps: bool = False) -> bytes:
    """The operation as JSON, in LXD's shape; `progress` is laid over its metadata.

    `steps` adds what LXD has not: each step of its saga that was done or undone, and how long that took.
    """
    taken = [{"name": e.step, "state": e.state, "milliseconds": e.milliseconds} for e in operation.journal]
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
            taken if steps else msgspec.UNSET,
        )
    )


def event_of(operation: Operation, progress: Mapping[str, Any] | None = None) -> events.Event:
    """The operation event that tells of its present state."""
    return events.operation(render(operation, progress), project=operation.project, location=operation.location)


def requestor_of(call: calls.Call | None = None) -> Requestor | None:
    """Who asks, for the events of what follows; nobody when a service acts on its own."""
    caller = (call or calls.current()).caller
    if caller.protocol == "internal":
        return None
    return Requestor(caller.username, caller.protocol, caller.address)


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


def cancelled(operation: Operation) -> events.Event:
    """Who cancelled it: the caller of this moment."""
    where = f"/1.0/operations/{operation.id}"
    return events.lifecycle(
        "operation-cancelled",
        where,
        project=operation.project,
        requestor=requestor_of(),
        location=operation.location,
    )
