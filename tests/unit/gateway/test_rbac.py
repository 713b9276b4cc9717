"""Following an RBAC service: what is kept, what is asked again, and how it is when the service is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from chassis.calls import Caller
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from rows.control import PROJECT, SERVER_CONFIG, Project, ServerConfig
from services.gateway.configuration import Configuration
from services.gateway.rbac import Rbac
from tests.roles import AUDITOR, OPERATOR, RoleService

LONG = 30.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG):
        while not condition():
            await asyncio.sleep(0.01)


@dataclass
class Following:
    store: Store
    rbac: Rbac
    task: asyncio.Task[None]

    async def know(self, name: str) -> Caller | None:
        return await self.rbac.known(Caller(protocol="candid", username=name, address="192.0.2.1:7"))

    async def until_rights(self, name: str, project: str, rights: tuple[str, ...]) -> None:
        async with asyncio.timeout(LONG):
            while True:
                found = await self.know(name)
                if found is not None and (found.rights or {}).get(project) == rights:
                    return
                await asyncio.sleep(0.01)


@asynccontextmanager
async def following(**config: str) -> AsyncIterator[Following]:
    store = Store(MemoryLog())
    configuration, projects = Configuration(store.mirror(SERVER_CONFIG)), store.mirror(PROJECT)
    await store.start()
    change = Change().put(SERVER_CONFIG, ServerConfig(config=config), expect=0)
    for name in ("default", "p1"):
        change.put(PROJECT, Project(name=name), expect=0)
    await store.commit(change)
    rbac = Rbac(configuration, projects)
    task = asyncio.create_task(rbac.follow())
    try:
        yield Following(store, rbac, task)
    finally:
        task.cancel()
        async with asyncio.timeout(LONG):
            await asyncio.wait([task])
        await store.stop()
    assert task.cancelled()


@pytest.mark.asyncio
async def test_rights_are_kept_until_the_service_tells_of_a_change() -> None:
    with RoleService() as service:
        async with following(**service.keys) as here:
            await until(lambda: set(service.projects.values()) == {"default", "p1"})
            assert service.logins >= 1
            service.permit("jane", {"p1": AUDITOR})
            await here.until_rights("jane", "p1", AUDITOR)
            jane = await here.know("jane")
            assert jane is not None
            assert (jane.trusted, jane.admin, jane.projects) == (True, False, ("p1",))
            assert jane.requestor == {"username": "jane", "protocol": "candid", "address": "192.0.2.1:7"}
            service.permit("jane", {"p1": OPERATOR})
            await here.until_rights("jane", "p1", OPERATOR)
            service.permit("jane", {"": ("admin",)})
            async with asyncio.timeout(LONG):
                while (jane := await here.know("jane")) is None or not jane.admin:
                    await asyncio.sleep(0.01)
            assert jane.projects is None
            stranger = await here.know("joe")
            assert stranger is not None
            assert stranger.projects == ()


@pytest.mark.asyncio
async def test_projects_that_come_and_go_are_told() -> None:
    with RoleService() as service:
        async with following(**service.keys) as here:
            await until(lambda: set(service.projects.values()) == {"default", "p1"})
            await here.store.commit(Change().put(PROJECT, Project(name="p2"), expect=0))
            await until(lambda: "p2" in service.projects.values())
            service.sync += 7  # somebody else told it something
            await here.store.commit(Change().delete(PROJECT, ("p1",), expect=None))
            await until(lambda: set(service.projects.values()) == {"default", "p2"})


@pytest.mark.asyncio
async def test_while_the_service_is_away_only_those_known_come_in() -> None:
    with RoleService() as service:
        async with following(**service.keys) as here:
            service.permit("jane", {"p1": AUDITOR})
            await until(lambda: service.polls > 0)
            await here.until_rights("jane", "p1", AUDITOR)
            # Whatever change is still to be told must have been, or the rights that were kept are forgotten.
            await until(lambda: here.rbac.service is not None and here.rbac.service.last_change == str(service.change))
            await here.until_rights("jane", "p1", AUDITOR)
            with capture_logs() as lines:
                service.__exit__(None, None, None)
                await until(lambda: here.rbac.away)
                assert await here.know("joe") is None
            assert sum(line["log_level"] == "warning" for line in lines) == 1
            await here.until_rights("jane", "p1", AUDITOR)


@pytest.mark.asyncio
async def test_a_service_that_was_never_there() -> None:
    with RoleService() as service:
        keys = service.keys
    with capture_logs() as lines:
        async with following(**keys) as here:
            assert await here.know("jane") is None
            await until(lambda: here.rbac.away)
    assert sum(line["log_level"] == "warning" for line in lines) == 1


@pytest.mark.asyncio
async def test_without_one_of_the_keys_there_is_no_rbac() -> None:
    with RoleService() as service:
        keys = {name: text for name, text in service.keys.items() if name != "rbac.agent.username"}
        async with following(**keys) as here:
            assert await here.know("jane") is None
            assert here.rbac.service is None
