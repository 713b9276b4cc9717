"""A double of the RBAC service: agents log in with their keys, are asked of projects, told of changes and of what users may do.

Users log in at `/auth` (as at `tests.identity`), agents at `/agents`.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from macaroonbakery import bakery, checkers, httpbakery
from pymacaroons import Macaroon

from tests.identity import CONDITION, IdentityService

API = "/api/service/v1"
AGENT = "nubibus@agents"
LOGIN = bakery.Op("agent", "login")
OPEN = 10.0  # seconds that a question for changes is kept open
AUDITOR = ("view",)
USER = (*AUDITOR, "operate-containers")
OPERATOR = (*USER, "manage-containers", "manage-images", "manage-networks", "manage-profiles", "manage-storage-volumes")
ADMIN = (*OPERATOR, "manage-projects")
ROLES = {"auditor": AUDITOR, "user": USER, "operator": OPERATOR, "admin": ADMIN}
Rights = Mapping[str, tuple[str, ...]]


class RoleService(IdentityService):
    """Listens on 127.0.0.1 while the block runs.

    `projects` is what it was told, identifier and name; `rights` what users may do, by name of the project.
    """

    def __init__(self) -> None:
        super().__init__()
        self.agent = bakery.generate_key()
        self.projects: dict[str, str] = {}
        self.rights: dict[str, Rights] = {}
        self.logins = 0
        self.polls = 0
        self.sync = 0
        self.change = 1
        self.closing = False
        self.news = threading.Condition()
        self.bakery = bakery.Bakery(
            location=self.url,
            locator=self._locator(),
            key=bakery.generate_key(),
            identity_client=_Agents(self.agents_url),
            authorizer=bakery.ACLAuthorizer(lambda _context, _operation: [bakery.EVERYONE]),
        )

    @property
    def agents_url(self) -> str:
        return f"{self.url}/agents"

    @property
    def keys(self) -> dict[str, str]:
        """The configuration of a server that uses this service."""
        return {
            "rbac.api.url": self.url,
            "rbac.api.key": self.public_key,
            "rbac.agent.url": self.agents_url,
            "rbac.agent.username": AGENT,
            "rbac.agent.private_key": self.agent.serialize().decode(),
            "rbac.agent.public_key": self.agent.public_key.serialize().decode(),
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.news:
            self.closing = True
            self.news.notify_all()
        super().__exit__(kind, error, trace)

    def permit(self, user: str, rights: Rights) -> None:
        """From now on a user may do this. "" is the server itself."""
        with self.news:
            self.rights[user] = rights
            self.change += 1
            self.news.notify_all()

    def _locator(self) -> Any:
        found = bakery.ThirdPartyStore()
        found.add_info(self.agents_url, bakery.ThirdPartyInfo(public_key=self.key.public_key, version=3))
        return found

    # What it answers: a status and an object.

    def api(self, verb: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        if (verb, path) == ("POST", "/resources/project"):
            return self._told(json.loads(body))
        if (verb, path) == ("GET", "/changes"):
            return self._changes(query.get("last-change", ""))
        if (verb, path) == ("GET", "/resources/project/permissions-for-user"):
            held = self.rights.get(query["u"], {})
            return 200, {id: held[name] for id, name in list(self.projects.items()) if name in held}
        if (verb, path) == ("GET", "/resources/lxd/permissions-for-user"):
            held = self.rights.get(query["u"], {})
            return 200, {"": held[""]} if "" in held else {}
        return 404, {}

    def _told(self, body: dict[str, Any]) -> tuple[int, Any]:
        with self.news:
            last = body["last-sync-id"]
            if last is None:
                self.projects.clear()
            elif last != str(self.sync):
                return 409, {}
            self.projects.update({update["identifier"]: update["name"] for update in body.get("updates", ())})
            for identifier in body.get("removals", ()):
                self.projects.pop(identifier, None)
            self.sync += 1
            return 200, {"sync-id": str(self.sync)}

    def _changes(self, last: str) -> tuple[int, Any]:
        with self.news:
            self.polls += 1
            self.news.wait_for(lambda: self.closing or str(self.change) != last, OPEN)
            return (200, {"last-change": str(self.change)}) if str(self.change) != last else (504, {})

    def login(self, query: Mapping[str, str]) -> tuple[int, Any]:
        """A macaroon that only the holder of the agent's key can discharge."""
        key = self.agent.public_key
        if query["username"] != AGENT or query["public-key"] != str(key):
            return 403, {"Code": "forbidden", "Message": "no such agent"}
        caveat = bakery.local_third_party_caveat(key, bakery.LATEST_VERSION)
        made = self.bakery.oven.macaroon(bakery.LATEST_VERSION, _soon(), [caveat], [LOGIN])
        return 200, {"macaroon": made.to_dict()}

    def discharge_agent(self, form: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """The discharge for an agent with a token; for others where to get one."""
        token = _binary(form, "token")
        if not token:
            methods = {"agent": {"login-url": "login"}}
            info = {"InteractionMethods": methods}
            return 401, {"Code": "interaction required", "Message": "log in", "Info": info}
        if not any(self._good(pair) for pair in _divided(token)):
            return 403, {"Code": "forbidden", "Message": "wrong token"}
        self.logins += 1
        return self.discharged(AGENT, form)

    def _good(self, macaroons: list[Any]) -> bool:
        try:
            self.bakery.checker.auth([macaroons]).allow(checkers.AuthContext(), [LOGIN])
        except Exception:  # of as many kinds as there are ways to be wrong
            return False
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        return type("Handler", (_Handler,), {"service": self})


class _Handler(BaseHTTPRequestHandler):
    service: RoleService

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/agents/login":
            self._answer(*self.service.login(_first(url.query)))
        elif url.path.startswith(API):
            self._api()
        else:
            known = url.path.endswith(("/discharge/info", "/publickey"))
            self._answer(200 if known else 404, {"PublicKey": self.service.public_key, "Version": 3})

    def do_POST(self) -> None:
        if self.path.startswith(API):
            self._api()
            return
        # LXD's library sends the fields in the URL.
        form = {**parse_qs(self._body().decode()), **parse_qs(urlsplit(self.path).query)}
        discharge = self.service.discharge_agent if self.path.startswith("/agents/") else self.service.discharge
        self._answer(*discharge(form))

    def _api(self) -> None:
        body = self._body()
        bakery_ = self.service.bakery
        try:
            macaroons = httpbakery.extract_macaroons({"Cookie": self.headers.get("Cookie", "")})
            bakery_.checker.auth(macaroons).allow(checkers.AuthContext(), [bakery.LOGIN_OP])
        except bakery.DischargeRequiredError as error:
            made = bakery_.oven.macaroon(bakery.LATEST_VERSION, _soon(), error.cavs(), error.ops())
            content, headers = httpbakery.discharge_required_response(made, "/", "rbac")
            self._send(401, content, headers)
            return
        url = urlsplit(self.path)
        self._answer(*self.service.api(self.command, url.path.removeprefix(API), _first(url.query), body))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _answer(self, status: int, told: Any) -> None:
        self._send(status, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        with suppress(ConnectionError):  # who asked went away
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class _Agents(bakery.IdentityClient):  # type: ignore[misc]  # the library has no types
    def __init__(self, location: str) -> None:
        self.location = location

    def identity_from_context(self, _context: Any) -> tuple[None, list[Any]]:
        caveat = checkers.Caveat(location=self.location, condition=CONDITION)
        return None, [checkers.need_declared_caveat(caveat, ["username"])]

    def declared_identity(self, _context: Any, declared: Mapping[str, str]) -> Any:
        return bakery.SimpleIdentity(declared["username"])


def _soon() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)


def _first(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


def _binary(form: Mapping[str, list[str]], name: str) -> bytes:
    """A field that comes as it is or in base64."""
    if name in form:
        return form[name][0].encode()
    raw = form.get(f"{name}64", [""])[0]
    return base64.urlsafe_b64decode(raw.replace("+", "-").replace("/", "_") + "=" * (-len(raw) % 4))


def _divided(token: bytes) -> Iterator[list[Any]]:
    """The two macaroons of a token, which stand one behind the other without a length: wherever they can be divided."""
    for end in range(1, len(token)):
        with suppress(Exception):
            yield [_read(token[:end]), _read(token[end:])]


def _read(data: bytes) -> Any:
    return Macaroon.deserialize(base64.urlsafe_b64encode(data))
