"""Names of instances and profiles, their addresses, and what is drawn for those who did not choose."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from urllib.parse import quote

from chassis.errors import BadRequest
from chassis.references import in_project
from services.instances.words import ADJECTIVES, ANIMALS

LONGEST = 63


def instance_name(name: str) -> str:
    """A valid name of an instance. Raises BadRequest with LXD's sentences."""
    if "/" in name:
        raise BadRequest('The character "/" is reserved for snapshots')
    if problem := _problem(name):
        raise BadRequest(f"Invalid instance name: {problem}")
    return name


def _problem(name: str) -> str:
    if not 1 <= len(name) <= LONGEST:
        return "Name must be 1-63 characters long"
    if name.startswith("-"):
        return 'Name must not start with "-" character'
    if name[0] in "0123456789":
        return "Name must not start with a number"
    if not re.fullmatch(r"[-a-zA-Z0-9]+", name):
        return "Name can only contain alphanumeric and hyphen characters"
    return 'Name must not end with "-" character' if name.endswith("-") else ""


def profile_name(name: str) -> str:
    """A valid name of a profile. Raises BadRequest with LXD's sentences."""
    if not name:
        raise BadRequest("No name provided")
    if "/" in name:
        raise BadRequest("Profile names may not contain slashes")
    if name in (".", ".."):
        raise BadRequest(f'Invalid profile name "{name}"')
    if len(name) > 255 or any(ord(letter) < 32 for letter in name):
        raise BadRequest(f"Invalid profile name {name!r}: must be 1-255 characters long, without control characters")
    return name


def drawn_name(taken: Callable[[str], bool]) -> str:
    """A name like "brave-otter" that nobody has."""
    for _ in range(100):
        name = f"{secrets.choice(ADJECTIVES)}-{secrets.choice(ANIMALS)}"
        if not taken(name):
            return name
    return f"{name}-{secrets.token_hex(4)}"


def instance_url(project: str, name: str) -> str:
    return in_project(f"/1.0/instances/{name}", project)


def profile_url(project: str, name: str) -> str:
    return in_project(f"/1.0/profiles/{quote(name, safe='')}", project)


def resources(project: str, *names: str) -> dict[str, list[str]]:
    """What an operation tells that it works on: the same under both of LXD's nouns."""
    return {
        "containers": [in_project(f"/1.0/containers/{name}", project) for name in names],
        "instances": [in_project(f"/1.0/instances/{name}", project) for name in names],
    }


def drawn_hwaddr() -> str:
    """A MAC address of the range that LXD draws from."""
    tail = secrets.token_bytes(3)
    return "00:16:3e:" + ":".join(f"{byte:02x}" for byte in tail)


def drawn_host_name() -> str:
    """A name for the host's end of a nic: veth and eight hex digits."""
    return f"veth{secrets.token_hex(4)}"
