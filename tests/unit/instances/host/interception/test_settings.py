"""What may be mounted, as the configuration says it and as the file beside the container keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.instances.host.interception import settings
from services.instances.host.interception.calls import mount

PREFIX = "security.syscalls.intercept.mount"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    for config in (
        {},
        {f"{PREFIX}.allowed": "ext4, xfs", f"{PREFIX}.shift": "on"},
        {f"{PREFIX}.allowed": "ext4", f"{PREFIX}.fuse": "ntfs=ntfs-3g,ext3=fuse2fs", f"{PREFIX}.shift": "false"},
    ):
        found = settings.of(config)
        settings.write(str(tmp_path), found)
        assert settings.read(str(tmp_path)) == found
    assert found.allowed == {"ext4"}
    assert found.fuse == {"ntfs": "ntfs-3g", "ext3": "fuse2fs"}


def test_one_file_system_cannot_be_both(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"Filesystem ext4 cannot appear in {PREFIX}.allowed and {PREFIX}.fuse"):
        settings.of({f"{PREFIX}.allowed": "xfs,ext4", f"{PREFIX}.fuse": "ext4=fuse2fs"})


@pytest.mark.parametrize("text", ["ext4", "ext4=", "=fuse2fs", "a=b,c"])
def test_a_program_has_a_file_system(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form 'filesystem=fuse-binary'"):
        settings.of({f"{PREFIX}.fuse": text})


@pytest.mark.parametrize(
    ("flags", "new"),
    [
        (0, True), (0x1, True), (0xC0ED0001, True), (0x2000000, True), (0x20, False), (0x1000, False), (0x2000, False),
        (0x40000, False), (0x80000, False), (0x100000, False), (0x20000, False), (0xC0ED1000, False), (1 << 40, False),
    ],
)  # fmt: skip
def test_only_new_mounts_are_served(flags: int, new: bool) -> None:
    assert mount.is_new(flags) == new
