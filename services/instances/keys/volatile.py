"""What the server itself keeps with an instance. Nobody else sets these keys, though LXD lets an administrator."""

from __future__ import annotations

from typing import Any

from chassis.key_types import Int, InterfaceName, Mac, Str
from chassis.keys import Key
from services.instances.keys.texts import Uuid

PREFIX = "volatile."
APPLY_TEMPLATE = Key("volatile.apply_template", Str, doc="Trigger of templates at the next start: create, copy, rename")
APPLY_QUOTA = Key("volatile.apply_quota", Str, doc="Size of the root disk to set at the next start")
BASE_IMAGE = Key("volatile.base_image", Str, doc="Fingerprint of the image that it was made from")
CLOUD_INIT_ID = Key("volatile.cloud-init.instance-id", Uuid, doc="What cloud-init takes for its identity")
EVACUATE_ORIGIN = Key("volatile.evacuate.origin", Str, doc="Member that it was evacuated from")
IDMAP_BASE = Key("volatile.idmap.base", Str, doc="First host id")
IDMAP_CURRENT = Key("volatile.idmap.current", Str, since="id_map_current", doc="Id map that it runs with")
IDMAP_NEXT = Key("volatile.idmap.next", Str, doc="Id map that it will start with")
LAST_IDMAP = Key("volatile.last_state.idmap", Str, doc="Id map that its files on disk have")
LAST_POWER = Key("volatile.last_state.power", Str, doc="RUNNING or STOPPED, as it was when it last changed")
UUID = Key("volatile.uuid", Uuid, doc="Its identity")
VSOCK = Key("volatile.vsock_id", Int(), doc="Its vsock address")

IDMAPS = (IDMAP_BASE.name, IDMAP_CURRENT.name, IDMAP_NEXT.name, LAST_IDMAP.name)

# Names of devices may hold dots.
HWADDR = Key("volatile.*.hwaddr", Mac, deep=True, doc="MAC address of a nic without one")
HOST_NAME = Key("volatile.*.host_name", InterfaceName, deep=True, doc="Name of the nic's interface on the host")
NAME = Key("volatile.*.name", InterfaceName, deep=True, doc="Name of the nic's interface inside")
DEVICE = tuple(
    Key(f"volatile.*.{name}", Str, deep=True, doc="State of a device")
    for name in (
        "apply_quota", "ceph_rbd", "driver", "id", "mtu", "created", "uuid", "last_state.created", "last_state.hwaddr", "last_state.mtu",
        "last_state.vf.hwaddr", "last_state.vf.id", "last_state.vf.spoofcheck", "last_state.vf.vlan", "last_state.vf.parent",
        "last_state.ip_addresses", "vgpu.uuid", "last_state.pci.driver", "last_state.pci.parent", "last_state.pci.slot.name",
    )
)  # fmt: skip

KEYS: tuple[Key[Any], ...] = (
    APPLY_TEMPLATE, APPLY_QUOTA, BASE_IMAGE, CLOUD_INIT_ID, EVACUATE_ORIGIN, IDMAP_BASE, IDMAP_CURRENT, IDMAP_NEXT, LAST_IDMAP, LAST_POWER,
    UUID, VSOCK, HWADDR, HOST_NAME, NAME, *DEVICE,
)  # fmt: skip


def of_device(config: dict[str, str], device: str) -> dict[str, str]:
    """A device's volatile keys without their prefix: {"host_name": "veth1234"}."""
    prefix = f"{PREFIX}{device}."
    return {name.removeprefix(prefix): text for name, text in config.items() if name.startswith(prefix)}


def with_device(config: dict[str, str], device: str, found: dict[str, str]) -> dict[str, str]:
    """The configuration with these volatile keys of the device set; an empty text removes one."""
    changed = dict(config)
    for name, text in found.items():
        key = f"{PREFIX}{device}.{name}"
        changed[key] = text
        if not text:
            del changed[key]
    return changed


def without_device(config: dict[str, str], device: str) -> dict[str, str]:
    """The configuration as after the device was removed."""
    prefix = f"{PREFIX}{device}."
    return {name: text for name, text in config.items() if not name.startswith(prefix)}
