"""Fixture trees: the files of a machine with the hybrid layout, and of one with cgroup2 alone."""

from __future__ import annotations

from pathlib import Path

from services.instances.host import cgroups, layout
from services.instances.host.cgroups import Machine

V1 = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")


def _common(root: Path, mountinfo: str, cgroup: str) -> None:
    for folder in ("proc/self", "proc/1", "sys/devices/system/cpu"):
        (root / folder).mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    (root / "proc/1/cgroup").write_text(cgroup)
    (root / "proc/meminfo").write_text("MemTotal:        4194304 kB\nMemFree:  1 kB\n")
    (root / "sys/devices/system/cpu/online").write_text("0-3\n")


def hybrid(root: Path) -> Machine:
    """v1 hierarchies, and cgroup2 with hugetlb only."""
    mounts = ["20 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw"]
    for number, name in enumerate(V1):
        mounts.append(f"{30 + number} 20 0:{30 + number} / /sys/fs/cgroup/{name} rw,relatime - cgroup cgroup rw,{name}")
        (root / "sys/fs/cgroup" / name).mkdir(parents=True)
    (root / "sys/fs/cgroup/unified").mkdir()
    (root / "sys/fs/cgroup/unified/cgroup.controllers").write_text("hugetlb\n")
    (root / "sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").touch()
    mounts.append("40 20 0:40 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw")
    _common(root, "\n".join(mounts), "".join(f"{n}:{name}:/\n" for n, name in enumerate(V1, 1)) + "0::/\n")
    return cgroups.machine(layout.detect(root), root)


def unified(root: Path) -> Machine:
    """cgroup2 with systemd as the first process."""
    top = root / "sys/fs/cgroup"
    top.mkdir(parents=True)
    (top / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    _common(root, "30 1 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n", "0::/init.scope\n")
    return cgroups.machine(layout.detect(root), root)
