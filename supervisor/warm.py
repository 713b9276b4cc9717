"""Warm starts: what all parts import is imported once, by the supervisor, and a part is a fork of it.

This saves each part the better half of its start and shares the memory of the libraries. A part is started cold (a new interpreter)
when the code on disk is no longer what was loaded, so a restart always runs the newest code; NUBIBUS_COLD=1 does so always.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from supervisor import linux

# Libraries and contracts; no part's own code. By name, so that nothing here depends on them.
MODULES = (
    "chassis.service", "chassis.sagas", "chassis.documents", "chassis.listing", "chassis.references", "chassis.sockets",
    "chassis.converge", "rows.control", "rows.image", "rows.instance", "rows.network", "rows.profile", "rows.storage",
    "gen.nubibus.control.v1.control_pb2", "gen.nubibus.images.v1.image_pb2", "gen.nubibus.instances.v1.instance_pb2",
    "gen.nubibus.instances.v1.profile_pb2", "gen.nubibus.network.v1.network_pb2", "gen.nubibus.network.v1.nic_pb2",
    "gen.nubibus.storage.v1.pool_pb2", "gen.nubibus.storage.v1.volume_pb2", "cryptography.x509", "grpc.aio", "uvloop",
    "setproctitle", "runpy", "argparse",
)  # fmt: skip


@dataclass(frozen=True)
class Warmth:
    """What was loaded, and how its files looked then."""

    files: dict[str, int]

    def fresh(self) -> bool:
        """Whether every file still is what was loaded."""
        return all(_changed(path) == seen for path, seen in self.files.items())


def warm_up(root: Path) -> Warmth | None:
    """Import what the parts share. None when that is not wanted, or not possible: then the part itself says what is missing."""
    if os.environ.get("NUBIBUS_COLD"):
        return None
    linux.share_one_arena()
    try:
        for name in MODULES:
            importlib.import_module(name)
    except ImportError:
        return None
    _find_title()
    gc.collect()
    gc.freeze()  # the collector of a child leaves shared pages alone
    own = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return Warmth({path: _changed(path) for path in own if path and path.startswith(f"{root}/")})


def _find_title() -> None:
    """Where this process's command line lies must be found before the environment is touched, and the title must not run over it."""
    from setproctitle import getproctitle

    os.environ["SPT_NOENV"] = "1"
    getproctitle()
    del os.environ["SPT_NOENV"]


def _changed(path: str) -> int:
    with suppress(OSError):
        return os.stat(path).st_mtime_ns
    return 0


def run(module: str, arguments: tuple[str, ...], environment: dict[str, str]) -> int:
    """Become the part, in a fresh fork; the exit code. Never unwinds into the supervisor's stack: the caller ends the process."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    from setproctitle import setproctitle

    setproctitle(" ".join((module, *arguments)))
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0
