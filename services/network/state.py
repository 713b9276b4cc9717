"""The live state of an interface and the host's own interfaces, as LXD's documents. Called in the host thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.network.host import Host
from services.network.links import ALIAS, IFF_BROADCAST, IFF_LOOPBACK, IFF_POINTOPOINT, Address, Link

SYS = Path("/sys/class/net")
HIDDEN = ("veth",)  # pairs of instances, ours or not: LXD goes by the name too
TYPES = ((IFF_LOOPBACK, "loopback"), (IFF_POINTOPOINT, "point-to-point"), (IFF_BROADCAST, "broadcast"))


def show(host: Host, name: str) -> dict[str, Any] | None:
    """NetworkState of an interface; None if there is none of that name."""
    link = host.links.get(name)
    if link is None:
        return None
    received, sent, packets_received, packets_sent = link.counters
    return {
        "addresses": [_address(address) for address in host.links.addresses(link.index)],
        "counters": {
            "bytes_received": received,
            "bytes_sent": sent,
            "packets_received": packets_received,
            "packets_sent": packets_sent,
        },
        "hwaddr": "" if not link.hwaddr.strip("0:") else link.hwaddr,
        "mtu": link.mtu,
        "state": "up" if link.up else "down",
        "type": next((text for flag, text in TYPES if link.flags & flag), "unknown"),
        "bond": _bond(link.name),
        "bridge": _bridge(host, link) if link.kind == "bridge" else None,
        "vlan": _vlan(host, link) if link.kind == "vlan" else None,
        "ovn": None,
    }


def _address(address: Address) -> dict[str, str]:
    text, _, prefix = address.text.partition("/")
    scope = "global"
    if text.startswith("127") or text == "::1":
        scope = "local"
    elif text.startswith(("169.254", "fe80:")):
        scope = "link"
    return {"family": address.family, "address": text, "netmask": prefix, "scope": scope}


def _bridge(host: Host, link: Link) -> dict[str, Any]:
    data = dict(link.data["attrs"]) if link.data else {}
    identity = data.get("IFLA_BR_BRIDGE_ID") or {}
    priority = int(data.get("IFLA_BR_PRIORITY", 0))
    filtering = bool(data.get("IFLA_BR_VLAN_FILTERING"))
    return {
        "id": f"{priority:04x}.{str(identity.get('addr', link.hwaddr)).replace(':', '')}",
        "stp": bool(data.get("IFLA_BR_STP_STATE")),
        "forward_delay": data.get("IFLA_BR_FORWARD_DELAY", 0),
        "vlan_default": data.get("IFLA_BR_VLAN_DEFAULT_PVID", 0),
        "vlan_filtering": filtering,
        "upper_devices": host.links.ports(link.name),
    }


def _vlan(host: Host, link: Link) -> dict[str, Any]:
    data = dict(link.data["attrs"]) if link.data else {}
    return {"lower_device": host.links.name(link.lower), "vid": data.get("IFLA_VLAN_ID", 0)}


def _bond(name: str) -> dict[str, Any] | None:
    """Of /sys/class/net/NAME/bonding; delays in milliseconds."""
    folder = SYS / name / "bonding"
    if not folder.is_dir():
        return None

    def read(entry: str) -> str:
        return (folder / entry).read_text().strip()

    return {
        "mode": read("mode").partition(" ")[0],
        "transmit_policy": read("xmit_hash_policy").partition(" ")[0],
        "up_delay": int(read("updelay")),
        "down_delay": int(read("downdelay")),
        "mii_frequency": int(read("miimon")),
        "mii_state": read("mii_status"),
        "lower_devices": read("slaves").split(),
    }


def unmanaged(host: Host) -> dict[str, str]:
    """Name -> LXD's type of the host's interfaces, without pairs of instances and what this project makes for itself."""
    found = {}
    for name in host.links.names():
        link = None if name.startswith(HIDDEN) else host.links.get(name)
        if link is not None and not (link.kind == "ifb" and link.alias.startswith(ALIAS)):
            found[name] = type_of(link)
    return found


def type_of(link: Link) -> str:
    if link.flags & IFF_LOOPBACK:
        return "loopback"
    if link.kind in ("bridge", "vlan", "bond"):
        return link.kind
    return "physical" if (SYS / link.name / "device").exists() else "unknown"
