"""What the pieces of this service are given: the wiring, as one record. `__main__` fills it; tests fill it with fakes at the ports."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from chassis.sagas import Sagas
from chassis.store import Mirror, Store
from rows.instance import Snapshot
from services.instances.host.containers import Containers
from services.instances.host.spec import Key
from services.instances.neighbours import Images, Nics, Volumes
from services.instances.roster import Roster


@dataclass
class Parts:
    """`sagas` is set right after the record is made (sagas are given the record)."""

    store: Store
    roster: Roster
    host: Containers
    volumes: Volumes
    nics: Nics
    images: Images
    snapshots: Mirror[Snapshot]
    directory: Path
    member: str = "none"
    turns: dict[Key, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    hurries: dict[Key, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    sagas: Sagas = field(init=False)

    def turn(self, key: Key) -> asyncio.Lock:
        """Held while the host's side of an instance is taken down or put up, so that the two never overlap."""
        return self.turns[key]
