"""dnsmasq processes: started, found again, reloaded, ended.

They are nobody's children: dnsmasq goes to the background by itself, so it outlives this service and is taken over by its pid file, whose
word counts only if /proc shows the wanted program under that number. Calls block and are made from the host thread.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.network.dhcp import PACKAGE, PROGRAM, Files

START_LIMIT, STOP_LIMIT = 20.0, 5.0  # seconds
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class DaemonError(RuntimeError):
    """dnsmasq refused to start; the text says why in LXD's words."""


def pid(files: Files) -> int:
    """The process that serves this network, 0 if there is none."""
    try:
        number = int(files.pid.read_text())
        arguments = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return 0
    return number if f"--pid-file={files.pid}".encode() in arguments else 0


def running(files: Files) -> tuple[str, ...]:
    """The command line of the process that serves this network, () if there is none."""
    number = pid(files)
    try:
        raw = Path(f"/proc/{number}/cmdline").read_bytes() if number else b""
    except OSError:
        return ()
    return tuple(raw.decode(errors="surrogateescape").split("\0")[:-1])


def check(arguments: Sequence[str], raw: str, files: Files) -> None:
    """Have dnsmasq read its command line and `raw.dnsmasq` without starting. Raises DaemonError with what it says."""
    trial = files.directory / "dnsmasq.trial"
    trial.write_text(raw + "\n")
    try:
        _run(
            [f"--conf-file={trial}" if entry.startswith("--conf-file=") else entry for entry in arguments] + ["--test"]
        )
    finally:
        trial.unlink(missing_ok=True)


def _run(arguments: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            arguments,
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=START_LIMIT,
            start_new_session=True,
            check=False,
        )
    except FileNotFoundError:
        raise DaemonError(f"{PROGRAM} is required for this network (install the package {PACKAGE})") from None
    except subprocess.TimeoutExpired:
        raise DaemonError(f"The DNS and DHCP service did not start within {START_LIMIT:.0f}s") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()).replace('"', "'")
        raise DaemonError(
            "The DNS and DHCP service exited prematurely: "
            f'Process exited with non-zero value {done.returncode} ("{said}")'
        )


def user_for(directory: Path) -> str:
    """The user that dnsmasq becomes: nobody, unless nobody could not read the hosts files there."""
    for path in [directory.resolve(), *directory.resolve().parents]:
        if path.exists() and not path.stat().st_mode & 0o001:
            return "root"
    return "nobody"


def prepare(files: Files, raw: str) -> None:
    """The files that dnsmasq expects."""
    files.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    files.hosts.mkdir(mode=0o755, exist_ok=True)
    files.raw.write_text(raw + "\n")


def start(arguments: Sequence[str], files: Files) -> None:
    """Start it and wait until it serves. Raises DaemonError."""
    files.pid.unlink(missing_ok=True)
    _run(arguments)


def reload(files: Files) -> None:
    """Read the hosts files again; nothing to do if it does not run."""
    number = pid(files)
    if number:
        try:
            os.kill(number, signal.SIGHUP)
        except ProcessLookupError:
            return


def stop(files: Files) -> None:
    """End it and wait for its end."""
    number = pid(files)
    if number:
        try:
            descriptor = os.pidfd_open(number)
        except ProcessLookupError:
            number = 0
        else:
            try:
                _end(descriptor)
            finally:
                os.close(descriptor)
    files.pid.unlink(missing_ok=True)


def _end(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return
        if poll.poll(STOP_LIMIT * 1000):
            return


def write_hosts(files: Files, wanted: Mapping[str, str], *, only: str | None = None) -> bool:
    """Make the hosts directory hold exactly these files (`only`: look at this one alone). True if something changed."""
    changed = False
    files.hosts.mkdir(mode=0o755, parents=True, exist_ok=True)
    present = {entry.name for entry in files.hosts.iterdir()} if only is None else {only}
    for name in present - wanted.keys():
        path = files.hosts / name
        changed |= path.exists()
        path.unlink(missing_ok=True)
    for name, content in wanted.items():
        path = files.hosts / name
        if not path.exists() or path.read_text() != content:
            fresh = files.directory / "dnsmasq.host"  # beside the directory: dnsmasq must not see half a file
            fresh.write_text(content)
            fresh.chmod(0o644)
            fresh.replace(path)
            changed = True
    return changed
