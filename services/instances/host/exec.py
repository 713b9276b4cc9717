"""Commands in a running container: with a terminal, with three pipes, or recorded into files.

The starter attaches the command (namespaces, cgroups, capabilities, seccomp filter and limits of the container); this side holds the
other ends. Whoever closes an `Executed` before the command's end kills it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chassis.errors import Internal
from services.instances.host.process import Watched
from services.instances.host.spec import Key
from services.instances.host.starter import Status

if TYPE_CHECKING:
    from services.instances.host.containers import Containers

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"
LOST = -1


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """`size` (columns, rows) asks for a terminal; `record` is the pair of files that take stdout and stderr."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    uid: int = 0
    gid: int = 0
    size: tuple[int, int] | None = None
    record: tuple[Path, Path] | None = None
    discard: bool = False  # no ends are wanted: stdin, stdout and stderr are /dev/null


def environment_of(spec: ExecSpec, config: Mapping[str, str]) -> dict[str, str]:
    """What a command gets: LXD's defaults, then environment.* of the instance, then what the request says."""
    found = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8"}
    if spec.uid == 0:
        found |= {"HOME": "/root", "USER": "root"}
    found |= {k.removeprefix("environment."): v for k, v in config.items() if k.startswith("environment.")}
    return {**found, **spec.environment}


class Executed:
    """A command that runs. `terminal` is the pty's master; else `stdin`, `stdout`, `stderr` are ends of pipes. -1: there is none.

    Descriptors are non-blocking and this object's to close.
    """

    def __init__(self, pid: int, status: Status, ends: Mapping[str, int]) -> None:
        self.pid = pid
        self._status = status
        self.terminal = ends.get("terminal", -1)
        self.stdin = ends.get("stdin", -1)
        self.stdout = ends.get("stdout", -1)
        self.stderr = ends.get("stderr", -1)
        self._code: asyncio.Task[int] = asyncio.ensure_future(self._await_code())
        try:
            self._process: Watched | None = Watched(pid)
        except ProcessLookupError:
            self._process = None

    async def _await_code(self) -> int:
        while (line := await self._status.line()) is not None:
            word, _, rest = line.partition(" ")
            if word == "exit":
                self._status.close()
                return int(rest)
        return LOST

    async def wait(self) -> int:
        """Its exit code: 128 + n when signal n ended it, 127 not found, 126 not executable, -1 when it was lost with its watcher."""
        return await asyncio.shield(self._code)

    def signal(self, number: int) -> bool:
        """False if it has ended."""
        return self._process is not None and self._process.signal(number)

    def resize(self, columns: int, rows: int) -> None:
        """Of the terminal."""
        if self.terminal >= 0:
            set_size(self.terminal, columns, rows)

    def close_stdin(self) -> None:
        """End of file for the command."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def close(self) -> None:
        """Let go of every end; a command that still runs is killed. May be called twice."""
        for name in ("terminal", "stdin", "stdout", "stderr"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)
        if self._process is not None:
            if not self._code.done():
                self._process.signal(signal.SIGKILL)
            self._process.close()
        if self._code.done():
            self._status.close()
        else:
            self._code.add_done_callback(lambda _: self._status.close())


def set_size(terminal: int, columns: int, rows: int) -> None:
    """Raises Internal for what does not fit in 16 bits."""
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    except (struct.error, OSError) as error:
        raise Internal(f"Invalid terminal size {columns}x{rows}: {error}") from None


@dataclass
class Ends:
    """Both sides of the descriptors of a command."""

    theirs: tuple[int, int, int]
    ours: dict[str, int]

    def close_theirs(self) -> None:
        for fd in set(self.theirs):
            os.close(fd)

    def close_ours(self) -> None:
        for fd in self.ours.values():
            os.close(fd)


def open_ends(spec: ExecSpec) -> Ends:
    """A pty, pipes, files or /dev/null."""
    if spec.size is not None:
        return _terminal(spec)
    if spec.record is not None or spec.discard:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        if spec.record is None:
            return Ends((null, null, null), {})
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        stdout, stderr = (os.open(path, flags, 0o600) for path in spec.record)
        return Ends((null, stdout, stderr), {})
    read_in, write_in = os.pipe2(os.O_CLOEXEC)
    read_out, write_out = os.pipe2(os.O_CLOEXEC)
    read_err, write_err = os.pipe2(os.O_CLOEXEC)
    for fd in (write_in, read_out, read_err):
        os.set_blocking(fd, False)
    return Ends((read_in, write_out, write_err), {"stdin": write_in, "stdout": read_out, "stderr": read_err})


def _terminal(spec: ExecSpec) -> Ends:
    master, slave = os.openpty()
    os.set_inheritable(master, False)
    os.set_inheritable(slave, False)
    os.set_blocking(master, False)
    os.fchown(slave, spec.uid, -1)
    columns, rows = spec.size or (0, 0)
    if columns and rows:
        set_size(master, columns, rows)
    return Ends((slave, slave, slave), {"terminal": master})


async def execute(
    containers: Containers, key: Key, spec: ExecSpec, config: Mapping[str, str] | None = None
) -> Executed:
    """Run a command. Raises Internal if it cannot be attached (the container is not running)."""
    if containers.state(key) is None:
        raise Internal("Instance is not running")
    ends = open_ends(spec)
    try:
        job = {
            "job": "attach",
            "name": key.folder_name,
            "path": str(containers.directory),
            "command": list(spec.command),
            "environment": environment_of(spec, config or {}),
            "cwd": spec.cwd or ("/root" if spec.uid == 0 else "/"),
            "uid": spec.uid,
            "gid": spec.gid,
            "tty": spec.size is not None,
        }
        status = await containers.starter.submit(job, ends.theirs)
    except BaseException:
        ends.close_ours()
        raise
    finally:
        ends.close_theirs()
    try:
        line = await status.line()
    except BaseException:
        status.close()
        ends.close_ours()
        raise
    word, _, pid = (line or "").partition(" ")
    if word != "pid":
        status.close()
        ends.close_ours()
        raise Internal(f"Failed to attach to the instance: {line or 'the starter gave no answer'}")
    return Executed(int(pid), status, ends.ours)


async def run(containers: Containers, key: Key, command: Sequence[str], timeout: float = 30.0) -> tuple[int, bytes]:
    """A short command's exit code and what it said on stdout and stderr. Raises TimeoutError; it is killed then."""
    executed = await execute(containers, key, ExecSpec(command))
    executed.close_stdin()
    try:
        async with asyncio.timeout(timeout):
            out, err = await asyncio.gather(_drain(executed.stdout), _drain(executed.stderr))
            return await executed.wait(), out + err
    finally:
        executed.close()


async def _drain(fd: int) -> bytes:
    parts: list[bytes] = []
    while data := await read_some(fd):
        parts.append(data)
    return b"".join(parts)


async def read_some(fd: int, most: int = 65536) -> bytes:
    """What is there to be read, at least a byte; b"" at the end (also when a terminal's other side is gone)."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return os.read(fd, most)
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_reader(fd, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(fd)
        except OSError:
            return b""


async def write_all(fd: int, data: bytes) -> None:
    """Raises BrokenPipeError when nobody reads any more."""
    loop = asyncio.get_running_loop()
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(fd, ready.set)
            try:
                await ready.wait()
            finally:
                with suppress(OSError):
                    loop.remove_writer(fd)
