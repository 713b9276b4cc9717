"""The server as processes: serve, up, down, shutdown, waitready, status, restart, logs."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.failure import Failure
from supervisor import __main__ as supervisor
from supervisor import ready

ROOT = Path(__file__).resolve().parent.parent


def serve(options: argparse.Namespace) -> int:
    return supervisor.serve(options.dir, options.group)


def up(options: argparse.Namespace) -> int:
    """Start in the background; nothing to do when it runs."""
    if not running(options.dir):
        options.dir.mkdir(parents=True, exist_ok=True)
        with (options.dir / "serve.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "supervisor", "--dir", str(options.dir), "--group", options.group],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip
    return waitready(options)


def down(options: argparse.Namespace) -> int:
    return _end(options.dir, "stop", timeout=120.0)


def shutdown(options: argparse.Namespace) -> int:
    return _end(options.dir, "shutdown", options.timeout)


def waitready(options: argparse.Namespace) -> int:
    away = asyncio.run(ready.wait(options.dir, options.timeout))
    if away:
        raise Failure(
            f"not ready after {options.timeout:g} s: {', '.join(away)} (see: nubibus logs --dir {options.dir})"
        )
    return 0


def status(options: argparse.Namespace) -> int:
    """One line a process; 1 when the server does not run or a process is missing."""
    told = ask(options.dir, {"do": "status"})
    print(f"{'PART':<12}{'PID':>8}{'UP':>10}{'RESTARTS':>10}{'MEMORY':>10}  LAST EXIT")
    own = {"name": "supervisor", "pid": told["pid"], "seconds": told["seconds"], "restarts": 0, "last_exit": ""}
    for part in [own, *told["parts"]]:
        memory = f"{_memory(part['pid']) / 1e6:.0f} MB" if part["pid"] else "-"
        print(
            f"{part['name']:<12}{part['pid'] or '-':>8}{_age(part['seconds']):>10}{part['restarts']:>10}{memory:>10}"
            f"  {part['last_exit']}"
        )
    away = asyncio.run(ready.missing(options.dir))
    print(f"not ready: {', '.join(away)}" if away else "ready")
    return 1 if away else 0


def restart(options: argparse.Namespace) -> int:
    answer = ask(options.dir, {"do": "restart", "part": options.part})
    if "error" in answer:
        raise Failure(f"there is no part {options.part!r}")
    return 0


def logs(options: argparse.Namespace) -> int:
    """Through tail(1), which knows how to follow files that are cut."""
    folder = options.dir / "log"
    name = options.part or "*"
    files = sorted(str(path) for path in folder.glob("*.log") if name in ("*", path.stem))
    if not files:
        raise Failure(f"there is no log of {options.part or 'any part'} in {folder}")
    follow = ["-F"] if options.follow else []
    return subprocess.run(["tail", "-n", str(options.lines), *follow, *files], check=False).returncode


def running(directory: Path) -> bool:
    try:
        ask(directory, {"do": "status"})
    except Failure:
        return False
    return True


def ask(directory: Path, request: dict[str, str]) -> dict[str, Any]:
    """One question to the supervisor. Raises Failure when none runs there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        try:
            connection.connect(str(directory / "run" / "supervisor.sock"))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as answers:
                answer: dict[str, Any] = json.loads(answers.readline() or b"{}")
        except PermissionError:
            raise Failure(f"only root may steer the server in {directory}") from None
        except OSError:
            raise Failure(f"no server runs in {directory}") from None
    return answer


def _end(directory: Path, how: str, timeout: float) -> int:
    """Tell the supervisor to end and wait for its process. Nothing to do when it does not run."""
    if not running(directory):
        return 0
    pidfd = os.pidfd_open(ask(directory, {"do": "status"})["pid"])
    try:
        ask(directory, {"do": how})
        if not _ended(pidfd, timeout):
            raise Failure(f"the server did not end within {timeout:g} s")
    finally:
        os.close(pidfd)
    return 0


def _ended(pidfd: int, timeout: float) -> bool:
    import select

    return bool(select.select([pidfd], [], [], timeout)[0])


def _age(seconds: float) -> str:
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    days, hours = divmod(whole // 3600, 24)
    return f"{days}d{hours}h" if days else f"{hours}h"


def _memory(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that has gone or is not ours to look at."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
