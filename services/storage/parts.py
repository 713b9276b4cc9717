"""What the sagas and servicers of storage work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chassis import compression
from chassis.mirror import Mirror
from chassis.store import Store
from rows.control import SERVER_CONFIG, ServerConfig
from rows.room import Room
from rows.storage import VOLUME_BACKUP, VolumeBackup
from services.storage.backup_files import BackupFiles
from services.storage.cache import Trees
from services.storage.holders import Holders
from services.storage.image_files import ImageSource
from services.storage.keyed_locks import KeyedLocks
from services.storage.places import Places


@dataclass
class Parts:
    """`member` is the name of this machine in the cluster."""

    places: Places
    holders: Holders
    source: ImageSource
    trees: Trees
    backups: BackupFiles
    backup_rows: Mirror[VolumeBackup]
    config: Mirror[ServerConfig]
    room: Room
    member: str = "none"
    busy: KeyedLocks = field(default_factory=KeyedLocks)

    @classmethod
    def of(cls, directory: Path, store: Store, known: Callable[[str], bool], member: str = "none") -> Parts:
        """Before the store starts. `known` says whether an image still exists."""
        source = ImageSource(directory)
        return cls(
            Places(directory, store),
            Holders(store),
            source,
            Trees(directory, source, known),
            BackupFiles(directory),
            store.mirror(VOLUME_BACKUP),
            store.mirror(SERVER_CONFIG),
            Room(store),
            member,
        )

    def compression(self, project: str) -> str:
        """The algorithm of backups that do not ask for one: the project's, else the server's."""
        key = "backups.compression_algorithm"
        return self.room.config(project).get(key) or self.server_config(key) or compression.DEFAULT

    def server_config(self, key: str) -> str:
        row = self.config.get("cluster")
        return row.value.config.get(key, "") if row else ""
