"""mount of a file system by a FUSE program of the container's own: it runs as what the caller is, where the caller is, and no more."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress

from services.instances.host.interception import mounts
from services.instances.host.interception.caller import Caller, Denied
from services.instances.host.interception.message import DONE, Outcome

HELPER = "mount.fuse"
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SPACES = (("user", 0x10000000), ("mnt", 0x20000), ("pid", 0x20000000), ("net", 0x40000000), ("ipc", 0x8000000),
          ("uts", 0x4000000), ("cgroup", 0x2000000))  # fmt: skip
OPTIONS = {0x1: "ro", 0x2: "nosuid", 0x4: "nodev", 0x8: "noexec", 0x10: "sync", 0x80: "dirsync", 0x400: "noatime"}
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, LAST_CAPABILITY = 1, 24, 38, 63
LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK,
          resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_STACK)  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


def options(flags: int, data: bytes) -> bytes:
    """What `-o` is given."""
    words = [word.encode() for flag, word in OPTIONS.items() if flags & flag]
    return b",".join([*words, *filter(None, data.split(b","))])


def redirect(caller: Caller, program: str, source: bytes, target: bytes, flags: int, data: bytes) -> Outcome:
    """Have `mount.fuse PROGRAM#SOURCE TARGET` run there. Raises Denied if it fails, OSError."""
    what = options(flags, data)
    command = [HELPER.encode(), program.encode() + b"#" + source, target, *([b"-o", what] if what else [])]
    if target.startswith(b"-"):  # a path, whatever it looks like
        command[2] = b"./" + target
    caller.still_waits()
    be_ordinary(caller)
    join_groups(caller)
    become(caller)
    child = os.fork()  # the first one in the pid namespace
    if child == 0:
        _run(command)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise Denied
    return DONE


def be_ordinary(caller: Caller) -> None:
    """What was given to the service must not be handed on: its standing with the memory killer, priority and limits. Raises OSError."""
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
        if int(file.read()) < 0:
            file.write(b"0")
    process = int(caller.status["Tgid"][0])
    for kind in LIMITS:
        with suppress(ValueError, PermissionError):  # higher than ours, which root without CAP_SYS_RESOURCE cannot have
            resource.setrlimit(kind, resource.prlimit(process, kind))
    caller.still_waits()  # else the number may have been another's


def join_groups(caller: Caller) -> None:
    """Into the caller's control groups, so that its limits hold. Raises OSError."""
    points: dict[str, str] = {}
    with open("/proc/self/mountinfo", "rb") as lines:
        for line in lines.read().decode(errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            kind, _, options_ = after.split()[:3]
            fields = before.split()
            if kind.startswith("cgroup") and fields[3] == "/":
                for name in options_.split(",") if kind == "cgroup" else [""]:
                    points.setdefault(name, fields[4])
    with open(caller.open("cgroup", os.O_RDONLY), "rb") as lines:
        for line in lines.read().decode(errors="replace").splitlines():
            _, names, path = line.split(":", 2)
            name = names.split(",")[0]
            if name in points:
                with open(f"{points[name]}{path}/cgroup.procs", "wb", buffering=0) as file:
                    file.write(b"0")


def become(caller: Caller) -> None:
    """Take on the caller's namespaces, root, current folder, ids and bounds. Raises OSError."""
    root, folder = caller.open("root"), caller.open("cwd")
    users, groups = (caller.to_container(kind, ident) for kind, ident in zip("ug", caller.file_ids, strict=True))
    bound, closed = int(caller.status["CapBnd"][0], 16), caller.status["NoNewPrivs"][0] == "1"
    spaces = [(caller.open(f"ns/{name}", os.O_RDONLY), kind) for name, kind in SPACES]
    for number in range(LAST_CAPABILITY + 1):
        if not bound >> number & 1:
            _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    for space, kind in spaces:
        mounts.setns(space, kind)
    os.fchdir(root)
    os.chroot(".")
    os.fchdir(folder)
    os.setgroups([])
    os.setresgid(groups, groups, groups)
    os.setresuid(users, users, users)
    os.umask(0o022)
    if closed:
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _run(command: list[bytes]) -> None:
    """Never returns."""
    try:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in signal.valid_signals():
            if signal.getsignal(number) is signal.SIG_IGN:  # by Python, or by whoever started the server
                signal.signal(number, signal.SIG_DFL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        for folder in SEARCH.split(":"):
            try:
                os.execve(f"{folder}/{HELPER}", command, {"PATH": SEARCH})
            except OSError:
                continue
    finally:
        os._exit(1)
