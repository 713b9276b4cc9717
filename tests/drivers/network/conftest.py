"""A host for drivers that is nobody's: a network and a mount namespace of the host thread alone.

Everything that the drivers do happens in that thread and in the processes that it starts, so the machine never sees it, and it is gone
with the thread.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.network import daemons
from services.network.host import Host

CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000
libc = ctypes.CDLL(None, use_errno=True)


def sh(_: Host, command: str) -> str:
    """A command of the shell in the namespace; what it prints."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def _isolate(host: Host) -> None:
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    sh(
        host,
        "mount --make-rprivate / && mount -t sysfs sysfs /sys && mount -t tmpfs none /run && mkdir /run/netns && ip link set lo up",
    )


def _stop(host: Host) -> None:
    for path in host.networks.glob("*"):
        daemons.stop(host.files(path.name))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    if os.geteuid():
        pytest.skip("needs root")
    made = Host(tmp_path)
    await made.run(_isolate)
    yield made
    await made.run(_stop)
    await made.close()
