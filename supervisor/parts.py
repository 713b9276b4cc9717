"""What runs on one machine: the bus and the six parts, how each is started, and the environment they get."""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from supervisor.launch import PASSED, Launch
from supervisor.linux import CAP_NET_BIND_SERVICE

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


RUN = secrets.token_hex(8)  # this start of the whole server; a part that is started again finds the same


def launch_of(name: str, around: Surroundings) -> Launch:
    """How the bus or a part is started."""
    if name == BUS:
        return _launch(
            name, around, around.nats_argv, {"GOGC": os.environ.get("GOGC", "50")}
        )  # rows are few: less heap
    settings = {"NUBIBUS_DIR": str(around.directory), "NUBIBUS_NATS": around.nats_url, "PYTHONUNBUFFERED": "1"}
    settings["NUBIBUS_RUN"] = RUN
    settings["GRPC_VERBOSITY"] = "ERROR"  # it speaks of forks that are none of its business
    module = f"services.{name}"
    argv = (sys.executable, "-m", module, "--dir", str(around.directory))
    if name != GATEWAY:
        return replace(_launch(name, around, argv, settings), module=module)
    settings["NUBIBUS_UNIX_FD"] = str(PASSED)
    code = (ROOT, Path(sys.prefix), Path(sys.base_prefix))
    launch = _launch(name, around, argv, settings)
    ports = (CAP_NET_BIND_SERVICE,)  # core.https_address may be below port 1024
    return replace(launch, module=module, user=around.user, capabilities=ports, code=code, sockets=(around.listener,))


def _launch(name: str, around: Surroundings, argv: tuple[str, ...], settings: dict[str, str]) -> Launch:
    """The supervisor's own environment goes along: a member's name and cluster address come from outside."""
    log = around.directory / "log" / f"{name}.log"
    return Launch(argv, {**os.environ, **settings}, log, cwd=ROOT, directory=around.directory)
