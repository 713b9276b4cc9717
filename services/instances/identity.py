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
from services.instances.roster import Member

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


def at_start(parts: Parts, member: Member) -> dict[str, str]:
    """The same for an instance that starts: what it has while that fits its expanded configuration, which a profile may have changed."""
    value = member.value
    config = dict(member.expanded.config)
    kept = value.config.get(volatile.IDMAP_NEXT.name, NONE)
    base = value.config.get(volatile.IDMAP_BASE.name, "0")
    if is_true(config.get(security.IDMAP_ISOLATED.name, "")) and base != "0" and kept != NONE:
        length = IdMap.from_json(kept).ranges[0].length
        if int(config.get(security.IDMAP_SIZE.name) or idmap.ISOLATED_LENGTH) == length:
            config.setdefault(security.IDMAP_BASE.name, base)
    return next_idmap(parts, value.project, value.name, config)


def kept(before: Mapping[str, str], config: Mapping[str, str]) -> dict[str, str]:
    """A client's configuration with the id maps that the server knows: files on disk and running processes have them."""
    own = {name: before[name] for name in volatile.IDMAPS if name in before}
    return {name: text for name, text in config.items() if name not in volatile.IDMAPS} | own


def _taken(parts: Parts, project: str, name: str) -> Iterator[IdMap]:
    """Maps of the isolated instances of this member, but for this one."""
    for member in parts.roster.select():
        if (member.value.project, member.value.name) == (project, name):
            continue
        if is_true(member.expanded.config.get(security.IDMAP_ISOLATED.name, "")):
            text = member.value.config.get(volatile.IDMAP_NEXT.name, NONE)
            if text != NONE:
                yield IdMap.from_json(text)
