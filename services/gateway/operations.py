"""The operations' endpoints, answered from the log: list, get, wait, cancel. Their owner is only asked to
cancel.

An ended operation stays readable by its id as long as the log keeps it (an hour); lists show it for as long
as LXD would (5 s).
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import defaultdict
from typing import Any

import msgspec

from chassis import clock, errors, operations, rpc
from chassis.calls import Call, Caller
from chassis.key_types import quote
from chassis.kinds import Versioned
from chassis.operations import OPERATION, Operation
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from services.gateway import encode
from services.gateway.auth import not_authorized
from services.gateway.encode import Response
from services.gateway.permissions import cancelling
from services.gateway.requests import Request

SERVICE = "nubibus.rest.v1.Operations"
SHOWN = 5.0  # seconds that an ended operation stays in lists
LONGEST_WAIT = 7 * 24 * 3600.0
_json = msgspec.json.Encoder().encode


class Operations:
    """All operations of the system, as the log has them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rows = store.mirror(OPERATION)
        self.progress: dict[str, dict[str, Any]] = {}
        self.waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self.rows.watch(self._changed)

    def _changed(
        self, key: tuple[str, ...], _old: Versioned[Operation] | None, new: Versioned[Operation] | None
    ) -> None:
        if new is not None and not new.value.final:
            return
        self.progress.pop(key[0], None)
        for future in self.waiting.pop(key[0], ()):
            if not future.done():
                future.set_result(None)

    def tick(self, document: dict[str, Any]) -> None:
        """Remember a progress tick: what a running operation shows besides its row."""
        metadata = document.get("metadata")
        row = self.rows.get(str(document.get("id")))
        if isinstance(metadata, dict) and row is not None and not row.value.final:
            self.progress[row.value.id] = metadata

    async def one(self, id: str, caller: Caller, secret: str = "") -> Versioned[Operation]:
        """An operation that the caller may see, or knows a secret of. NotFound otherwise."""
        row = self.rows.get(id)
        if row is None:
            await self.store.refresh()  # it may have been accepted elsewhere a moment ago
            row = self.rows.get(id)
        if row is None:
            raise errors.NotFound("Operation not found")
        if secret and knows(row.value, secret):
            return row
        if not caller.trusted:
            raise not_authorized()
        if not caller.may_see(row.value.project):
            raise errors.NotFound("Operation not found")
        return row

    def document(self, operation: Operation, *, steps: bool = False) -> bytes:
        progress = None if operation.final else self.progress.get(operation.id)
        return operations.render(operation, progress, steps=steps)

    async def list(self, request: Request, _parameters: tuple[str, ...]) -> Response:
        """Operations by status: URLs, or documents with recursion."""
        everywhere = request.flag("all-projects")
        recursion = request.number("recursion")
        groups: dict[str, list[Any]] = {}
        newest_first = time.time_ns() - SHOWN * 1e9
        for row in self.rows.select():
            found = row.value
            if not request.caller.may_see(found.project) or not (everywhere or found.project == request.project):
                continue
            if found.final and clock.nanoseconds(found.updated_at) < newest_first:
                continue
            status = operations.STATUS[found.status_code].lower()
            shown = msgspec.Raw(self.document(found)) if recursion else found.url
            groups.setdefault(status, []).append(shown)
        return encode.sync(_json(groups))

    async def get(self, request: Request, parameters: tuple[str, ...]) -> Response:
        """One operation; with `steps=true` also what each step of it took, which LXD does not tell."""
        row = await self.one(parameters[0], request.caller)
        return encode.sync(self.document(row.value, steps=request.flag("steps")))

    async def wait(self, request: Request, parameters: tuple[str, ...]) -> Response:
        """The operation when it has ended, or as it is after `timeout` seconds (-1: as long as it takes)."""
        secret = request.query.get("secret", "")
        row = await self.one(parameters[0], request.caller, secret)
        timeout = timeout_of(request.query.get("timeout", ""))
        if not row.value.final and timeout != 0:
            await self.ended(row.value.id, LONGEST_WAIT if timeout < 0 else float(timeout))
        now = self.rows.get(row.value.id) or row
        response = encode.sync(self.document(now.value))
        response.revision = now.revision
        return response

    async def ended(self, id: str, timeout: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[id].add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            pass
        finally:
            waiting = self.waiting.get(id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self.waiting[id]

    async def cancel(self, request: Request, parameters: tuple[str, ...]) -> Response:
        row = await self.one(parameters[0], request.caller)
        if not request.caller.may(cancelling(row.value.resources), row.value.project):
            raise not_authorized()
        operations.refuse_cancel(row.value)
        await rpc.call(
            SERVICE,
            "Cancel",
            rest_pb2.CancelRequest(id=row.value.id),
            part=row.value.owner,
            member=row.value.location,
            context=Call(
                caller=request.caller,
                revision=row.revision,
                validate_only=request.validate_only,
                once=request.once,
            ),
        )
        return encode.sync(b"{}")


def timeout_of(text: str) -> int:
    """Seconds; -1 for as long as it takes. Raises what LXD answers to what is no number."""
    try:
        return int(text) if text else -1
    except ValueError:
        raise errors.Internal(f"strconv.Atoi: parsing {quote(text)}: invalid syntax") from None


def knows(operation: Operation, secret: str) -> bool:
    """Whether a secret is one of the operation's (of a websocket, or of the operation itself)."""
    known = [*operation.secrets.values()]
    own = (operation.metadata or {}).get("secret")
    if isinstance(own, str):
        known.append(own)
    return any(hmac.compare_digest(each.encode(), secret.encode()) for each in known)
