"""A small client of the REST socket, for what `nubibus init` and `./run` need."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli.failure import Failure


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("nubibus")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self.path))


class Rest:
    """Calls the server in a directory. Every method returns `metadata`, waits for operations, and raises Failure."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "unix.socket"

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def find(self, path: str) -> Any | None:
        """None when there is no such thing."""
        status, answer = self._exchange("GET", path, None, {})
        return None if status == 404 else self._metadata(answer)

    def exists(self, path: str) -> bool:
        return self.find(path) is not None

    def call(self, verb: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """`body` goes as JSON, or as it is when it is bytes."""
        _status, answer = self._exchange(verb, path, body, headers or {})
        if answer.get("type") == "async":
            done = self.get(f"{answer['operation']}/wait")
            if done["status_code"] != 200:
                raise Failure(f"{verb} {path}: {done['err']}")
            return done
        return self._metadata(answer)

    def _metadata(self, answer: dict[str, Any]) -> Any:
        if answer.get("type") == "error":
            raise Failure(str(answer["error"]))
        return answer["metadata"]

    def _exchange(self, verb: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        connection = _Connection(self.socket)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(verb, path, data, dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except OSError as error:
            raise Failure(f"no server answers on {self.socket}: {error.strerror or error}") from None
        except ValueError:
            raise Failure(f"{verb} {path}: the answer is no JSON") from None
        finally:
            connection.close()


def segment(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")
