"""What a storage driver can do. dir and btrfs implement it; zfs, lvm and ceph are to.

What always holds, and the conformance suite (tests/drivers/storage) checks it for each:
- every method may be repeated after it was broken off at any point, and then leads to the same end;
- a volume exists under its own path when and only when it is whole: `make` and `copy` work under another name first;
- `remove` and `destroy` of what is not there are successes; nothing is left behind, also not by a failure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from chassis.keys import Schema
from services.storage.drivers.volume import VolumeName

Fill = Callable[[Path], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes and inodes of a pool; inodes 0 where they are not counted."""

    used: int
    total: int
    inodes_used: int = 0
    inodes_total: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes of a volume; `total` 0 means no limit."""

    used: int
    total: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A pool on this machine: its name, its configuration, where it is mounted and where loop files lie.

    `token` is a UUID drawn for the making of the pool: by it `create` and `destroy` know a device that an earlier run has formatted.
    """

    name: str
    path: Path
    disks: Path
    config: Mapping[str, str]
    token: str = ""


class Driver(ABC):
    """One pool of one kind. The constructor does nothing; `open` makes the pool usable."""

    name: ClassVar[str]
    remote: ClassVar[bool] = False  # all members see the same pool
    quotas: ClassVar[bool] = False  # a volume can be limited and measured
    clones: ClassVar[bool] = False  # copy within the pool takes no time: images are kept unpacked in it
    pool_keys: ClassVar[Schema]
    volume_keys: ClassVar[Schema]

    def __init__(self, place: Place) -> None:
        self.place = place

    @classmethod
    @abstractmethod
    async def version(cls) -> str:
        """The version of what it stands on. Raises Internal with the reason if it cannot work on this machine."""

    @classmethod
    def complete(cls, place: Place) -> dict[str, str]:
        """The configuration as it is stored: what the user left out filled in. Raises the reason why it cannot be."""
        return dict(place.config)

    # The pool.

    @abstractmethod
    async def create(self) -> dict[str, str]:
        """Make what the configuration names and `open` it; the configuration as it is from now on."""

    @abstractmethod
    async def destroy(self) -> None:
        """Remove the pool with everything in it, as far as it is the pool's own."""

    @abstractmethod
    async def open(self) -> None:
        """Make it usable (mount it), and sweep out what a killed process left half done."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def space(self) -> Space: ...

    async def update(self, config: Mapping[str, str]) -> None:
        """Take over a changed configuration. Default: nothing of it concerns the host."""

    # Volumes. `VolumeName.snapshot` set means a snapshot, which is a volume that is not written to.

    @abstractmethod
    async def exists(self, volume: VolumeName) -> bool: ...

    @abstractmethod
    async def make(self, volume: VolumeName, fill: Fill | None = None) -> None:
        """A new volume. `fill` is given an empty folder and puts the content there; if it raises nothing is left."""

    @abstractmethod
    async def copy(self, source: VolumeName, target: VolumeName) -> None:
        """The content of a volume or snapshot as a new volume, or (with `target.snapshot`) as a snapshot."""

    @abstractmethod
    async def restore(self, volume: VolumeName, snapshot: str) -> None:
        """Give a volume the content of its snapshot again."""

    @abstractmethod
    async def remove(self, volume: VolumeName) -> None: ...

    @abstractmethod
    async def rename(self, volume: VolumeName, target: VolumeName) -> None:
        """Also moves its snapshots, unless it is one itself."""

    @abstractmethod
    async def mount(self, volume: VolumeName) -> Path:
        """The folder with the content. Raises NotFound if there is no such volume."""

    async def unmount(self, volume: VolumeName) -> None:
        """Default: it is always there."""

    @abstractmethod
    async def usage(self, volume: VolumeName) -> Usage | None:
        """None if it cannot be told."""

    @abstractmethod
    async def resize(self, volume: VolumeName, size: int) -> bool:
        """Limit it to `size` bytes, 0 = no limit. False if this pool cannot."""
