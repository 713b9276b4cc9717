"""A volume's identity, and where it lies below its pool: the same places as LXD's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from chassis import errors

FOLDERS = {
    "container": "containers",
    "virtual-machine": "virtual-machines",
    "custom": "custom",
    "image": "images",
}
LAYOUT = (
    "containers",
    "containers-snapshots",
    "custom",
    "custom-snapshots",
    "images",
    "virtual-machines",
    "virtual-machines-snapshots",
)
WORK = ".new-"  # a volume that is being made bears this before its folder's name until it is whole
GONE = ".gone-"  # and this while it is being removed


def _refuse(what: str, name: str) -> None:
    """One part of a path, never hidden, never a way out."""
    if not name or "/" in name or "\0" in name or name.startswith("."):
        raise errors.BadRequest(f"Invalid {what} name {name!r}")


@dataclass(frozen=True, slots=True)
class VolumeName:
    """`type` is container, virtual-machine, image or custom; `snapshot` "" means the volume itself."""

    type: str
    project: str
    name: str
    snapshot: str = ""

    def __post_init__(self) -> None:
        if self.type not in FOLDERS:
            raise errors.BadRequest("Invalid storage volume type name")
        _refuse("volume", self.name)
        _refuse("project", self.project)
        if self.snapshot:
            _refuse("snapshot", self.snapshot)

    @classmethod
    def of(cls, type_: str, project: str, name: str) -> VolumeName:
        """From a name that may be "volume/snapshot"."""
        volume, _, snapshot = name.partition("/")
        if name.endswith("/"):
            raise errors.BadRequest(f"Invalid volume name {name!r}")
        return cls(type_, project, volume, snapshot)

    def at(self, snapshot: str) -> VolumeName:
        """A snapshot of this volume."""
        return replace(self, snapshot=snapshot)

    @property
    def volume(self) -> VolumeName:
        """The volume that a snapshot is of."""
        return replace(self, snapshot="")

    @property
    def folder(self) -> str:
        """LXD's folder name: instances of the default project and images without the project."""
        bare = self.type == "image" or (self.type != "custom" and self.project == "default")
        return self.name if bare else f"{self.project}_{self.name}"

    @property
    def path(self) -> PurePosixPath:
        """Relative to the pool."""
        kind = FOLDERS[self.type]
        if self.snapshot:
            return PurePosixPath(f"{kind}-snapshots", self.folder, self.snapshot)
        return PurePosixPath(kind, self.folder)

    @property
    def snapshots_path(self) -> PurePosixPath:
        return PurePosixPath(f"{FOLDERS[self.type]}-snapshots", self.folder)

    @property
    def work_path(self) -> PurePosixPath:
        """Where it lies while it is being made."""
        return self.path.with_name(WORK + self.path.name)

    @property
    def gone_path(self) -> PurePosixPath:
        return self.path.with_name(GONE + self.path.name)

    @property
    def mode(self) -> int:
        """Permissions of the mount point: nobody but root reaches an instance's tree."""
        return 0o711 if self.type == "custom" else 0o100

    def __str__(self) -> str:
        name = f"{self.name}/{self.snapshot}" if self.snapshot else self.name
        return f"{self.type} volume {name!r} of project {self.project!r}"
