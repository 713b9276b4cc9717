"""The kernel keeps a path inside its tree, whatever the tree holds."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis import beneath


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_text("outside")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("inside")
    (root / "abs").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../secret")
    (root / "loop").symlink_to("loop")
    (root / "dir").symlink_to("/")
    os.mkfifo(root / "pipe")
    with beneath.tree(root) as found:
        yield found


def read(found: int) -> str:
    with os.fdopen(found) as file:
        return file.read()


def test_inside_a_tree_is_a_root(folder: int) -> None:
    for path in ("/etc/passwd", "etc/passwd", "abs", "/dir/dir/etc/passwd", "../../../etc/passwd"):
        assert read(beneath.open_inside(folder, path)) == "inside"
    for path in ("up", "/../secret", "../secret"):
        with pytest.raises(FileNotFoundError):
            beneath.open_inside(folder, path)
    with pytest.raises(OSError) as caught:
        beneath.open_inside(folder, "loop")
    assert caught.value.errno == errno.ELOOP


def test_beneath_follows_nothing(folder: int) -> None:
    assert read(beneath.open_beneath(folder, "etc/passwd")) == "inside"
    for path, number in (("abs", errno.ELOOP), ("up", errno.ELOOP), ("../secret", errno.EXDEV), ("/etc", errno.EXDEV)):
        with pytest.raises(OSError) as caught:
            beneath.open_beneath(folder, path)
        assert caught.value.errno == number, path


def test_parents(folder: int) -> None:
    with beneath.parent_inside(folder, "/dir/etc/new") as (parent, name):
        os.mkdir(name, dir_fd=parent)
    assert beneath.stat_inside(folder, "/etc/new").st_mode & 0o40000
    assert beneath.stat_inside(folder, "/").st_mode & 0o40000
    assert os.path.islink(f"/proc/self/fd/{folder}/abs")
    for path in ("/", "..", "etc/.."):
        with pytest.raises(OSError), beneath.parent_inside(folder, path):
            pass


def test_reading(folder: int) -> None:
    assert beneath.read_beneath(folder, "etc/passwd", 100) == b"inside"
    for path, most, number in (("etc/passwd", 3, errno.EFBIG), ("pipe", 10, errno.EINVAL), ("etc", 10, None)):
        with pytest.raises(OSError) as caught:
            beneath.read_beneath(folder, path, most)
        assert number is None or caught.value.errno == number
    with pytest.raises(OSError):
        beneath.open_beneath(folder, "a\0b")
