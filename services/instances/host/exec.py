"""Commands in a running container: with a terminal, with three pipes, or recorded into files.

The starter attaches the command (namespaces, cgroups, capabilities, seccomp filter and limits of the container); this side holds the
other ends. Whoever closes an `Executed` before the command's end kills it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chassis.errors import Internal
from services.instances.host.process import Watched
from services.instances.host.spec import Key
from services.instances.host.starter import Status
from services.instances.host.terminals import open_terminal, set_size

if TYPE_CHECKING:
    from services.instances.host.containers import Containers

LOST = -1
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """`pty` (columns, rows) asks for a terminal; `stdout` and `stderr` are files that take the output; `discard` wants none of it."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    uid: int = 0
    gid: int = 0
    pty: tuple[int, int] | None = None
    stdout: Path | None = None
    stderr: Path | None = None
    discard: bool = False


class Executed:
    """A command that runs, or stands ready to. `stdin`, `stdout` and `stderr` are the ends of pipes, or the first two one pty's master;
    None: there is none.

    Descriptors are non-blocking and this object's to close (`read_some` and `write_all` serve them).
    """

    def __init__(self, pid: int, status: Status, go: int, ends: Mapping[str, int]) -> None:
        self.pid = pid
        self._status = status
        self._go = go
        self.is_terminal = "terminal" in ends
        self.stdin = ends.get("terminal", ends.get("stdin"))
        self.stdout = ends.get("terminal", ends.get("stdout"))
        self.stderr = ends.get("stderr")
        self._begun = asyncio.Event()
        self._code: asyncio.Task[int] = asyncio.ensure_future(self._await_code())
        try:
            self._process: Watched | None = Watched(pid)
        except ProcessLookupError:
            self._process = None

    async def _await_code(self) -> int:
        try:
            while (line := await self._status.line()) is not None:
                word, _, rest = line.partition(" ")
                if word == "begun":
                    self._begun.set()
                if word == "exit":
                    self._status.close()
                    return int(rest)
            return LOST
        finally:
            self._begun.set()

    async def begin(self) -> None:
        """Let it run. On return it is itself (signals and window sizes reach it), or has ended."""
        with suppress(BrokenPipeError):
            os.write(self._go, b"!")
        self._release()
        await self._begun.wait()

    def _release(self) -> None:
        """One that was not let go ends by this."""
        if self._go >= 0:
            os.close(self._go)
            self._go = -1

    async def wait(self) -> int:
        """Its exit code: 128 + n when signal n ended it, 127 not found, 126 not executable, -1 when it was lost with its watcher."""
        return await asyncio.shield(self._code)

    def signal(self, number: int) -> bool:
        """False if it has ended."""
        return self._process is not None and self._process.signal(number)

    def resize(self, columns: int, rows: int) -> None:
        """Of the terminal."""
        if self.is_terminal and self.stdout is not None:
            set_size(self.stdout, columns, rows)

    def close_stdin(self) -> None:
        """End of file for the command (a terminal has no such thing)."""
        if self.stdin is not None and not self.is_terminal:
            os.close(self.stdin)
            self.stdin = None

    def close(self) -> None:
        """Let go of every end; a command that still runs is killed. May be called twice."""
        for fd in {self.stdin, self.stdout, self.stderr} - {None}:
            os.close(fd)  # type: ignore[arg-type]
        self.stdin = self.stdout = self.stderr = None
        self._release()
        if self._process is not None:
            if not self._code.done():
                self._process.signal(signal.SIGKILL)
            self._process.close()
        if self._code.done():
            self._status.close()
        else:
            self._code.add_done_callback(lambda _: self._status.close())


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


def open_ends(spec: ExecSpec, init: Watched) -> Ends:
    """A pty, pipes, files or /dev/null."""
    if spec.pty is not None:
        return _terminal(init, spec.uid, spec.pty)
    if spec.discard or spec.stdout is not None or spec.stderr is not None:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        return Ends((null, _recording(spec.stdout, null), _recording(spec.stderr, null)), {})
    read_in, write_in = os.pipe2(os.O_CLOEXEC)
    read_out, write_out = os.pipe2(os.O_CLOEXEC)
    read_err, write_err = os.pipe2(os.O_CLOEXEC)
    for fd in (write_in, read_out, read_err):
        os.set_blocking(fd, False)
    return Ends((read_in, write_out, write_err), {"stdin": write_in, "stdout": read_out, "stderr": read_err})


def _recording(path: Path | None, null: int) -> int:
    if path is None:
        return null
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _terminal(init: Watched, uid: int, size: tuple[int, int]) -> Ends:
    master, slave = open_terminal(init, uid)
    if all(size):
        set_size(master, *size)
    return Ends((slave, slave, slave), {"terminal": master})


async def execute(
    containers: Containers, key: Key, spec: ExecSpec, config: Mapping[str, str] | None = None
) -> Executed:
    """Run a command. Raises Internal if it cannot be attached (the container is not running)."""
    executed = await attach(containers, key, spec)
    await executed.begin()
    return executed


async def attach(containers: Containers, key: Key, spec: ExecSpec) -> Executed:
    """Put a command into the container, where it waits for `begin`. Raises Internal if that cannot be."""
    init = containers.init(key)
    if init is None:
        raise Internal("Instance is not running")
    ends = open_ends(spec, init)
    wait, go = os.pipe2(os.O_CLOEXEC)
    try:
        job = {
            "job": "attach",
            "name": key.folder_name,
            "path": str(containers.directory),
            "command": list(spec.command),
            "environment": dict(spec.environment),
            "cwd": spec.cwd or ("/root" if spec.uid == 0 else "/"),
            "uid": spec.uid,
            "gid": spec.gid,
            "tty": spec.pty is not None,
            "init": init.pid,
            **containers.groups(key).entrances,
        }
        status, line = await containers.starter.ask(job, (*ends.theirs, wait))
    except BaseException:
        ends.close_ours()
        os.close(go)
        raise
    finally:
        ends.close_theirs()
        os.close(wait)
    word, _, pid = line.partition(" ")
    if word != "pid":
        status.close()
        ends.close_ours()
        os.close(go)
        raise Internal(f"Failed to attach to the instance: {line or 'the starter gave no answer'}")
    return Executed(int(pid), status, go, ends.ours)


async def run(containers: Containers, key: Key, command: Sequence[str], timeout: float = 30.0) -> tuple[int, bytes]:
    """A short command's exit code and what it said on stdout and stderr. Raises TimeoutError; it is killed then."""
    executed = await execute(containers, key, ExecSpec(command, {"PATH": SEARCH}))
    executed.close_stdin()
    try:
        async with asyncio.timeout(timeout):
            out, err = await asyncio.gather(_drain(executed.stdout), _drain(executed.stderr))
            return await executed.wait(), out + err
    finally:
        executed.close()


async def _drain(fd: int | None) -> bytes:
    parts: list[bytes] = []
    while fd is not None and (data := await read_some(fd)):
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
