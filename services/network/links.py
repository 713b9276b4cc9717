"""The kernel's links, addresses, routes and sysctls, by rtnetlink.

Everything here blocks for well under a millisecond a message and is called from the host thread only (see host.py). "Gone already" and
"there already" are never errors: whoever asks wants the state, not the step.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.network.netlink import IPRoute, NetlinkError

PROTO_STATIC = 4
PROTO_BOOT = 3
IFF_UP, IFF_BROADCAST, IFF_LOOPBACK, IFF_POINTOPOINT = 0x1, 0x2, 0x8, 0x10
SCOPES = {0: "global", 200: "site", 253: "link", 254: "local", 255: "nowhere"}
ALIAS = "nubibus"  # first word of the alias of links that only this project makes


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. `alias` says who made it, `master` and `lower` are indexes of other links, 0 for none."""

    index: int
    name: str
    kind: str = ""
    hwaddr: str = ""
    mtu: int = 1500
    flags: int = 0
    type: int = 1
    master: int = 0
    lower: int = 0
    txqlen: int = 1000
    alias: str = ""
    counters: tuple[int, int, int, int] = (0, 0, 0, 0)  # bytes received, bytes sent, packets received, packets sent
    data: Any = None  # IFLA_INFO_DATA

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


@dataclass(frozen=True, slots=True)
class Route:
    """A route by an interface. `destination` is a subnet; `source` the preferred address; `gateway` the next hop, if any."""

    destination: str
    source: str = ""
    protocol: int = PROTO_STATIC
    table: int = 254
    gateway: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """`text` as "10.0.0.1/24"."""

    text: str
    scope: str = "global"

    @property
    def family(self) -> str:
        return "inet6" if ":" in self.text else "inet"


def _link(message: Any) -> Link:
    attributes = dict(message["attrs"])
    info = dict(attributes["IFLA_LINKINFO"]["attrs"]) if "IFLA_LINKINFO" in attributes else {}
    stats = attributes.get("IFLA_STATS64") or {}
    return Link(
        index=message["index"],
        name=attributes.get("IFLA_IFNAME", ""),
        kind=info.get("IFLA_INFO_KIND") or "",
        hwaddr=attributes.get("IFLA_ADDRESS") or "",
        mtu=attributes.get("IFLA_MTU") or 0,
        flags=message["flags"],
        type=message["ifi_type"],
        master=attributes.get("IFLA_MASTER") or 0,
        lower=attributes.get("IFLA_LINK") or 0,
        txqlen=attributes.get("IFLA_TXQLEN") or 0,
        alias=attributes.get("IFLA_IFALIAS") or "",
        counters=(
            stats.get("rx_bytes", 0),
            stats.get("tx_bytes", 0),
            stats.get("rx_packets", 0),
            stats.get("tx_packets", 0),
        ),
        data=info.get("IFLA_INFO_DATA"),
    )


@contextmanager
def _fine(*codes: int) -> Iterator[None]:
    """These answers of the kernel mean that nothing was left to do."""
    try:
        yield
    except NetlinkError as error:
        if error.code not in codes:
            raise


GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL)


class Links:
    """One rtnetlink socket."""

    def __init__(self) -> None:
        self.route = IPRoute()

    def close(self) -> None:
        self.route.close()

    def exists(self, name: str) -> bool:
        try:
            return socket.if_nametoindex(name) > 0  # a twentieth of what decoding the kernel's description costs
        except OSError:
            return False

    def get(self, name: str) -> Link | None:
        if not self.exists(name):
            return None
        try:
            found = self.route.link("get", ifname=name)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        return _link(found[0]) if found else None

    def names(self) -> list[str]:
        """Every interface; a description of each would cost a millisecond a piece."""
        return [name for _, name in socket.if_nameindex()]

    def ports(self, bridge: str) -> list[str]:
        """Names of a bridge's ports, in order."""
        try:
            return sorted(path.name for path in (NET / bridge / "brif").iterdir())
        except FileNotFoundError:
            return []

    def name(self, index: int) -> str:
        """The name of an interface, "" if there is none of that index."""
        try:
            return socket.if_indextoname(index)
        except OSError:
            return ""

    def index(self, name: str) -> int:
        """Raises LookupError."""
        try:
            return socket.if_nametoindex(name)
        except OSError:
            raise LookupError(f"Network interface {name!r} not found") from None

    def add(self, name: str, kind: str, **attributes: Any) -> None:
        """Make a link of this kind. Raises FileExistsError if the name is taken."""
        alias = attributes.pop("ifalias", "")
        try:
            self.route.link("add", ifname=name, kind=kind, **attributes)
            if alias:  # the kernel takes it only on a link that exists
                self.set(name, ifalias=alias)
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                raise FileExistsError(errno.EEXIST, f"Network interface {name!r} already exists") from None
            raise

    def set(self, name: str, **attributes: Any) -> None:
        """Change attributes: mtu, address, state, master (an index), ifname, txqlen, ifalias. Raises LookupError."""
        self.route.link("set", index=self.index(name), **attributes)

    def set_port(self, name: str, **attributes: Any) -> None:
        """Change attributes of a bridge's port: isolated, learning, …"""
        self.route.brport("set", index=self.index(name), **attributes)

    def delete(self, name: str) -> None:
        with _fine(*GONE):
            if self.exists(name):
                self.route.link("del", index=self.index(name))

    def addresses(self, index: int) -> list[Address]:
        found = []
        for message in self.route.get_addr(index=index):
            attributes = dict(message["attrs"])
            address = attributes.get("IFA_LOCAL") or attributes.get("IFA_ADDRESS")
            scope = SCOPES.get(message["scope"], "global")
            found.append(Address(f"{address}/{message['prefixlen']}", scope))
        return found

    def add_address(self, index: int, text: str) -> None:
        at = ipaddress.ip_interface(text)
        with _fine(errno.EEXIST):
            self.route.addr("add", index=index, address=str(at.ip), prefixlen=at.network.prefixlen)

    def del_address(self, index: int, text: str) -> None:
        at = ipaddress.ip_interface(text)
        with _fine(*GONE):
            self.route.addr("del", index=index, address=str(at.ip), prefixlen=at.network.prefixlen)

    def routes(self, index: int, protocol: int = PROTO_STATIC) -> list[Route]:
        """Routes of this origin by this interface, both families, every table."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in self.route.get_routes(family=family, oif=index):
                if message["proto"] != protocol:
                    continue
                attributes = dict(message["attrs"])
                if attributes.get("RTA_OIF") != index:
                    continue
                destination = attributes.get("RTA_DST", "0.0.0.0" if family == socket.AF_INET else "::")
                table = attributes.get("RTA_TABLE", message["table"])
                found.append(
                    Route(f"{destination}/{message['dst_len']}", attributes.get("RTA_PREFSRC", ""), protocol, table)
                )
        return found

    def destinations(self) -> list[str]:
        """Every subnet that the main table knows, but for default routes."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for message in self.route.get_routes(family=family, table=254):
                attributes = dict(message["attrs"])
                if "RTA_DST" in attributes and message["dst_len"]:
                    found.append(f"{attributes['RTA_DST']}/{message['dst_len']}")
        return found

    def carrier(self) -> str:
        """Name of the interface of the IPv4 default route, "" if there is none."""
        for message in self.route.get_routes(family=socket.AF_INET, table=254):
            attributes = dict(message["attrs"])
            if not message["dst_len"] and attributes.get("RTA_OIF"):
                return self.name(attributes["RTA_OIF"])
        return ""

    def add_route(self, index: int, route: Route) -> None:
        self.route.route("replace", **self._route(index, route))

    def del_route(self, index: int, route: Route) -> None:
        with _fine(*GONE):
            self.route.route("del", **self._route(index, route))

    def _route(self, index: int, route: Route) -> dict[str, Any]:
        wanted: dict[str, Any] = {"dst": route.destination, "oif": index, "proto": route.protocol, "table": route.table}
        wanted["family"] = socket.AF_INET6 if ":" in route.destination else socket.AF_INET
        if route.gateway:
            wanted["gateway"] = route.gateway
        elif wanted["family"] == socket.AF_INET:
            wanted["scope"] = 253
        if route.source:
            wanted["prefsrc"] = route.source
        return wanted

    def neighbour(self, index: int, address: str) -> str:
        """The MAC address that the kernel has learned for this address, "" if none answered (yet)."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for message in self.route.get_neighbours(family=family, ifindex=index):
            attributes = dict(message["attrs"])
            if message["ifindex"] == index and attributes.get("NDA_DST") == address and not message["flags"] & 8:
                return str(attributes.get("NDA_LLADDR") or "")
        return ""

    def add_proxy(self, index: int, address: str) -> None:
        """Answer ARP or NDP for this address on the interface."""
        self.route.neigh("replace", dst=address, ifindex=index, flags=8, state=128)

    def del_proxy(self, index: int, address: str) -> None:
        with _fine(*GONE):
            self.route.neigh("del", dst=address, ifindex=index, flags=8)


NET = Path("/sys/class/net")
# In a container /proc/sys is read-only; deploy/k8s mounts the node's elsewhere and says where.
SYSCTL = Path(os.environ.get("NUBIBUS_SYSCTL", "/proc/sys"))


def read_sysctl(name: str) -> str | None:
    """The value of "net/ipv4/ip_forward"; None if the kernel has no such switch."""
    try:
        return (SYSCTL / name).read_text().strip()
    except OSError:
        return None


def write_sysctl(name: str, value: str) -> None:
    """Set it if it is another. A switch that does not exist is passed over: the protocol is not in the kernel."""
    if read_sysctl(name) not in (None, value):
        (SYSCTL / name).write_text(value)
