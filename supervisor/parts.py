"""What runs on one machine: the bus and the six parts, how each is started, and the environment they get."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from supervisor.launch import PASSED, Launch

ROOT = Path(__file__).resolve().parent.parent
USER = "nubibus"
BUS = "nats"
GATEWAY = "gateway"
PARTS = (GATEWAY, "control", "instances", "storage", "network", "images")


@dataclass(frozen=True)
class Surroundings:
    """What every launch of one server has in common. `listener` is the listening REST socket."""

    directory: Path
    nats_argv: tuple[str, ...]
    nats_url: str
    listener: int
    user: str | None = USER


def launch_of(name: str, around: Surroundings) -> Launch:
    """How the bus or a part is started."""
    directory = around.directory
    common = {"log": directory / "log" / f"{name}.log", "cwd": ROOT, "directory": directory}
    if name == BUS:
        return Launch(argv=around.nats_argv, env=_environment({}), **common)  # type: ignore[arg-type]
    settings = {"NUBIBUS_DIR": str(directory), "NUBIBUS_NATS": around.nats_url, "PYTHONUNBUFFERED": "1"}
    argv = (sys.executable, "-m", f"services.{name}", "--dir", str(directory))
    if name != GATEWAY:
        return Launch(argv=argv, env=_environment(settings), **common)  # type: ignore[arg-type]
    settings["NUBIBUS_UNIX_FD"] = str(PASSED)
    code = (ROOT, Path(sys.prefix), Path(sys.base_prefix))
    return Launch(
        argv=argv, env=_environment(settings), user=around.user, code=code, sockets=(around.listener,), **common  # type: ignore[arg-type]
    )  # fmt: skip


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """The supervisor's own, with the settings; a member's name and cluster address pass through."""
    return {**os.environ, **settings}
