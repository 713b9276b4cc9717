"""The loop that serves calls, with calls that are made up: it runs in a process of its own, as ever."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.instances.host.interception.message import CONTINUE, LEAVE
from services.instances.host.interception.service import ROOT
from tests.unit.instances.host.interception.test_message import message

# Each call says by its first argument what becomes of it: seconds that it takes, an error, a child that is killed, one that breaks.
SCRIPT = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from services.instances.host.interception import calls, deputy
from services.instances.host.interception.message import Outcome
def do(caller):
    what = caller.argument(0)
    if what == 1: time.sleep(600)
    if what == 2: raise PermissionError(13, "no")
    if what == 3: os.kill(os.getpid(), 9)
    if what == 4: raise LookupError
    if what == 5: time.sleep(0.3)
    return Outcome(what)
calls.find = lambda call: do
deputy.DEADLINE, deputy.MOST_CHILDREN = float(sys.argv[4]), int(sys.argv[5])
deputy.main(int(sys.argv[2]), int(sys.argv[3]), "/nonexistent")
"""
SLOW, REFUSED, KILLED, BROKEN, A_WHILE = 1, 2, 3, 4, 5


class Served:
    """A deputy, and the socket that it is reached by."""

    def __init__(self, path: Path, deadline: float, most: int) -> None:
        self.path = str(path)
        self.control, theirs = socket.socketpair()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(self.path)
        listener.listen()
        kept = (theirs.fileno(), listener.fileno())
        command = [sys.executable, "-I", "-S", "-c", SCRIPT, str(ROOT), *map(str, (*kept, deadline, most))]
        subprocess.run(command, pass_fds=kept, check=True)
        theirs.close()
        listener.close()
        self.control.settimeout(60)
        self.pid = int(self.control.recv(16))

    def connect(self) -> socket.socket:
        monitor = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        monitor.settimeout(60)
        monitor.connect(self.path)
        return monitor

    def ended(self) -> bool:
        """Waits for its end: it holds the other end of the control socket."""
        return self.control.recv(16) == b""


@contextmanager
def serving(path: Path, deadline: float = 60.0, most: int = 8) -> Iterator[Served]:
    served = Served(path / "socket", deadline, most)
    try:
        yield served
    finally:
        served.control.close()


def ask(monitor: socket.socket, what: int) -> None:
    data = message(cookie=b"c1")
    data = data[:64] + struct.pack("=Q", what) + data[72:]
    with open(os.devnull) as null:
        socket.send_fds(monitor, [data], [null.fileno()] * 3)


def hear(monitor: socket.socket) -> tuple[int, int, int]:
    """Value, error, flags."""
    value, error, flags = struct.unpack_from("=8xqiI", monitor.recv(4096), 112)
    return value, error, flags


@pytest.mark.parametrize(
    ("what", "said"), [(70, (70, 0, 0)), (REFUSED, (0, -13, 0)), (KILLED, (0, -5, 0)), (BROKEN, (0, 0, CONTINUE))]
)
def test_a_call_is_answered_once(tmp_path: Path, what: int, said: tuple[int, int, int]) -> None:
    with serving(tmp_path) as served, served.connect() as monitor:
        for _ in range(3):
            ask(monitor, what)
            assert hear(monitor) == said


def test_a_call_that_hangs_is_cut_off_and_holds_up_nobody(tmp_path: Path) -> None:
    with serving(tmp_path, deadline=4.0) as served, served.connect() as stuck, served.connect() as other:
        ask(stuck, SLOW)
        ask(other, 70)
        assert hear(other) == (70, 0, 0)
        assert hear(stuck) == (0, -5, 0)
        ask(stuck, 70)
        assert hear(stuck) == (70, 0, 0)


def test_more_calls_than_children_wait_for_their_turn(tmp_path: Path) -> None:
    with serving(tmp_path, most=2) as served:
        monitors = [served.connect() for _ in range(7)]
        for monitor in monitors:
            ask(monitor, A_WHILE)
        assert [hear(monitor) for monitor in monitors] == [(A_WHILE, 0, 0)] * 7
        for monitor in monitors:
            monitor.close()


@pytest.mark.parametrize("data", [b"x", b"\0" * 4096, message()])
def test_what_is_no_call_ends_that_connection_only(tmp_path: Path, data: bytes) -> None:
    """The last one comes without descriptors: it is left to the kernel."""
    with serving(tmp_path) as served, served.connect() as odd, served.connect() as other:
        odd.send(data)
        answer = odd.recv(4096)
        assert answer == b"" or struct.unpack_from("=8xqiI", answer, 112) == (0, 0, CONTINUE)
        ask(other, 70)
        assert hear(other) == (70, 0, 0)


def test_it_outlives_the_service_while_a_monitor_is_there(tmp_path: Path) -> None:
    served = Served(tmp_path / "socket", 60.0, 8)
    watch = os.pidfd_open(served.pid)
    try:
        with served.connect() as monitor:
            ask(monitor, 70)
            assert hear(monitor) == (70, 0, 0)
            served.control.close()
            ask(monitor, 71)
            assert hear(monitor) == (71, 0, 0)
        assert select.select([watch], [], [], 60)[0]
    finally:
        os.close(watch)
        served.control.close()


def test_another_takes_over_without_a_call_being_lost(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.connect() as busy, served.connect() as idle, served.connect() as next_:
        ask(idle, 70)
        assert hear(idle) == (70, 0, 0)
        ask(busy, A_WHILE)
        next_.send(LEAVE)
        assert hear(busy) == (A_WHILE, 0, 0)
        assert served.ended()
        for monitor in (busy, idle):
            with pytest.raises(BrokenPipeError):
                ask(monitor, 70)
