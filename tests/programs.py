"""Static programs of a few hundred bytes that make system calls, for containers that hold no compiler: each call with exactly the arguments
that a test wants, wrong ones too. Of x86_64.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Sequence

import pytest

requires_x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="its programs are of x86_64")
BASE = 0x400000
HEADERS = 64 + 56
MOVES = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")  # rdi, rsi, rdx, r10, r8, r9
NUMBERS = {
    "write": 1, "mmap": 9, "mprotect": 10, "pread64": 17, "sched_setscheduler": 144, "chroot": 161, "mount": 165, "chdir": 80, "open": 2,
    "mknod": 133, "setxattr": 188, "lsetxattr": 189, "setuid": 105, "mknodat": 259, "unshare": 272, "pause": 34, "seccomp": 317,
    "unlink": 87, "umount2": 166, "bpf": 321, "sched_getscheduler": 145,
}  # fmt: skip
FAIL = 17  # bytes of the tail in front of `fail`
Call = Sequence[str | int | bytes]  # a name and its arguments


def program(*calls: Call, times: int = 1) -> bytes:
    """An ELF file that makes the calls in turn, all of them `times` times. It ends with 0, or with the errno of the first call that fails.

    Bytes are given as a pointer to them; a NUL is added.
    """
    data = b""
    body: list[bytes] = []
    length = sum(_length(call) for call in calls)
    begin = HEADERS + 5
    start = begin + length + len(_tail(0, 0))
    for name, *arguments in calls:
        code = b"\x48\xb8" + struct.pack("<Q", NUMBERS[str(name)])
        for move, argument in zip(MOVES, arguments, strict=False):
            if isinstance(argument, bytes):
                value = BASE + start + len(data)
                data += argument + b"\0"
            else:
                value = int(argument) & (2**64 - 1)
            code += move + struct.pack("<Q", value)
        code += b"\x0f\x05\x48\x3d\x01\xf0\xff\xff\x0f\x83"  # syscall; cmp rax, -4095; jae to `fail`
        here = begin + sum(map(len, body)) + len(code) + 4
        body.append(code + struct.pack("<i", begin + length + FAIL - here))
    text = b"\xbb" + struct.pack("<I", times) + b"".join(body) + _tail(begin, begin + length) + data  # mov ebx, times
    size = HEADERS + len(text)
    elf = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    return elf + struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, size, size, 4096) + text


def _length(call: Call) -> int:
    return 10 + 10 * (len(call) - 1) + 14


def _tail(begin: int, here: int) -> bytes:
    """dec ebx; jnz begin; exit(0); fail: exit(errno)."""
    again = b"\xff\xcb\x0f\x85" + struct.pack("<i", begin - (here + 8))
    return again + b"\x31\xff\xb8\x3c\x00\x00\x00\x0f\x05" + b"\xf7\xd8\x89\xc7\xb8\x3c\x00\x00\x00\x0f\x05"


REFUSE_ALL = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0]) + bytes([0x95, 0, 0, 0, 0, 0, 0, 0])  # a bpf program: return 0
AT = 0x700000


def bpf_program(
    path: str, instructions: bytes, kind: int, count: int | None = None, size: int = 72
) -> tuple[bytes, list[Call]]:
    """What a file must hold, and the calls that load a bpf program from it: descriptors 3 and then 4 are the file and the program.

    `size` is that of the structure that describes the program.
    """
    where, words = AT + 256, AT + 160
    count = len(instructions) // 8 if count is None else count
    head = struct.pack("=IIQQIIQII16sII", kind, count, where, words, 0, 0, 0, 0, 0, b"devices", 0, 6)
    content = head.ljust(160, b"\0") + b"GPL\0".ljust(96, b"\0") + instructions
    return content, [
        ("mmap", AT, 4096, 3, 0x32, -1, 0),  # readable and writable; private, fixed, anonymous
        ("open", path.encode(), 0),
        ("pread64", 3, AT, 4096, 0),
        ("bpf", 5, AT, size),
    ]
