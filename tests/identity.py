"""A double of the Candid identity service: it discharges macaroons for whoever is logged in, and refuses when nobody is."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

from macaroonbakery import bakery, checkers, httpbakery

CONDITION = "is-authenticated-user"


class IdentityService:
    """Listens on 127.0.0.1 while the block runs. `user` is who is logged in; `asked` counts requests for the public key."""

    def __init__(self) -> None:
        self.key = bakery.generate_key()
        self.user: str | None = None
        self.asked = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def public_key(self) -> str:
        return str(self.key.public_key.serialize(raw=False).decode())

    def __enter__(self) -> IdentityService:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def discharge(self, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """The discharged macaroon for what a client sent."""
        if self.user is None:
            return 403, {"Code": "unauthorized", "Message": "nobody is logged in"}
        return self.discharged(self.user, form)

    def discharged(self, user: str, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """That of a user whose name is settled."""
        raw = form["id64"][0] if "id64" in form else ""
        identifier = base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)) if raw else form["id"][0].encode()
        caveat = form.get("caveat64", [""])[0]
        made = bakery.discharge(
            checkers.AuthContext(),
            id=identifier,
            caveat=base64.urlsafe_b64decode(caveat + "=" * (-len(caveat) % 4)) if caveat else None,
            key=self.key,
            checker=_Checker(user),
            locator=bakery.ThirdPartyStore(),
        )
        return 200, {"Macaroon": made.to_dict()}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked += 1
                known = self.path in ("/discharge/info", "/publickey")
                self._answer(200 if known else 404, {"PublicKey": service.public_key, "Version": 3})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                self._answer(*service.discharge(parse_qs(body)))

            def _answer(self, status: int, told: dict[str, Any]) -> None:
                data = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        return Handler


class _Checker(bakery.ThirdPartyCaveatChecker):  # type: ignore[misc]  # the library has no types
    def __init__(self, user: str) -> None:
        self.user = user

    def check_third_party_caveat(self, _context: Any, info: Any) -> list[Any]:
        condition = info.condition if isinstance(info.condition, str) else info.condition.decode()
        if condition.split(" ")[0] != CONDITION:
            raise bakery.ThirdPartyInfoNotFound(condition)
        return [checkers.declared_caveat("username", self.user)]


def client() -> Any:
    """A client that discharges what it is asked to; its cookies are its own."""
    return httpbakery.Client()
