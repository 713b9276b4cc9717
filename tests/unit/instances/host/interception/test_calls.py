"""What of a call can be told from its registers."""

from __future__ import annotations

import errno
import os
import re
import stat

import pytest

from services.instances.host.interception import calls
from services.instances.host.interception.calls import bpf, mknod
from services.instances.host.interception.message import Notification

NULL = os.makedev(1, 3)


def call(number: int, *arguments: int, architecture: int = calls.X86_64) -> Notification:
    return Notification(1, 2, 3, number, architecture, (*arguments, *[0] * (6 - len(arguments))), "c1", b"")


@pytest.mark.parametrize(
    ("architecture", "number", "served"),
    [
        (calls.X86_64, 133, True), (calls.I386, 14, True), (calls.ARM, 14, True), (calls.AARCH64, 14, False),
        (calls.X86_64, 14, False), (calls.X86_64, 0x40000000 | 133, False), (0x1234, 133, False),
    ],
)  # fmt: skip
def test_a_number_means_what_its_architecture_says(architecture: int, number: int, served: bool) -> None:
    found = calls.find(call(number, 0, stat.S_IFCHR, NULL, architecture=architecture))
    assert (found is not None) == served


def test_what_can_never_be_wanted_is_told_from_the_registers() -> None:
    assert calls.find(call(133, 0, stat.S_IFBLK, NULL)) is None
    assert calls.find(call(259, 0, 0, stat.S_IFCHR | 0o666, NULL)) is mknod.mknodat
    assert calls.find(call(259, 0, 0, stat.S_IFCHR, os.makedev(8, 0))) is None


@pytest.mark.parametrize(("major", "minor"), [(1, 3), (8, 0), (254, 255), (4095, 1048575), (0, 256)])
def test_a_device_number_is_read_as_the_kernel_reads_it(major: int, minor: int) -> None:
    encoded = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    assert mknod.device_of(encoded) == (major, minor)
    assert mknod.device_of(1 << 40 | encoded) == (major, minor)


EXIT, MOVE = bytes([0x95, 0, 0, 0, 0, 0, 0, 0]), bytes([0xB7, 0, 0, 0, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("instructions", "harmless"),
    [
        ([MOVE, EXIT], True),
        ([bytes([0x18, 0x01]) + bytes(6), bytes(8), EXIT], True),  # a number of 64 bits into r1
        ([bytes([0x18, 0x11]) + bytes(6), bytes(8), EXIT], False),  # a map by its descriptor
        ([bytes([0x85, 0x00]) + bytes(6), EXIT], False),  # a helper
        ([bytes([0x85, 0x10]) + bytes(6), EXIT], False),  # a function of its own
        ([bytes([0x8D, 0x00]) + bytes(6), EXIT], False),
        ([bytes([0x86, 0x00]) + bytes(6), EXIT], False),
        ([bytes([0x05, 0, 1, 0, 0, 0, 0, 0]), MOVE, EXIT], True),
        # what follows a number of 64 bits is no instruction, whatever it looks like; after that it is again
        ([bytes([0x18, 0x01]) + bytes(6), bytes([0x85]) + bytes(7), EXIT], True),
        ([bytes([0x18, 0x01]) + bytes(6), bytes(8), bytes([0x85]) + bytes(7)], False),
    ],
)
def test_a_program_that_decides_about_devices_calls_nothing(instructions: list[bytes], harmless: bool) -> None:
    assert bpf.is_harmless(b"".join(instructions)) == harmless


@pytest.mark.parametrize(
    ("path", "parts"),
    [(b"/dev/x", (b"/dev/", b"x")), (b"x", (b".", b"x")), (b"a/b", (b"a/", b"b")), (b"/x", (b"/", b"x"))],
)
def test_a_path_is_a_folder_and_a_name(path: bytes, parts: tuple[bytes, bytes]) -> None:
    assert mknod.split(path) == parts


@pytest.mark.parametrize(
    ("path", "code"),
    [(b"", errno.ENOENT), (b"/", errno.EEXIST), (b"a/", errno.ENOENT), (b"a/..", errno.EEXIST), (b".", errno.EEXIST)],
)
def test_a_path_that_cannot_be_made(path: bytes, code: int) -> None:
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        mknod.split(path)
