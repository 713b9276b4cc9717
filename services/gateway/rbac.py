"""RBAC: an external service says what a user may do in which project.

Who a user is, is proven with macaroons as for Candid, discharged at `<rbac.api.url>/auth`. Here the service is told of the projects and
asked what a user may do; that is kept until it tells of a change. When it is away, who is known stays known and others are not let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from chassis.calls import Caller
from chassis.mirror import Mirror
from rows.control import Project
from services.gateway.configuration import Configuration
from services.gateway.permissions import VIEW
from services.gateway.role_service import Access, RoleService, Settings

SOON, LATE = 0.5, 60.0  # seconds between attempts when the service is away: the first, and at most
BREATH = 0.1  # seconds between questions for changes, should they all be answered at once
log = structlog.get_logger()


class Rbac:
    """Follows the service of the moment, and answers for it."""

    def __init__(self, configuration: Configuration, projects: Mirror[Project]) -> None:
        self.configuration = configuration
        self.projects = projects
        self.service: RoleService | None = None
        self.cached: dict[str, Access] = {}
        self.asking: dict[str, asyncio.Task[Access | None]] = {}
        self.away = False

    def _current(self) -> RoleService | None:
        """The service that the configuration names now. Another one is another matter: nothing is kept."""
        settings = Settings.of(self.configuration.texts)
        if settings != (self.service.settings if self.service else None):
            self.service = RoleService(settings) if settings else None
            self.away = False
            self.forget()
        return self.service

    def forget(self) -> None:
        """Ask again for whoever comes next; an answer that is on its way is old already."""
        self.cached.clear()
        self.asking.clear()

    async def known(self, caller: Caller) -> Caller | None:
        """A caller of whom only the name is known, with what it may do; None while that cannot be known."""
        if self._current() is None:
            return None
        access = self.cached.get(caller.username) or await self._asked(caller.username)
        if access is None:
            return None
        rights = None if access.admin else dict(access.rights)
        seen = None if rights is None else tuple(name for name, held in rights.items() if VIEW in held)
        return Caller(
            protocol=caller.protocol,
            username=caller.username,
            address=caller.address,
            admin=access.admin,
            trusted=True,
            projects=seen,
            rights=rights,
        )

    async def _asked(self, username: str) -> Access | None:
        """The service's answer; those who want the same at a time share it."""
        task = self.asking.get(username)
        if task is None:
            task = self.asking[username] = asyncio.create_task(self._ask(username), name="ask RBAC")
        return await asyncio.shield(task)

    async def _ask(self, username: str) -> Access | None:
        service, found = self.service, None
        try:
            if service is not None:
                found = await service.access(username)
        except Exception as error:  # of as many kinds as the library has
            self._missed("permissions", error)
        if self.asking.get(username) is asyncio.current_task():
            del self.asking[username]
            if found is not None:
                self.cached[username] = found
        return found

    def _missed(self, what: str, error: Exception) -> None:
        """Say once that the service is away, until it is back."""
        if not self.away:
            log.warning("the RBAC service cannot be used", wanted=what, error=f"{type(error).__name__}: {error}")
        self.away = True

    async def follow(self) -> None:
        """Keep to the service that the configuration names, until cancelled."""
        changed = asyncio.Event()
        self.configuration.watch(changed.set)
        while True:
            service = self._current()
            following = asyncio.create_task(self._follow(service), name="RBAC") if service else None
            try:
                while self._current() is service:
                    await changed.wait()
                    changed.clear()
            finally:
                if following is not None:
                    following.cancel()
                    await asyncio.wait([following])

    async def _follow(self, service: RoleService) -> None:
        moved = asyncio.Event()
        end = self.projects.watch(lambda *_: moved.set())
        try:
            await self._patiently("projects", lambda: self._tell(service))  # this also logs the agent in
            async with asyncio.TaskGroup() as group:
                group.create_task(self._for_ever("projects", lambda: self._tell_when(moved, service)))
                group.create_task(self._for_ever("changes", lambda: self._hear(service)))
        finally:
            end()

    def _named(self) -> dict[str, str]:
        """Projects as the service is told of them. What identifies one is its name."""
        return {row.value.name: row.value.name for row in self.projects.select()}

    async def _tell(self, service: RoleService) -> None:
        await service.tell(self._named())

    async def _tell_when(self, moved: asyncio.Event, service: RoleService) -> None:
        while self._named() == service.told:
            await moved.wait()
            moved.clear()
        await self._tell(service)

    async def _hear(self, service: RoleService) -> None:
        if await service.changed():
            self.forget()
        await asyncio.sleep(BREATH)

    async def _for_ever(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._patiently(what, step)

    async def _patiently(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """Do it once, however long the service is away."""
        pause = SOON
        while True:
            try:
                await step()
            except Exception as error:  # of as many kinds as the library has
                self._missed(what, error)
            else:
                if self.away:
                    log.info("the RBAC service is back")
                self.away = False
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LATE)
