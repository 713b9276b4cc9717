"""A container's console: its log on disk, and sessions on the terminal itself.

liblxc's monitor copies what the console says into the log file and lends its terminal to one peer at a time, over its command socket
(the request and answer below are those of liblxc 5.0: a struct of two ints and a pointer each way, the terminal as a descriptor). All
sessions of a console share that one loan: what it says goes to each, what any sends goes to it.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
import tty
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from chassis.errors import BadRequest, Internal
from services.instances.host import lxcconfig
from services.instances.host.exec import read_some, write_all
from services.instances.host.process import Watched
from services.instances.host.spec import Key
from services.instances.host.terminals import set_console_size

if TYPE_CHECKING:
    from services.instances.host.containers import Containers

GET_TTY_FD = 0
CONSOLE = 0  # the number of /dev/console among the terminals
MESSAGE = struct.Struct("iiP")
MOST_WAITING = 1024 * 1024  # bytes that a session may be behind before it is cut off
MOST_ABSTRACT = 108 - 2
FNV_START, FNV_PRIME, FNV_MASK = 0xCBF29CE484222325, 0x100000001B3, 2**64 - 1


def command_socket(folder: Path, name: str) -> bytes:
    """Address of the monitor's command socket; liblxc hashes what does not fit."""
    plain = f"{folder}/{name}/command".encode()
    if len(plain) < MOST_ABSTRACT:
        return b"\0" + plain
    value = FNV_START
    for byte in f"{folder}/{name}".encode():
        value = ((value ^ byte) * FNV_PRIME) & FNV_MASK
    return b"\0" + f"lxc/{value:016x}/command".encode()


def borrow_terminal(address: bytes) -> tuple[socket.socket, int]:
    """The open loan (it ends when the socket is closed) and the terminal. Raises OSError; blocks for milliseconds."""
    loan = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        loan.settimeout(5)
        loan.connect(address)
        credentials = struct.pack("iII", os.getpid(), os.getuid(), os.getgid())
        loan.sendmsg([MESSAGE.pack(GET_TTY_FD, 0, CONSOLE)], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
        data, ancillary, _, _ = loan.recvmsg(4096, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        if not fds or len(data) < MESSAGE.size or MESSAGE.unpack_from(data)[0] < 0:
            for fd in fds:
                os.close(fd)
            raise OSError("the console is lent to somebody else")
        loan.settimeout(None)
        return loan, fds[0]
    except BaseException:
        loan.close()
        raise


class Console:
    """The loan of one console, shared by its sessions; ends with the last of them or with the container."""

    def __init__(self, loan: socket.socket, terminal: int, init: Watched) -> None:
        self._init = init
        self._loan = loan
        self._terminal = terminal
        self.sessions: set[Session] = set()
        os.set_blocking(terminal, False)
        tty.setraw(terminal)  # the client's terminal and the container's console translate already
        self._pump = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        try:
            while data := await read_some(self._terminal):
                for session in list(self.sessions):
                    session.offer(data)
        finally:
            for session in list(self.sessions):
                session.end()

    async def write(self, data: bytes) -> None:
        await write_all(self._terminal, data)

    def resize(self, columns: int, rows: int) -> None:
        """Of the console itself: what is lent is another terminal, which the monitor copies to and from."""
        set_console_size(self._init, columns, rows)

    @property
    def ended(self) -> bool:
        return self._pump.done()

    async def close(self) -> None:
        self._pump.cancel()
        await asyncio.gather(self._pump, return_exceptions=True)
        os.close(self._terminal)
        self._loan.close()


class Session:
    """One client at a console. Iterate for what it says; the end is that of the container, of the session, or of a client too slow."""

    def __init__(self, console: Console, leave: asyncio.Event) -> None:
        self._console = console
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._behind = 0
        self._open = True
        self.left = leave

    def offer(self, data: bytes) -> None:
        self._behind += len(data)
        if self._behind > MOST_WAITING:
            self.end()
        else:
            self._waiting.put_nowait(data)

    def end(self) -> None:
        if self._open:
            self._open = False
            self._waiting.put_nowait(b"")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._waiting.get():
            self._behind -= len(data)
            yield data

    async def write(self, data: bytes) -> None:
        """Raises Internal when the console is gone."""
        try:
            await self._console.write(data)
        except OSError as error:
            raise Internal(f"write /dev/pts/ptmx: {error.strerror}") from None

    def resize(self, columns: int, rows: int) -> None:
        if not self._console.ended:
            self._console.resize(columns, rows)


class Consoles:
    """The consoles of a server's containers."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._open: dict[Key, Console] = {}
        self._turn = asyncio.Lock()

    async def attach(self, key: Key, columns: int = 0, rows: int = 0) -> Session:
        """Raises BadRequest for one that is not running, Internal when its console cannot be had."""
        init = self._containers.init(key)
        if init is None:
            raise BadRequest("Instance is not running")
        async with self._turn:
            console = self._open.get(key)
            if console is not None and console.ended:
                await console.close()
                console = None
            if console is None:
                console = self._open[key] = await self._borrow(key, init)
            session = Session(console, asyncio.Event())
            console.sessions.add(session)
        if columns and rows:
            session.resize(columns, rows)
        return session

    async def _borrow(self, key: Key, init: Watched) -> Console:
        address = command_socket(self._containers.directory, key.folder_name)
        try:
            loan, terminal = await asyncio.to_thread(borrow_terminal, address)
        except OSError as error:
            raise Internal(f"Failed to attach to the console: {error}") from None
        return Console(loan, terminal, init)

    async def detach(self, key: Key, session: Session) -> None:
        """Ends a session; may be called twice."""
        session.end()
        async with self._turn:
            console = self._open.get(key)
            if console is None or session not in console.sessions:
                return
            console.sessions.discard(session)
            if not console.sessions:
                del self._open[key]
                await console.close()

    # -- the log

    def read_log(self, key: Key) -> bytes:
        """The last 128 KiB that the console said; of a stopped container too."""
        path = self._containers.logs(key) / lxcconfig.CONSOLE_LOG
        data = b"".join(_read(found) for found in (path.with_name(f"{path.name}.1"), path))
        return data[-lxcconfig.CONSOLE_BYTES :]

    def clear_log(self, key: Key) -> None:
        path = self._containers.logs(key) / lxcconfig.CONSOLE_LOG
        path.with_name(f"{path.name}.1").unlink(missing_ok=True)
        if path.exists():
            os.truncate(path, 0)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
