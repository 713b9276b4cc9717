"""Unpacking images that mean harm: nothing is written outside of the folder, and what is refused is refused with a reason."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from chassis import errors
from services.storage.unpack import ImageFiles, command_for, unpack_image
from tools import busybox_image as busybox


def small(*extra: tuple[str, bytes, str, bytes]) -> bytes:
    """A tar with what every image has, and the given entries: name, type, link, content."""
    tree = busybox.Tree()
    tree.file("metadata.yaml", b"architecture: x86_64\ncreation_date: 1\n")
    tree.directory("rootfs")
    for name, kind, link, data in extra:
        tree.add(name, kind, 0o644, data, link, raw=True)
    return tree.bytes()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "pool" / "containers" / "c1"
    folder.mkdir(parents=True)
    return folder


async def unpack(data: bytes, target: Path, rootfs: bytes | None = None) -> None:
    meta, second = target.parents[2] / "meta", target.parents[2] / "second"
    meta.write_bytes(data)
    if rootfs is not None:
        second.write_bytes(rootfs)
    await unpack_image(ImageFiles(meta, second if rootfs is not None else None), target)


def outside(target: Path) -> list[str]:
    """What lies beside the folder."""
    base = target.parents[2]
    found = [str(path.relative_to(base)) for path in base.rglob("*") if not path.is_relative_to(target)]
    return sorted(set(found) - {"pool", "pool/containers", "meta", "second"})


@pytest.mark.parametrize("kind", sorted(busybox.COMPRESSORS))
async def test_every_compression_of_a_unified_image(kind: str, target: Path) -> None:
    await unpack(busybox.COMPRESSORS[kind](busybox.unified_tar()), target)
    assert (target / "rootfs" / "bin" / "busybox").stat().st_mode & 0o777 == 0o755
    assert (target / "templates" / "hostname.tpl").exists()


@pytest.mark.parametrize("kind", ["squashfs", "tar.zst"])
async def test_a_split_image(kind: str, target: Path, tmp_path: Path) -> None:
    tar = busybox.rootfs_tar()
    rootfs = busybox.squashfs(tar, tmp_path / "s") if kind == "squashfs" else busybox.COMPRESSORS[kind](tar)
    await unpack(busybox.COMPRESSORS["tar.xz"](busybox.metadata_tar()), target, rootfs)
    assert (target / "rootfs" / "sbin" / "init").stat().st_uid == 0
    assert stat.S_IMODE((target / "rootfs" / "tmp").stat().st_mode) == 0o1777


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([("../evil", tarfile.REGTYPE, "", b"x")], id="parent"),
        pytest.param([("rootfs/../../../evil", tarfile.REGTYPE, "", b"x")], id="parent in the middle"),
        pytest.param(
            [("rootfs/out", tarfile.SYMTYPE, "../../..", b""), ("rootfs/out/evil", tarfile.REGTYPE, "", b"x")],
            id="through a relative link",
        ),
        pytest.param(
            [("rootfs/out", tarfile.SYMTYPE, "{base}", b""), ("rootfs/out/evil", tarfile.REGTYPE, "", b"x")],
            id="through an absolute link",
        ),
        pytest.param(
            [
                ("rootfs/a", tarfile.SYMTYPE, ".", b""),
                ("rootfs/b", tarfile.SYMTYPE, "a/../../../..", b""),
                ("rootfs/b/evil", tarfile.REGTYPE, "", b"x"),
            ],
            id="through two links",
        ),
        pytest.param([("rootfs/taken", tarfile.LNKTYPE, "../../../secret", b"")], id="hard link"),
        pytest.param([("rootfs", tarfile.SYMTYPE, "{base}", b"")], id="rootfs is a link"),
        pytest.param([("metadata.yaml", tarfile.SYMTYPE, "{base}/secret", b"")], id="metadata is a link"),
        pytest.param([("templates", tarfile.SYMTYPE, "{base}", b"")], id="templates is a link"),
    ],
)
async def test_what_leads_out_of_the_tree_is_refused(
    entries: list[tuple[str, bytes, str, bytes]], target: Path
) -> None:
    base = target.parents[2]
    (base / "secret").write_text("secret")
    named = [(name, kind, link.format(base=base), data) for name, kind, link, data in entries]
    with pytest.raises(errors.Internal):
        await unpack(small(*named), target)
    assert outside(target) == ["secret"]


async def test_an_absolute_path_stays_inside(target: Path) -> None:
    evil = target.parents[2] / "evil"
    await unpack(small((str(evil), tarfile.REGTYPE, "", b"x")), target)
    assert not evil.exists()
    assert outside(target) == []


async def test_links_out_of_the_tree_are_kept_as_links(target: Path) -> None:
    """They mean something inside the container, and are only followed there."""
    await unpack(small(("rootfs/mtab", tarfile.SYMTYPE, "/proc/mounts", b"")), target)
    assert os.readlink(target / "rootfs" / "mtab") == "/proc/mounts"


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "tar.zst", "tar.bz2"])
async def test_a_truncated_image_is_refused(kind: str, target: Path) -> None:
    data = busybox.COMPRESSORS[kind](busybox.unified_tar())
    with pytest.raises(errors.Internal, match="Unpack failed"):
        await unpack(data[: len(data) * 2 // 3], target)


async def test_a_truncated_squashfs_is_refused(target: Path, tmp_path: Path) -> None:
    data = busybox.squashfs(busybox.rootfs_tar(), tmp_path / "s")
    with pytest.raises(errors.Internal, match="Unpack failed"):
        await unpack(busybox.metadata_tar(), target, data[: len(data) // 2])


async def test_a_virtual_machines_image_is_refused(target: Path) -> None:
    with pytest.raises(errors.Internal, match="virtual machine"):
        await unpack(busybox.metadata_tar(), target, b"QFI\xfb" + bytes(600))


async def test_garbage_is_refused_in_lxds_words(target: Path) -> None:
    with pytest.raises(errors.Internal, match="Unsupported compression"):
        await unpack(b"garbage" * 100, target)


async def test_nothing_is_taken_over_but_the_parts_of_an_image(target: Path) -> None:
    """Beside them are the server's own files: what an image calls so would be read, or written through, as the server's."""
    secret = target.parents[2] / "secret"
    secret.write_text("secret")
    await unpack(
        small(
            ("backup.yaml", tarfile.REGTYPE, "", b"container: {}"),
            ("idmap.json", tarfile.REGTYPE, "", b'{"disk": []}'),
            ("idmap.json.new", tarfile.SYMTYPE, str(secret), b""),
            (".metadata.yaml.new", tarfile.SYMTYPE, str(secret), b""),
            ("more/deep/file", tarfile.REGTYPE, "", b"x"),
        ),
        target,
    )
    assert sorted(path.name for path in target.iterdir()) == ["metadata.yaml", "rootfs"]
    assert secret.read_text() == "secret"


def test_device_nodes_are_made_by_real_root_only(target: Path) -> None:
    without = command_for("tar", Path("/image"), target, devices=False)
    assert "--exclude=rootfs/dev/*" in without.arguments
    assert "--exclude=rootfs/dev/*" not in command_for("tar", Path("/image"), target, devices=True).arguments
