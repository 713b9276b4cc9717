"""What other services ask of volumes: each may be asked for again, whatever of it was done before."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis import errors
from chassis.store import Change, Store
from chassis.testing.memory import MemoryLog
from rows.storage import POOL, VOLUME, Pool
from services.storage.drivers import VolumeName
from services.storage.parts import Parts
from services.storage.placing import Placing
from tools import busybox_image as busybox

C1, C2 = VolumeName("container", "default", "c1"), VolumeName("container", "default", "c2")


@pytest.fixture
async def placing(tmp_path: Path) -> AsyncIterator[Placing]:
    """Two dir pools, and an image in the store of the images service."""
    store = Store(MemoryLog(), "storage")
    parts = Parts.of(tmp_path, store, lambda _: True)
    await store.start()
    for name in ("p", "q"):
        await parts.places.make("dir", name, {}).create()
        await store.commit(Change().put(POOL, Pool(name=name, driver="dir"), expect=0))
    yield Placing(store, parts)
    await store.stop()


def image(placing: Placing) -> str:
    data = busybox.unified_tar()
    fingerprint = hashlib.sha256(data).hexdigest()
    placing.parts.source.store.mkdir(exist_ok=True)
    (placing.parts.source.store / fingerprint).write_bytes(data)
    return fingerprint


def row(placing: Placing, volume: VolumeName = C1, pool: str = "p") -> bool:
    return placing.places.volumes.get(pool, volume.project, volume.type, volume.name) is not None


async def test_a_volume_of_an_image_is_made_once_however_often_it_is_asked_for(placing: Placing) -> None:
    fingerprint = image(placing)
    paths = await asyncio.gather(*(placing.ensure("p", C1, image=fingerprint) for _ in range(3)))
    assert len(set(paths)) == 1
    assert (paths[0] / "rootfs" / "bin" / "busybox").exists()
    (paths[0] / "rootfs" / "mark").touch()
    again = await placing.ensure("p", C1, image=fingerprint)
    assert (again / "rootfs" / "mark").exists()
    assert row(placing)


async def test_a_broken_image_leaves_no_volume_and_no_row(placing: Placing) -> None:
    fingerprint = image(placing)
    whole = (placing.parts.source.store / fingerprint).read_bytes()
    (placing.parts.source.store / fingerprint).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.Internal, match="Unpack failed"):
        await placing.ensure("p", C1, image=fingerprint)
    assert not row(placing)
    assert not await placing.driver("p").exists(C1)


async def test_what_a_kill_prevented_is_made_up_for(placing: Placing) -> None:
    path = await placing.ensure("p", C1)
    await placing.store.commit(Change().delete(VOLUME, ("p", "default", "container", "c1"), expect=None))
    assert await placing.ensure("p", C1) == path
    assert row(placing)
    shutil.rmtree(path)
    assert (await placing.ensure("p", C1)).is_dir()
    await placing.driver("p").remove(C1)
    await placing.remove("p", C1)
    await placing.remove("p", C1)
    assert not row(placing)


async def test_a_volume_is_renamed_once(placing: Placing) -> None:
    (await placing.ensure("p", C1) / "mark").touch()
    for _ in range(2):
        assert (await placing.rename("p", C1, C2) / "mark").exists()
    assert (row(placing), row(placing, C2)) == (False, True)
    with pytest.raises(errors.NotFound):
        await placing.rename("p", VolumeName("container", "default", "never"), C1)


async def test_a_copy_from_another_pool_and_of_a_snapshot(placing: Placing) -> None:
    (await placing.ensure("p", C1) / "mark").write_text("one")
    for _ in range(2):
        await placing.snapshot("p", C1, "s0")
    (await placing.mount("p", C1) / "mark").write_text("two")
    assert (await placing.ensure("q", C2, copy=("p", C1)) / "mark").read_text() == "two"
    c3 = VolumeName("container", "default", "c3")
    assert (await placing.ensure("q", c3, copy=("p", C1.at("s0"))) / "mark").read_text() == "one"
    await placing.restore("p", C1, "s0")
    assert (await placing.mount("p", C1) / "mark").read_text() == "one"


async def test_what_does_not_exist_is_not_found(placing: Placing) -> None:
    with pytest.raises(errors.NotFound, match="Storage pool not found"):
        await placing.ensure("nope", C1)
    with pytest.raises(errors.NotFound, match="Storage pool volume not found"):
        await placing.mount("p", C1)
    await placing.remove("nope", C1)
    assert await placing.usage("p", C1) is None


@pytest.mark.parametrize("size", ["x", "-1", "1ZB"])
async def test_a_size_that_is_none_is_refused(placing: Placing, size: str) -> None:
    await placing.ensure("p", C1)
    with pytest.raises(errors.BadRequest, match="size"):
        await placing.set_quota("p", C1, size)


async def test_a_pool_that_cannot_be_opened_says_so_and_comes_back(placing: Placing, tmp_path: Path) -> None:
    source = tmp_path.parent / f"{tmp_path.name}-source"
    await placing.store.commit(
        Change().put(POOL, Pool(name="r", driver="dir", config={"source": str(source)}), expect=0)
    )
    await placing.places.open("r")
    with pytest.raises(errors.Internal, match="is not available on this server"):
        await placing.ensure("r", C1)
    source.mkdir()
    await placing.places.reopen_broken()
    try:
        assert (await placing.ensure("r", C1)).is_dir()
    finally:
        await placing.driver("r").close()
