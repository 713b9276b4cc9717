"""kill -9 of a real service process at each point of a saga, over a real log: the operation ends, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chassis.errors import Conflict
from chassis.operations import FAILURE, SUCCESS, Accepted
from chassis.sagas import Sagas
from chassis.store import Store
from chassis.testing.nats import NatsServer
from tests.sagas.victim import CREATE, STEPS, THING, sagas_of

LOCK = ("thing", "default", "t")
FORWARD = [f"{step.name}.do.{side}" for step in STEPS for side in ("before", "after")]
BACKWARD = [f"{step.name}.undo.{side}" for step in STEPS for side in ("before", "after")]


class Setting:
    """A log, a store to look with, and the service process."""

    def __init__(self, server: NatsServer, store: Store, sagas: Sagas, folder: Path) -> None:
        self.server = server
        self.store = store
        self.sagas = sagas
        self.host = folder / "host"
        self.failpoint = folder / "failpoint"
        self.host.mkdir()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.sagas.victim",
            "--nats",
            self.server.url,
            "--host",
            str(self.host),
            env={**os.environ, "NUBIBUS_FAILPOINT": f"@{self.failpoint}"},
            cwd=Path(__file__).parents[2],
        )

    async def killed(self) -> None:
        """Wait until the failpoint has killed it, and start it again."""
        assert self._process is not None
        async with asyncio.timeout(60):
            assert await self._process.wait() == -9
        await self.start()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def accept(self, **args: object) -> Accepted:
        return await self.sagas.accept(CREATE, {"name": "t", **args}, locks=[LOCK])

    async def ended(self, accepted: Accepted) -> tuple[int, str]:
        operation = await self.sagas.operations.wait(accepted.id, timeout=60)
        return operation.status_code, operation.err

    def locked(self) -> bool:
        return self.sagas.operations.locks.get(*LOCK) is not None


@pytest_asyncio.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    async with NatsServer(tmp_path) as server:
        store = await server.store("victim")
        # It accepts and looks; it never starts them, the process does.
        sagas = sagas_of(store, None)
        await store.start()
        made = Setting(server, store, sagas, tmp_path)
        try:
            yield made
        finally:
            await made.stop()
            await store.stop()


@pytest.mark.parametrize("point", [*FORWARD, "finish.before"])
async def test_it_goes_on_forward(setting: Setting, point: str) -> None:
    setting.failpoint.write_text(f"thing.create:{point}=kill")
    await setting.start()
    accepted = await setting.accept()
    await setting.killed()
    assert await setting.ended(accepted) == (SUCCESS, "")
    assert setting.store.mirror(THING).get("t") is not None
    assert sorted(path.name for path in (setting.host / "t").iterdir()) == ["color", "size"]
    assert not setting.locked()


@pytest.mark.parametrize("point", BACKWARD)
async def test_it_goes_on_undoing(setting: Setting, point: str) -> None:
    setting.failpoint.write_text(f"thing.create:{point}=kill")
    await setting.start()
    accepted = await setting.accept(fails=True)
    await setting.killed()
    assert await setting.ended(accepted) == (FAILURE, "No room for the size")
    assert setting.store.mirror(THING).get("t") is None
    assert list(setting.host.iterdir()) == []
    assert not setting.locked()


async def test_it_waits_for_the_log(setting: Setting) -> None:
    """nats-server dies while a step runs: the operation neither fails nor is lost."""
    setting.failpoint.write_text("thing.create:size.do.before=hold")
    await setting.start()
    accepted = await setting.accept()
    reached = Path(f"{setting.failpoint}.reached")
    async with asyncio.timeout(60):
        while not reached.exists():
            await asyncio.sleep(0.01)
    with pytest.raises(Conflict, match='Thing is busy running a "create" operation'):
        await setting.accept()
    await setting.server.kill()
    reached.unlink()
    await setting.server.start()
    assert await setting.ended(accepted) == (SUCCESS, "")
    assert not setting.locked()
