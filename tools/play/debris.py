"""What a play may leave on the machine, told from what is not the play's; and the end of instances whose deployment has failed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.play.client import BRIDGE
from tools.play.podman import Podman


def look(podman: Podman) -> set[str]:
    """Everything of the kinds that a play makes: pods, mounts, namespaces, links, tables, control groups."""
    return {
        *(f"container {name}" for name in podman.run("ps", "--all", "--format", "{{.Names}}").split()),
        *(f"mount {path}" for path in _mounts(podman)),
        *(f"network namespace {path.name}" for path in Path("/run/netns").glob("netns-*")),
        *(f"link {path.name}" for path in Path("/sys/class/net").glob("*") if path.name in (BRIDGE, podman.bridge)),
        *(f"nftables table {name}" for name in _tables()),
        *(f"cgroup {path}" for top in _pods() for path in top.iterdir() if path.is_dir()),
    }


def _mounts(podman: Podman) -> Iterator[str]:
    """Those of pods and of the play's directory; the store's own mount, which podman keeps, is none of them."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point.startswith(
            (str(podman.directory), f"{podman.store}/store/overlay/", f"{podman.store}/store/overlay-containers/")
        ):
            yield point


def _pods() -> list[Path]:
    """The groups under which podman puts pods, one a hierarchy."""
    top = Path("/sys/fs/cgroup")
    return [path for path in (top / "libpod_parent", *top.glob("*/libpod_parent")) if path.is_dir()]


def _tables() -> list[str]:
    found = json.loads(subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, check=True).stdout)
    names = [str(entry["table"]["name"]) for entry in found["nftables"] if "table" in entry]
    return [name for name in names if name.endswith(BRIDGE)]


def end_instances(directory: Path) -> None:
    """Kills instances whose monitor has the play's directory among its mounts: a deployment that failed cannot stop them."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if (entry / "cmdline").read_bytes().startswith(b"[lxc monitor]") and str(directory) in (
                entry / "mountinfo"
            ).read_text():
                for child in (entry / "task" / entry.name / "children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)


def end_network() -> None:
    """The bridge and its table, where the network part did not come to it."""
    subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True)
    for name in _tables():
        subprocess.run(["nft", "delete", "table", "inet", name], capture_output=True)


def end_cgroups() -> None:
    """podman leaves empty groups of pods. One that is in use cannot be removed."""
    for top in _pods():
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
