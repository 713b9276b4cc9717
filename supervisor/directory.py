"""The server's directory: made with the right owners and modes, and held by one supervisor at a time."""

from __future__ import annotations

import fcntl
import grp
import os
import pwd
import shutil
import socket
from pathlib import Path

from supervisor.parts import USER

LOG_LIMIT = 16 * 1024 * 1024  # bytes; a longer log file is moved to NAME.log.1


class Taken(Exception):
    """Another supervisor runs in this directory."""


def prepare(directory: Path) -> None:
    """Make the folders. Folders that hold secrets or instances are closed to everybody but root."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711)
    group = group_of(USER)
    # run/ is sticky: the gateway may make its own socket there, and not remove another part's.
    for name, mode, owner in (("run", 0o3770, group), ("log", 0o750, group), ("nats", 0o700, 0)):
        folder = directory / name
        folder.mkdir(exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, 0, owner)
        folder.chmod(mode)


def hold(directory: Path) -> int:
    """The lock that makes this the only supervisor of the directory, for as long as the descriptor is open. Raises Taken."""
    lock = os.open(directory / "run" / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 32, 0).decode().strip()
        os.close(lock)
        raise Taken(f"A server is already running in {directory} (pid {pid})") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def listen(directory: Path, group: str | None) -> socket.socket:
    """The REST socket, bound by root so that the gateway needs no right to make one. It outlives restarts of the gateway."""
    path = directory / "unix.socket"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    if os.geteuid() == 0:
        os.chown(path, 0, group_of(group) if group else 0)
    path.chmod(0o660)
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def group_of(name: str) -> int:
    """The id of a group, or of the user's own group; 0 when neither exists."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return pwd.getpwnam(name).pw_gid if has_user(name) else 0


def has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def trim_logs(directory: Path) -> None:
    """Writers append to an open file, so a long log is copied aside and cut, not renamed."""
    for log in (directory / "log").glob("*.log"):
        if log.stat().st_size > LOG_LIMIT:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
