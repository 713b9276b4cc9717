"""Managed networks. Owner: network."""

from __future__ import annotations

import msgspec

from chassis.store import Kind


class Network(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    name: str
    type: str = "bridge"
    description: str = ""
    config: dict[str, str] = {}
    status: str = "Created"  # "Creating", "Deleting" while the host is being changed: what a restart finishes
    hwaddr: str = ""  # drawn once; the bridge keeps it over restarts and renames


NETWORK = Kind("network_network", Network, ("project", "name"))
