"""The route table: every REST path, derived from the REST option of the methods in proto/, and the gateway's
own endpoints.

A path is matched part by part on its encoded form, so an encoded slash in a name stays within the name. A
fixed part wins over a parameter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from chassis import contracts
from chassis.contracts import Method
from gen.nubibus.rest.v1 import rest_pb2

TEXT, NUMBER, FLAG, BYTES, HEADERS, OTHER = "text", "number", "flag", "bytes", "headers", "other"
KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: FLAG,
    FieldDescriptor.CPPTYPE_INT32: NUMBER,
    FieldDescriptor.CPPTYPE_INT64: NUMBER,
    FieldDescriptor.CPPTYPE_UINT32: NUMBER,
    FieldDescriptor.CPPTYPE_UINT64: NUMBER,
    FieldDescriptor.CPPTYPE_STRING: TEXT,
}
# Fields that are filled from elsewhere than path or query.
SPECIAL = frozenset(
    {"body", "client_certificate", "content_type", "content_length", "headers", "if_match", "path_type"}
)


@dataclass(frozen=True, slots=True)
class Route:
    """One verb of one path. Either `method` (of a service) or `own` (the gateway's) is set."""

    verb: str
    path: str
    permission: str = ""
    method: Method | None = None
    own: Callable[..., Awaitable[Any]] | None = None
    raw_body: bool = False
    websocket: bool = False  # answers on a websocket when asked to
    option: rest_pb2.Route | None = None
    fields: dict[str, str] = field(default_factory=dict)  # of the request message: name -> kind
    message: type[Message] | None = None  # the request message (within the frame, for a stream)
    frame: tuple[str, str] | None = None  # for raw_body: the frame's fields for the request and for data
    parameters: tuple[str, ...] = ()  # names of the path's parameters, in order
    means_default: bool = False  # a request that names no project means the default one

    @property
    def names_project(self) -> bool:
        """Whether a caller must have rights for the project that is asked for. Operations are shown by their own projects."""
        return self.websocket or "project" in self.fields


@dataclass(slots=True)
class Node:
    """A part of a path: what may follow, and the verbs that end here."""

    fixed: dict[str, Node] = field(default_factory=dict)
    parameter: tuple[str, Node] | None = None
    verbs: dict[str, Route] = field(default_factory=dict)


class Table:
    """All routes. `match` gives the verbs of a path and what stands for its parameters."""

    def __init__(self) -> None:
        self.root = Node()
        self.all: list[Route] = []

    def add(self, route: Route) -> None:
        node = self.root
        for part in route.path.strip("/").split("/") if route.path != "/" else ():
            if part.startswith("{"):
                name = part.strip("{}")
                if node.parameter is None:
                    node.parameter = (name, Node())
                node = node.parameter[1]
            else:
                node = node.fixed.setdefault(part, Node())
        if route.verb in node.verbs:
            raise ValueError(f"two methods answer {route.verb} {route.path}")
        node.verbs[route.verb] = route
        self.all.append(route)

    def match(self, raw_path: str) -> tuple[dict[str, Route], tuple[str, ...]] | None:
        """The verbs, and the decoded parameters in order; None for a path that nobody has."""
        if not raw_path.startswith("/"):
            return None
        node, found = self.root, []
        for part in raw_path[1:].split("/") if raw_path != "/" else ():
            following = node.fixed.get(part)
            if following is None:
                if node.parameter is None or not part:
                    return None
                following = node.parameter[1]
                found.append(unquote(part))
            node = following
        return (node.verbs, tuple(found)) if node.verbs else None


def parameter_names(path: str) -> tuple[str, ...]:
    return tuple(part.strip("{}") for part in path.split("/") if part.startswith("{"))


def kinds_of(message: type[Message]) -> dict[str, str]:
    """Fields of a request message and how they are filled."""
    kinds = {}
    for found in message.DESCRIPTOR.fields:
        if found.name == "headers":
            kinds[found.name] = HEADERS
        elif found.cpp_type == FieldDescriptor.CPPTYPE_STRING and found.type == FieldDescriptor.TYPE_BYTES:
            kinds[found.name] = BYTES
        else:
            kinds[found.name] = KINDS.get(found.cpp_type, OTHER)
    return kinds


def means_default(message: type[Message]) -> bool:
    """Whether the default project is meant where none is named; a field that is `optional` may be left out."""
    found = message.DESCRIPTOR.fields_by_name.get("project")
    return found is not None and not found.has_presence


def _frame_of(method: Method) -> tuple[type[Message], tuple[str, str]]:
    """For a client-streaming method:

    the request message within the frame, and the names of the frame's two fields.
    """
    from google.protobuf import message_factory

    request: Any = None
    data: Any = None
    for found in method.request.DESCRIPTOR.fields:
        if found.message_type is not None:
            request = found
        elif found.type == FieldDescriptor.TYPE_BYTES:
            data = found
    if request is None or data is None:
        raise ValueError(f"{method.service}/{method.name}: a raw body needs a frame of a request and of bytes")
    return message_factory.GetMessageClass(request.message_type), (request.name, data.name)


def routes_of(method: Method) -> Iterator[Route]:
    """The REST face of a method: its path and its aliases; nothing for an internal one."""
    options: Any = contracts.options(method)
    if not options.HasExtension(rest_pb2.route):
        return
    option: rest_pb2.Route = options.Extensions[rest_pb2.route]
    message, frame = _frame_of(method) if method.client_streams else (method.request, None)
    for path in (option.path, *option.aliases):
        unknown = set(parameter_names(path)) - set(kinds_of(message))
        if unknown:
            raise ValueError(
                f"{method.service}/{method.name}: {path} has parameters that its request has not: {unknown}"
            )
        yield Route(
            verb=option.verb,
            path=path,
            permission=option.permission,
            method=method,
            raw_body=option.raw_body or method.client_streams,
            option=option,
            fields=kinds_of(message),
            message=message,
            frame=frame,
            parameters=parameter_names(path),
            means_default=means_default(message),
        )


def table_of_contracts() -> Table:
    """The table of all services. Raises ValueError for contracts that contradict each other."""
    made = Table()
    for method in contracts.methods():
        for route in routes_of(method):
            made.add(route)
    return made
