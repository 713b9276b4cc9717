"""Importing and deleting images, with everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chassis.store import Change, Store
from chassis.testing.sagas import check_saga
from rows.image import IMAGE, IMAGE_ALIAS, Image, ImageAlias
from services.images.files import Files
from services.images.parts import Parts
from services.images.sagas import deleting, importing
from services.images.shelf import Shelf
from tools import busybox_image as busybox


@cache
def split() -> tuple[bytes, bytes]:
    """A small image: what an instance would miss does not matter here."""
    tree = busybox.Tree()
    tree.directory("bin")
    return busybox.metadata_tar(), tree.bytes()


def fingerprint() -> str:
    return hashlib.sha256(b"".join(split())).hexdigest()


class ImportWorld:
    locks: Sequence[tuple[str, str, str]] = (("image", "", "f"),)

    def __init__(self, base: Path) -> None:
        self.files = Files(Path(tempfile.mkdtemp(dir=base)))
        self.files.prepare(())
        arrived = self.files.incoming("token")
        arrived.meta.write_bytes(split()[0])
        arrived.rootfs.write_bytes(split()[1])
        upload = importing.Upload(
            token="token", project="default", fingerprint=fingerprint(), size=1, aliases=({"name": "bb"},)
        )
        self.args: dict[str, Any] = msgspec.to_builtins(upload)
        self.shelf: Shelf | None = None

    def parts(self, store: Store) -> Parts:
        found = Parts.of(self.files, store)
        self.shelf = found.shelf
        return found

    async def given(self, store: Store) -> None: ...

    def found(self) -> list[str]:
        assert self.shelf is not None
        files = [path.name for path in self.files.folder.rglob("*") if path.is_file()]
        return sorted([*files, *(str(row.key) for row in self.shelf.images.select())])

    def leftovers(self) -> list[str]:
        assert self.shelf is not None
        return [*self.found(), *(str(row.key) for row in self.shelf.aliases.select())]

    def achieved(self) -> list[str]:
        assert self.shelf is not None
        wanted = [str(("default", fingerprint())), fingerprint(), f"{fingerprint()}.rootfs"]
        missing = [] if self.found() == sorted(wanted) else [f"found {self.found()}"]
        return missing if self.shelf.aliases.get("default", "bb") else ["alias"]


class DeleteWorld(ImportWorld):
    """The image is there, in one project or in two."""

    def __init__(self, base: Path, projects: tuple[str, ...] = ("default",)) -> None:
        super().__init__(base)
        self.files.place("token", fingerprint())
        self.projects = projects
        self.args = {"fingerprint": fingerprint(), "project": "default"}

    async def given(self, store: Store) -> None:
        for project in self.projects:
            await store.commit(
                Change().put(IMAGE, Image(project=project, fingerprint=fingerprint(), split=True), expect=0)
            )
        alias = ImageAlias(project="default", name="bb", target=fingerprint())
        await store.commit(Change().put(IMAGE_ALIAS, alias, expect=0))

    def leftovers(self) -> list[str]:
        return []

    def achieved(self) -> list[str]:
        assert self.shelf is not None
        there = [str(row.key) for row in (*self.shelf.images.select(), *self.shelf.aliases.select())]
        if len(self.projects) > 1:
            return (
                [] if self.files.rootfs(fingerprint()).exists() and len(there) == 1 else ["the other project's image"]
            )
        return [*self.found(), *there]


@pytest.mark.saga(importing.IMPORT)
async def test_importing(tmp_path: Path) -> None:
    assert await check_saga(importing.IMPORT, lambda: ImportWorld(tmp_path)) > 20


@pytest.mark.saga(deleting.DELETE)
async def test_deleting(tmp_path: Path) -> None:
    assert await check_saga(deleting.DELETE, lambda: DeleteWorld(tmp_path)) > 10


@pytest.mark.saga(deleting.DELETE)
async def test_deleting_what_another_project_has_too(tmp_path: Path) -> None:
    assert await check_saga(deleting.DELETE, lambda: DeleteWorld(tmp_path, ("default", "other"))) > 10
