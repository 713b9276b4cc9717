"""Debian's own command `lxc`, run as a user would type it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.client import DEADLINE


@dataclass(frozen=True)
class Lxc:
    """The command with its own home, led to the server by LXD_DIR as the issue says."""

    directory: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "LXD_DIR": str(self.directory), "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def try_(self, *arguments: str, stdin: str = "", timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["lxc", *arguments], env=self.environment, input=stdin, capture_output=True, text=True, timeout=timeout,
            check=False,
        )  # fmt: skip

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What the command wrote; it must succeed."""
        done = self.try_(*arguments, stdin=stdin)
        assert done.returncode == 0, f"lxc {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def refuses(self, *arguments: str) -> str:
        """What the command complained about; it must fail."""
        done = self.try_(*arguments)
        assert done.returncode != 0, f"lxc {' '.join(arguments)} succeeded:\n{done.stdout}"
        return done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--format=json"))

    def yaml(self, *arguments: str) -> Any:
        return yaml.safe_load(self(*arguments))


@contextlib.contextmanager
def terminal(lxc: Lxc, *arguments: str) -> Iterator[int]:
    """Runs the command on a terminal of its own; gives the terminal's other end."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["lxc", *arguments], env={**lxc.environment, "TERM": "dumb"}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield ours
    finally:
        os.close(ours)
        process.kill()  # a mere SIGTERM would be handed on to the command inside
        process.wait(DEADLINE)


def read_until(descriptor: int, text: str, timeout: float) -> str:
    """What came up to `text`, or all of it when the time is over."""
    seen, deadline = "", time.monotonic() + timeout
    while text not in seen and time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.1)[0]:
            seen += os.read(descriptor, 65536).decode(errors="replace")
    return seen
