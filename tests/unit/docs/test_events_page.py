"""The program that docs/events.md shows does what the page says."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from chassis import events
from chassis.store import Change
from chassis.testing.nats import NatsServer

PAGE = Path(__file__).parents[3] / "docs/events.md"


def program() -> str:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


async def heard(url: str, lines: int) -> list[str]:
    """What the program prints first."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", program(), url, stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            return [(await process.stdout.readline()).decode().split()[1] for _ in range(lines)]
    finally:
        process.kill()
        await process.wait()


async def test_the_durable_consumer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        store = await server.store()
        await store.start()
        url = json.loads((tmp_path / "run/subscriber.json").read_text())["url"]
        for number in range(3):
            await store.commit(Change().event(events.lifecycle(f"thing-{number}", "/1.0/things/x")))
        assert await heard(url, 3) == ["thing-0", "thing-1", "thing-2"]
        await store.commit(Change().event(events.lifecycle("thing-3", "/1.0/things/x")))
        again = await heard(url, 1)
        assert again[0] in {"thing-0", "thing-1", "thing-2", "thing-3"}  # what was not acknowledged comes again
        await store.stop()
