"""What a type of device is: its rules, and how it comes to and goes from an instance on this host.

Every method may run twice and find its work done. `attach` is for an instance that is about to start, `plug` for one that runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from chassis.errors import NotImplementedHere
from services.instances.host.spec import MountSpec, NicSpec

if TYPE_CHECKING:
    from services.instances.parts import Parts

Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Owner:
    """The instance that a device belongs to. `volatile` is the device's own part of its configuration."""

    project: str
    instance: str
    type: str
    volatile: Texts


@dataclass(frozen=True, slots=True)
class Attached:
    """What a device gives to a start: at most one nic or mount, and what is to be kept in volatile.<device>.*"""

    nic: NicSpec | None = None
    mount: MountSpec | None = None
    volatile: dict[str, str] = field(default_factory=dict)


class DeviceType(Protocol):
    name: str

    def check(self, device: str, config: Texts) -> None:
        """The keys and values by themselves. Raises ValueError."""

    async def validate(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        """Against what there is on this server. Raises ValueError or a fault."""

    async def attach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached: ...

    async def detach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None: ...

    async def plug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached: ...

    async def unplug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None: ...

    async def change(
        self, parts: Parts, device: str, old: Texts, new: Texts, owner: Owner, running: bool
    ) -> dict[str, str]:
        """A change of keys. Returns what is to be kept. Raises ValueError for what cannot change."""


class Inert:
    """A device that does nothing on the host; the base of the others for what they need not do."""

    name = ""

    def check(self, device: str, config: Texts) -> None:
        return None

    async def validate(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        return None

    async def attach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached:
        return Attached()

    async def detach(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        return None

    async def plug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> Attached:
        return await self.attach(parts, device, config, owner)

    async def unplug(self, parts: Parts, device: str, config: Texts, owner: Owner) -> None:
        await self.detach(parts, device, config, owner)

    async def change(
        self, parts: Parts, device: str, old: Texts, new: Texts, owner: Owner, running: bool
    ) -> dict[str, str]:
        return {}


class Unsupported(Inert):
    """A type that LXD has and this server does not have yet."""

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, device: str, config: Texts) -> None:
        raise NotImplementedHere(f'Device type "{self.name}" of device "{device}" is not supported by this server yet')


Plan = dict[str, Any]
