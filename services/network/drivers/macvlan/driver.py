"""The macvlan network: nothing on the host but the settings that its nics share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from chassis.keys import Config, Schema
from services.network.drivers.driver import Network
from services.network.drivers.macvlan import keys
from services.network.host import Host


class Macvlan:
    type: ClassVar[str] = "macvlan"
    nictype: ClassVar[str] = "macvlan"
    schema: ClassVar[Schema] = keys.SCHEMA
    in_projects: ClassVar[bool] = False
    has_leases: ClassVar[bool] = False
    has_link: ClassVar[bool] = False

    def fill(self, host: Host, texts: Mapping[str, str], taken: Iterable[str], *, creating: bool) -> dict[str, str]:
        return dict(texts)

    def check(self, host: Host, network: Network, *, creating: bool) -> None:
        parent = Config(network.texts)[keys.PARENT]
        if host.links.get(parent) is None:
            raise ValueError(f'Parent interface "{parent}" not found')

    def converge(self, host: Host, network: Network) -> None:
        """A macvlan network has no link of its own."""

    def rename(self, host: Host, old: str, new: str) -> None:
        """Nothing bears its name."""

    def remove(self, host: Host, name: str) -> None:
        """Nothing of it is on the host."""
