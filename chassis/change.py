"""A change: rows and the events that tell of them, which become true together or not at all."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple, TypeVar

import msgspec

from chassis.events import Event
from chassis.kinds import AnyKind, Kind
from chassis.log import DELETED, HEADER_BACK, HEADER_BATCH, HEADER_LEFT, HEADER_ROW, HEADER_TTL, Message

T = TypeVar("T", bound=msgspec.Struct)

DELETION_TTL = 3600
EVENTS_TTL = 24 * 3600
OPERATIONS_TTL = 3600  # of an ended operation


class Put(NamedTuple):
    """One row of a change; `value` None deletes it. `ttl` in seconds, 0 = it stays. `exact`: see `Change.put`."""

    kind: AnyKind
    key: tuple[str, ...]
    value: Any
    expect: int | None
    ttl: int
    exact: bool = False


class Change:
    """Collects rows and events; nothing happens until `Store.commit`. A row that is put twice counts once, the last value wins."""

    def __init__(self) -> None:
        self.rows: dict[str, Put] = {}
        self.events: list[Event] = []
        self.revisions: dict[str, int] = {}  # subject to revision, once it is committed

    def __bool__(self) -> bool:
        return bool(self.rows or self.events)

    def put(self, kind: Kind[T], value: T, *, expect: int | None, ttl: int = 0, exact: bool = False) -> Change:
        """Write a row. expect=0: it must not exist; a revision: it must still have it; None: unguarded.

        `exact`: with expect=0, it must not have existed either since the mirror last saw it go.
        """
        key = kind.key_of(value)
        self._add(kind.subject(key), Put(kind, key, value, expect, ttl, exact))
        return self

    def delete(self, kind: Kind[Any], key: tuple[str, ...], *, expect: int | None) -> Change:
        self._add(kind.subject(key), Put(kind, key, None, expect, 0))
        return self

    def event(self, event: Event) -> Change:
        """An event that can be read if and only if the rows of this change can be read."""
        self.events.append(event)
        return self

    def merge(self, other: Change) -> Change:
        """Take over everything that the other one collected."""
        for subject, row in other.rows.items():
            self._add(subject, row)
        self.events += other.events
        return self

    def _add(self, subject: str, row: Put) -> None:
        # The guard is what was read first: a later put of the same row in one change must not loosen it.
        before = self.rows.get(subject)
        self.rows[subject] = row._replace(expect=before.expect) if before and before.expect is not None else row

    def messages(self, *, events_ttl: int = EVENTS_TTL) -> list[Message]:
        """The batch: rows first, then events."""
        self.rows = dict(sorted(self.rows.items(), key=lambda item: not item[1].kind.fleeting))
        batch = uuid.uuid4().hex
        left = len(self.rows)
        out: list[Message] = []
        for subject, row in self.rows.items():
            left -= 1
            out.append(_row_message(subject, row, batch, left))
        for back, event in enumerate(self.events, 1):
            headers = {HEADER_BATCH: batch, HEADER_TTL: f"{events_ttl}s", **event.headers()}
            if self.rows:
                headers[HEADER_BACK] = str(back)
            out.append(Message(event.subject(), event.encode(), headers))
        return out


def _row_message(subject: str, row: Put, batch: str, left: int) -> Message:
    headers = {HEADER_BATCH: batch}
    if left:
        headers[HEADER_LEFT] = str(left)
    if row.value is None:
        headers[HEADER_ROW] = DELETED
        headers[HEADER_TTL] = f"{DELETION_TTL}s"
        return Message(subject, b"", headers, row.expect)
    if row.ttl:
        headers[HEADER_TTL] = f"{row.ttl}s"
    return Message(subject, row.kind.encode(row.value), headers, row.expect)
