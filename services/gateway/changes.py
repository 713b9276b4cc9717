"""What holds for every request that changes something, whatever it changes: `?validate-only=true` and `Idempotency-Key`.

A request with a key is done once (see chassis.once): a repetition is answered from the log with what the first one was answered,
also after a crash of the gateway or of the service. What was refused had no effect; asked again it is tried again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

from chassis import errors, operations
from chassis.calls import Once
from chassis.documents import empty
from chassis.once import DONE, Done
from chassis.store import Store
from gen.nubibus.rest.v1 import rest_pb2
from services.gateway import encode
from services.gateway.encode import Response
from services.gateway.operations import Operations
from services.gateway.requests import Request, is_streamed
from services.gateway.routes import Route

KEY = "idempotency-key"
LONGEST_KEY = 255
LONGEST_WAIT = 60.0  # seconds for an operation whose end is the answer
LATE = 1.0  # seconds at most that an answer waits for the gateway's own mirrors
VALID = b'{"valid":true}'
TOLD = ("content-type", "content-length", "x-lxd-")  # beginnings of the headers that belong to a body that is streamed


class Changes:
    """Answers requests that change something; `go` does what is asked."""

    def __init__(self, store: Store, operations: Operations) -> None:
        self.store = store
        self.operations = operations
        self.under_way: set[str] = set()

    async def answer(self, route: Route, request: Request, go: Callable[[], Awaitable[Response]]) -> Response:
        if request.validate_only:
            return await _validated(go)
        key = request.headers.get(KEY)
        if key is None:
            return await go()
        request.once = Once(_id(key), await _digest(route, request))
        if request.once.id in self.under_way:
            raise errors.Conflict("A request with this Idempotency-Key is being worked on")
        self.under_way.add(request.once.id)
        try:
            return await self._once(request.once, go)
        finally:
            self.under_way.discard(request.once.id)

    async def seen(self, revision: int) -> None:
        """Wait until the gateway itself knows what a change did: whom it trusts and how it is configured decides about the next request."""
        with suppress(errors.Unavailable):  # it is done, and is not told as if it were not
            await self.store.reached(revision, LATE)

    async def _once(self, once: Once, go: Callable[[], Awaitable[Response]]) -> Response:
        row = await self.store.fetch(DONE, once.id)
        if row is None:
            return await go()
        if row.value.digest != once.digest:
            raise errors.Unprocessable("This Idempotency-Key was used for another request")
        response = encode.answer(await self._again(row.value))
        response.revision = max(response.revision, row.revision)
        return response

    async def _again(self, done: Done) -> rest_pb2.Answer | rest_pb2.Document | rest_pb2.Accepted:
        """The first answer; made again from what was accepted where a crash came before it was kept."""
        if done.answer:
            return rest_pb2.Answer.FromString(done.answer)
        if not done.operation:
            return empty(location=done.location)
        await self.store.refresh()
        row = self.operations.rows.get(done.operation)
        if done.waited and row is not None and not row.value.final:
            await self.operations.ended(done.operation, LONGEST_WAIT)
            row = self.operations.rows.get(done.operation)
        if row is None:
            raise errors.Gone("The request was accepted; its operation is no longer kept")
        if not done.waited:
            return rest_pb2.Accepted(id=row.value.id, operation=operations.render(row.value), revision=row.revision)
        if not row.value.final:
            raise errors.Unavailable(f"The request goes on as operation {row.value.id}")
        if row.value.status_code >= operations.FAILURE:
            raise errors.Internal(row.value.err)
        return empty(location=done.location, revision=row.revision)


async def _validated(go: Callable[[], Awaitable[Response]]) -> Response:
    """Either the request ends where it would have changed something, or it has nothing to change; its refusals are raised."""
    with suppress(errors.Validated):
        await go()
    return encode.sync(VALID)


def _id(key: str) -> str:
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise errors.BadRequest(f"Idempotency-Key must be 1 to {LONGEST_KEY} printable ASCII characters")
    return hashlib.sha256(key.encode()).hexdigest()[:32]


async def _digest(route: Route, request: Request) -> str:
    """What makes it this request: who asks, method, path, query, body. Of a body that is streamed its headers count."""
    caller = request.caller
    found = hashlib.sha256()
    query: bytes = request.scope.get("query_string", b"")
    head = [request.verb, request.raw_path, caller.protocol, caller.username, caller.fingerprint]
    if is_streamed(route, request) and request.content_type.partition(";")[0] != "application/json":
        head += [f"{name}: {text}" for name, text in sorted(request.headers.items()) if name.startswith(TOLD)]
        body = b""
    else:
        body = await request.body()
    for part in (*(text.encode() for text in head), query, body):
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()
