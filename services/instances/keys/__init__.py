"""Every configuration key of instances and profiles, declared once.

`INSTANCE` has them all; `PROFILE` has those that a profile may carry (no volatile.*, no image.*). A key whose effect does not exist
on this server yet is refused (`NotYet`), never stored and ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chassis.errors import BadRequest
from chassis.keys import Key, Schema
from services.instances.keys import boot, content, limits, security, volatile

UNKNOWN = "Unknown configuration key: {bare}"
INVALID = "{reason} (key {key}, value {value})"

COMMON: tuple[Key[Any], ...] = (*boot.KEYS, *limits.KEYS, *security.KEYS, *content.KEYS)
INSTANCE = Schema("instance", (*COMMON, *volatile.KEYS), unknown=UNKNOWN, invalid=INVALID)
PROFILE = Schema("profile", COMMON, unknown=UNKNOWN, invalid=INVALID)


def validate_profile(config: Mapping[str, str]) -> None:
    """A profile's configuration. Raises BadRequest with LXD's sentences."""
    for name in sorted(config):
        if name.startswith(volatile.PREFIX):
            raise BadRequest("Volatile keys can only be set on instances")
        if name.startswith("image."):
            raise BadRequest("Image keys can only be set on instances")
    PROFILE.validate(config)


def live(name: str) -> bool:
    """Whether a change of this key takes effect in a running instance."""
    key: Key[Any] | None = INSTANCE.find(name)
    return key is not None and key.live
