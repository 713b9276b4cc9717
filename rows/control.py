"""Projects, trusted certificates, the server's configuration, members. Owner: control."""

from __future__ import annotations

from datetime import datetime

import msgspec

from chassis.store import Kind


class Project(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str = ""
    config: dict[str, str] = {}


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A trusted client. `fingerprint` is the sha256 of the DER form, hex; `type` client, server or metrics."""

    fingerprint: str
    name: str
    certificate: str
    type: str = "client"
    restricted: bool = False
    projects: tuple[str, ...] = ()


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The server's configuration: one row, scope "cluster". Secrets stand here hashed."""

    scope: str = "cluster"
    config: dict[str, str] = {}


class Member(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str = ""
    seen_at: datetime


PROJECT = Kind("control_project", Project, ("name",))
CERTIFICATE = Kind("control_certificate", Certificate, ("fingerprint",))
SERVER_CONFIG = Kind("control_config", ServerConfig, ("scope",))
MEMBER = Kind("control_member", Member, ("name",))
