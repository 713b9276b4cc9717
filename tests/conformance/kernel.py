"""What the kernel of the host says about an instance, on cgroup 1 and cgroup 2 alike."""

from __future__ import annotations

import signal
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def minds(pid: int, number: signal.Signals) -> bool:
    """Whether a process has said what a signal does to it."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return bool((int(lines["SigCgt"], 16) | int(lines["SigIgn"], 16)) & 1 << (number - 1))


def group_of(pid: int, name: str, controller: str) -> tuple[Path, bool]:
    """The control group of an instance for one controller, and whether it is on cgroup 2."""
    lines = [line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    old = [path for controllers, path in lines if controller in controllers.split(",")]
    new = [path for controllers, path in lines if controllers == ""]
    parts = (old or new)[0].strip("/").split("/")
    depth = next((i for i, part in enumerate(parts) if name in part), len(parts) - 1)
    return (CGROUP / controller if old else CGROUP).joinpath(*parts[: depth + 1]), not old


def control(pid: int, name: str, controller: str, old: str, new: str) -> str:
    """A file of that group: `old` is what it is called on cgroup 1, `new` on cgroup 2."""
    group, unified = group_of(pid, name, controller)
    return (group / (new if unified else old)).read_text().strip()
