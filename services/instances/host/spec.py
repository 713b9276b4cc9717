"""What this layer is told of an instance, and what it tells of one. Plain values; nothing here touches the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from services.instances.host.idmap import IdMap

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Names an instance on this server. Instance names hold no "_", so the folder names of two instances never meet."""

    project: str
    name: str

    @property
    def folder_name(self) -> str:
        """Also the name that liblxc knows it by: "c1", in another project "dev_c1" (as LXD)."""
        return self.name if self.project == DEFAULT_PROJECT else f"{self.project}_{self.name}"

    @classmethod
    def of_folder(cls, folder: str) -> Key:
        project, underscore, name = folder.rpartition("_")
        return cls(project, name) if underscore else cls(DEFAULT_PROJECT, folder)


@dataclass(frozen=True, slots=True)
class NicSpec:
    """A link that stands in the host's network namespace under `peer_name` and goes into the container as `guest_name`."""

    peer_name: str
    guest_name: str
    hwaddr: str = ""
    mtu: int = 0
    addresses: tuple[str, ...] = ()  # "192.0.2.50/32", set at the start where the nic's type does so
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MountSpec:
    """A mount below the container's root. `create` says what to make when the target is missing; `shift` shows the host's ids shifted.

    `beneath`: a folder of the host that the source lies in and may not lead out of; empty for any source.
    """

    source: str
    target: str  # relative to the rootfs
    options: tuple[str, ...] = ()
    create: Literal["dir", "file", ""] = ""
    fstype: str = "none"
    shift: bool = False
    beneath: str = ""


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything that a start needs. `config` is the expanded configuration; `idmap` None means privileged."""

    key: Key
    uid: str
    volume: Path  # mounted: rootfs/, metadata.yaml and templates/ lie in it
    type: str = "container"
    config: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "x86_64"
    idmap: IdMap | None = None
    nics: tuple[NicSpec, ...] = ()
    mounts: tuple[MountSpec, ...] = ()

    @property
    def rootfs(self) -> Path:
        return self.volume / "rootfs"


@dataclass(frozen=True, slots=True)
class Live:
    """A container that runs: pid of its init in the host's namespace, whether it is frozen, when its init began (epoch seconds)."""

    pid: int
    frozen: bool
    since: float


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended: "reboot" when it asked to be started again, else "stop". Everything of liblxc is gone by then."""

    target: Literal["stop", "reboot"]
    pid: int
