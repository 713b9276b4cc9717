"""Backups of custom volumes: archives in LXD's format, and volumes out of them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import yaml

from tests.conformance.client import Answer
from tests.conformance.test_storage_volumes import Pool, make
from tests.conformance.world import World

ARCHIVE = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def pool(world: World) -> Pool:
    return make(world, "dir")


def filled(pool: Pool) -> str:
    """A volume with a file, a hard link and a snapshot in which the file was another; its URL."""
    place = pool.volume("v1", description="mine", config={"user.x": "y"})
    (place / "file").write_text("old")
    pool.world.api.post(f"{pool.url}/v1/snapshots", {"name": "s0"})
    (place / "file").write_text("new")
    (place / "again").hardlink_to(place / "file")
    (place / "link").symlink_to("../../outside")
    return f"{pool.url}/v1"


def export(pool: Pool, url: str, **fields: object) -> bytes:
    pool.world.api.post(f"{url}/backups", {"name": "b", **fields})
    answer = pool.world.api.request("GET", f"{url}/backups/b/export")
    assert answer.status == 200
    return answer.body


def restore(pool: Pool, data: bytes, name: str) -> Answer:
    pool.world.finally_do(lambda: pool.empty(name))
    return pool.world.api.request("POST", pool.url, data, {**ARCHIVE, "X-LXD-name": name})


@pytest.mark.extension("custom_volume_backup")
def test_an_archive_has_lxds_format(pool: Pool) -> None:
    data = export(pool, filled(pool), compression_algorithm="none")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = [name.rstrip("/") for name in tar.getnames()]
        assert names[0] == "backup/index.yaml"
        assert {"backup/volume/file", "backup/volume-snapshots/s0/file"} <= set(names)
        content = tar.extractfile("backup/volume-snapshots/s0/file")
        assert content is not None
        assert content.read() == b"old"
        index = tar.extractfile("backup/index.yaml")
        assert index is not None
        text = index.read().decode()
    assert "name: v1\n" in text
    assert "snapshots:\n- s0\n" in text


@pytest.mark.extension("custom_volume_backup")
@pytest.mark.extension("backup_override_name")
@pytest.mark.parametrize("algorithm", ["none", "gzip", "zstd"])
def test_a_volume_comes_back_under_another_name_and_on_another_pool(world: World, pool: Pool, algorithm: str) -> None:
    data = export(pool, filled(pool), compression_algorithm=algorithm)
    other = make(world, "btrfs") if algorithm == "gzip" else pool
    world.api.wait(restore(other, data, "v2"))
    place = other.place("v2")
    assert (place / "file").read_text() == "new"
    assert (place / "again").stat().st_ino == (place / "file").stat().st_ino
    assert (place / "link").is_symlink()
    assert other.list("v2") == ["s0"]
    shown = world.api.get(f"{other.url}/v2")
    assert (shown["description"], shown["config"]) == ("mine", {"user.x": "y"})
    world.api.put(f"{other.url}/v2", {"restore": "s0"})
    assert (other.place("v2") / "file").read_text() == "old"


@pytest.mark.extension("custom_volume_backup")
def test_backups_are_named_shown_renamed_and_deleted(pool: Pool) -> None:
    url = filled(pool)
    pool.world.api.post(f"{url}/backups", {"volume_only": True})
    pool.world.api.post(f"{url}/backups", {"name": "x", "expires_at": "2030-01-01T00:00:00Z"})
    assert sorted(pool.world.api.get(f"{url}/backups")) == [f"{url}/backups/backup0", f"{url}/backups/x"]
    shown = pool.world.api.get(f"{url}/backups/x")
    assert (shown["name"], shown["expires_at"], shown["volume_only"]) == ("x", "2030-01-01T00:00:00Z", False)
    assert pool.world.api.get(f"{url}/backups/backup0")["volume_only"] is True
    pool.world.api.post(f"{url}/backups/x", {"name": "y"})
    assert pool.world.api.request("GET", f"{url}/backups/y/export").status == 200
    pool.world.api.delete(f"{url}/backups/y")
    missing = pool.world.api.request("GET", f"{url}/backups/y")
    assert (missing.status, missing.error) == (404, "Storage volume backup not found")


@pytest.mark.extension("custom_volume_backup")
def test_backups_go_with_their_volume(pool: Pool) -> None:
    url = filled(pool)
    pool.world.api.post(f"{url}/backups", {"name": "b"})
    pool.world.api.delete(url)
    pool.volume("v1")
    assert pool.world.api.get(f"{url}/backups") == []


@pytest.mark.extension("custom_volume_backup")
@pytest.mark.parametrize(
    ("data", "status", "text"),
    [(b"garbage", 500, "Unsupported compression"), (None, 400, "Backup is missing index.yaml")],
)
def test_what_is_no_backup_is_refused(pool: Pool, data: bytes | None, status: int, text: str) -> None:
    if data is None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("backup/volume"))
        data = buffer.getvalue()
    answer = restore(pool, data, "v2")
    assert (answer.status, answer.error) == (status, text)
    assert pool.list() == []


@pytest.mark.extension("custom_volume_backup")
@pytest.mark.differs("looks into the archive only while it unpacks it")
def test_an_archive_that_means_harm_is_refused(pool: Pool, tmp_path: Path) -> None:
    data = export(pool, filled(pool), compression_algorithm="none")
    buffer = io.BytesIO(data)
    with tarfile.open(fileobj=buffer, mode="a") as tar:
        evil = tarfile.TarInfo("backup/volume/../../../../evil")
        tar.addfile(evil, io.BytesIO())
    answer = restore(pool, buffer.getvalue(), "v2")
    assert answer.status == 400
    assert "leads out of the tree" in answer.error
    cut = restore(pool, data[: len(data) // 1024 * 512 + 100], "v2")
    assert cut.status == 400
    assert pool.list() == ["v1", "v1/snapshots/s0"]


def archive(index: dict[str, object], *entries: tarfile.TarInfo) -> bytes:
    """A backup as somebody else may make it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        text = yaml.safe_dump(index).encode()
        head = tarfile.TarInfo("backup/index.yaml")
        head.size = len(text)
        tar.addfile(head, io.BytesIO(text))
        for entry in entries:
            tar.addfile(entry, io.BytesIO())
    return buffer.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def index_of(**more: object) -> dict[str, object]:
    volume = {"name": "v1", "type": "custom", "content_type": "filesystem", "config": {}, **more}
    return {"name": "v1", "backend": "dir", "pool": "p", "type": "custom", "config": {"volume": volume}}


@pytest.mark.differs("takes a link for a disk")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_what_an_archive_calls_a_disk_must_be_a_file(pool: Pool, tmp_path: Path, kind: bytes) -> None:
    """A link would have a file of the host grown to the size of the volume, and given away."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    index = index_of(content_type="block", config={"size": "4096"})
    link = str(victim) if kind == tarfile.SYMTYPE else ""
    answer = restore(pool, archive(index, entry("backup/volume.img", kind, link)), "v2")
    ended = pool.world.api.finished(answer.operation)
    assert (ended["status"], "is no regular file" in ended["err"]) == ("Failure", True), ended
    assert victim.read_bytes() == b"precious"
    assert pool.list() == []


def test_a_volume_in_an_archive_that_is_a_link_is_refused(pool: Pool, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    data = archive(index_of(), entry("backup/volume", tarfile.SYMTYPE, str(outside)), entry("backup/volume/planted"))
    answer = restore(pool, data, "v2")
    assert pool.world.api.finished(answer.operation)["status"] == "Failure"
    assert list(outside.iterdir()) == []
    assert pool.list() == []


@pytest.mark.differs("takes over what it does not know, or dies of what is missing")
def test_the_configuration_of_snapshots_in_an_archive_is_looked_at(pool: Pool) -> None:
    index = index_of()
    config = index["config"]
    assert isinstance(config, dict)
    config["volume_snapshots"] = [{"name": "s0", "config": {"bogus": "1"}}]
    index["snapshots"] = ["s0"]
    answer = restore(pool, archive(index, entry("backup/volume", tarfile.DIRTYPE)), "v2")
    assert (answer.status, 'option "bogus"' in answer.error) == (500, True), answer.error
    assert pool.list() == []


@pytest.mark.extension("backup_override_name")
def test_a_taken_name_is_not_restored_onto(pool: Pool) -> None:
    data = export(pool, filled(pool), compression_algorithm="none")
    refusal = pool.world.api.refusal("POST", pool.url, data, {**ARCHIVE, "X-LXD-name": "v1"})
    assert refusal.status >= 400
    assert (pool.place("v1") / "file").read_text() == "new"
