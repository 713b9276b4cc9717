"""Instances and their snapshots, as the log holds them. Owner: instances."""

from __future__ import annotations

from datetime import datetime

import msgspec

from chassis.store import Kind

Config = dict[str, str]
Devices = dict[str, dict[str, str]]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance. Status and counters are facts of the kernel and never stand here.

    `config` is the local configuration with volatile keys; profiles are expanded by `services.instances.expansion`.
    `powered` says whether it ran when it was last seen to change (what boot and recovery go by).
    """

    project: str
    name: str
    uid: str
    type: str = "container"
    architecture: str = "x86_64"
    description: str = ""
    ephemeral: bool = False
    stateful: bool = False
    profiles: tuple[str, ...] = ()
    config: Config = {}
    devices: Devices = {}
    created_at: datetime
    last_used_at: datetime | None = None
    member: str = "none"
    powered: bool = False


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A point in time of an instance: its configuration then, and a volume snapshot of the same name."""

    project: str
    instance: str
    name: str
    architecture: str = "x86_64"
    description: str = ""
    ephemeral: bool = False
    stateful: bool = False
    profiles: tuple[str, ...] = ()
    config: Config = {}
    devices: Devices = {}
    created_at: datetime
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    size: int = 0


INSTANCE = Kind("instances_instance", Instance, ("project", "name"))
SNAPSHOT = Kind("instances_snapshot", Snapshot, ("project", "instance", "name"))
