"""Projects, trusted certificates, the server's configuration, members. Owner: control."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from chassis.key_types import is_true
from chassis.retention import SERVER_CONFIG, ServerConfig
from chassis.store import Kind

__all__ = [
    "CERTIFICATE",
    "MEMBER",
    "PROJECT",
    "SERVER_CONFIG",
    "WARNING",
    "Certificate",
    "Member",
    "Project",
    "ServerConfig",
    "Warning",
    "has_feature",
    "has_rbac",
]


class Project(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str = ""
    config: dict[str, str] = {}


def has_feature(project: Project | None, feature: str) -> bool:
    """Whether a project has its own images, networks, profiles or storage.volumes; else it uses the default project's.

    The default project has all; a project whose row has not been seen counts as having them too.
    """
    return project is None or project.name == "default" or is_true(project.config.get(f"features.{feature}", ""))


# Without one of them RBAC is off, as in LXD.
RBAC = ("rbac.api.url", "rbac.agent.url", "rbac.agent.username", "rbac.agent.private_key", "rbac.agent.public_key")


def has_rbac(texts: Mapping[str, str]) -> bool:
    """Whether the server's configuration turns RBAC on."""
    return all(texts.get(name) for name in RBAC)


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """A trusted client. `fingerprint` is the sha256 of the DER form, hex; `type` client, server or metrics."""

    fingerprint: str
    name: str
    certificate: str
    type: str = "client"
    restricted: bool = False
    projects: tuple[str, ...] = ()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    address: str = ""
    seen_at: datetime


class Warning(msgspec.Struct, frozen=True, kw_only=True):
    """Something an operator should know. `status` is new, acknowledged or resolved; `severity` low, moderate or high."""

    uuid: str
    type: str
    severity: str = "low"
    status: str = "new"
    last_message: str = ""
    count: int = 1
    project: str = ""
    entity_url: str = ""
    location: str = "none"
    first_seen_at: datetime
    last_seen_at: datetime
    updated_at: datetime


PROJECT = Kind("control_project", Project, ("name",))
CERTIFICATE = Kind("control_certificate", Certificate, ("fingerprint",))
MEMBER = Kind("control_member", Member, ("name",))
WARNING = Kind("control_warning", Warning, ("uuid",))
