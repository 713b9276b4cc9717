"""A small synchronous client for LXD's REST API over a unix socket: it knows the wire and nothing of any entity.

Every call returns an `Answer` as it came; nothing is raised for a status code, so tests can look at refusals. The few
methods that do judge (`get`, `change`, `wait`) say so.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

DEADLINE = 60.0
Json = Any


class OperationFailed(AssertionError):
    """An operation that should have succeeded ended otherwise; `operation` is its last state."""

    def __init__(self, operation: dict[str, Json]) -> None:
        super().__init__(f"{operation['description']}: {operation['status']}: {operation['err']}")
        self.operation = operation


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)

    @property
    def metadata(self) -> Json:
        return self.json["metadata"]

    @property
    def etag(self) -> str:
        return self.headers["etag"]

    @property
    def error(self) -> str:
        return str(self.json["error"])

    @property
    def operation(self) -> str:
        """The path of the operation that a 202 announces."""
        return str(self.json["operation"])


@dataclass(frozen=True)
class Refusal:
    """How a change was refused: as an HTTP error (`status` 4xx, 5xx) or, after a 202, as a failed operation."""

    status: int
    text: str
    operation: dict[str, Json] | None = None


@dataclass
class Ran:
    """What a command gave back."""

    code: int
    stdout: str = ""
    stderr: str = ""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("lxd", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


@dataclass
class Client:
    """Talks to one server; safe to share between threads (one connection a call)."""

    socket: Path
    project: str | None = None

    def request(
        self,
        method: str,
        path: str,
        body: Json = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = DEADLINE,
    ) -> Answer:
        """Sends `body` as JSON, or as it stands when it is bytes or an iterator of bytes (then chunked)."""
        connection = UnixConnection(self.socket, timeout)
        try:
            with contextlib.suppress(BrokenPipeError):  # an answer may come before the whole body is sent
                connection.request(method, self._url(path), **_encoded(body, headers))
            response = connection.getresponse()
            named = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Json:
        """The metadata of a GET that must succeed."""
        answer = self.request("GET", path)
        assert answer.status == 200, f"GET {path}: {answer.status} {answer.body[:500]!r}"
        return answer.metadata

    def etag(self, path: str) -> str:
        return self.request("GET", path).etag

    def change(
        self, method: str, path: str, body: Json = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Json]:
        """A change that must succeed, waited for when it is an operation; returns the metadata or the operation."""
        answer = self.request(method, path, body, headers)
        assert answer.status in (200, 201, 202), f"{method} {path}: {answer.status} {answer.body[:2000]!r}"
        return self.wait(answer) if answer.status == 202 else answer.json

    def post(self, path: str, body: Json = None, **headers: str) -> dict[str, Json]:
        return self.change("POST", path, body, headers)

    def put(self, path: str, body: Json = None, **headers: str) -> dict[str, Json]:
        return self.change("PUT", path, body, headers)

    def patch(self, path: str, body: Json = None, **headers: str) -> dict[str, Json]:
        return self.change("PATCH", path, body, headers)

    def delete(self, path: str) -> dict[str, Json]:
        return self.change("DELETE", path)

    def refusal(self, method: str, path: str, body: Json = None, headers: Mapping[str, str] | None = None) -> Refusal:
        """A change that must be refused, at once or by its operation."""
        answer = self.request(method, path, body, headers)
        if answer.status != 202:
            assert answer.status >= 400, f"{method} {path} was accepted: {answer.status} {answer.body[:500]!r}"
            return Refusal(answer.status, answer.error)
        operation = self.finished(answer.operation)
        assert operation["status"] == "Failure", f"{method} {path} was accepted: {operation}"
        return Refusal(operation["status_code"], operation["err"], operation)

    def finished(self, operation: str, timeout: float = DEADLINE) -> dict[str, Json]:
        """The operation when it has ended, however it ended."""
        answer = self.request("GET", f"{operation}/wait?timeout={int(timeout)}", timeout=timeout + 5)
        assert answer.status == 200, f"wait for {operation}: {answer.status} {answer.body[:500]!r}"
        state: dict[str, Json] = answer.metadata
        assert state["status_code"] >= 200, f"still {state['status']} after {timeout} s: {state['description']}"
        return state

    def wait(self, answer: Answer, timeout: float = DEADLINE) -> dict[str, Json]:
        state = self.finished(answer.operation, timeout)
        if state["status"] != "Success":
            raise OperationFailed(state)
        return state

    def websocket(self, path: str) -> ClientConnection:
        """An open websocket; whoever asked for it closes it."""
        options = {"open_timeout": DEADLINE, "close_timeout": 1, "ping_interval": None, "max_size": None}
        return unix_connect(str(self.socket), f"ws://lxd{self._url(path)}", **options).__enter__()

    def events(self, kinds: str = "lifecycle", query: str = "") -> EventListener:
        return EventListener(self.websocket(f"/1.0/events?type={kinds}{query}"))

    def events_of_any_type(self) -> EventListener:
        return EventListener(self.websocket("/1.0/events"))

    def _url(self, path: str) -> str:
        if self.project is None:
            return path
        return f"{path}{'&' if '?' in path else '?'}project={quote(self.project)}"


def _encoded(body: Json, headers: Mapping[str, str] | None) -> dict[str, Json]:
    """Body and headers for http.client. A header that is given as empty is not sent; underscores stand for dashes."""
    named = {key.replace("_", "-"): value for key, value in (headers or {}).items()}
    if body is None:
        return {"headers": named}
    raw = isinstance(body, bytes | Iterator)
    kind = "application/octet-stream" if raw else "application/json"
    sent = {key: value for key, value in {"Content-Type": kind, **named}.items() if value}
    if isinstance(body, Iterator):
        return {"body": body, "headers": {**sent, "Transfer-Encoding": "chunked"}, "encode_chunked": True}
    return {"body": body if raw else json.dumps(body).encode(), "headers": sent}


@dataclass
class EventListener:
    """Collects events on a thread of its own while the `with` block runs."""

    connection: ClientConnection
    seen: list[dict[str, Json]] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> EventListener:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        assert self.connection.ping().wait(DEADLINE)  # LXD listens to us only once we listen to it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()
        self._reader.join(DEADLINE)

    def _read(self) -> None:
        try:
            for message in self.connection:
                with self._news:
                    self.seen.append(json.loads(message))
                    self._news.notify_all()
        except (ConnectionClosed, OSError):
            return

    def matching(self, **wanted: Json) -> list[dict[str, Json]]:
        """The events whose metadata has all these values; `source` may be given by its last part."""
        return [event for event in list(self.seen) if _matches(event, wanted)]

    def wait_for(self, timeout: float = DEADLINE, **wanted: Json) -> dict[str, Json]:
        """The first matching event, which may have come already."""
        with self._news:
            self._news.wait_for(lambda: self.matching(**wanted), timeout)
        found = self.matching(**wanted)
        assert found, f"no event {wanted} within {timeout} s, but {self.actions()}"
        return found[0]

    def actions(self, about: str = "") -> list[str]:
        """The lifecycle actions in the order they came, only those whose source ends in `about` when it is given."""
        return [
            event["metadata"]["action"]
            for event in list(self.seen)
            if event["type"] == "lifecycle" and event["metadata"]["source"].split("?")[0].endswith(about)
        ]


def _matches(event: dict[str, Json], wanted: Mapping[str, Json]) -> bool:
    metadata = event["metadata"]
    for key, value in wanted.items():
        if key == "source":
            if not str(metadata.get("source", "")).split("?")[0].endswith(value):
                return False
        elif metadata.get(key) != value:
            return False
    return True


def eventually(claim: Callable[[], Json], timeout: float = DEADLINE, pause: float = 0.03) -> Json:
    """Waits until `claim()` is true (or stops failing an assertion) and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            value = claim()
            if value:
                return value
            problem: object = value
        except AssertionError as error:
            problem = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {problem!r}")
        time.sleep(pause)
