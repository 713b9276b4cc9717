"""What this service asks of the others: volumes of storage, nics of network, images of images. Everything goes over chassis.rpc.

Calls are made with the service's own authority: a caller who may manage an instance need not be allowed to touch its volume directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from chassis import errors, rpc
from gen.nubibus.images.v1 import image_pb2
from gen.nubibus.network.v1 import nic_pb2
from gen.nubibus.storage.v1 import volume_pb2
from services.instances.host.spec import Key

VOLUMES = "nubibus.storage.v1.Volumes"
NICS = "nubibus.network.v1.Nics"
IMAGES = "nubibus.images.v1.Images"
SLOW = 3600.0  # seconds: unpacking and copying take as long as they take; a dead server is noticed by its missing pulse


@dataclass(frozen=True, slots=True)
class VolumeId:
    """The root volume of an instance."""

    pool: str
    project: str
    type: str
    name: str

    @property
    def ref(self) -> volume_pb2.VolumeRef:
        return volume_pb2.VolumeRef(pool=self.pool, project=self.project, type=self.type, name=self.name)

    def of(self, instance: Key) -> VolumeId:
        """The same volume of an instance that it becomes."""
        return replace(self, project=instance.project, name=instance.name)


class Volumes:
    """Root volumes, as the storage service keeps them."""

    async def ensure(self, volume: VolumeId, config: Mapping[str, str], *, image: str = "") -> Path:
        """Make it: unpacked from an image, or empty. Its mount point. An existing one is taken as it is."""
        request = volume_pb2.EnsureRequest(volume=volume.ref, content_type="filesystem", config=dict(config))
        if image:
            request.image = image
        else:
            request.empty = True
        return await self._placed("Ensure", request)

    async def mount(self, volume: VolumeId) -> Path:
        """Mount it if it is not; where its rootfs/, metadata.yaml and templates/ lie."""
        return await self._placed("Mount", volume.ref)

    async def mount_custom(self, volume: VolumeId) -> tuple[Path, bool]:
        """Where a custom volume lies, and whether its owners are shown through the id map of who attaches it."""
        placed = await rpc.call(VOLUMES, "Mount", volume.ref, timeout=SLOW, context=rpc.as_itself())
        return Path(placed.path), not placed.unmapped

    async def unmount(self, volume: VolumeId) -> None:
        await rpc.call(VOLUMES, "Unmount", volume.ref, context=rpc.as_itself())

    async def remove(self, volume: VolumeId) -> None:
        """Nothing happens if it is gone already."""
        await rpc.call(VOLUMES, "Remove", volume.ref, timeout=SLOW, context=rpc.as_itself())

    async def rename(self, volume: VolumeId, target: VolumeId) -> Path:
        """Within its pool, also into another project."""
        request = volume_pb2.RenameRequest(volume=volume.ref, new_project=target.project, new_name=target.name)
        return await self._placed("Rename", request)

    async def usage(self, volume: VolumeId) -> tuple[int, int] | None:
        """Bytes used and in all; None if the driver cannot tell cheaply."""
        found = await rpc.call(VOLUMES, "Usage", volume.ref, timeout=2.0, context=rpc.as_itself())
        return (found.used, found.total) if found.known else None

    async def set_quota(self, volume: VolumeId, size: str) -> None:
        await rpc.call(
            VOLUMES, "SetQuota", volume_pb2.QuotaRequest(volume=volume.ref, size=size), context=rpc.as_itself()
        )

    @staticmethod
    async def _placed(
        method: str, request: volume_pb2.EnsureRequest | volume_pb2.VolumeRef | volume_pb2.RenameRequest
    ) -> Path:
        placed = await rpc.call(VOLUMES, method, request, timeout=SLOW, context=rpc.as_itself())
        return Path(placed.path)


@dataclass(frozen=True, slots=True)
class NicOf:
    """A nic of an instance: its expanded device and what is kept of it (volatile.<device>.*, without the prefix)."""

    project: str
    instance: str
    instance_type: str
    device: str
    config: Mapping[str, str]
    volatile: Mapping[str, str]

    @property
    def spec(self) -> nic_pb2.NicSpec:
        return nic_pb2.NicSpec(
            project=self.project,
            instance=self.instance,
            device=self.device,
            config=dict(self.config),
            volatile=dict(self.volatile),
            instance_type=self.instance_type,
        )


@dataclass(frozen=True, slots=True)
class AttachedNic:
    """What stands on the host now. `peer_name` waits in the host's namespace for the instance."""

    host_name: str
    peer_name: str
    hwaddr: str
    mtu: int
    volatile: dict[str, str]
    guest_name: str
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


class Nics:
    """The host's side of nics, as the network service makes it."""

    async def attach(self, nic: NicOf) -> AttachedNic:
        found = await rpc.call(NICS, "Attach", nic.spec, context=rpc.as_itself())
        gateways = tuple(text for text in (found.ipv4_gateway, found.ipv6_gateway) if text)
        return AttachedNic(
            found.host_name,
            found.peer_name,
            found.hwaddr,
            found.mtu,
            dict(found.volatile),
            found.guest_name,
            tuple(found.addresses),
            gateways,
        )

    async def detach(self, nic: NicOf) -> None:
        await rpc.call(NICS, "Detach", nic.spec, context=rpc.as_itself())

    async def update(self, nic: NicOf) -> None:
        await rpc.call(NICS, "Update", nic.spec, context=rpc.as_itself())

    async def forget(self, nic: NicOf) -> None:
        await rpc.call(NICS, "Forget", nic.spec, context=rpc.as_itself())

    async def validate(
        self, project: str, instance: str, device: str, config: Mapping[str, str], instance_type: str
    ) -> None:
        """Raises BadRequest naming key, value and rule."""
        request = nic_pb2.NicRequest(
            project=project, config=dict(config), instance_type=instance_type, device=device, instance=instance
        )
        await rpc.call(NICS, "Validate", request, context=rpc.as_itself())


@dataclass(frozen=True, slots=True)
class Image:
    """An image that instances are made of."""

    project: str
    fingerprint: str
    type: str
    architecture: str
    properties: dict[str, str]
    profiles: tuple[str, ...]


class Images:
    """The images, as the images service knows them."""

    async def resolve(
        self,
        project: str,
        *,
        fingerprint: str = "",
        alias: str = "",
        properties: Mapping[str, str] | None = None,
        type_: str = "",
    ) -> Image:
        """The image that is meant. Raises NotFound."""
        request = image_pb2.ResolveRequest(
            project=project, fingerprint=fingerprint, alias=alias, properties=dict(properties or {}), type=type_
        )
        found = await rpc.call(IMAGES, "Resolve", request, context=rpc.as_itself())
        return Image(
            found.project,
            found.fingerprint,
            found.type,
            found.architecture,
            dict(found.properties),
            tuple(found.profiles),
        )

    async def used(self, project: str, fingerprint: str) -> None:
        """It was used just now. That this cannot be told is no reason to fail."""
        try:
            await rpc.call(
                IMAGES,
                "Used",
                image_pb2.UsedImageRequest(project=project, fingerprint=fingerprint),
                timeout=2.0,
                context=rpc.as_itself(),
            )
        except errors.Fault:
            return
