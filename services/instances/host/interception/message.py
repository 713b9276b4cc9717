"""What liblxc's monitor sends for a call that is held up, and what it is answered. Pure.

A message is a header, the kernel's seccomp_notif and seccomp_notif_resp, and the cookie; the header tells the sizes of the kernel's
structures, which may grow. The answer is the same without the cookie. With it come descriptors of the caller's folder in /proc, of its
memory, and of the listener.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct(
    "=QiiHHH2xQ"
)  # reserved, pid of the monitor, pid of init, sizes of notif, resp and data, length of the cookie
NOTIFICATION = struct.Struct("=QIIiIQ6Q")  # id, thread, flags, number, architecture, instruction, six arguments
ANSWER = struct.Struct("=QqiI")  # id, value, error, flags
CONTINUE = 1  # the kernel is to do what it would have done
MOST = 4096  # bytes of a message
LEAVE = b"leave"  # not of liblxc: the service tells a deputy that another has taken its place


@dataclass(frozen=True, slots=True)
class Notification:
    """A call that is held up. `caller` is the thread's id and `init` that of the container's first process, in the host's namespace."""

    id: int
    caller: int
    init: int
    number: int
    architecture: int
    arguments: tuple[int, ...]
    container: str  # the cookie: the folder's name
    head: bytes  # of the answer: everything in front of the kernel's seccomp_notif_resp

    def answer(self, outcome: Outcome) -> bytes:
        """As liblxc wants it back."""
        size = HEADER.unpack_from(self.head)[4]
        return self.head + ANSWER.pack(self.id, outcome.value, -outcome.error, outcome.flags).ljust(size, b"\0")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the caller sees: a value, an error (positive), or what the kernel makes of the call itself."""

    value: int = 0
    error: int = 0
    flags: int = 0

    def packed(self) -> bytes:
        return ANSWER.pack(0, self.value, self.error, self.flags)

    @classmethod
    def unpacked(cls, data: bytes) -> Outcome:
        """Raises struct.error for anything but a whole one."""
        return cls(*ANSWER.unpack(data)[1:])


DONE = Outcome()
LEFT = Outcome(flags=CONTINUE)


def parse(data: bytes) -> Notification:
    """Raises ValueError for what is no whole message."""
    try:
        reserved, _, init, notification, answer, _, cookie = HEADER.unpack_from(data)
        found = NOTIFICATION.unpack_from(data, HEADER.size)
    except struct.error as error:
        raise ValueError(f"cut short: {error}") from None
    start = HEADER.size + notification
    end = start + answer + cookie
    if reserved or notification < NOTIFICATION.size or answer < ANSWER.size or len(data) != end:
        raise ValueError(f"not of its own size: {len(data)} bytes")
    name = data[start + answer : end].decode(errors="replace")
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"no container: {name!r}")
    identity, caller, _, number, architecture, _, *arguments = found
    return Notification(identity, caller, init, number, architecture, tuple(arguments), name, data[:start])
