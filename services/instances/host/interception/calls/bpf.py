"""bpf of programs that decide which devices a control group may use (BPF_PROG_TYPE_CGROUP_DEVICE): loaded, attached to groups of the
container's own and taken off again.

A program is judged before the kernel's verifier sees it: it may compute and jump, but calls nothing and names no map. It is loaded with
the right to load programs alone, so that the verifier trusts it no further than that.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

from services.instances.host import capabilities
from services.instances.host.interception import mounts
from services.instances.host.interception.caller import Caller, Denied
from services.instances.host.interception.message import DONE, Outcome

SYS_BPF = {"x86_64": 321, "aarch64": 280, "armv7l": 386}
SYS_PIDFD_GETFD = 438
LOAD, ATTACH, DETACH = 5, 8, 9
CGROUP_DEVICE_PROGRAM, CGROUP_DEVICE = 15, 6
# type, number of instructions, where they are, license, log (level, size, place), kernel, flags, name, interface, purpose
PROGRAM = struct.Struct("=IIQQIIQII16sII")
ATTACHMENT = struct.Struct("=IIIII")  # group, program, purpose, flags, program to replace
LEAST_PROGRAM, LEAST_ATTACHMENT = 48, 12  # bytes that the oldest callers give
MOST_INSTRUCTIONS, INSTRUCTION = 4096, 8
LONGEST_LICENSE = 128
LOAD_IMMEDIATE, CALL = 0x18, 0x80
JUMPS = (0x05, 0x06)  # classes of instructions
REPLACE = 4
FLAGS = 1 | 2 | REPLACE  # may be overridden below; may be several
CGROUP2 = 0x63677270
ADD_FD = 0x40182103  # SECCOMP_IOCTL_NOTIF_ADDFD


def is_wanted(command: int) -> bool:
    return command & 0xFFFFFFFF in (LOAD, ATTACH, DETACH)


def bpf(caller: Caller) -> Outcome:
    """Raises Denied, OSError."""
    caller.need(capabilities.SYS_ADMIN)
    command, where, size = caller.argument(0) & 0xFFFFFFFF, caller.argument(1), caller.argument(2) & 0xFFFFFFFF
    if command == LOAD:
        return _load(caller, _attributes(caller, where, size, LEAST_PROGRAM, PROGRAM))
    return _attach(caller, command, _attributes(caller, where, size, LEAST_ATTACHMENT, ATTACHMENT))


def _attributes(caller: Caller, where: int, size: int, least: int, layout: struct.Struct) -> bytes:
    """What the caller's structure has of `layout`, zeroes where it is shorter. What it says beyond is about things that are not served."""
    if size < least:
        raise Denied
    return caller.read(where, min(size, layout.size)).ljust(layout.size, b"\0")


def is_harmless(program: bytes) -> bool:
    """Whether it calls nothing and names no descriptor of the process that loads it."""
    at = 0
    while at < len(program):
        code, source = program[at], program[at + 1] >> 4
        if code == LOAD_IMMEDIATE:
            if source:
                return False
            at += INSTRUCTION  # takes the place of two
        elif code & 0x07 in JUMPS and code & 0xF0 == CALL:
            return False
        at += INSTRUCTION
    return True


def _load(caller: Caller, given: bytes) -> Outcome:
    kind, count, where, license_, _, _, _, version, flags, name, interface, purpose = PROGRAM.unpack(given)
    if kind != CGROUP_DEVICE_PROGRAM or flags & ~1 or interface or purpose not in (0, CGROUP_DEVICE):
        raise Denied
    if not 0 < count <= MOST_INSTRUCTIONS:
        raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
    program = ctypes.create_string_buffer(caller.read(where, count * INSTRUCTION), count * INSTRUCTION)
    if not is_harmless(program.raw):
        raise Denied
    words = ctypes.create_string_buffer(caller.text(license_, LONGEST_LICENSE))
    attributes = PROGRAM.pack(
        kind, count, ctypes.addressof(program), ctypes.addressof(words), 0, 0, 0, version, flags, name, 0, CGROUP_DEVICE
    )
    capabilities.use({capabilities.BPF, capabilities.NET_ADMIN})
    try:
        loaded = _call(LOAD, attributes)
    finally:
        capabilities.use()
    caller.still_waits()
    added = bytearray(struct.pack("=QIIII", caller.call.id, 0, loaded, 0, os.O_CLOEXEC))
    return Outcome(fcntl.ioctl(caller.listener, ADD_FD, added))


def _attach(caller: Caller, command: int, given: bytes) -> Outcome:
    group, program, purpose, flags, replaced = ATTACHMENT.unpack(given)
    if purpose != CGROUP_DEVICE or flags & ~FLAGS or (command == DETACH and flags):
        raise Denied
    process = os.pidfd_open(int(caller.status["Tgid"][0]))
    caller.still_waits()  # else the number may be another's
    target = _taken(process, group)
    if not mounts.is_of(target, CGROUP2) or not caller.owns(os.fstat(target)):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))  # some kernels let it be who has got hold of a program
    there = _taken(process, program)
    former = _taken(process, replaced) if flags & REPLACE else 0
    _call(command, ATTACHMENT.pack(target, there, purpose, flags, former))
    return DONE


def _taken(process: int, number: int) -> int:
    """A duplicate of a descriptor of another process. Raises OSError."""
    return mounts.call(SYS_PIDFD_GETFD, process, number, 0)


def _call(command: int, attributes: bytes) -> int:
    given = ctypes.create_string_buffer(attributes, len(attributes))
    return mounts.call(SYS_BPF[os.uname().machine], command, given, len(attributes))
