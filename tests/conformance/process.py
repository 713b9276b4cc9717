"""Running commands and consoles inside instances, over the websockets that exec and console open."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.conformance.client import DEADLINE, Client, OperationFailed, Ran


@dataclass
class Stream:
    """One websocket whose output is gathered by a thread until the server ends it with an empty text frame."""

    connection: ClientConnection
    data: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.news = threading.Condition()
        self.ended = threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            for message in self.connection:
                if isinstance(message, str):
                    if message == "":
                        break
                    message = message.encode()
                with self.news:
                    self.data += message
                    self.news.notify_all()
        self.ended.set()
        self.connection.close()

    def send(self, data: bytes) -> None:
        self.connection.send(data)

    def end(self) -> None:
        """Tells the server that no more input comes: an empty text frame."""
        with contextlib.suppress(ConnectionClosed):
            self.connection.send("")

    def expect(self, text: str, timeout: float = DEADLINE) -> str:
        """Everything received, as soon as it holds `text`."""
        with self.news:
            found = self.news.wait_for(lambda: text.encode() in self.data, timeout)
        assert found, f"{text!r} did not come within {timeout} s, but {bytes(self.data)!r}"
        return self.data.decode(errors="replace")

    def close(self) -> None:
        self.connection.close()
        self.reader.join(DEADLINE)


@dataclass
class Session:
    """A command or console that is attached: its operation and its streams by name ("0", "1", "2", "control")."""

    api: Client
    operation: str
    streams: dict[str, Stream]

    def control(self, message: dict[str, Any]) -> None:
        self.streams["control"].connection.send(json.dumps(message).encode())

    def signal(self, number: int) -> None:
        self.control({"command": "signal", "signal": number})

    def resize(self, width: int, height: int) -> None:
        self.control({"command": "window-resize", "args": {"width": str(width), "height": str(height)}})

    def finish(self) -> Ran:
        """Waits for the command to end by itself and returns its exit code and what it wrote."""
        state = self.api.finished(self.operation)
        if state["status"] != "Success":
            raise OperationFailed(state)
        output = {name: self._output(name) for name in ("0", "1", "2") if name in self.streams}
        stdout = output.get("1", output.get("0", ""))
        return Ran(state["metadata"].get("return", -1), stdout, output.get("2", ""))

    def _output(self, name: str) -> str:
        stream = self.streams[name]
        if name != "0" or "1" not in self.streams:
            stream.ended.wait(DEADLINE)
        return stream.data.decode(errors="replace")

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()


def attach(api: Client, path: str, body: dict[str, Any], leave_out: str = "") -> Session:
    """Posts to an exec or console endpoint and connects the websockets its operation names, but the one to leave out."""
    answer = api.request("POST", path, body)
    assert answer.status == 202, f"POST {path}: {answer.status} {answer.body!r}"
    fds: dict[str, str] = answer.metadata["metadata"]["fds"]
    streams = {}
    for name, secret in sorted(fds.items(), reverse=True):  # control first: a command starts when it has its other ends
        if name != leave_out:
            streams[name] = Stream(api.websocket(f"{answer.operation}/websocket?secret={secret}"))
    return Session(api, answer.operation, streams)


@contextlib.contextmanager
def execution(api: Client, instance: str, command: Sequence[str], **fields: Any) -> Iterator[Session]:
    """A command attached by websockets, for tests that talk with it while it runs."""
    body = {"command": list(command), "wait-for-websocket": True, "interactive": False, **fields}
    session = attach(api, f"/1.0/instances/{instance}/exec", body)
    try:
        yield session
    finally:
        session.close()


def run(api: Client, instance: str, *command: str, stdin: bytes = b"", **fields: Any) -> Ran:
    """Runs a command to its end with websockets."""
    with execution(api, instance, command, **fields) as session:
        if stdin:
            session.streams["0"].send(stdin)
        session.streams["0"].end()
        return session.finish()


def output(api: Client, instance: str, *command: str, **fields: Any) -> str:
    """What a command wrote to its standard output; it must end with code 0."""
    ran = run(api, instance, *command, **fields)
    assert ran.code == 0, f"{command}: {ran}"
    return ran.stdout.strip()


def shell(api: Client, instance: str, script: str) -> str:
    return output(api, instance, "sh", "-c", script)


@contextlib.contextmanager
def console(api: Client, instance: str, **fields: Any) -> Iterator[Session]:
    session = attach(
        api, f"/1.0/instances/{instance}/console", {"width": 80, "height": 25, "type": "console", **fields}
    )
    try:
        yield session
    finally:
        session.close()
