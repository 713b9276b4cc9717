"""Facts about a process of the host, by /proc and pidfds."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from contextlib import suppress
from functools import cache
from pathlib import Path

CLOCK = os.sysconf("SC_CLK_TCK")
START_TIME = 19  # field of /proc/PID/stat, counted after the name


def parent(pid: int) -> int:
    """Raises ProcessLookupError."""
    return int(_status(pid)["PPid"])


def blocks(pid: int, number: int) -> bool:
    """Whether it has a signal blocked: how an init says that it waits for it with a signalfd (systemd does)."""
    with suppress(ProcessLookupError):
        return bool(int(_status(pid)["SigBlk"], 16) >> (number - 1) & 1)
    return False


def is_in_group(pid: int, name: str) -> bool:
    """Whether it is in a cgroup of that name, or below one."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return False
    return any(name in line.split(":", 2)[2].split("/") for line in lines)


def since(pid: int) -> float:
    """When it began, in seconds of the epoch. Raises ProcessLookupError."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        raise ProcessLookupError(pid) from None
    return _boot() + int(text.rpartition(")")[2].split()[START_TIME]) / CLOCK


@cache
def _boot() -> float:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def _status(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        raise ProcessLookupError(pid) from None
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


class Watched:
    """A process by its pidfd: signalled without mistaking it for another, its end awaited on the loop."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError if it is gone already."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._fd, self._end)

    def _end(self) -> None:
        self.close()
        if not self.ended.done():
            self.ended.set_result(None)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A file of its folder in /proc ("ns/net", "root"), from any thread. Raises OSError, also when the process has ended meanwhile:
        its number may be another's by then, and that one's root may be the host's."""
        fd = os.open(f"/proc/{self.pid}/{name}", flags | os.O_CLOEXEC)
        if not self.signal(0):
            os.close(fd)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return fd

    def signal(self, number: int) -> bool:
        """False if it has ended."""
        if self._fd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._fd, number)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.EBADF):
                raise
            return False
        return True

    async def wait(self, timeout: float | None = None) -> bool:
        """Whether it has ended within that many seconds."""
        await asyncio.wait((self.ended,), timeout=timeout)
        return self.ended.done()

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def signal_number(text: str) -> int | None:
    """Of "15", "SIGTERM", "TERM", "SIGRTMIN+3"."""
    if text.isdigit():
        return int(text)
    name, plus, offset = text.partition("+")
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if found is None:
        return None
    return int(found) + (int(offset) if plus and offset.isdigit() else 0)
