"""Custom volumes and their snapshots, with everything that can go wrong on the way."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from chassis.saga import Saga
from chassis.store import Change, Store
from chassis.testing.sagas import check_saga
from rows.storage import POOL, VOLUME, VOLUME_SNAPSHOT, Pool, Volume, VolumeSnapshot
from services.storage.drivers import VolumeName
from services.storage.parts import Parts
from services.storage.places import Places
from services.storage.sagas import snapshot, volume

V1, V2 = VolumeName("custom", "default", "v1"), VolumeName("custom", "default", "v2")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
Tree = dict[str, str]
ONE: Tree = {"p1/custom/default_v1/file": "old", "p1/custom-snapshots/default_v1/s0/file": "older"}


class VolumeWorld:
    """Two dir pools; on the first the volume v1 with a file and a snapshot s0."""

    def __init__(self, base: Path, args: dict[str, Any], before: Tree, after: Tree, rows: set[str]) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=base))
        self.args = args
        self.locks: Sequence[tuple[str, str, str]] = (("storage-volume", "default", "p1/custom/v1"),)
        self.before, self.after, self.rows = before, after, rows
        self.places: Places | None = None

    def parts(self, store: Store) -> Parts:
        parts = Parts.of(self.directory, store, lambda _: True)
        self.places = parts.places
        return parts

    async def given(self, store: Store) -> None:
        assert self.places is not None
        for name in ("p1", "p2"):
            await self.places.make("dir", name, {}).create()
            await store.commit(Change().put(POOL, Pool(name=name, driver="dir"), expect=0))
        for path, text in self.before.items():
            file = self.directory / "storage-pools" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if self.before:
            row = Volume(pool="p1", project="default", type="custom", name="v1", created_at=NOW)
            snap = VolumeSnapshot(pool="p1", project="default", type="custom", volume="v1", name="s0", created_at=NOW)
            await store.commit(Change().put(VOLUME, row, expect=0).put(VOLUME_SNAPSHOT, snap, expect=0))

    def tree(self) -> Tree:
        root = self.directory / "storage-pools"
        return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}

    def folders(self) -> list[str]:
        """Volumes and snapshots by their folders, working names too."""
        root = self.directory / "storage-pools"
        found = [*root.glob("*/custom/*"), *root.glob("*/custom/.*"), *root.glob("*/custom-snapshots/*/*")]
        return sorted({path.name for path in found if path.name.startswith((".new-", ".gone-"))})

    def row_names(self) -> set[str]:
        assert self.places is not None
        volumes = {f"{row.value.pool}/{row.value.name}" for row in self.places.volumes.select()}
        found = (row.value for row in self.places.snapshots.select())
        return volumes | {f"{row.pool}/{row.volume}/{row.name}" for row in found}

    def leftovers(self) -> list[str]:
        rows = {"p1/v1", "p1/v1/s0"} if self.before else set()
        told = [] if self.tree() == self.before else [f"tree {self.tree()}"]
        return [*told, *self.folders(), *(self.row_names() ^ rows)]

    def achieved(self) -> list[str]:
        told = [] if self.tree() == self.after else [f"tree {self.tree()}"]
        return [*told, *self.folders(), *(self.row_names() ^ self.rows)]


class HalfWorld(VolumeWorld):
    """What cannot be undone may be half done after a failure; it is done again by asking again."""

    def leftovers(self) -> list[str]:
        return self.folders()


class EitherWorld(VolumeWorld):
    """A failure leaves it as it was, or as it was to be: whole in one place."""

    def leftovers(self) -> list[str]:
        told = super().leftovers()
        return told if told and self.achieved() else []


def args(target: VolumeName, pool: str = "p1", **more: Any) -> dict[str, Any]:
    base = {"content_type": "filesystem", "config": {}, "description": "", "snapshots": ["s0"]}
    return {**base, "source": volume.spot("p1", V1), "target": volume.spot(pool, target), **more}


def renamed(tree: Tree, pool: str, name: str) -> Tree:
    return {
        path.replace("p1/", f"{pool}/").replace("default_v1", f"default_{name}"): text for path, text in tree.items()
    }


BOTH = {"p1/v1", "p1/v1/s0"}
CASES: list[tuple[Saga, dict[str, Any], Tree, Tree, set[str], type[VolumeWorld]]] = [
    (volume.COPY, args(V2), ONE, ONE | renamed(ONE, "p1", "v2"), BOTH | {"p1/v2", "p1/v2/s0"}, VolumeWorld),
    (volume.COPY, args(V2, "p2"), ONE, ONE | renamed(ONE, "p2", "v2"), BOTH | {"p2/v2", "p2/v2/s0"}, VolumeWorld),
    (volume.RENAME, args(V2), ONE, renamed(ONE, "p1", "v2"), {"p1/v2", "p1/v2/s0"}, VolumeWorld),
    (volume.MOVE_WITHIN, args(V2), ONE, renamed(ONE, "p1", "v2"), {"p1/v2", "p1/v2/s0"}, VolumeWorld),
    (volume.MOVE, args(V2, "p2"), ONE, renamed(ONE, "p2", "v2"), {"p2/v2", "p2/v2/s0"}, EitherWorld),
    (volume.DELETE, args(V1), ONE, {}, set(), HalfWorld),
]
HERE = {"pool": "p1", "project": "default", "volume": "v1"}
SNAPSHOT_CASES: list[tuple[Saga, dict[str, Any], Tree, set[str], type[VolumeWorld]]] = [
    (
        snapshot.CREATE,
        {**HERE, "name": "s1", "description": "", "expires_at": ""},
        ONE | {"p1/custom-snapshots/default_v1/s1/file": "old"},
        BOTH | {"p1/v1/s1"},
        VolumeWorld,
    ),
    (
        snapshot.RENAME,
        {**HERE, "name": "s0", "new_name": "s9"},
        {"p1/custom/default_v1/file": "old", "p1/custom-snapshots/default_v1/s9/file": "older"},
        {"p1/v1", "p1/v1/s9"},
        VolumeWorld,
    ),
    (snapshot.DELETE, {**HERE, "name": "s0"}, {"p1/custom/default_v1/file": "old"}, {"p1/v1"}, HalfWorld),
    (
        snapshot.RESTORE,
        {**HERE, "name": "s0"},
        {path: "older" for path in ONE},
        BOTH,
        HalfWorld,
    ),
]


class RefreshWorld(VolumeWorld):
    """The target exists and has content of its own; a refresh that fails may have changed that, and nothing else."""

    async def given(self, store: Store) -> None:
        await super().given(store)
        row = Volume(pool="p2", project="default", type="custom", name="v2", created_at=NOW)
        await store.commit(Change().put(VOLUME, row, expect=0))

    def leftovers(self) -> list[str]:
        kept = {path: text for path, text in self.tree().items() if path.startswith(("p1/", "p2/custom-snapshots/"))}
        told = [] if kept == ONE else [f"tree {kept}"]
        return [*told, *self.folders(), *(self.row_names() ^ (BOTH | {"p2/v2"}))]


@pytest.mark.saga(volume.REFRESH)
async def test_refreshing(tmp_path: Path) -> None:
    before = ONE | {"p2/custom/default_v2/other": "its own"}
    given = (args(V2, "p2"), before, ONE | renamed(ONE, "p2", "v2"), BOTH | {"p2/v2", "p2/v2/s0"})
    assert await check_saga(volume.REFRESH, world(tmp_path, RefreshWorld, *given)) > 10


def world(base: Path, kind: type[VolumeWorld], *given: Any) -> Callable[[], VolumeWorld]:
    return lambda: kind(base, *given)


@pytest.mark.saga(volume.CREATE)
async def test_making(tmp_path: Path) -> None:
    made = args(V1)
    assert await check_saga(volume.CREATE, world(tmp_path, VolumeWorld, made, {}, {}, {"p1/v1"}))


@pytest.mark.saga(*(case[0] for case in CASES))
@pytest.mark.parametrize(
    ("saga", "given", "before", "after", "rows", "kind"), CASES, ids=lambda case: getattr(case, "name", "")
)
async def test_volumes(
    tmp_path: Path,
    saga: Saga,
    given: dict[str, Any],
    before: Tree,
    after: Tree,
    rows: set[str],
    kind: type[VolumeWorld],
) -> None:
    assert await check_saga(saga, world(tmp_path, kind, given, before, after, rows)) > 10


@pytest.mark.saga(*(case[0] for case in SNAPSHOT_CASES))
@pytest.mark.parametrize(
    ("saga", "given", "after", "rows", "kind"), SNAPSHOT_CASES, ids=lambda case: getattr(case, "name", "")
)
async def test_snapshots(
    tmp_path: Path, saga: Saga, given: dict[str, Any], after: Tree, rows: set[str], kind: type[VolumeWorld]
) -> None:
    assert await check_saga(saga, world(tmp_path, kind, given, ONE, after, rows)) > 10
