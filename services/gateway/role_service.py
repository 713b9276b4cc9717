"""The RBAC service's own API, as an agent speaks it: projects told, changes heard, permissions asked for.

The agent logs in with its keys when it is asked to (the bakery's library does that). Requests are made in threads of their own, because
the library blocks: who waits can leave at any moment, and no thread keeps the process from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rows.control import has_rbac

T = TypeVar("T")
API = "/api/service/v1"
TIMEOUT = 10.0  # seconds for an answer
POLL = 30.0  # seconds that a question for changes may stay open
CONFLICT = 409  # another wrote projects meanwhile: they are told from the start
CONNECT = 5.0
GATEWAY_TIMEOUT = 504  # something between gave up waiting; there was no change


class Refused(Exception):
    """The service did not answer what it should."""


@dataclass(frozen=True, slots=True)
class Settings:
    url: str
    agent_url: str
    username: str
    private_key: str

    @staticmethod
    def of(texts: Mapping[str, str]) -> Settings | None:
        """None while RBAC is off."""
        if not has_rbac(texts):
            return None
        return Settings(
            url=texts["rbac.api.url"].rstrip("/"),
            agent_url=texts["rbac.agent.url"],
            username=texts["rbac.agent.username"],
            private_key=texts["rbac.agent.private_key"],
        )


@dataclass(frozen=True, slots=True)
class Access:
    """What a user may do: everything, or by project the permissions there."""

    admin: bool
    rights: Mapping[str, tuple[str, ...]]


class RoleService:
    """One service at one URL. What it does not answer raises: Refused, OSError, TimeoutError, or what the library has."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client: Any = None
        self.told: dict[str, str] = {}  # projects as it knows them: identifier -> name
        self.sync = ""  # its name for that state of affairs
        self.last_change = ""

    async def tell(self, projects: Mapping[str, str]) -> None:
        """Tell it which projects there are: what is new and what has gone since the last time, or all."""
        if self.sync:
            body: dict[str, Any] = {"last-sync-id": self.sync}
            updates = {id: name for id, name in projects.items() if self.told.get(id) != name}
            removals = sorted(set(self.told) - set(projects))
        else:
            body, updates, removals = {"last-sync-id": None}, dict(projects), []
        if updates:
            body["updates"] = [{"identifier": id, "name": name} for id, name in sorted(updates.items())]
        if removals:
            body["removals"] = removals
        status, answer = await self._ask("POST", "/resources/project", json=body)
        if status == CONFLICT and self.sync:
            self.sync = ""
            return await self.tell(projects)
        self.sync = str(_object(status, answer).get("sync-id") or "")
        self.told = dict(projects)
        return None

    async def changed(self) -> bool:
        """Wait until it tells of a change, or for a while. Whether permissions may have changed.

        What it never named a change of, it could have told between two questions.
        """
        from requests.exceptions import Timeout

        params = {"last-change": self.last_change} if self.last_change else {}
        try:
            status, answer = await self._ask("GET", "/changes", params=params, patience=POLL)
        except Timeout:
            status, answer = GATEWAY_TIMEOUT, None
        if status == GATEWAY_TIMEOUT:
            return not self.last_change
        self.last_change = str(_object(status, answer).get("last-change") or "")
        return True

    async def access(self, username: str) -> Access:
        """What a user may do."""
        found = _object(*await self._ask("GET", "/resources/project/permissions-for-user", params={"u": username}))
        server = _object(*await self._ask("GET", "/resources/lxd/permissions-for-user", params={"u": username}))
        rights = {project: tuple(map(str, held or ())) for project, held in found.items() if project}
        return Access("admin" in (server.get("") or ()), rights)

    async def _ask(self, verb: str, path: str, *, patience: float = TIMEOUT, **given: Any) -> tuple[int, Any]:
        def ask() -> tuple[int, Any]:
            if self.client is None:
                self.client = make_client(self.settings)
            url = f"{self.settings.url}{API}{path}"
            answer = self.client.request(verb, url, timeout=(CONNECT, patience), **given)
            try:
                return answer.status_code, answer.json()
            except ValueError:
                return answer.status_code, None

        async with asyncio.timeout(patience + 2 * TIMEOUT):  # the library's own requests, to log in, have no limit
            return await aside(ask)


def _object(status: int, answer: Any) -> dict[str, Any]:
    if status != 200:
        raise Refused(f"HTTP status {status}")
    if answer is None:
        return {}  # how an empty map may look
    if not isinstance(answer, dict):
        raise Refused("the answer is no JSON object")
    return answer


def make_client(settings: Settings) -> Any:
    """A client that logs in as the agent when it has to."""
    from macaroonbakery import bakery, httpbakery
    from macaroonbakery.httpbakery import agent

    text = settings.private_key
    key = bakery.PrivateKey.deserialize(text + "=" * (-len(text) % 4))
    known = agent.AuthInfo(key=key, agents=[agent.Agent(url=settings.agent_url, username=settings.username)])
    return httpbakery.Client(interaction_methods=[agent.AgentInteractor(known)], key=key)


async def aside(work: Callable[[], T]) -> T:
    """What `work` returns or raises, done in a thread that nobody has to wait for."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(settle: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            settle(value)

    def run() -> None:
        try:
            settled: tuple[Callable[[Any], None], Any] = (done.set_result, work())
        except Exception as error:
            settled = (done.set_exception, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, *settled)

    threading.Thread(target=run, name="rbac", daemon=True).start()
    return await done
