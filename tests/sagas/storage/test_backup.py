"""Backups of custom volumes, with everything that can go wrong on the way."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from chassis.saga import Saga
from chassis.store import Change, Store
from chassis.testing.sagas import check_saga
from rows.storage import VOLUME_BACKUP, VolumeBackup
from services.storage.parts import Parts
from services.storage.sagas import backup
from tests.sagas.storage.test_volume import BOTH, NOW, ONE, V1, VolumeWorld, renamed

HERE = {"pool": "p1", "project": "default", "volume": "v1"}
MAKE = {**HERE, "name": "b1", "expires_at": "", "volume_only": False, "algorithm": ["gzip"]}
PLACE = "p1/default_v1"


class BackupWorld(VolumeWorld):
    """The volume v1 with a snapshot, and the backups `standing`, by the places of their files."""

    standing: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()

    def __init__(self, base: Path, args: dict[str, Any], standing: tuple[str, ...], expected: tuple[str, ...]) -> None:
        super().__init__(base, args, ONE, ONE, BOTH)
        self.standing, self.expected = standing, expected
        self.files: Path = self.directory / "backups"
        self.found: Parts | None = None

    def parts(self, store: Store) -> Parts:
        self.found = super().parts(store)
        return self.found

    async def given(self, store: Store) -> None:
        await super().given(store)
        assert self.found is not None
        for place in self.standing:
            name = place.rpartition("/")[2]
            path = self.found.backups.path("p1", V1, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("an archive")
            row = VolumeBackup(pool="p1", project="default", volume="v1", name=name, created_at=NOW, expires_at=None)
            await store.commit(Change().put(VOLUME_BACKUP, row, expect=0))

    def _differs(self, wanted: tuple[str, ...]) -> list[str]:
        """Files and rows that are not as wanted; also folders that were left empty."""
        assert self.found is not None
        base = self.found.backups.folder
        there = {str(path.relative_to(base)) for path in base.rglob("*")}
        folders = {str(parent) for name in wanted for parent in Path(name).parents if str(parent) != "."}
        rows = {f"{PLACE}/{row.value.name}" for row in self.found.backup_rows.select()}
        told = [f"found {there}, wanted {wanted}"] if there != {*wanted, *folders} else []
        return told if rows == set(wanted) else [*told, f"rows {rows}"]

    def leftovers(self) -> list[str]:
        return [*super().leftovers(), *self._differs(self.standing)]

    def achieved(self) -> list[str]:
        return [*super().achieved(), *self._differs(self.expected), *self._damaged()]

    def _damaged(self) -> list[str]:
        """A backup that was made holds the volume and its snapshot."""
        if self.args is not MAKE:
            return []
        assert self.found is not None
        with tarfile.open(self.found.backups.path("p1", V1, "b1")) as archive:
            names = archive.getnames()
        wanted = {"backup/index.yaml", "backup/volume/file", "backup/volume-snapshots/s0/file"}
        return sorted(wanted - set(names)) if len(names) == len(set(names)) else ["twice the same in the archive"]


class DeleteWorld(BackupWorld):
    """What is half deleted is deleted by asking again."""

    def leftovers(self) -> list[str]:
        return []


ONE_BACKUP = (f"{PLACE}/b1",)
CASES: list[tuple[Saga, dict[str, Any], tuple[str, ...], tuple[str, ...], type[BackupWorld]]] = [
    (backup.CREATE, MAKE, (), ONE_BACKUP, BackupWorld),
    (backup.RENAME, {**HERE, "name": "b1", "new_name": "b2"}, ONE_BACKUP, (f"{PLACE}/b2",), BackupWorld),
    (backup.DELETE, {**HERE, "name": "b1"}, ONE_BACKUP, (), DeleteWorld),
]


@pytest.mark.saga(*(case[0] for case in CASES))
@pytest.mark.parametrize(
    ("saga", "given", "standing", "expected", "kind"), CASES, ids=lambda case: getattr(case, "name", "")
)
async def test_backups(
    tmp_path: Path,
    saga: Saga,
    given: dict[str, Any],
    standing: tuple[str, ...],
    expected: tuple[str, ...],
    kind: type[BackupWorld],
) -> None:
    assert await check_saga(saga, lambda: kind(tmp_path, given, standing, expected)) > 5


class RestoreWorld(VolumeWorld):
    """An archive has arrived; nothing else is there."""

    archive: Path

    def __init__(self, base: Path) -> None:
        rows = {"p1/v1", "p1/v1/s0"}
        kept = {"name": "s0", "description": "", "config": {}, "expires_at": ""}
        more = {"token": "t", "content_type": "filesystem", "config": {}, "description": "", "snapshots": [kept]}
        super().__init__(base, {**HERE, **more}, {}, renamed(ONE, "p1", "v1"), rows)

    def parts(self, store: Store) -> Parts:
        parts = super().parts(store)
        self.archive = parts.backups.arriving / "t"
        return parts

    async def given(self, store: Store) -> None:
        await super().given(store)
        self.archive.parent.mkdir(parents=True)
        content = self.directory / "content" / "backup"
        for path, text in (("volume/file", "old"), ("volume-snapshots/s0/file", "older")):
            (content / path).parent.mkdir(parents=True, exist_ok=True)
            (content / path).write_text(text)
        with tarfile.open(self.archive, "x") as archive:
            archive.add(content, "backup")

    def leftovers(self) -> list[str]:
        return [*super().leftovers(), *(["the upload"] if self.archive.exists() else [])]

    def achieved(self) -> list[str]:
        return [*super().achieved(), *(["the upload"] if self.archive.exists() else [])]


@pytest.mark.saga(backup.RESTORE)
async def test_restoring(tmp_path: Path) -> None:
    assert await check_saga(backup.RESTORE, lambda: RestoreWorld(tmp_path)) > 10
