"""Requests and listeners that go on while parts are killed and replaced, and what came of each."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tools.play.evidence import Odd

Json = Any
DYING = 1.0  # seconds that a killed process may still hold its connections


@dataclass
class Remote:
    """The REST API over HTTPS with a client certificate; the server's certificate is not checked (it is the play's own)."""

    host: str
    port: int
    context: ssl.SSLContext

    @classmethod
    def of(cls, host: str, port: int, certificate: str, key: str) -> Remote:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        return cls(host, port, context)

    def request(
        self, method: str, path: str, body: Json = None, timeout: float = 60
    ) -> tuple[int, Json, dict[str, str]]:
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/octet-stream"} if data is body else {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def listen(self, query: str) -> Any:
        url = f"wss://{self.host}:{self.port}/1.0/events?{query}"
        return connect(url, ssl=self.context, ping_interval=None, close_timeout=1)


@dataclass
class Reads:
    """Reads paths again and again on threads of their own until the block ends.

    `outcomes` counts (path, answer), `odd` has the answers other than 200, and `said` counts their texts. A patient reader asks again
    after a 503, as its Retry-After says; what comes then is the outcome.
    """

    remote: Remote
    paths: tuple[str, ...]
    patient: bool = False
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    odd: list[Odd] = field(default_factory=list)
    unretryable: int = 0
    asked_again: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Reads:
        self._threads = [threading.Thread(target=self._run, args=(path,), daemon=True) for path in self.paths]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(70)

    def _run(self, path: str) -> None:
        while not self._stop.is_set():
            self.outcomes[path, self._once(path)] += 1
            time.sleep(0.02)

    def _once(self, path: str) -> str:
        try:
            status, answer, headers = self._get(path)
            end = time.monotonic() + 30
            while self.patient and status == 503 and "retry-after" in headers and time.monotonic() < end:
                time.sleep(float(headers["retry-after"]))
                status, answer, headers = self._get(path)
        except (OSError, http.client.HTTPException) as error:
            return self._note(path, type(error).__name__, str(error))
        if status == 503 and "retry-after" not in headers:
            self.unretryable += 1
        return str(status) if status == 200 else self._note(path, str(status), str(answer.get("error", answer)))

    def _note(self, path: str, status: str, text: str) -> str:
        self.odd.append(Odd(time.time(), "GET", path, status, text))
        return status

    @property
    def said(self) -> Counter[str]:
        return Counter(odd.text for odd in self.odd)

    def _get(self, path: str) -> tuple[int, Json, dict[str, str]]:
        """A GET whose connection broke before the answer was whole is made again, for as long as a process may take to die.

        `asked_again` tells for how many that was so.
        """
        end = 0.0
        while True:
            try:
                return self.remote.request("GET", path)
            except (http.client.HTTPException, ConnectionError, ssl.SSLError):
                if end == 0.0:
                    self.asked_again += 1
                    end = time.monotonic() + DYING
                if time.monotonic() > end:
                    raise

    def failed(self, *paths: str) -> dict[tuple[str, str], int]:
        return {key: n for key, n in self.outcomes.items() if key[1] != "200" and (not paths or key[0] in paths)}


@dataclass
class Listener:
    """Follows the events through reconnects by their sequence; `sequences` is what it saw, in order."""

    remote: Remote
    query: str = "type=lifecycle"
    sequences: list[int] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    reconnects: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Listener:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def heard(self, actions: list[str], after: int, seconds: float = 30) -> list[str]:
        """Those of the kinds in `actions` that came after the first `after` events; returns when all are there or time is up."""
        end = time.monotonic() + seconds
        while True:
            found = [action for action in self.actions[after:] if action in actions]
            if len(found) >= len(actions) or time.monotonic() > end:
                return found
            time.sleep(0.1)

    def _run(self) -> None:
        while not self._stop.is_set():
            since = f"&since={self.sequences[-1]}" if self.sequences else ""
            with contextlib.suppress(OSError, ConnectionClosed, TimeoutError, Exception):
                self._follow(self.query + since)
            self.reconnects += 1
            time.sleep(0.1)

    def _follow(self, query: str) -> None:
        with self.remote.listen(query) as connection:
            while not self._stop.is_set():
                with contextlib.suppress(TimeoutError):
                    event = json.loads(connection.recv(timeout=0.5))
                    self.sequences.append(event["sequence"])
                    self.actions.append(event["metadata"]["action"])
