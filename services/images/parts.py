"""What the sagas and servicers of images work with."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.mirror import Mirror
from chassis.store import Store
from rows.control import SERVER_CONFIG, ServerConfig
from rows.instance import INSTANCE, SNAPSHOT, Instance, Snapshot
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

    @classmethod
    def of(cls, files: Files, store: Store) -> Parts:
        """Before the store starts."""
        return cls(files, Shelf(store), store.mirror(INSTANCE), store.mirror(SNAPSHOT), store.mirror(SERVER_CONFIG))

    def server_config(self, key: str) -> str:
        row = self.config.get("cluster")
        return row.value.config.get(key, "") if row else ""
