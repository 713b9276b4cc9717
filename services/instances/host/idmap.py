"""Which host ids stand behind the ids of a container. Pure, but for `host_map` (/etc/subuid, /etc/subgid) and
`idmap_of_process`.

The rule is LXD's: the range that root has in both files where they exist, else 1000000:1000000000. Maps outside of that range are
allowed (liblxc is started so that it writes the map itself instead of asking newuidmap).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

Kind = Literal["u", "g"]
DEFAULT_BASE = 1_000_000
DEFAULT_LENGTH = 1_000_000_000
ISOLATED_LENGTH = 65_536
LINE = re.compile(r"(both|uid|gid)\s+([0-9]+)(?:-([0-9]+))?\s+([0-9]+)(?:-([0-9]+))?")
KINDS: dict[str, tuple[Kind, ...]] = {"both": ("u", "g"), "uid": ("u",), "gid": ("g",)}
TRUE = ("true", "1", "yes", "on")


@dataclass(frozen=True, slots=True)
class IdRange:
    """`length` ids from `ns` on inside are those from `host` on outside."""

    kind: Kind
    host: int
    ns: int
    length: int

    def without(self, hole: IdRange) -> list[IdRange]:
        """What is left when the inner ids of `hole` are taken out."""
        if hole.kind != self.kind:
            return [self]
        end, hole_end = self.ns + self.length, hole.ns + hole.length
        if hole_end <= self.ns or hole.ns >= end:
            return [self]
        left = replace(self, length=max(0, hole.ns - self.ns))
        cut = max(0, hole_end - self.ns)
        right = replace(self, host=self.host + cut, ns=self.ns + cut, length=max(0, end - hole_end))
        return [part for part in (left, right) if part.length > 0]

    def meets_host(self, other: IdRange) -> bool:
        return (
            self.kind == other.kind and self.host < other.host + other.length and other.host < self.host + self.length
        )


@dataclass(frozen=True)
class IdMap:
    """The ranges of one container, users and groups."""

    ranges: tuple[IdRange, ...]

    @property
    def base(self) -> int:
        """Host id of the first range."""
        return self.ranges[0].host if self.ranges else 0

    @cached_property
    def by_kind(self) -> dict[Kind, tuple[IdRange, ...]]:
        return {
            "u": tuple(r for r in self.ranges if r.kind == "u"),
            "g": tuple(r for r in self.ranges if r.kind == "g"),
        }

    def to_host(self, kind: Kind, ident: int) -> int | None:
        """The host id behind an id inside; None if it has none."""
        for found in self.by_kind[kind]:
            if found.ns <= ident < found.ns + found.length:
                return found.host + ident - found.ns
        return None

    def to_ns(self, kind: Kind, ident: int) -> int | None:
        """The id inside that a host id shows as; None if it shows as nobody."""
        for found in self.by_kind[kind]:
            if found.host <= ident < found.host + found.length:
                return found.ns + ident - found.host
        return None

    def with_range(self, added: IdRange) -> IdMap:
        """This map with a range passed through. Raises ValueError if its host ids stand in the map already."""
        if any(found.meets_host(added) for found in self.ranges):
            raise ValueError("Host id is in the range of subids")
        kept = [part for found in self.ranges for part in found.without(added)]
        return IdMap((*kept, added))

    def to_json(self) -> str:
        """As LXD keeps it in volatile.idmap.*."""
        entries = [
            {"Isuid": r.kind == "u", "Isgid": r.kind == "g", "Hostid": r.host, "Nsid": r.ns, "Maprange": r.length}
            for r in self.ranges
        ]
        return json.dumps(entries, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> IdMap:
        ranges: list[IdRange] = []
        for entry in json.loads(text):
            kinds = [kind for kind, flag in (("u", "Isuid"), ("g", "Isgid")) if entry[flag]]
            ranges += [IdRange(k, entry["Hostid"], entry["Nsid"], entry["Maprange"]) for k in kinds]  # type: ignore[arg-type]
        return cls(tuple(ranges))


def both(host: int, ns: int, length: int) -> IdMap:
    """A map with the same range for users and groups."""
    return IdMap((IdRange("u", host, ns, length), IdRange("g", host, ns, length)))


@dataclass(frozen=True, slots=True)
class HostMap:
    """The host ids that containers may use: `length` from `base` on, for users and for groups."""

    base: int
    length: int
    group_base: int = -1
    group_length: int = -1

    @property
    def whole(self) -> IdMap:
        groups = IdRange("g", self.base, 0, self.length)
        if self.group_base >= 0:
            groups = IdRange("g", self.group_base, 0, self.group_length)
        return IdMap((IdRange("u", self.base, 0, self.length), groups))


def host_map(root: Path = Path("/")) -> HostMap:
    """From /etc/subuid and /etc/subgid below `root`; LXD's default where they say nothing of root."""
    users = _subids(root / "etc/subuid")
    groups = _subids(root / "etc/subgid")
    if users is None or groups is None:
        return HostMap(DEFAULT_BASE, DEFAULT_LENGTH)
    return HostMap(*users) if users == groups else HostMap(*users, *groups)


def _subids(path: Path) -> tuple[int, int] | None:
    """The longest range of root (by name or by id) in such a file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    fields = [line.split("#", 1)[0].strip().split(":") for line in lines]
    found = [
        (int(f[1]), int(f[2]))
        for f in fields
        if len(f) == 3 and f[0] in ("root", "0") and f[1].isdigit() and f[2].isdigit()
    ]
    return max(found, key=lambda pair: pair[1], default=None)


def parse_raw(text: str) -> list[IdRange]:
    """The lines of raw.idmap: "both 1000 1000", "uid 50-60 500-510"; host ids come first. Raises ValueError."""
    found: list[IdRange] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f'Invalid ID map line "{line}"')
        what, host, host_end, ns, ns_end = match.groups()
        length = int(host_end or host) - int(host) + 1
        if length < 1 or int(ns_end or ns) - int(ns) + 1 != length:
            raise ValueError(f'Invalid ID map line "{line}": the ranges have different sizes')
        found += [IdRange(kind, int(host), int(ns), length) for kind in KINDS[what]]
    return found


def allocate(config: Mapping[str, str], taken: Iterable[IdMap], host: HostMap) -> IdMap | None:
    """The map that an instance with this expanded configuration starts with; None for a privileged one.

    `taken` are the maps of the isolated ones on this server. Raises ValueError in LXD's words.
    """
    if _is_true(config.get("security.privileged", "")):
        return None
    found = _isolated(config, taken, host) if _is_true(config.get("security.idmap.isolated", "")) else host.whole
    for added in parse_raw(config.get("raw.idmap", "")):
        found = found.with_range(added)
    return found


def _isolated(config: Mapping[str, str], taken: Iterable[IdMap], host: HostMap) -> IdMap:
    size = config.get("security.idmap.size", "")
    length = ISOLATED_LENGTH if size in ("", "auto") else int(size)
    base = config.get("security.idmap.base", "")
    return both(int(base) if base else _first_gap(length, taken, host), 0, length)


def _first_gap(length: int, taken: Iterable[IdMap], host: HostMap) -> int:
    """The lowest start of `length` free ids. The first 65536 belong to the maps that are not isolated (as LXD)."""
    start = host.base + ISOLATED_LENGTH
    spans = sorted((r.host, r.host + r.length) for found in taken for r in found.ranges if r.length > 1 or r.ns == 0)
    for first, end in spans:
        if first >= start + length:
            break
        start = max(start, end)
    if start + length > host.base + host.length:
        raise ValueError("Not enough uid/gid available for the container")
    return start


def idmap_of_process(pid: int) -> IdMap | None:
    """What a process runs with, by /proc; None when it has the host's ids."""
    found: list[IdRange] = []
    kinds: tuple[tuple[Kind, str], ...] = (("u", "uid_map"), ("g", "gid_map"))
    for kind, file in kinds:
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            ns, host, length = map(int, line.split())
            found.append(IdRange(kind, host, ns, length))
    return None if all(r.ns == r.host for r in found) else IdMap(tuple(found))


def _is_true(text: str) -> bool:
    return text.lower() in TRUE
