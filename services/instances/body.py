"""Bodies of requests that the nouns of this service take, decoded and checked for their shape only."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from chassis.documents import read_body

Config = dict[str, str]
Id = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
Devices = dict[str, dict[str, str]]


class Source(msgspec.Struct, kw_only=True):
    """Where a new instance comes from."""

    type: str = ""
    alias: str = ""
    fingerprint: str = ""
    properties: dict[str, str] = {}
    server: str = ""
    protocol: str = ""
    mode: str = ""
    project: str = ""
    source: str = ""


class NewInstance(msgspec.Struct, kw_only=True):
    """LXD's InstancesPost."""

    name: str = ""
    source: Source = msgspec.field(default_factory=Source)
    type: str = ""
    instance_type: str = ""
    architecture: str = ""
    description: str = ""
    ephemeral: bool = False
    stateful: bool = False
    profiles: list[str] | None = None
    config: Config | None = None
    devices: Devices | None = None
    restore: str = ""


class InstanceBody(msgspec.Struct, kw_only=True):
    """LXD's InstancePut; a field is UNSET when the client left it out."""

    architecture: str | msgspec.UnsetType = msgspec.UNSET
    config: Config | msgspec.UnsetType | None = msgspec.UNSET
    devices: Devices | msgspec.UnsetType | None = msgspec.UNSET
    ephemeral: bool | msgspec.UnsetType = msgspec.UNSET
    profiles: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    restore: str | msgspec.UnsetType = msgspec.UNSET
    stateful: bool | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET


class MovedInstance(msgspec.Struct, kw_only=True):
    """LXD's InstancePost: a rename or a migration."""

    name: str = ""
    migration: bool = False
    live: bool = False
    project: str = ""
    pool: str = ""
    target: Any = None


class StateBody(msgspec.Struct, kw_only=True):
    """LXD's InstanceStatePut. `timeout` in seconds, -1 for LXD's default."""

    action: str = ""
    timeout: int = -1
    force: bool = False
    stateful: bool = False


class BulkBody(msgspec.Struct, kw_only=True):
    state: StateBody | None = None


class ExecBody(msgspec.Struct, kw_only=True):
    """LXD's InstanceExecPost."""

    command: list[str] | None = None
    environment: dict[str, str] | None = None
    interactive: bool = False
    width: int = 0
    height: int = 0
    user: Id = 0
    group: Id = 0
    cwd: str = ""
    wait_for_websocket: bool = msgspec.field(default=False, name="wait-for-websocket")
    record_output: bool = msgspec.field(default=False, name="record-output")


class ConsoleBody(msgspec.Struct, kw_only=True):
    width: int = 0
    height: int = 0
    type: str = ""


class ProfileBody(msgspec.Struct, kw_only=True):
    """LXD's ProfilesPost and ProfilePut; UNSET for what the client left out."""

    name: str = ""
    description: str | msgspec.UnsetType = msgspec.UNSET
    config: Config | msgspec.UnsetType | None = msgspec.UNSET
    devices: Devices | msgspec.UnsetType | None = msgspec.UNSET


def read(body: bytes, type_: Any) -> Any:
    return read_body(body, type_)


def given(value: Any, default: Any) -> Any:
    """The value, or the default when the client left it out or gave null."""
    return default if value is msgspec.UNSET or value is None else value


def set_keys(config: Config) -> Config:
    """Without the keys whose text is empty: an empty text means "not set"."""
    return {key: text for key, text in config.items() if text != ""}
