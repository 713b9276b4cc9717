"""Which host ids an instance gets: the id map it will start with, as volatile.idmap.* keeps it."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping

from chassis.errors import Fault, Internal
from chassis.key_types import is_true
from services.instances.host import idmap
from services.instances.host.idmap import IdMap
from services.instances.keys import security, volatile
from services.instances.parts import Parts

NONE = "[]"
ARCHITECTURE = platform.machine()
INPUTS = (
    security.PRIVILEGED.name,
    security.IDMAP_ISOLATED.name,
    security.IDMAP_SIZE.name,
    security.IDMAP_BASE.name,
    "raw.idmap",
)


def next_idmap(parts: Parts, project: str, name: str, config: Mapping[str, str]) -> dict[str, str]:
    """volatile.idmap.base and .next for this expanded configuration. Raises Internal in LXD's words."""
    try:
        found = idmap.allocate(config, list(_taken(parts, project, name)), idmap.host_map())
    except (ValueError, Fault) as error:
        text = error.text if isinstance(error, Fault) else str(error)
        raise Internal(f"Failed to get ID map: {text}") from None
    if found is None:
        return {volatile.IDMAP_BASE.name: "0", volatile.IDMAP_NEXT.name: NONE}
    base = found.base if is_true(config.get(security.IDMAP_ISOLATED.name, "")) else 0
    return {volatile.IDMAP_BASE.name: str(base), volatile.IDMAP_NEXT.name: found.to_json()}


def _taken(parts: Parts, project: str, name: str) -> Iterator[IdMap]:
    """Maps of the isolated instances of this member, but for this one."""
    for member in parts.roster.select():
        if (member.value.project, member.value.name) == (project, name):
            continue
        if is_true(member.expanded.config.get(security.IDMAP_ISOLATED.name, "")):
            text = member.value.config.get(volatile.IDMAP_NEXT.name, NONE)
            if text != NONE:
                yield IdMap.from_json(text)
