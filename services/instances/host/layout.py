"""Where this machine's cgroup hierarchies stand: v1, the v1/v2 hybrid, or cgroup2 alone. `root` is for tests' fixture trees."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

V1_NAMES = frozenset((
    "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "perf_event",
    "rdma", "misc", "name=systemd",
))  # fmt: skip
V2_ALWAYS = ("freezer", "cpuacct", "devices")  # parts of cgroup2's core, or done by BPF: no controller of that name
INIT_SCOPE = "init.scope"
LIMITING = ("cpu", "memory", "pids")  # a machine with none of them cannot keep containers within bounds


@dataclass(frozen=True, slots=True)
class Hierarchy:
    path: Path
    version: Literal[1, 2]
    base: str = ""  # where liblxc's groups stand below it, "" or "a/b"

    def group(self, name: str) -> Path:
        return self.path / self.base / name


@dataclass(frozen=True, slots=True)
class Layout:
    """Hierarchies by controller; every mounted one once in `hierarchies`."""

    controllers: dict[str, Hierarchy]
    hierarchies: tuple[Hierarchy, ...]

    @property
    def unified(self) -> bool:
        """Whether there is cgroup2 and nothing else."""
        return bool(self.hierarchies) and all(h.version == 2 for h in self.hierarchies)

    def get(self, controller: str) -> Hierarchy | None:
        return self.controllers.get(controller)

    def groups(self, name: str) -> Iterator[Path]:
        """The group of that name in every hierarchy."""
        for hierarchy in self.hierarchies:
            yield hierarchy.group(name)


def detect(root: Path = Path("/")) -> Layout:
    """From /proc/self/mountinfo and /proc/1/cgroup below `root`. The first mount of a hierarchy counts."""
    bases = _bases(root)
    controllers: dict[str, Hierarchy] = {}
    found: list[Hierarchy] = []
    for point, kind, options in _mounts(root):
        path = root / point.lstrip("/")
        if kind == "cgroup2":
            if any(h.version == 2 for h in found):
                continue
            hierarchy = Hierarchy(path, 2, bases.get("", ""))
            names = [*_words(path / "cgroup.controllers"), *V2_ALWAYS]
        else:
            names = [name for name in options if name in V1_NAMES]
            if not names or names[0] in controllers:
                continue
            hierarchy = Hierarchy(path, 1, bases.get(names[0], ""))
        found.append(hierarchy)
        for name in names:
            _claim(controllers, name, hierarchy)
    return Layout(controllers, tuple(found))


def lacks(root: Path = Path("/")) -> str:
    """Why no container can be run in these cgroups, and what to do; "" if one can."""
    layout = detect(root)
    if not layout.hierarchies:
        return (
            "No cgroup hierarchy is mounted: mount cgroup2 at /sys/fs/cgroup of the node, and that into the container"
        )
    if not any(layout.get(name) for name in LIMITING):
        return (
            f"No cgroup controller of {', '.join(LIMITING)} is there: enable them in the node's kernel (no cgroup_disable=), and let "
            "the container see the whole /sys/fs/cgroup of the node"
        )
    return ""


def _claim(controllers: dict[str, Hierarchy], name: str, hierarchy: Hierarchy) -> None:
    """A v1 hierarchy has what cgroup2's core only offers as well."""
    if name not in controllers or (name in V2_ALWAYS and hierarchy.version == 1):
        controllers[name] = hierarchy


def _mounts(root: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Mount point, type and super options of each cgroup mount of which the whole hierarchy is seen."""
    for line in (root / "proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if tail and tail[0] in ("cgroup", "cgroup2"):
            yield fields[4], tail[0], tail[-1].split(",")


def _bases(root: Path) -> dict[str, str]:
    """The group of the first process by controller ("" for cgroup2): liblxc puts its groups beside that, without init.scope."""
    try:
        lines = (root / "proc/1/cgroup").read_text().splitlines()
    except OSError:
        return {}
    bases: dict[str, str] = {}
    for line in lines:
        _, names, path = line.split(":", 2)
        parts = [part for part in path.split("/") if part]
        if parts and parts[-1] == INIT_SCOPE:
            parts.pop()
        for name in names.split(","):
            bases[name] = "/".join(parts)
    return bases


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
