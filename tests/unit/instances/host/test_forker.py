"""The starter process: the one thing of it that liblxc does not do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.instances.host.forker import attach_in_order


class Container:
    """As liblxc where the listener of a filter overtakes the pid: the attach fails, and what was attached goes on."""

    def __init__(self, failures: int, running: bool = True) -> None:
        self.failures, self.running = failures, running
        self.attached: list[int] = []

    def attach(self, execute: Callable[[dict[str, Any]], int], job: dict[str, Any]) -> int:
        pid = os.fork()
        if pid == 0:
            os._exit(execute(job))
        self.attached.append(pid)
        return -1 if len(self.attached) <= self.failures else pid

    def ended(self) -> list[int]:
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.attached]


def job(file: Path) -> dict[str, Any]:
    """The command has leave to begin: once."""
    wait, go = os.pipe()
    os.write(go, b"\n")
    os.close(go)
    command = ["/bin/sh", "-c", f"echo once >> {file}"]
    return {"command": command, "environment": {}, "tty": False, "cwd": "/", "go": wait}


def test_an_attach_that_fails_is_tried_again_and_the_command_runs_once(tmp_path: Path) -> None:
    container = Container(failures=3)
    assert attach_in_order(container, job(tmp_path / "ran"), {}) == container.attached[-1]
    assert container.ended() == [255, 255, 255, 0]
    assert (tmp_path / "ran").read_text() == "once\n"


def test_an_attach_to_what_has_ended_is_given_up(tmp_path: Path) -> None:
    container = Container(failures=99, running=False)
    assert attach_in_order(container, job(tmp_path / "ran"), {}) == -1
    assert container.ended() == [255]
    assert not (tmp_path / "ran").exists()
