"""What an upload is found to be, and why it is refused. The texts are LXD's where LXD has one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from chassis import archive, errors
from services.images.inspection import METADATA, inspect, read_metadata
from tools import busybox_image as busybox

GOOD = b"architecture: x86_64\ncreation_date: 1\n"


def write(tmp_path: Path, data: bytes, name: str = "image") -> Path:
    file = tmp_path / name
    file.write_bytes(data)
    return file


def tar(*entries: tuple[str, bytes, bytes, str]) -> bytes:
    tree = busybox.Tree()
    for name, kind, data, link in entries:
        tree.add(name, kind, 0o644, data, link)
    return tree.bytes()


@pytest.mark.parametrize("kind", sorted(busybox.COMPRESSORS))
def test_every_compression_is_read_and_what_is_broken_off_is_refused(tmp_path: Path, kind: str) -> None:
    data = busybox.COMPRESSORS[kind](busybox.unified_tar())
    found = inspect(write(tmp_path, data), None)
    assert (found.type, found.architecture, found.created) == ("container", "x86_64", busybox.CREATED)
    assert found.properties["os"] == "Busybox"
    with pytest.raises(errors.Internal, match="damaged or incomplete"):
        inspect(write(tmp_path, data[: len(data) * 2 // 3]), None)


def test_a_split_image(tmp_path: Path) -> None:
    meta = write(tmp_path, busybox.metadata_tar(), "meta")
    squashed = busybox.squashfs(busybox.rootfs_tar(), tmp_path / "s")
    rootfs = write(tmp_path, squashed, "rootfs")
    assert inspect(meta, rootfs).type == "container"
    with pytest.raises(errors.Internal, match="squashfs file is incomplete"):
        inspect(meta, write(tmp_path, squashed[: len(squashed) // 2], "rootfs"))


def test_a_disk_makes_it_a_virtual_machines(tmp_path: Path) -> None:
    meta = write(tmp_path, busybox.metadata_tar(), "meta")
    assert inspect(meta, write(tmp_path, b"QFI\xfb" + bytes(600), "disk")).type == "virtual-machine"
    unified = tar(("metadata.yaml", tarfile.REGTYPE, GOOD, ""), ("rootfs.img", tarfile.REGTYPE, b"x", ""))
    assert inspect(write(tmp_path, unified), None).type == "virtual-machine"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "EOF"),
        (b"garbage", "Unsupported compression"),
        (tar(("rootfs", tarfile.DIRTYPE, b"", "")), "Metadata tarball is missing metadata.yaml"),
        (tar(("../metadata.yaml", tarfile.REGTYPE, GOOD, "")), "leads out of the tree"),
        (tar(("/../metadata.yaml", tarfile.REGTYPE, GOOD, "")), "leads out of the tree"),
        (tar(("metadata.yaml", tarfile.SYMTYPE, b"", "/etc/passwd")), "not a regular file"),
        (tar(("metadata.yaml", tarfile.REGTYPE, bytes(METADATA + 1), "")), "more than"),
        (tar(("rootfs", tarfile.SYMTYPE, b"", "/")), "rootfs is not a directory"),
        (tar(("x", tarfile.LNKTYPE, b"", "../../etc/shadow")), "leads out of the tree"),
    ],
)
def test_refusals(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(errors.Internal, match=text):
        inspect(write(tmp_path, data), None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("creation_date: 1", "Architecture isn't supported: $"),
        ("architecture: zz\ncreation_date: 1", "Architecture isn't supported: zz"),
        ("architecture: x86_64", "Missing creation date"),
        ("x: [", "yaml: line"),
        ("- a", "is not a map"),
        ("architecture: x86_64\ncreation_date: 1\ntemplates: [1]", "templates is not a map"),
        ("architecture: x86_64\ncreation_date: soon", "creation_date is not a whole number"),
        ("a: &a [1]\nb: *a", "aliases are not allowed"),
        ("architecture: !!python/object/apply:os.system [id]", "yaml:"),
        ("[" * 5000, "yaml:"),
    ],
)
def test_metadata_that_is_refused(text: str, reason: str) -> None:
    with pytest.raises(errors.Internal, match=reason):
        read_metadata(text.encode())


def test_properties_become_texts() -> None:
    text = b"architecture: amd64\ncreation_date: 1\nexpiry_date: 2\nproperties: {a: 1, b: true, c: null, d: x, e: [1]}"
    assert read_metadata(text) == ("x86_64", 1, 2, {"a": "1", "b": "true", "c": "", "d": "x"})


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    long = tarfile.TarInfo("pax")
    long.type, long.size = tarfile.XHDTYPE, archive.HEADER + 1
    data = io.BytesIO(long.tobuf(tarfile.USTAR_FORMAT) + bytes(archive.HEADER + 1024))
    with pytest.raises(errors.Internal, match="damaged or incomplete"):
        inspect(write(tmp_path, data.getvalue()), None)


@pytest.mark.parametrize("kept", [1, 3, 100, 511])
def test_a_tar_that_is_broken_off_between_members_is_refused(tmp_path: Path, kept: int) -> None:
    data = tar(("metadata.yaml", tarfile.REGTYPE, GOOD, ""), ("rootfs", tarfile.DIRTYPE, b"", ""))
    whole = 3 * 512
    for length in (whole, whole - 512 + kept):
        with pytest.raises(errors.Internal, match="damaged or incomplete"):
            inspect(write(tmp_path, data[:length]), None)


def test_an_absolute_name_means_what_it_means_to_tar(tmp_path: Path) -> None:
    data = tar(("/metadata.yaml", tarfile.REGTYPE, GOOD, ""), ("/rootfs/etc/inittab", tarfile.REGTYPE, b"x", ""))
    assert inspect(write(tmp_path, data), None).architecture == "x86_64"
