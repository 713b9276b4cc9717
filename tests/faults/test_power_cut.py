"""The power goes: what was acknowledged is there afterwards, and no change is half there.

The log lies on a file system of its own in a loop file. While nats-server stands still, the loop file is copied: it holds what the file
system has written out, and nothing of what waits in memory, as a disk would when the power goes. The copy is then mounted (its journal is
replayed) and served. What this shows: acknowledged means written out, through the file system. What not: a disk that lies about its own
cache. The files beside the log: test_power_cut_files.py.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from chassis import events
from chassis.store import Change, Kind, Store
from chassis.testing.nats import NatsServer

SIZE = 64 * 1024 * 1024


class Thing(msgspec.Struct, frozen=True):
    name: str
    number: int


THING = Kind("power_thing", Thing, ("name",))


@contextmanager
def mounted(file: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-o", "loop", str(file), str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def write(store: Store, acknowledged: dict[str, int]) -> None:
    """Pairs of rows with an event each, until cancelled; what was acknowledged is noted."""
    number = 0
    while True:
        number += 1
        change = Change()
        for name in (f"a{number % 7}", f"b{number % 7}"):
            change.put(THING, Thing(name, number), expect=store.mirror(THING).revision(name))
        change.event(events.lifecycle("thing-changed", "/1.0/things", context={"number": number}))
        await store.commit(change)
        acknowledged[f"a{number % 7}"] = acknowledged[f"b{number % 7}"] = number


async def test_what_was_acknowledged_outlives_a_power_cut(tmp_path: Path) -> None:
    file, copy = tmp_path / "disk", tmp_path / "copy"
    with file.open("wb") as out:
        out.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", str(file)], check=True)
    for life in range(3):
        acknowledged: dict[str, int] = {}
        with mounted(file, tmp_path / f"before{life}") as folder:
            async with NatsServer(folder) as server:
                store = await server.store()
                store.mirror(THING)
                await store.start()
                writing = asyncio.create_task(write(store, acknowledged))
                async with asyncio.timeout(60):
                    while len(acknowledged) < 14 or sum(acknowledged.values()) < 500 * (life + 1):
                        await asyncio.sleep(0.01)
                server.pause()
                noted = dict(acknowledged)
                shutil.copyfile(file, copy)
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
                await store.stop()
                await server.kill()
        with mounted(copy, tmp_path / f"after{life}") as folder:
            await check(folder, noted)


async def check(folder: Path, noted: dict[str, int]) -> None:
    async with NatsServer(folder) as server:
        store = await server.store()
        rows = store.mirror(THING)
        await store.start()
        found = {row.value.name: row.value.number for row in rows.select()}
        for name, number in noted.items():
            assert found[name] >= number, f"{name}: {found[name]} was kept of {number}"
            assert found[f"a{name[1:]}"] == found[f"b{name[1:]}"], "half a change"
        await store.stop()
