"""Images that come from elsewhere (another server, an instance), with everything that can go wrong on the way."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from chassis.store import Change, Store
from chassis.testing.sagas import check_saga
from gen.nubibus.rest.v1 import rest_pb2
from gen.nubibus.storage.v1 import volume_pb2
from rows.image import IMAGE, IMAGE_ALIAS, Image, ImageAlias
from services.images import remote
from services.images.sagas import publishing, pulling, refreshing
from tests.sagas.images.test_images import ImportWorld, fingerprint, split

OLD = "0" * 64

# A crash leaves its download's connection to the garbage collector, as the end of a process leaves it to the kernel.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed transport:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


class PullWorld(ImportWorld):
    """Another server has the image as a form."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.files.incoming("token").drop()
        wanted = pulling.Pull(
            token="token",
            project="default",
            server="https://other",
            fingerprint=fingerprint(),
            aliases=({"name": "bb"},),
        )
        self.args = msgspec.to_builtins(wanted)


class KnownWorld(PullWorld):
    """The project has the image already: only the alias is new."""

    async def given(self, store: Store) -> None:
        for source, target in zip(split(), (self.files.meta, self.files.rootfs), strict=True):
            target(fingerprint()).write_bytes(source)
        image = Image(project="default", fingerprint=fingerprint(), split=True)
        await store.commit(Change().put(IMAGE, image, expect=0))

    def leftovers(self) -> list[str]:
        assert self.shelf is not None
        given = {str(("default", fingerprint())), fingerprint(), f"{fingerprint()}.rootfs"}
        return [*(given ^ set(self.found())), *(str(row.key) for row in self.shelf.aliases.select())]


class RefreshWorld(PullWorld):
    """An image that came by an alias which names another one now; the old one's files go when its row is gone."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.args = {"project": "default", "fingerprint": OLD, "token": "token"}

    async def given(self, store: Store) -> None:
        self.files.meta(OLD).write_bytes(b"old")
        source = {"protocol": "lxd", "server": "https://other", "alias": "there"}
        image = Image(project="default", fingerprint=OLD, update_source=source, public=True)
        alias = ImageAlias(project="default", name="bb", target=OLD)
        await store.commit(Change().put(IMAGE, image, expect=0).put(IMAGE_ALIAS, alias, expect=0))

    def _targets(self) -> list[str]:
        assert self.shelf is not None
        return [row.value.target for row in self.shelf.aliases.select()]

    def leftovers(self) -> list[str]:
        given = {str(("default", OLD)), OLD}
        return [*(given ^ set(self.found())), *(name for name in self._targets() if name != OLD)]

    def achieved(self) -> list[str]:
        wanted = {str(("default", fingerprint())), fingerprint(), f"{fingerprint()}.rootfs", OLD}
        return [*(wanted ^ set(self.found())), *(name for name in self._targets() if name != fingerprint())]


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other server, which has one image."""

    async def find(*_: object) -> dict[str, Any]:
        return {"fingerprint": fingerprint(), "size": 1, "properties": {"a": "b"}}

    @asynccontextmanager
    async def download(*_: object) -> AsyncIterator[remote.Answer]:
        async def body() -> AsyncIterator[bytes]:
            for name, data in zip(("metadata", "rootfs"), split(), strict=True):
                yield f'\r\n--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data
            yield b"\r\n--B--\r\n"

        yield remote.Answer(200, {"content-type": "multipart/form-data; boundary=B"}, body())

    monkeypatch.setattr(remote, "find", find)
    monkeypatch.setattr(remote, "download", download)


@pytest.mark.saga(pulling.PULL)
@pytest.mark.usefixtures("other")
@pytest.mark.parametrize("kind", [PullWorld, KnownWorld])
async def test_pulling(tmp_path: Path, kind: type[PullWorld]) -> None:
    assert await check_saga(pulling.PULL, lambda: kind(tmp_path)) > 20


@pytest.mark.saga(refreshing.REFRESH)
@pytest.mark.usefixtures("other")
async def test_refreshing(tmp_path: Path) -> None:
    assert await check_saga(refreshing.REFRESH, lambda: RefreshWorld(tmp_path)) > 20


class PublishWorld(ImportWorld):
    """A stopped instance whose volume storage reads; packed twice it may become two images, of which one must be left."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.files.incoming("token").drop()
        wanted = publishing.Publication(
            token="token", project="default", instance_project="default", source="c1", aliases=({"name": "bb"},)
        )
        self.args = msgspec.to_builtins(wanted)

    def achieved(self) -> list[str]:
        assert self.shelf is not None
        images = [row.value.fingerprint for row in self.shelf.images.select()]
        told = [] if self.found() == sorted([*images, *(str(("default", name)) for name in images)]) else self.found()
        if len(images) != 1 or b"the volume" not in gzip.decompress(self.files.meta(images[0]).read_bytes()):
            told = [*told, f"images {images}"]
        alias = self.shelf.aliases.get("default", "bb")
        return told if alias is not None and alias.value.target == images[0] else [*told, "alias"]


@pytest.mark.saga(publishing.PUBLISH)
async def test_publishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def call(*_: object, **__: object) -> rest_pb2.Document:
        return rest_pb2.Document(json=b'{"status": "Stopped"}')

    async def stream(*_: object, **__: object) -> AsyncIterator[volume_pb2.ReadChunk]:
        yield volume_pb2.ReadChunk(metadata=b"architecture: x86_64\n")
        yield volume_pb2.ReadChunk(data=b"the volume")

    monkeypatch.setattr(publishing, "rpc", SimpleNamespace(call=call, stream=stream))
    assert await check_saga(publishing.PUBLISH, lambda: PublishWorld(tmp_path)) > 20
