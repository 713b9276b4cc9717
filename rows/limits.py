"""What a project's `limits.*` allow: how many instances, and how much all of them and the custom volumes may be configured to take.

Pure functions, for every service that makes or changes what counts. It is configured limits that are added up, not what is used: so an
instance without one is refused in a project that has that limit. The sentences are LXD's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from chassis import units
from chassis.errors import Internal

Texts = Mapping[str, str]

CPU, DISK, MEMORY, PROCESSES = "limits.cpu", "limits.disk", "limits.memory", "limits.processes"
# Key of the project -> the type of instance that it counts; None counts all.
NUMBERS: dict[str, str | None] = {
    "limits.containers": "container", "limits.instances": None, "limits.virtual-machines": "virtual-machine",
}  # fmt: skip
STATE_OF_MACHINES = 100 * 1024**2
"""What the state volume of a virtual machine takes beside its root disk, unless `size.state` says otherwise. Bytes."""


class Held(NamedTuple):
    """An instance with its profiles merged in."""

    name: str
    type: str
    config: Texts
    devices: Mapping[str, Texts]


class Use(NamedTuple):
    """What a project holds, or is about to hold: its instances, and its custom volumes as (name, configuration)."""

    instances: list[Held]
    volumes: list[tuple[str, Texts]]


def _count(text: str) -> int:
    return int(text)


def _size(text: str) -> int:
    return units.parse_bytes(text)


PARSERS: dict[str, Callable[[str], int]] = {CPU: _count, DISK: _size, MEMORY: _size, PROCESSES: _count}


def limited(project: Texts) -> bool:
    """Whether a project limits anything that is counted or added up here."""
    return any(project.get(key) for key in (*NUMBERS, *PARSERS))


def shown(key: str, total: int) -> str:
    return units.show_bytes_iec(total, 1) if PARSERS[key] is _size else str(total)


def refusal(project: Texts, name: str, use: Use) -> str:
    """Why a project may not come to hold this; empty if it may. `name` is the project's."""
    for key, type_ in NUMBERS.items():
        if project.get(key) and number(use, type_) > int(project[key]):
            what = f'instances of type "{type_}"' if type_ else "instances"
            return f'Reached maximum number of {what} in project "{name}"'
    keys = [key for key in PARSERS if project.get(key)]
    try:
        sums = totals(name, keys, use)
    except Internal as fault:
        return f"Failed getting usage of project entities: {fault.text}"
    for key in keys:
        if sums[key] > PARSERS[key](project[key]):
            return f'Reached maximum aggregate value "{project[key]}" for "{key}" in project "{name}"'
    return ""


def refuse_lower(now: Texts, wanted: Texts, name: str, use: Use) -> None:
    """A project's limits may not become less than what it holds. Raises Internal."""
    for key, type_ in NUMBERS.items():
        there = number(use, type_)
        if wanted.get(key) and int(wanted[key]) < there:
            what = f"instances of type {type_}" if type_ else "total instances"
            raise Internal(
                f'Can\'t change {key} in project "{name}": "{key}" is too low: '
                f'there currently are {there} {what} in project "{name}"'
            )
    changed = [key for key in PARSERS if wanted.get(key) and wanted[key] != now.get(key)]
    for key, total in totals(name, changed, use).items():
        if PARSERS[key](wanted[key]) < total:
            raise Internal(f'"{key}" is too low: current total is "{shown(key, total)}"')


def number(use: Use, type_: str | None) -> int:
    return sum(1 for held in use.instances if type_ in (None, held.type))


def totals(name: str, keys: Iterable[str], use: Use, *, strict: bool = True) -> dict[str, int]:
    """The sum for each key. What has no limit of its own counts nothing, or, if `strict`, raises Internal."""
    return {key: sum(_amounts(name, key, use, strict=strict)) for key in keys}


def _amounts(name: str, key: str, use: Use, *, strict: bool) -> Iterator[int]:
    for held in use.instances:
        yield _of_root(name, held, strict) if key == DISK else _of_key(name, key, held, strict)
    if key == DISK:
        for volume, config in use.volumes:
            if config.get("size"):
                yield _size(config["size"])
            elif strict:
                raise Internal(f'Custom volume "{volume}" in project "{name}" has no "size" config set')


def _of_key(name: str, key: str, held: Held, strict: bool) -> int:
    text = held.config.get(key)
    if not text:
        if strict:
            raise Internal(
                f'Instance "{held.name}" in project "{name}" has no "{key}" config, either directly or via a profile'
            )
        return 0
    try:
        return PARSERS[key](text)
    except ValueError:  # a share of the host's memory, CPUs by their numbers
        if strict:
            raise Internal(f'Failed parsing "{key}" for instance "{held.name}" in project "{name}"') from None
        return 0


def _of_root(name: str, held: Held, strict: bool) -> int:
    root = next((device for device in held.devices.values() if _is_root(device)), {})
    if not root.get("size"):
        if strict:
            raise Internal(
                f'Instance "{held.name}" in project "{name}" has no "size" config set on the root device '
                "either directly or via a profile"
            )
        return 0
    try:
        return _size(root["size"]) + (_state(root) if held.type == "virtual-machine" else 0)
    except ValueError:
        if strict:
            raise Internal(
                f'Failed parsing "size" of the root device of instance "{held.name}" in project "{name}"'
            ) from None
        return 0


def _state(root: Texts) -> int:
    return _size(root["size.state"]) if root.get("size.state") else STATE_OF_MACHINES


def _is_root(device: Texts) -> bool:
    return device.get("type") == "disk" and device.get("path") == "/" and not device.get("source")
