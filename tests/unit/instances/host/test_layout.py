"""Which machines cannot keep containers within bounds, and what they are told."""

from __future__ import annotations

from pathlib import Path

from services.instances.host import layout

UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"
MEMORY = "31 23 0:27 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n"


def machine(root: Path, mounts: str, controllers: str = "") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mounts)
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text(controllers)
    return root


def test_no_hierarchy_is_mounted(tmp_path: Path) -> None:
    assert "mount cgroup2 at /sys/fs/cgroup" in layout.lacks(machine(tmp_path, ""))


def test_a_hierarchy_without_controllers_is_not_enough(tmp_path: Path) -> None:
    said = layout.lacks(machine(tmp_path, UNIFIED, "rdma"))
    assert "cpu, memory, pids" in said
    assert "kernel" in said


def test_one_controller_of_either_version_is_enough(tmp_path: Path) -> None:
    assert layout.lacks(machine(tmp_path / "two", UNIFIED, "cpu io")) == ""
    assert layout.lacks(machine(tmp_path / "one", UNIFIED + MEMORY, "hugetlb")) == ""
