"""What the sagas and servicers of storage work with."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    member: str = "none"
    busy: KeyedLocks = field(default_factory=KeyedLocks)
