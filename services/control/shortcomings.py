"""What this machine lacks, as warnings: looked for at each start of the service, in LXD's words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gen.nubibus.control.v1 import control_pb2
from services.control.warning import Warnings

CGROUP = "sys/fs/cgroup"
APPARMOR = "AppArmor support has been disabled"
WEIGHT = "Couldn't find the CGroup blkio.weight"
NETWORK = "Couldn't find the CGroup network priority controller"
MACHINES = "Instance type not operational"
TYPES = {APPARMOR, WEIGHT, NETWORK, MACHINES}


def find(root: Path = Path("/"), member: str = "none") -> Iterator[control_pb2.WarningReport]:
    """One for each thing that is missing."""

    def missing(what: str, message: str) -> control_pb2.WarningReport:
        return control_pb2.WarningReport(type=what, severity="low", message=message, member=member)

    if not (root / "sys/kernel/security/apparmor").exists():
        yield missing(APPARMOR, "Disabled because of lack of kernel support")
    if (
        not _has(root, "blkio", "blkio.weight")
        and not _has(root, "blkio", "blkio.bfq.weight")
        and not _unified(root, "io")
    ):
        yield missing(WEIGHT, "disk priority will be ignored")
    if not (root / CGROUP / "net_prio").exists() and not _unified(root, "cpu"):
        yield missing(NETWORK, "network priority will be ignored")
    yield missing(MACHINES, "virtual machines are not supported yet")


def _has(root: Path, controller: str, name: str) -> bool:
    return (root / CGROUP / controller / name).exists()


def _unified(root: Path, controller: str) -> bool:
    """Whether the pure cgroup2 layout is mounted, with a controller."""
    try:
        return controller in (root / CGROUP / "cgroup.controllers").read_text().split()
    except OSError:
        return False


async def report(warnings: Warnings, member: str) -> None:
    """Note what is missing, and resolve what was missing before and is there now."""
    found = list(find(member=member))
    for each in found:
        await warnings.note(each)
    lacking = {each.type for each in found}
    for row in list(warnings.rows.select()):
        if row.value.type in TYPES - lacking and row.value.location == member:
            await warnings.resolve(row)
