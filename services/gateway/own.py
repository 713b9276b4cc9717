"""The endpoints that no service owns: the root, operations, events, and the description of the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from chassis import errors
from chassis.feed import Feed
from services.gateway import encode
from services.gateway.auth import GUEST
from services.gateway.encode import Response
from services.gateway.openapi import Pages
from services.gateway.operations import Operations
from services.gateway.requests import Request
from services.gateway.routes import Route, Table
from services.gateway.websockets import EventsSocket, OperationSocket

Handler = Callable[..., Awaitable[Any]]
ROUTES = (
    # verb, path, permission, name of the handler, whether it is a websocket
    ("GET", "/", GUEST, "root", False),
    ("GET", "/1.0/operations", "", "list", False),
    ("GET", "/1.0/operations/{id}", "", "get", False),
    ("DELETE", "/1.0/operations/{id}", "", "cancel", False),
    ("GET", "/1.0/operations/{id}/wait", GUEST, "wait", False),
    ("GET", "/1.0/operations/{id}/websocket", GUEST, "socket", True),
    ("GET", "/1.0/events", "", "events", True),
    ("GET", "/1.0/openapi.json", "", "openapi", False),
    ("GET", "/1.0/openapi", "", "page", False),
)


async def root(_request: Request, _parameters: tuple[str, ...]) -> Response:
    return encode.sync(b'["/1.0"]')


async def nothing(*_: Any) -> Response:
    raise errors.NotImplementedHere("not implemented")


def add_own(table: Table, operations: Operations, feed: Feed) -> None:
    """Add them to the routes of the services."""
    pages = Pages(table)
    handlers: dict[str, Handler] = {
        "root": root,
        "list": operations.list,
        "get": operations.get,
        "cancel": operations.cancel,
        "wait": operations.wait,
        "socket": OperationSocket(operations),
        "events": EventsSocket(feed),
        "openapi": pages.serve_json,
        "page": pages.serve_page,
    }
    add_all(table, handlers)


def add_all(table: Table, handlers: dict[str, Handler]) -> None:
    """The same with any handlers; what has none answers that it is not implemented (enough for the documents)."""
    for verb, path, permission, name, websocket in ROUTES:
        own = handlers.get(name, nothing)
        table.add(Route(verb, path, permission, own=own, websocket=websocket))
