"""Backups of custom volumes, and volumes out of such backups."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.storage.sagas import backup
from tests.conformance.client import Answer
from tools.faults.scenes import Scene
from tools.faults.subject import Subject
from tools.faults.volumes import CONTENT, MAKE, SNAPSHOT, Asked, VolumeScene, scene_of

AT = "/{what}/backups"
BACKUP: Asked = ("POST", AT, {"name": "b"})


@dataclass
class BackupScene(VolumeScene):
    """What is there of backups is whole: it holds the file."""

    def exist(self, subject: Subject, there: Sequence[str], gone: Sequence[str]) -> str:
        problems = [super().exist(subject, there, gone), *(self._damaged(subject, path) for path in there)]
        return "; ".join(problem for problem in problems if problem)

    def _damaged(self, subject: Subject, path: str) -> str:
        found = subject.api.request("GET", f"{self.path(subject, path)}/export")
        if found.status != 200:
            return f"the export of {path} answers {found.status}"
        with tarfile.open(fileobj=io.BytesIO(found.body)) as archive:
            held = archive.extractfile("backup/volume/file")
            return "" if held and held.read().decode() == CONTENT else f"{path} does not hold the file"


@dataclass
class Restore(VolumeScene):
    """A volume and its snapshot out of an archive, under another name."""

    archive: bytes = b""

    def prepare(self, subject: Subject) -> None:
        super().prepare(subject)
        self.archive = subject.api.request("GET", f"{self.path(subject, AT)}/b/export").body
        subject.world.gone(f"{self.path(subject, AT)}/b")

    def ask(self, subject: Subject) -> Answer:
        return subject.api.request("POST", self.path(subject, ""), self.archive, {"X-LXD-name": self.other})


def of_backups() -> list[Callable[[], Scene]]:
    """A maker for each scene."""
    standing = (MAKE, BACKUP)
    rename: Asked = ("POST", f"{AT}/b", {"name": "c"})
    restored = ["/{other}", "/{other}/snapshots/s"]
    return [
        scene_of(BackupScene, backup.CREATE, (MAKE,), BACKUP, [f"{AT}/b"], []),
        scene_of(BackupScene, backup.RENAME, standing, rename, [f"{AT}/c"], [f"{AT}/b"]),
        scene_of(BackupScene, backup.DELETE, standing, ("DELETE", f"{AT}/b", {}), [], [f"{AT}/b"]),
        scene_of(Restore, backup.RESTORE, (MAKE, SNAPSHOT, BACKUP), BACKUP, restored, []),
    ]
