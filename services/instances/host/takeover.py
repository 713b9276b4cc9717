"""What the last life of the service has left: starts under way, containers that run, and what is neither."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.instances.host.starter import Starter

LOCKS = ".starting"  # each child of a start holds a byte of it locked
PATIENCE = 10.0  # seconds that starts get to finish, before they are killed
PAUSE = 0.01
SILENCE = 10.0  # seconds without an answer of a monitor (the child gives up on one after `forker.PATIENCE`)
ALIVE = frozenset(("RUNNING", "FROZEN", "FREEZING", "THAWED"))
FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid


@dataclass(frozen=True, slots=True)
class Found:
    """A container by liblxc's words; `pid` of its init or -1."""

    folder: str
    state: str
    pid: int

    @property
    def alive(self) -> bool:
        return self.state in ALIVE and self.pid > 0

    @property
    def stopped(self) -> bool:
        return self.state == "STOPPED"


def await_starts(directory: Path) -> None:
    """Wait until no start of an earlier life is under way; one that does not end is killed. Blocks."""
    lock = os.open(directory / LOCKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + PATIENCE
    try:
        while (pid := _holder(lock)) is not None:
            if time.monotonic() > deadline:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(PAUSE)
    finally:
        os.close(lock)


def _holder(lock: int) -> int | None:
    """Who has a part of the file locked."""
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = FLOCK.unpack(fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None


async def look(starter: Starter, directory: Path, folders: list[str]) -> AsyncIterator[Found]:
    """Each of them, one after the other. One whose monitor does not answer has the state "SILENT"."""
    rest = list(folders)
    while rest:
        status = await starter.submit({"job": "query", "names": rest, "path": str(directory)})
        try:
            while rest:
                line = await asyncio.wait_for(status.line(), SILENCE)
                if line is None:
                    break
                folder, state, pid = line.rsplit(" ", 2)
                rest.remove(folder)
                yield Found(folder, state, int(pid))
        except TimeoutError:
            pass
        finally:
            status.close()
        if rest:
            yield Found(rest.pop(0), "SILENT", -1)
