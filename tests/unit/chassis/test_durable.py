"""What is written through: the order of the calls that reach the disk, and what is left of a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from chassis import durable


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced, in order: names of files, and folders with a slash."""
    found: list[str] = []

    def fsync(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        found.append(f"{path.name}/" if path.is_dir() else path.name)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, synced: list[str]) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    durable.replace(target, b"new", mode=0o400)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o400
    assert [name.startswith(".file.") for name in synced] == [True, False]
    assert synced[1] == f"{tmp_path.name}/"


def test_both_folders_of_a_rename_are_on_the_disk(tmp_path: Path, synced: list[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "file").touch()
    durable.rename(tmp_path / "one" / "file", tmp_path / "two" / "file")
    assert synced == ["two/", "one/"]


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.replace(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_tree_and_a_folder_that_is_gone(tmp_path: Path) -> None:
    durable.sync_tree(tmp_path)
    durable.sync_folder(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        durable.sync_tree(tmp_path / "gone")
