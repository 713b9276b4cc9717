"""What DHCP knows of a network: the files that its dnsmasq reads and writes, and a line for each nic. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from chassis.kinds import escape

PROGRAM = "dnsmasq"
PACKAGE = "dnsmasq-base"


@dataclass(frozen=True, slots=True)
class Files:
    """Where the dnsmasq of one network lives: `D/networks/<name>`."""

    directory: Path

    @property
    def hosts(self) -> Path:
        return self.directory / "dnsmasq.hosts"

    @property
    def leases(self) -> Path:
        return self.directory / "dnsmasq.leases"

    @property
    def raw(self) -> Path:
        return self.directory / "dnsmasq.raw"

    @property
    def pid(self) -> Path:
        return self.directory / "dnsmasq.pid"


@dataclass(frozen=True, slots=True)
class Host:
    """One nic that DHCP knows: its addresses if they are fixed, its DNS name."""

    project: str
    instance: str
    device: str
    hwaddr: str
    ipv4: str = ""
    ipv6: str = ""

    @property
    def file(self) -> str:
        """Name of its file in the hosts directory; neither an instance's nor a project's name has a "." there."""
        owner = self.instance if self.project == "default" else f"{escape(self.project)}_{self.instance}"
        return f"{owner}.{escape(self.device)}"

    @property
    def dns_name(self) -> str:
        """Its name within the network's domain; what a DNS name cannot have becomes a hyphen."""
        name = self.instance if self.project == "default" else f"{self.instance}.{self.project}"
        return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def host_line(host: Host, dns_mode: str) -> str:
    """The line of a host, or "" if there is nothing to say about it."""
    fields = [host.hwaddr]
    if host.ipv4:
        fields.append(host.ipv4)
    if host.ipv6:
        fields.append(f"[{host.ipv6}]")
    if dns_mode == "managed":
        fields.append(host.dns_name)
    return ",".join(fields) + "\n" if len(fields) > 1 else ""


def hosts(found: Iterable[Host], dns_mode: str) -> dict[str, str]:
    """File name -> content."""
    return {host.file: line for host in found if (line := host_line(host, dns_mode))}
