"""A service that has started, in a world of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.testing.memory import MemoryLog
from tests.sagas.instances.world import InstanceWorld
from tests.unit.instances.service import Service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = Service(MemoryLog(), InstanceWorld(tmp_path, {}))
    await made.start()
    await made.world.given(made.store)
    yield made
    await made.stop()
