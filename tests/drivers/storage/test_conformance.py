"""What every storage driver promises. See services/storage/drivers/driver.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chassis import errors
from services.storage.drivers import VolumeName
from services.storage.drivers.volume import LAYOUT
from tests.drivers.storage.conftest import Pool

C1 = VolumeName("container", "default", "c1")
C2 = VolumeName("container", "proj", "c2")
V1 = VolumeName("custom", "default", "v1")


async def fill(work: Path) -> None:
    """Something of everything: a mode, an owner, a link, a hole, an attribute, a name that is no text."""
    rootfs = work / "rootfs"
    rootfs.mkdir()
    (rootfs / "file").write_bytes(b"content")
    os.chown(rootfs / "file", 1000, 1001)
    (rootfs / "file").chmod(0o4751)
    os.setxattr(rootfs / "file", "user.name", b"value")
    (rootfs / "link").symlink_to("/etc/passwd")
    os.link(rootfs / "file", rootfs / "second")
    with (rootfs / "hole").open("wb") as hole:
        hole.truncate(64 * 1024 * 1024)
    (rootfs / os.fsdecode(b"\xff name")).touch()


def check(path: Path) -> None:
    rootfs = path / "rootfs"
    found = os.stat(rootfs / "file")
    assert (rootfs / "file").read_bytes() == b"content"
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid, found.st_nlink) == (0o4751, 1000, 1001, 2)
    assert os.getxattr(rootfs / "file", "user.name") == b"value"
    assert os.readlink(rootfs / "link") == "/etc/passwd"
    assert os.stat(rootfs / "second").st_ino == found.st_ino
    assert os.stat(rootfs / "hole").st_blocks * 512 < 1024 * 1024
    assert (rootfs / os.fsdecode(b"\xff name")).exists()


def entries(pool: Pool) -> list[str]:
    """Everything that lies in the pool's folders, hidden or not."""
    root = pool.driver.place.path
    return sorted(str(path.relative_to(root)) for name in LAYOUT for path in (root / name).iterdir())


async def test_the_layout_is_lxds_and_closed_to_others(pool: Pool) -> None:
    root = pool.driver.place.path
    assert {path.name for path in root.iterdir()} >= set(LAYOUT)
    closed = {"custom", "custom-snapshots"}  # a setuid program in a custom volume belongs to the host's root
    assert {name for name in LAYOUT if (root / name).stat().st_mode & 0o777 == 0o700} == closed
    assert {(root / name).stat().st_mode & 0o777 for name in LAYOUT} == {0o700, 0o711}
    await pool.driver.make(C1)
    await pool.driver.make(C2)
    await pool.driver.make(V1)
    assert (root / "containers" / "c1").stat().st_mode & 0o777 == 0o100
    assert entries(pool) == ["containers/c1", "containers/proj_c2", "custom/default_v1"]
    assert (root / "custom" / "default_v1").stat().st_mode & 0o777 == 0o711


async def test_a_volume_holds_what_it_was_filled_with(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    assert await pool.driver.exists(C1)
    check(await pool.driver.mount(C1))
    await pool.driver.unmount(C1)


async def test_a_volume_that_cannot_be_filled_leaves_nothing(pool: Pool) -> None:
    async def fail(work: Path) -> None:
        await fill(work)
        raise errors.Internal("the image is broken")

    with pytest.raises(errors.Internal, match="the image is broken"):
        await pool.driver.make(C1, fail)
    assert not await pool.driver.exists(C1)
    assert entries(pool) == []
    await pool.driver.make(C1, fill)


async def test_a_taken_name_is_refused_and_the_volume_stays(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    with pytest.raises(errors.Conflict):
        await pool.driver.make(C1)
    with pytest.raises(errors.Conflict):
        await pool.driver.copy(C1, C1)
    check(await pool.driver.mount(C1))


async def test_what_a_kill_left_half_made_is_swept_out(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    root = pool.driver.place.path
    for half in (C2.work_path, V1.gone_path, C1.at("s0").work_path):
        (root / half).mkdir(parents=True)
        (root / half / "remains").touch()
    await pool.again().open()
    check(await pool.driver.mount(C1))
    left = [path for name in LAYOUT for path in (root / name).rglob("*") if path.name.startswith((".new-", ".gone-"))]
    assert left == []
    await pool.driver.make(C2)


async def test_a_copy_is_equal_and_independent(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    await pool.driver.copy(C1, C2)
    check(await pool.driver.mount(C2))
    (await pool.driver.mount(C2) / "rootfs" / "file").write_bytes(b"changed")
    check(await pool.driver.mount(C1))
    await pool.driver.remove(C1)
    assert (await pool.driver.mount(C2) / "rootfs" / "file").read_bytes() == b"changed"


async def test_a_snapshot_keeps_what_was_and_gives_it_back(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    await pool.driver.copy(C1, C1.at("snap0"))
    now = await pool.driver.mount(C1)
    (now / "rootfs" / "file").unlink()
    (now / "rootfs" / "new").touch()
    check(await pool.driver.mount(C1.at("snap0")))
    await pool.driver.restore(C1, "snap0")
    back = await pool.driver.mount(C1)
    check(back)
    assert not (back / "rootfs" / "new").exists()
    (back / "rootfs" / "writable").touch()
    check(await pool.driver.mount(C1.at("snap0")))
    await pool.driver.copy(C1.at("snap0"), C2)
    (await pool.driver.mount(C2) / "rootfs" / "writable").touch()


async def test_snapshots_follow_their_volume(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    await pool.driver.copy(C1, C1.at("s0"))
    await pool.driver.copy(C1, C1.at("s1"))
    await pool.driver.rename(C1, C2)
    assert not await pool.driver.exists(C1)
    check(await pool.driver.mount(C2.at("s0")))
    await pool.driver.rename(C2.at("s0"), C2.at("first"))
    assert not await pool.driver.exists(C2.at("s0"))
    await pool.driver.remove(C2.at("first"))
    assert await pool.driver.exists(C2.at("s1"))
    await pool.driver.remove(C2)
    assert entries(pool) == []


async def test_everything_may_be_repeated(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    await pool.driver.rename(C1, C2)
    await pool.driver.rename(C1, C2)
    check(await pool.driver.mount(C2))
    await pool.driver.remove(C2)
    await pool.driver.remove(C2)
    await pool.driver.remove(C1.at("never"))
    await pool.driver.open()
    await pool.driver.create()
    assert entries(pool) == []


async def test_a_name_that_is_taken_is_not_renamed_onto(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    await pool.driver.make(C2)
    with pytest.raises(errors.Conflict):
        await pool.driver.rename(C1, C2)
    check(await pool.driver.mount(C1))


async def test_what_is_not_there_is_not_found(pool: Pool) -> None:
    for attempt in (pool.driver.mount(C1), pool.driver.copy(C1, C2), pool.driver.restore(C1, "s0")):
        with pytest.raises(errors.NotFound, match="Storage pool volume not found"):
            await attempt
    assert entries(pool) == []


async def test_a_closed_pool_comes_back_as_it_was(pool: Pool) -> None:
    await pool.driver.make(C1, fill)
    await pool.driver.close()
    again = pool.again()
    await again.open()
    check(await again.mount(C1))


async def test_space_is_told(pool: Pool) -> None:
    space = await pool.driver.space()
    assert 0 < space.used < space.total


async def test_a_limit_holds_where_there_are_quotas(pool: Pool) -> None:
    await pool.driver.make(V1)
    if not pool.driver.quotas:
        assert not await pool.driver.resize(V1, 8 * 1024 * 1024)
        assert await pool.driver.usage(V1) is None
        return
    assert await pool.driver.resize(V1, 8 * 1024 * 1024)
    path = await pool.driver.mount(V1)
    with pytest.raises(OSError, match="Disk quota exceeded"):
        _write_through(path / "large", 16 * 1024 * 1024)
    (path / "large").unlink()
    _write_through(path / "small", 2 * 1024 * 1024)
    usage = await pool.driver.usage(V1)
    assert usage is not None
    assert usage.total == 8 * 1024 * 1024
    assert 2 * 1024 * 1024 <= usage.used < 4 * 1024 * 1024
    assert await pool.driver.resize(V1, 0)
    _write_through(path / "large", 16 * 1024 * 1024)


def _write_through(path: Path, size: int) -> None:
    """Write and wait for the disk, where quotas are decided."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        for _ in range(size // (1024 * 1024)):
            os.write(file, os.urandom(1024 * 1024))
            os.fsync(file)
    finally:
        os.close(file)
