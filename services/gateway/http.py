"""The ASGI application: from a request to the method that answers it, and back.

Every failure ends here as LXD's error envelope; nothing else writes to a client. The newest revision that any
answer or event told of goes along with each call, so what a client was told it can read, whichever part
answers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any

import structlog

from chassis import errors, rpc
from chassis.calls import Call
from services.gateway import cors, encode, permissions, streams
from services.gateway.auth import METRICS_PORT, Trust, authorize, not_authorized, refuse_foreign_projects, refuse_shared
from services.gateway.candid import Candid, Needed
from services.gateway.changes import Changes
from services.gateway.compression import compressed
from services.gateway.configuration import Configuration
from services.gateway.encode import Response
from services.gateway.rbac import Rbac
from services.gateway.requests import READING, ClientGone, Request, Scope, fill, wants_body
from services.gateway.routes import Route, Table

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Change = Callable[[Request, Response], Response]
UNARY = 600.0  # seconds that a unary call may take; a death of its server is noticed long before
AUTHENTICATE = "x-lxd-authenticated"  # request header of a client that wants to be known, even where guests may be
log = structlog.get_logger()


class App:
    """What uvicorn's protocols call.

    `heard` gives the newest revision that an event told of.
    """

    def __init__(
        self, table: Table, trust: Trust, configuration: Configuration, heard: Callable[[], int], changes: Changes
    ) -> None:
        self.rbac = Rbac(configuration, trust.projects)
        self.heard = heard
        self.changes = changes
        self.candid = Candid(configuration)
        self.table = table
        self.trust = trust
        self.configuration = configuration
        self.revision = 0
        self.finish: dict[tuple[str, str], Change] = {}  # what the gateway adds to an answer, by verb and path

    def saw(self, revision: int) -> None:
        self.revision = max(self.revision, revision)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(Request(scope, receive), send)
        elif scope["type"] == "websocket":
            await self._websocket(Request(scope, receive), send)

    async def _http(self, request: Request, send: Send) -> None:
        try:
            response = await self._guarded(request)
        except ClientGone:
            return
        if accepted := request.headers.get("accept-encoding"):
            response = await compressed(response, accepted)
        origin = request.headers.get("origin", "")
        response.headers += cors.headers(self.configuration.texts, origin)
        await transmit(response, send)

    async def _guarded(self, request: Request) -> Response:
        """The answer; a failure as its envelope."""
        try:
            return await self.answer(request)
        except errors.Fault as found:
            return encode.fault(found)
        except Needed as needed:
            return await self._challenged(needed, request)
        except (ClientGone, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("a request failed", verb=request.verb, path=request.raw_path)
            return encode.fault(errors.Internal(f"{type(error).__name__}: {error}"))

    async def _challenged(self, needed: Needed, request: Request) -> Response:
        try:
            return await self.candid.challenge(needed, request)
        except errors.Fault as found:
            return encode.fault(found)

    async def find(self, request: Request) -> tuple[Route, tuple[str, ...]]:
        """The route, once the caller may take it.

        Raises NotFound, Forbidden, NotImplementedHere in LXD's order.
        """
        found = self.table.match(request.raw_path)
        if found is None or (request.peer.only_metrics and request.raw_path not in METRICS_PORT):
            raise errors.NotFound("not found")
        verbs, parameters = found
        route = verbs.get("GET" if request.verb == "HEAD" else request.verb)
        missing = await self._identify(request)
        try:
            self._authorize(route, request, parameters)
        except errors.Forbidden:
            if missing is not None:
                raise missing from None
            raise
        if route is None:
            raise errors.NotImplementedHere("not implemented")
        if missing is not None and AUTHENTICATE in request.headers:
            raise missing
        return route, parameters

    async def _identify(self, request: Request) -> Needed | None:
        """Find out who asks; what an identity service would have to say, if the client speaks its protocol."""
        request.caller = self.trust.caller(request.peer)
        if request.caller.trusted:
            return None
        try:
            found = self.candid.caller(request)
        except Needed as needed:
            return needed
        if found is not None and not found.admin:
            found = await self.rbac.known(found)
        request.caller = found or request.caller
        return None

    def _authorize(self, route: Route | None, request: Request, parameters: tuple[str, ...]) -> None:
        if route is None:
            authorize(request.caller, "", request.raw_path, None)
            return
        permission, project = route.permission, request.project if route.names_project else None
        if request.caller.rights is not None:
            permission, project = permissions.needed(route), permissions.place(route, request.project, parameters)
        opened = self.configuration.metrics_are_open
        authorize(request.caller, permission, request.raw_path, project, open_metrics=opened)
        if project is not None:
            row = self.trust.projects.get(project)
            refuse_shared(request.caller, permission, project, row.value if row else None)

    async def answer(self, request: Request) -> Response:
        request.check()
        if request.verb == "OPTIONS":
            return Response(200, [])
        route, parameters = await self.find(request)
        if route.websocket and route.own is None:
            raise errors.BadRequest("Bad Request")
        if request.verb in READING:
            response = await self._dispatch(route, request, parameters)
        else:
            response = await self.changes.answer(route, request, lambda: self._dispatch(route, request, parameters))
        self.saw(response.revision)
        if request.verb not in READING:
            await self.changes.seen(response.revision)
        added = self.finish.get((route.verb, route.path))
        return added(request, response) if added else response

    async def _dispatch(self, route: Route, request: Request, parameters: tuple[str, ...]) -> Response:
        if route.own is not None:
            response: Response = await route.own(request, parameters)
            return response
        assert route.method is not None
        call = self.call(request)
        method = route.method
        if method.client_streams:
            return await streams.upload(route, request, parameters, call)
        message = fill(route, request, parameters)
        if wants_body(route):
            body = await request.body()
            refuse_foreign_projects(request.caller, body, permissions.needed(route))
            message.body = body  # type: ignore[attr-defined]
        if method.server_streams:
            return await streams.download(method, message, call)
        reads = request.verb in READING
        found = await rpc.call(method.service, method.name, message, timeout=UNARY, context=call, reads=reads)
        response = encode.answer(found)
        response.revision = max(response.revision, call.revision)
        return response

    def call(self, request: Request) -> Call:
        """The context that goes along."""
        revision = max(self.revision, self.heard())
        return Call(
            caller=request.caller,
            revision=revision,
            traceparent=_traceparent(request),
            validate_only=request.validate_only,
            once=request.once,
        )

    async def _websocket(self, request: Request, send: Send) -> None:
        """A websocket: refused with an envelope, or handed to the route's own handler."""
        request.scope["method"] = request.verb = "GET"
        try:
            route, parameters = await self.find(request)
            if not route.websocket or route.own is None:
                raise errors.BadRequest("This endpoint is no websocket")
            await route.own(request, parameters, send)
        except errors.Fault as found:
            await refuse(found, send)
        except Needed:
            await refuse(not_authorized(), send)
        except (ClientGone, OSError):  # uvicorn's ClientDisconnected is an OSError
            return
        except Exception as error:
            log.exception("a websocket failed", path=request.raw_path)
            await refuse(errors.Internal(f"{type(error).__name__}: {error}"), send)


def _traceparent(request: Request) -> str:
    """The client's W3C trace context, or a new one."""
    given = request.headers.get("traceparent", "")
    if len(given) == 55:  # 00-<32>-<16>-<2>
        return given
    return f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-00"


async def transmit(response: Response, send: Send) -> None:
    """Send a response.

    One that breaks off in the middle ends the connection, so that no client takes it for whole.
    """
    headers = response.headers
    if isinstance(response.body, bytes):
        headers = [*headers, (b"content-length", str(len(response.body)).encode())]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
        return
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body: AsyncIterator[bytes] = response.body
    try:
        async with aclosing(body) as pieces:  # type: ignore[type-var]  # every body is an async generator
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except errors.Fault as found:
        log.warning("an answer broke off", reason=found.text)
        raise
    await send({"type": "http.response.body", "body": b""})


async def refuse(found: errors.Fault, send: Send) -> None:
    """Answer the request for a websocket with an error, before the websocket exists; after, close it."""
    response = encode.fault(found)
    try:
        await send({"type": "websocket.http.response.start", "status": response.status, "headers": response.headers})
        await send({"type": "websocket.http.response.body", "body": response.body})
    except RuntimeError:
        try:
            await send({"type": "websocket.close", "code": 1011, "reason": found.text[:100]})
        except RuntimeError:
            return
