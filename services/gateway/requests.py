"""A REST request:

its parts as ASGI gives them, its body piece by piece, and the message of a method that it fills.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.message import Message

from chassis import errors
from chassis.calls import Caller, Once
from services.gateway.peers import Peer
from services.gateway.routes import BYTES, FLAG, NUMBER, SPECIAL, TEXT, Route

LARGEST_BODY = 4 * 1024 * 1024  # bytes of a body that is no stream
PATIENCE = 60.0  # seconds that a body that is held whole may take, and that one that is not may stand still
PASSED_ON = ("x-lxd-", "x-nubibus-")  # request headers that a method may want
READING = frozenset({"GET", "HEAD", "OPTIONS"})
STREAMED = frozenset({"application/octet-stream", "multipart/form-data"})  # content types of bodies that are no JSON
TRUE = frozenset({"1", "true", "yes", "on"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client went away before its request was complete."""


class Request:
    """One HTTP request, or the request that opens a websocket."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.verb: str = scope.get("method", "GET")
        self.raw_path: str = scope["raw_path"].decode("latin-1")
        self.peer: Peer = scope["state"]["peer"]
        self.caller = Caller()
        self.gone = False
        self.whole: bytes | None = None  # the body, once it has been read
        self.once: Once | None = None
        self.refused: errors.Fault | None = None  # what is wrong with a body that is being streamed

    def check(self) -> None:
        """Raises BadRequest for what HTTP/1.1 forbids and the parser lets through."""
        hosts = sum(name == b"host" for name, _ in self.scope["headers"])
        if hosts > 1 or (not hosts and self.scope["http_version"] != "1.0"):
            raise errors.BadRequest("A request must have one Host header")

    @cached_property
    def headers(self) -> dict[str, str]:
        """By lower-case name; of a repeated one the first counts."""
        found: dict[str, str] = {}
        for name, value in self.scope["headers"]:
            found.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        return found

    @cached_property
    def query(self) -> dict[str, str]:
        """By name; of a repeated one the first counts, as in Go."""
        found: dict[str, str] = {}
        raw = self.scope.get("query_string", b"")
        if raw:
            for name, value in parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding="utf-8"):
                found.setdefault(name, value)
        return found

    @property
    def project(self) -> str:
        return self.query.get("project") or "default"

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    @property
    def validate_only(self) -> bool:
        """Whether a change is only asked about: `?validate-only=true`."""
        return self.verb not in READING and self.flag("validate-only")

    def flag(self, name: str) -> bool:
        return self.query.get(name, "").lower() in TRUE

    def number(self, name: str, default: int = 0) -> int:
        """A query parameter as a number; what is none counts as the default, as in LXD."""
        return _number(self.query.get(name, ""), default)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises ClientGone if it ends early."""
        if self.whole is not None:
            yield self.whole
            return
        while True:
            message = await self._received()
            if message["type"] == "http.disconnect":
                self.gone = True
                raise ClientGone
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def _received(self) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self.receive()
        except TimeoutError:
            self.refused = errors.Late(f"The request body stood still for {PATIENCE:g} seconds")
            raise self.refused from None

    async def body(self, most: int = LARGEST_BODY) -> bytes:
        """The whole body. Raises TooLarge beyond `most` bytes, Late when it does not come in time."""
        if self.whole is not None:
            return self.whole
        if _number(self.headers.get("content-length", ""), 0) > most:
            raise too_large(most)
        try:
            async with asyncio.timeout(PATIENCE):
                self.whole = await self._whole(most)
        except TimeoutError:
            raise errors.Late(f"The request body was not there within {PATIENCE:g} seconds") from None
        return self.whole

    async def _whole(self, most: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            if size > most:
                raise too_large(most)
            parts.append(piece)
        return b"".join(parts)


def too_large(most: int) -> errors.TooLarge:
    return errors.TooLarge(f"The request body is larger than {most} bytes")


def _number(text: str, default: int) -> int:
    digits = text[1:] if text[:1] == "-" else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 10 else default


def fill(route: Route, request: Request, parameters: tuple[str, ...]) -> Message:
    """The request message of a route, without its body: path parameters, query parameters, headers."""
    assert route.message is not None
    values: dict[str, Any] = {}
    for name, text in request.query.items():
        field = name.replace("-", "_")
        kind = route.fields.get(field)
        if kind is None or field in SPECIAL:
            continue
        if kind == TEXT:
            values[field] = text
        elif kind == NUMBER:
            values[field] = _number(text, 0)
        elif kind == FLAG:
            values[field] = text.lower() in TRUE
    values.update(zip(route.parameters, parameters, strict=True))
    _fill_special(route, request, values)
    try:
        return route.message(**values)
    except (ValueError, UnicodeEncodeError) as error:
        raise errors.BadRequest(f"Invalid request: {error}") from None


def _fill_special(route: Route, request: Request, values: dict[str, Any]) -> None:
    fields = route.fields
    if route.means_default and not values.get("project"):
        values["project"] = "default"
    if "path_type" in fields:
        values["path_type"] = route.path.split("/")[2]
    if "content_type" in fields:
        values["content_type"] = request.content_type
    if "content_length" in fields:
        values["content_length"] = _number(request.headers.get("content-length", ""), 0)
    if "if_match" in fields:
        values["if_match"] = request.headers.get("if-match", "")
    if "client_certificate" in fields:
        values["client_certificate"] = request.peer.certificate_text
    if "headers" in fields:
        values["headers"] = {name: value for name, value in request.headers.items() if name.startswith(PASSED_ON)}


def is_streamed(route: Route, request: Request) -> bool:
    """Whether the body goes on piece by piece, as it comes."""
    if not route.raw_body:
        return False
    return request.content_type.partition(";")[0].strip().lower() in STREAMED or not wants_body(route)


def wants_body(route: Route) -> bool:
    return route.fields.get("body") == BYTES
