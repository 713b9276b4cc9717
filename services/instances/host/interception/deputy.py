"""The deputy: the process that serves calls which liblxc's monitors pass on. Run by `service`, never imported by it.

One thread, one loop: connections of monitors, each with one call at a time; a child for each call; a deadline for each child. Everything
is imported before the first call: a child has the caller's root, where a module might lie that is not ours.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass

from services.instances.host.interception import calls
from services.instances.host.interception.caller import Caller, Denied
from services.instances.host.interception.message import LEAVE, LEFT, MOST, Notification, Outcome, parse

FDS = 3  # with each call: the caller's folder in /proc, its memory, the listener
DEADLINE = 5.0  # seconds for one call: the monitor answers nothing meanwhile (see `takeover.SILENCE`)
MOST_CHILDREN = 32
MOST_FDS = 65536
NICENESS = 5  # what is done for a container is not done in its control groups
LATE = Outcome(error=errno.EIO)


@dataclass
class Child:
    """Serves one call; what it writes into its pipe is the outcome."""

    pid: int
    pipe: int
    connection: socket.socket
    call: Notification
    deadline: float


class Deputy:
    def __init__(self, control: socket.socket, listener: socket.socket, directory: str) -> None:
        self.control, self.listener, self.directory = control, listener, directory
        self.is_needed = True  # whether it is to stay when no container is left
        self.is_relieved = False  # whether another has taken over
        self.poll = select.epoll()
        self.connections: dict[int, socket.socket] = {}
        self.children: dict[int, Child] = {}  # by their pipes
        self.waiting: deque[tuple[socket.socket, Notification, calls.Do, list[int]]] = deque()
        self.ended: set[int] = set()  # children that have answered or were killed; each is waited for once it is gone
        for waited_for in (control, listener):
            self.poll.register(waited_for, select.EPOLLIN)

    def run(self) -> None:
        """Until the service is gone and every container too, or another has taken over."""
        while self.is_needed or self.connections or self.children:
            for fd, _ in self.poll.poll(self._patience()):
                if fd == self.control.fileno():
                    self._outlive()
                elif fd == self.listener.fileno():
                    self._accept()
                elif fd in self.children:
                    self._end(self.children[fd])
                elif fd in self.connections:
                    self._hear(self.connections[fd])
            self._cut_off()
            self._reap()

    def _patience(self) -> float:
        """Seconds until the next child is late; -1: for ever."""
        soonest = min((child.deadline for child in self.children.values()), default=None)
        return -1 if soonest is None else max(0.0, soonest - time.monotonic())

    # -- connections

    def _outlive(self) -> None:
        """The service is gone."""
        self.poll.unregister(self.control)
        self.control.close()
        self.is_needed = False

    def _leave(self) -> None:
        """Another has taken over, and its socket stands where ours stood: monitors that find us deaf connect there."""
        while self._accept():
            pass
        if self.listener.fileno() >= 0:
            self.poll.unregister(self.listener)
            self.listener.close()
        self.is_needed, self.is_relieved = False, True
        for connection in self.connections.values():
            if not self._is_busy(connection):
                connection.shutdown(socket.SHUT_RD)  # what was sent before is still served; then comes the end

    def _is_busy(self, connection: socket.socket) -> bool:
        return any(c.connection is connection for c in self.children.values()) or any(
            entry[0] is connection for entry in self.waiting
        )

    def _accept(self) -> bool:
        try:
            connection = self.listener.accept()[0]
        except OSError:
            return False
        self.connections[connection.fileno()] = connection
        self.poll.register(connection.fileno(), select.EPOLLIN)
        return True

    def _drop(self, connection: socket.socket) -> None:
        if self.connections.pop(connection.fileno(), None) is not None:
            self.poll.unregister(connection.fileno())
            connection.close()

    def _hear(self, connection: socket.socket) -> None:
        """One call. What is no call ends the connection: liblxc answers its caller itself then, and connects anew."""
        try:
            data, fds = _receive(connection)
        except OSError:
            self._drop(connection)
            return
        try:
            call = parse(data)
            do = calls.find(call) if len(fds) == FDS else None
        except ValueError:
            _close(fds)
            self._drop(connection)
            if data == LEAVE:
                self._leave()
            return
        if do is None:
            _close(fds)
            self._answer(connection, call, LEFT)
        elif len(self.children) < MOST_CHILDREN:
            self._serve(connection, call, do, fds)
        else:
            self.waiting.append((connection, call, do, fds))

    def _answer(self, connection: socket.socket, call: Notification, outcome: Outcome) -> None:
        try:
            connection.send(call.answer(outcome), socket.MSG_DONTWAIT)
            if self.is_relieved:
                connection.shutdown(socket.SHUT_RD)
        except OSError:
            self._drop(connection)

    # -- children

    def _serve(self, connection: socket.socket, call: Notification, do: calls.Do, fds: list[int]) -> None:
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError:  # too many processes
            _close([ours, theirs, *fds])
            self._answer(connection, call, LEFT)
            return
        if pid == 0:
            self._be_child(Caller(call, f"{self.directory}/{call.container}", *fds), do, theirs)
        os.close(theirs)
        _close(fds)
        self.children[ours] = Child(pid, ours, connection, call, time.monotonic() + DEADLINE)
        self.poll.register(ours, select.EPOLLIN)

    def _be_child(self, caller: Caller, do: calls.Do, pipe: int) -> None:
        """Never returns. Of the deputy's descriptors it keeps the pipe and the call's."""
        outcome = LEFT
        try:
            signal.alarm(int(DEADLINE) + 1)  # should the deputy end before it
            _keep_only(2, pipe, caller.folder, caller.memory, caller.listener)
            outcome = perform(caller, do)
        except BaseException as error:
            os.write(2, f"interception of call {caller.call.number}: {error!r}\n".encode())
        finally:
            try:
                os.write(pipe, outcome.packed())
            finally:
                os._exit(0)

    def _end(self, child: Child, outcome: Outcome | None = None) -> None:
        """Of a child that has said what it has to, or that is late."""
        if outcome is None:
            try:
                outcome = Outcome.unpacked(os.read(child.pipe, 64))
            except struct.error:  # it was killed
                outcome = LATE
        self.poll.unregister(child.pipe)
        os.close(child.pipe)
        del self.children[child.pipe]
        os.kill(child.pid, signal.SIGKILL)
        self.ended.add(child.pid)
        self._answer(child.connection, child.call, outcome)
        if self.waiting:
            self._serve(*self.waiting.popleft())

    def _reap(self) -> None:
        """One that hangs in the kernel may stay for a while: nobody waits for it."""
        for pid in list(self.ended):
            if os.waitpid(pid, os.WNOHANG)[0]:
                self.ended.discard(pid)

    def _cut_off(self) -> None:
        now = time.monotonic()
        for child in [child for child in self.children.values() if child.deadline <= now]:
            self._end(child, LATE)


def perform(caller: Caller, do: calls.Do) -> Outcome:
    """Carry a call out."""
    try:
        return do(caller)
    except Denied:
        return LEFT
    except OSError as error:
        return Outcome(error=error.errno or errno.EIO)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A message with its descriptors. Raises OSError; for the end too."""
    size = struct.calcsize("i")
    flags = socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
    data, ancillary, _, _ = connection.recvmsg(MOST, socket.CMSG_SPACE(8 * size), flags)
    fds = [
        fd
        for level, kind, raw in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (fd,) in struct.iter_unpack("i", raw[: len(raw) - len(raw) % size])
    ]
    if not data:
        _close(fds)
        raise ConnectionResetError(errno.ECONNRESET, "ended")
    return data, fds


def _keep_only(*kept: int) -> None:
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, MOST_FDS)


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def main(control: int, listening: int, directory: str) -> None:
    """`control` tells that the service is there and hears our pid, `listening` is what monitors connect to, `directory` has the folders
    of the containers.
    """
    if os.fork():
        os._exit(0)  # the service waits for this one; the deputy may outlive it
    for fd in (control, listening):
        os.set_inheritable(fd, False)
    service, listener = socket.socket(fileno=control), socket.socket(fileno=listening)
    listener.setblocking(False)
    os.chdir("/")
    os.nice(NICENESS)
    sys.path.clear()
    sys.meta_path.clear()
    service.send(str(os.getpid()).encode())
    Deputy(service, listener, directory).run()
