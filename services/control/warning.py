"""Warnings: what any part reports, once for each thing it is about, until it is over or an operator has seen it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import msgspec

from chassis import documents, errors, listing
from chassis.calls import Call
from chassis.events import Event, lifecycle
from chassis.key_types import quote
from chassis.operation import requestor_of
from chassis.store import Change, Store, Versioned
from gen.nubibus.control.v1 import control_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.control import WARNING, Warning
from services.control.requests import field, read_object

NEW, ACKNOWLEDGED, RESOLVED = "new", "acknowledged", "resolved"
SETTABLE = (NEW, ACKNOWLEDGED)
SEVERITIES = ("low", "moderate", "high")
KEPT = timedelta(days=1)  # resolved ones, as in LXD
ATTEMPTS = 10
QUIET = timedelta(minutes=1)  # a repeat within it is not written: the log is no place for a heartbeat


class Warnings:
    """Answers for nubibus.control.v1.Warnings."""

    service: ClassVar[str] = "nubibus.control.v1.Warnings"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows = store.mirror(WARNING)

    async def List(self, request: control_pb2.ListRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        rows = sorted((row.value for row in self.rows.select()), key=lambda one: (one.first_seen_at, one.uuid))
        if request.project:
            rows = [one for one in rows if one.project == request.project]
        pieces = (documents.render(_shown(one)) for one in rows) if request.recursion else listing.urls(map(_url, rows))
        async for chunk in listing.chunks(pieces):
            yield chunk

    async def Get(self, request: control_pb2.NameRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.name)
        return documents.document(_shown(row.value), editable={"status": row.value.status}, revision=row.revision)

    def _one(self, name: str) -> Versioned[Warning]:
        row = self.rows.get(name)
        if row is None:
            raise errors.NotFound("Warning not found")
        return row

    async def Put(self, request: control_pb2.PutRequest, call: Call) -> rest_pb2.Document:
        """The status is all that can be changed."""
        row = self._one(request.name)
        documents.check_if_match(request.if_match, documents.etag_of({"status": row.value.status}))
        status = field(read_object(request.body), "status", str, "", "WarningPut")
        if status not in (*SETTABLE, RESOLVED):
            raise errors.BadRequest(f"Invalid warning type {quote(status)}")  # LXD's words, though it means the status
        if status not in SETTABLE:
            raise errors.Forbidden(f'Status may only be set to "acknowledge" or "new", not "{status}"')
        changed = msgspec.structs.replace(row.value, status=status, updated_at=datetime.now(UTC))
        change = Change().put(WARNING, changed, expect=row.revision)
        change.event(_event("warning-acknowledged" if status == ACKNOWLEDGED else "warning-reset", row.value))
        return documents.empty(revision=await self.store.commit(change))

    Patch = Put

    async def Delete(self, request: control_pb2.NameRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.name)
        change = Change().delete(WARNING, row.key, expect=row.revision).event(_event("warning-deleted", row.value))
        return documents.empty(revision=await self.store.commit(change))

    # For the other parts.

    async def Report(self, request: control_pb2.WarningReport, call: Call) -> rest_pb2.Empty:
        """The same warning again counts up, and a resolved one is new again."""
        if request.severity and request.severity not in SEVERITIES:
            raise errors.BadRequest(f"Invalid severity {request.severity!r}")
        row = self._same(request)
        if row is None or not _just_seen(row.value, request):
            await self.note(request)
        return rest_pb2.Empty()

    async def note(self, request: control_pb2.WarningReport) -> None:
        """Report, however soon after the last time."""
        for _attempt in range(ATTEMPTS):
            row = self._same(request)
            now = datetime.now(UTC)
            warning = _again(row.value, request.message, now) if row else _new(request, now)
            try:
                await self.store.commit(Change().put(WARNING, warning, expect=row.revision if row else 0))
            except errors.Conflict:
                await self.store.refresh()
                continue
            return
        raise errors.Unavailable("The warning is being changed by somebody else")

    async def Resolve(self, request: control_pb2.WarningReport, call: Call) -> rest_pb2.Empty:
        row = self._same(request)
        if row is not None:
            await self.resolve(row)
        return rest_pb2.Empty()

    async def resolve(self, row: Versioned[Warning]) -> None:
        """It is over; what is over already stays as it is."""
        if row.value.status != RESOLVED:
            now = datetime.now(UTC)
            resolved = msgspec.structs.replace(row.value, status=RESOLVED, updated_at=now)
            await self.store.commit(Change().put(WARNING, resolved, expect=row.revision))

    def _same(self, request: control_pb2.WarningReport) -> Versioned[Warning] | None:
        identity = _identity(request)
        return self.rows.get(str(identity))

    async def forget_resolved(self) -> None:
        """Drop what was resolved a day ago."""
        before = datetime.now(UTC) - KEPT
        for row in list(self.rows.select()):
            if row.value.status == RESOLVED and row.value.updated_at < before:
                await self.store.commit(Change().delete(WARNING, row.key, expect=row.revision))


_NAMES = uuid.UUID("5f1ad3a2-7b2c-4c50-8a4e-5be5a8a5cf3e")


def _identity(request: control_pb2.WarningReport) -> uuid.UUID:
    """The same for the same thing, so that two reports at once cannot make two warnings."""
    return uuid.uuid5(_NAMES, "\n".join((request.type, request.project, request.entity_url, request.member)))


def _new(request: control_pb2.WarningReport, now: datetime) -> Warning:
    return Warning(
        uuid=str(_identity(request)),
        type=request.type,
        severity=request.severity or "low",
        last_message=request.message,
        project=request.project,
        entity_url=request.entity_url,
        location=request.member or "none",
        first_seen_at=now,
        last_seen_at=now,
        updated_at=now,
    )


def _just_seen(warning: Warning, request: control_pb2.WarningReport) -> bool:
    """Whether the same was said a moment ago and is not over."""
    same = warning.status != RESOLVED and warning.last_message == request.message
    return same and datetime.now(UTC) - warning.last_seen_at < QUIET


def _again(warning: Warning, message: str, now: datetime) -> Warning:
    status = NEW if warning.status == RESOLVED else warning.status
    return msgspec.structs.replace(
        warning, status=status, last_message=message, count=warning.count + 1, last_seen_at=now, updated_at=now
    )


def _shown(warning: Warning) -> dict[str, Any]:
    return {
        "uuid": warning.uuid,
        "location": warning.location,
        "project": warning.project,
        "type": warning.type,
        "count": warning.count,
        "first_seen_at": documents.timestamp(warning.first_seen_at),
        "last_seen_at": documents.timestamp(warning.last_seen_at),
        "last_message": warning.last_message,
        "severity": warning.severity,
        "status": warning.status,
        "entity_url": warning.entity_url,
    }


def _url(warning: Warning) -> str:
    return f"/1.0/warnings/{warning.uuid}"


def _event(action: str, warning: Warning) -> Event:
    return lifecycle(action, _url(warning), project=warning.project or "default", requestor=requestor_of())
