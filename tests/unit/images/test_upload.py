"""Bodies of uploads: forms in any pieces, files hashed on the way, nothing left of what is no image."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis import errors
from services.images.files import Files
from services.images.multipart import Begin, Form, boundary_of
from services.images.sagas.importing import read_headers
from services.images.upload import receive, told_apart

TYPE = "multipart/form-data; boundary=BB"


def form(*parts: tuple[str, bytes], end: bytes = b"--BB--\r\n") -> bytes:
    out = b"preamble\r\n"
    for name, data in parts:
        head = f'--BB\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.f"\r\nX-Other: 1\r\n\r\n'
        out += head.encode() + data + b"\r\n"
    return out + end


async def body(data: bytes, piece: int) -> AsyncIterator[bytes]:
    for at in range(0, len(data), piece):
        yield data[at : at + piece]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 100_000])
def test_a_form_in_any_pieces(piece: int) -> None:
    content = b"abc\r\n--B not yet\r\n--" + bytes(range(256))
    data = form(("metadata", content), ("rootfs", b"")) + b"epilogue --BB"
    parser, found = Form(b"BB"), []
    for at in range(0, len(data), piece):
        for item in parser.feed(data[at : at + piece]):
            if isinstance(item, Begin):
                found.append([item, b""])
            else:
                found[-1][1] += item
    assert found == [[Begin("metadata", "metadata.f"), content], [Begin("rootfs", "rootfs.f"), b""]]
    assert parser.ended


def test_headers_without_end_are_refused() -> None:
    parser = Form(b"BB")
    endless = b"--BB\r\n" + b"X" * 100_000
    with pytest.raises(errors.Internal, match="Invalid multipart image"):
        list(parser.feed(endless))


@pytest.mark.parametrize("text", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_needs_a_boundary(text: str) -> None:
    with pytest.raises(errors.BadRequest):
        boundary_of(text)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.prepare(())
    return made


@pytest.mark.parametrize("piece", [1000, 1024 * 1024])
async def test_a_split_upload_is_hashed_across_its_files(files: Files, piece: int) -> None:
    meta, rootfs = b"m" * 3000, b"r" * 300_000
    incoming = files.incoming("t")
    received = await receive(body(form(("metadata", meta), ("rootfs", rootfs)), piece), TYPE, incoming)
    assert (received.failure, received.disk, received.filename) == ("", False, "rootfs.f")
    assert (incoming.meta.read_bytes(), incoming.rootfs.read_bytes()) == (meta, rootfs)
    assert incoming.fingerprint == hashlib.sha256(meta + rootfs).hexdigest()
    assert incoming.size == len(meta) + len(rootfs)
    assert incoming.meta.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (form(("metadata", b"m")), "EOF"),
        (form(("metadata", b"m"), ("rootfs", b"r"), end=b""), "EOF"),
        (form(("other", b"m"), ("rootfs", b"r")), "Invalid multipart image"),
        (form(("metadata", b"m"), ("other", b"r")), "Invalid multipart image"),
    ],
)
async def test_a_form_that_is_no_image(files: Files, data: bytes, failure: str) -> None:
    received = await receive(body(data, 10), TYPE, files.incoming("t"))
    assert received.failure == failure


async def test_an_upload_that_breaks_off_leaves_nothing(files: Files) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await receive(broken(), "application/octet-stream", files.incoming("t"))
    assert list(files.arriving.iterdir()) == []


async def test_a_full_disk_is_told_and_leaves_nothing(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("services.images.files.os.write", full)
    with pytest.raises(errors.Internal, match="No space left on device"):
        await receive(body(b"x" * 100_000, 100_000), "application/octet-stream", files.incoming("t"))
    assert list(files.arriving.iterdir()) == []


def test_remains_are_removed_at_the_start(files: Files) -> None:
    for token in ("kept", "lost"):
        files.incoming(token).meta.touch()
    files.prepare(["kept"])
    assert [path.name for path in files.arriving.iterdir()] == ["kept.meta"]


def test_placing_may_be_repeated(files: Files) -> None:
    files.incoming("t").meta.write_bytes(b"m")
    files.incoming("t").rootfs.write_bytes(b"r")
    for _ in range(2):
        files.place("t", "f" * 64)
    assert files.rootfs("f" * 64).read_bytes() == b"r"
    for _ in range(2):
        files.take_back("f" * 64)
    assert not files.meta("f" * 64).exists()
    with pytest.raises(errors.Internal, match="upload is gone"):
        files.place("t", "f" * 64)


def test_headers() -> None:
    found = read_headers(
        {
            "x-lxd-public": "1",
            "x-lxd-properties": "a=b&c=d%20e&n=",
            "x-lxd-filename": "f.tar.xz",
            "x-lxd-fingerprint": "abc",
            "x-lxd-aliases": "alias=one&alias=two",
            "x-lxd-profiles": "profile=p",
        }
    )
    assert found == {
        "wanted": "abc",
        "public": True,
        "filename": "f.tar.xz",
        "properties": {"a": "b", "c": "d e", "n": ""},
        "profiles": ("p",),
        "aliases": ({"name": "one"}, {"name": "two"}),
    }
    assert read_headers({})["profiles"] == ("default",)


@pytest.mark.parametrize(
    ("content_type", "data", "json"),
    [
        ("application/json", b"x", True),
        ("application/octet-stream", b"{}", False),
        ("", b' {"source": 1}', True),
        ("", b"\x1f\x8b", False),
        ("application/x-www-form-urlencoded", b"BZh", False),
        ("", b"", False),
    ],
)
async def test_json_and_images_are_told_apart(content_type: str, data: bytes, json: bool) -> None:
    found, rest = await told_apart(content_type, body(data, 4))
    assert found is json
    assert b"".join([piece async for piece in rest]) == data
