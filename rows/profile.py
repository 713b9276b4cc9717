"""Profiles. Owner: instances. `project` is the project that holds the row (features.profiles already resolved)."""

from __future__ import annotations

import msgspec

from chassis.store import Kind


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    project: str
    name: str
    description: str = ""
    config: dict[str, str] = {}
    devices: dict[str, dict[str, str]] = {}


PROFILE = Kind("instances_profile", Profile, ("project", "name"))
