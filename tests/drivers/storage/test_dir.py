"""What only dir does: a source folder of somebody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis import errors
from services.storage.drivers import Place, VolumeName, host
from services.storage.drivers.dir import DirDriver

C1 = VolumeName("container", "default", "c1")


def _driver(directory: Path, source: Path) -> DirDriver:
    place = Place("pool", directory / "storage-pools" / "pool", directory / "disks", {"source": str(source)})
    return DirDriver(Place(place.name, place.path, place.disks, DirDriver.complete(place)))


async def test_a_source_folder_is_shown_at_the_pools_place_and_kept(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    driver = _driver(tmp_path / "d", source)
    await driver.create()
    try:
        await driver.make(C1)
        assert (source / "containers" / "c1").is_dir()
        assert host.mounted_at(driver.place.path) is not None
    finally:
        await driver.destroy()
    assert source.is_dir()
    assert list(source.iterdir()) == []
    assert host.mounted_at(driver.place.path) is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "doesn't exist"),
        (lambda path: (path.mkdir(), (path / "mine").touch()), "isn't empty"),
    ],
)
async def test_a_source_that_cannot_be_used_is_left_as_it_was(tmp_path: Path, make, reason: str) -> None:  # type: ignore[no-untyped-def]
    source = tmp_path / "source"
    make(source)
    driver = _driver(tmp_path / "d", source)
    with pytest.raises(errors.Internal, match=reason):
        await driver.create()
    await driver.destroy()
    assert not source.exists() or (source / "mine").exists()


async def test_a_source_within_the_servers_own_directory_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "d" / "storage-pools" / "other"
    source.mkdir(parents=True)
    with pytest.raises(errors.Internal, match="is within the LXD directory"):
        await _driver(tmp_path / "d", source).create()


async def test_a_relative_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.Internal, match="isn't absolute"):
        _driver(tmp_path, Path("relative"))
