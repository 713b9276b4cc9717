"""The service's end of the interception: the socket that liblxc's monitors connect to, and a deputy that serves it while one is needed.

liblxc runs no command any more in a container whose monitor once found nobody at the socket, so somebody always is there: the deputy stays
when the service ends, until the last container that needs it has. The next life of the service puts a new socket in place of the old,
and the old deputy lets go of its connections: the monitors come over with their next calls. We hold the listening socket too: should
a deputy die, what comes waits for the next one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from chassis.errors import Internal
from services.instances.host.interception.message import LEAVE

SOCKET = "seccomp.socket"
BACKLOG = 256
PAUSE, LONGEST_PAUSE = (
    0.5,
    30.0,
)  # seconds before a deputy that died gets a successor, longer each time if none comes to life
ROOT = Path(__file__).resolve().parents[4]
# Started with -I and -S: nothing but our own code and Python's library comes into it.
BEGIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from services.instances.host.interception import deputy; deputy.main(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])"
)
log = structlog.get_logger()


class Interception:
    """Of one server. Without a container that needs it there is no process."""

    def __init__(self, directory: Path) -> None:
        """`directory` has the folders of the containers; the socket stands beside it."""
        self.directory, self.path = directory, directory.with_name(SOCKET)
        self.pid = -1  # of the deputy, once it serves
        self._listener: socket.socket | None = None
        self._keeper: asyncio.Task[None] | None = None

    def ensure(self) -> None:
        """From now on calls are served. Raises Internal if the socket cannot be had."""
        if self._keeper is not None and not self._keeper.done():
            return
        if self._listener is not None:
            self._listener.close()
        try:
            self._listener, relieve = _listen(self.path)
        except OSError as error:
            raise Internal(f"Failed to listen on {self.path}: {error}") from None
        self._keeper = asyncio.ensure_future(self._keep(self._listener, relieve))

    async def _keep(self, listener: socket.socket, relieve: Callable[[], None]) -> None:
        """One deputy after the other; a deputy holds the other end of `ours` and tells its pid there."""
        relieve()
        pause = PAUSE
        while True:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            try:
                with theirs:
                    await asyncio.to_thread(_spawn, theirs, listener, self.directory)
                loop = asyncio.get_running_loop()
                while data := await loop.sock_recv(ours, 16):
                    self.pid, pause = int(data), PAUSE
            except (OSError, ValueError) as error:
                log.warning("the process that serves intercepted system calls is in trouble", error=str(error))
            finally:
                ours.close()
            log.warning("the process that serves intercepted system calls has ended", pid=self.pid)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Let go of the deputy; it goes on while a container needs it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _listen(path: Path) -> tuple[socket.socket, Callable[[], None]]:
    """A socket in the place of the one that may be there, and what lets the process behind that one go. Raises OSError."""
    former = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    former.setblocking(False)
    with suppress(OSError):
        former.connect(str(path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fresh = path.with_name(f"{path.name}~")
    try:
        fresh.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listener.bind(str(fresh))
        finally:
            os.umask(mask)
        listener.listen(BACKLOG)
        fresh.rename(path)
    except OSError:
        former.close()
        listener.close()
        raise

    def relieve() -> None:
        with former, suppress(OSError):
            former.send(LEAVE)

    return listener, relieve


def _spawn(control: socket.socket, listener: socket.socket, directory: Path) -> None:
    """Start a deputy, which becomes nobody's child. Blocks until it has begun. Raises OSError."""
    kept = (control.fileno(), listener.fileno())
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", BEGIN, str(ROOT), *map(str, kept), str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=kept,
        env={"LANG": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
        check=False,
    )
