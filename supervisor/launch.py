"""Starting one process: its own session, its log, its user, and an end that comes with its parent's.

The supervisor has one thread, so it forks by itself: what the child must become is plain Python between fork and exec.
"""

from __future__ import annotations

import os
import pwd
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from supervisor import linux, view, warm
from supervisor.warm import Warmth

FAILED = 127  # exit code of a child that never came to its program
PASSED = 3  # descriptor of the first socket that is handed to the child


@dataclass(frozen=True)
class Launch:
    """What to start. `user` None keeps root; `code` and `directory` are what a user without root must reach, and
    `capabilities` all that it keeps of root's privileges."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    cwd: Path
    directory: Path
    user: str | None = None
    capabilities: tuple[int, ...] = ()
    code: tuple[Path, ...] = ()
    sockets: tuple[int, ...] = ()
    module: str = ""  # what `argv` runs with -m, if that can be done without a new interpreter


@dataclass(frozen=True)
class Child:
    pid: int
    pidfd: int  # readable when it has ended


def start(launch: Launch, warmth: Warmth | None = None) -> Child:
    """Fork, and execute or go on as the part; an error of the child's set-up is in its log, with exit code 127."""
    is_warm = bool(launch.module and warmth and warmth.fresh())
    log = os.open(launch.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _child(launch, log, parent, is_warm)
    os.close(log)
    return Child(pid, os.pidfd_open(pid))


def _child(launch: Launch, log: int, parent: int, is_warm: bool) -> NoReturn:
    try:
        os.setsid()
        _reset_signals()
        _descriptors(log, launch.sockets)
        _limits()
        os.umask(0o022)
        os.chdir(launch.cwd)
        if launch.user and os.geteuid() == 0:
            _become(launch)
        # Only now: the kernel forgets the death signal when the user changes.
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(FAILED)
        if is_warm:
            os._exit(_go_on(launch))
        os.execvpe(launch.argv[0], launch.argv, dict(launch.env))
    except BaseException as error:
        os.write(2, f"cannot start {' '.join(launch.argv)}: {error}\n".encode())
    os._exit(FAILED)


def _go_on(launch: Launch) -> int:
    """Without exec nothing closes by itself: the supervisor's descriptors go first. Its objects stay where the stack holds them."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as a new interpreter would
    os.closerange(PASSED + len(launch.sockets), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    code = warm.run(launch.module, launch.argv[launch.argv.index(launch.module) + 1 :], dict(launch.env))
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGPWR, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _descriptors(log: int, sockets: tuple[int, ...]) -> None:
    """0 is /dev/null, 1 and 2 the log, 3… the sockets; the rest closes by itself at exec."""
    high = [os.dup(fd) for fd in sockets]  # duplicates, so that no target is overwritten before it is used
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    free = PASSED + len(high)
    moved = [_above(fd, free) for fd in high]
    for target, fd in enumerate(moved, start=PASSED):
        os.dup2(fd, target, inheritable=True)


def _above(fd: int, floor: int) -> int:
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, floor)


def _limits() -> None:
    """As many open files as the hard limit allows: a listener or an exec session costs some each."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _become(launch: Launch) -> None:
    """The launch's user, with no privilege but the launch's, in its own view of the file system where the kernel lets us make one."""
    assert launch.user
    account = pwd.getpwnam(launch.user)
    _quietly(lambda: view.enter(launch.code, [launch.directory]))
    os.chdir(launch.cwd)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    linux.prctl(linux.PR_SET_KEEPCAPS, 1)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    linux.keep_only(launch.capabilities)
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)


def _quietly(action: Callable[[], None]) -> None:
    """Inside a container without CAP_SYS_ADMIN there is no view; the container is one already."""
    try:
        action()
    except OSError as error:
        os.write(2, f"no file system view of its own: {error}\n".encode())
