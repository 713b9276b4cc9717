"""The service's end of the starter process (`forker`): hand it a job with descriptors, read the child's answer line by line.

The process is exec'd anew with the service and again if it dies; jobs that it has forked go on without it.
"""

from __future__ import annotations

import array
import asyncio
import importlib.util
import marshal
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from chassis.errors import Internal

FORKER = Path(__file__).with_name("forker.py")
BINDING = "_lxc"
NO_BINDING = "Python's binding of liblxc is missing (install the Debian package python3-lxc)"


class Status:
    """The lines that the child of a job says; ends when it is done with the pipe."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._rest = b""
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._lines.put_nowait(line.decode(errors="replace"))
        if not data:
            self.close()

    async def line(self) -> str | None:
        """The next line; None at the end."""
        return await self._lines.get()

    def close(self) -> None:
        """The child of an attach takes this as the order to kill what it attached."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._lines.put_nowait(None)


def _is_ended(channel: socket.socket) -> bool:
    """Whether the process at the other end is gone; it never says anything there."""
    try:
        return channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _folder_of_binding() -> str:
    found = importlib.util.find_spec(BINDING)
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent)
    for folder in ("/usr/lib/python3/dist-packages",):
        if any(Path(folder).glob(f"{BINDING}.*")):
            return folder
    raise Internal(NO_BINDING)


class Starter:
    """One starter process. `submit` may be called by many tasks at once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._turn = asyncio.Lock()

    @classmethod
    def spawn(cls) -> Starter:
        """Raises Internal when liblxc's binding is missing."""
        starter = cls()
        starter._spawn()
        return starter

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(FORKER), str(theirs.fileno()), _folder_of_binding()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={"LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )
        ours.setblocking(False)
        self._channel = ours

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else -1

    async def ask(self, job: Mapping[str, Any], fds: Sequence[int] = ()) -> tuple[Status, str]:
        """Start a job and wait for the first thing that its child says ("" if it ends without a word).

        Given a second time when the starter process died before it could fork a child. The pipe is closed if the wait is cancelled.
        """
        for _ in range(2):
            channel = self._channel
            status = await self.submit(job, fds)
            try:
                line = await status.line()
            except BaseException:
                status.close()
                raise
            if line is not None or (channel is not None and channel is self._channel and not _is_ended(channel)):
                break
        return status, line or ""

    async def submit(self, job: Mapping[str, Any], fds: Sequence[int] = ()) -> Status:
        """Start a job; its child gets duplicates of `fds`. Raises Internal if the starter process cannot be had."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            await asyncio.shield(self._send(marshal.dumps(dict(job)), [os.dup(theirs), *map(os.dup, fds)]))
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return Status(ours)

    async def _send(self, data: bytes, fds: list[int]) -> None:
        """Owns and closes `fds`; is never cancelled half way through a frame."""
        try:
            async with self._turn:
                try:
                    await self._transmit(data, fds)
                except ConnectionError:
                    self.close()
                    self._spawn()
                    await self._transmit(data, fds)
        except ConnectionError as error:
            raise Internal(f"The starter process is gone: {error}") from None
        finally:
            for fd in fds:
                os.close(fd)

    async def _transmit(self, data: bytes, fds: list[int]) -> None:
        if self._channel is None:
            raise ConnectionError("closed")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        head = len(data).to_bytes(4, "big")
        while True:
            try:
                sent = self._channel.sendmsg([head], rights)
                break
            except BlockingIOError:
                await self._writable(self._channel)
        await asyncio.get_running_loop().sock_sendall(self._channel, head[sent:] + data)

    @staticmethod
    async def _writable(channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(channel.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(channel.fileno())

    def close(self) -> None:
        """End the starter process. What it has started goes on."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            if self._process.returncode is None:
                self._process.kill()
                self._process.wait()
            self._process = None
