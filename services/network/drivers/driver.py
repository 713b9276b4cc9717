"""What a type of network must be able to do. All methods block and are called in the host thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from chassis.keys import Schema
from services.network.dhcp import Host as DhcpHost
from services.network.firewall import Forward
from services.network.host import Host


@dataclass(frozen=True, slots=True)
class Network:
    """A network as drivers see it. `texts` is its configuration; what others attach to it stands beside."""

    name: str
    texts: Mapping[str, str]
    hwaddr: str = ""
    dhcp: tuple[DhcpHost, ...] = ()
    forwards: tuple[Forward, ...] = ()
    acl: tuple[dict[str, Any], ...] = ()
    nics: tuple[str, ...] = ()  # host interfaces of attached nics: its ports, if they exist
    before: Mapping[str, str] = field(default_factory=dict)  # the configuration that it replaces


class Driver(Protocol):
    """`nictype` is what a nic with `network=` becomes; `in_projects` whether it may exist outside the default project."""

    type: ClassVar[str]
    nictype: ClassVar[str]
    schema: ClassVar[Schema]
    in_projects: ClassVar[bool]
    has_leases: ClassVar[bool]
    has_link: ClassVar[bool]

    def fill(self, host: Host, texts: Mapping[str, str], taken: Iterable[str], *, creating: bool) -> dict[str, str]:
        """The configuration with what is automatic drawn; `taken` are subnets of other networks. Raises ValueError."""

    def check(self, host: Host, network: Network, *, creating: bool) -> None:
        """Whether this host can have it, changing nothing. Raises ValueError or DaemonError."""

    def converge(self, host: Host, network: Network) -> None:
        """Make the host what the network says. Repeating it changes nothing."""

    def rename(self, host: Host, old: str, new: str) -> None:
        """Give what can keep its state the new name; `converge` of the new one does the rest."""

    def remove(self, host: Host, name: str) -> None:
        """Take everything of it from the host; what is gone already is no error."""
