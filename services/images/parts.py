"""What the sagas and servicers of images work with."""

from __future__ import annotations

from dataclasses import dataclass

from chassis import compression
from chassis.mirror import Mirror
from chassis.store import Store
from rows.control import SERVER_CONFIG, ServerConfig
from rows.instance import INSTANCE, SNAPSHOT, Instance, Snapshot
from rows.room import Room
from services.images.files import Files
from services.images.shelf import Shelf


@dataclass
class Parts:
    """`instances` and `snapshots` are read to publish them; their rows belong to the instances service."""

    files: Files
    shelf: Shelf
    instances: Mirror[Instance]
    snapshots: Mirror[Snapshot]
    config: Mirror[ServerConfig]
    room: Room

    @classmethod
    def of(cls, files: Files, store: Store) -> Parts:
        """Before the store starts."""
        instances, snapshots = store.mirror(INSTANCE), store.mirror(SNAPSHOT)
        return cls(files, Shelf(store), instances, snapshots, store.mirror(SERVER_CONFIG), Room(store))

    def compression(self, project: str) -> str:
        """The algorithm of images that do not ask for one: the project's, else the server's."""
        key = "images.compression_algorithm"
        return self.room.config(project).get(key) or self.server_config(key) or compression.DEFAULT

    def server_config(self, key: str) -> str:
        row = self.config.get("cluster")
        return row.value.config.get(key, "") if row else ""
