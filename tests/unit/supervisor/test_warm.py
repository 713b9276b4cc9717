"""Warm starts: a fork that goes on as the part, with its own arguments and environment and none of the supervisor's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from supervisor.launch import Launch
from supervisor.warm import Warmth

ROOT = Path(__file__).resolve().parents[3]
PART = """\
import json, os, sys, signal
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1]  # without the one of the listing itself
ignored = signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
print(json.dumps([sys.argv, os.environ.get("ONLY"), "HOME" in os.environ, fds, __name__, ignored, "preloaded" in sys.modules]))
sys.exit(3)
"""
PARENT = """\
import os, pathlib, sys
root, here = sys.argv[1:]
sys.path[:0] = [root, here]
import preloaded
from supervisor import launch, warm
warmth = warm.Warmth({preloaded.__file__: warm._changed(preloaded.__file__)})
here = pathlib.Path(here)
open(here / "held")  # something that the part must not inherit
held = os.open(here / "held", os.O_RDONLY)
if "edited" in os.environ:
    pathlib.Path(preloaded.__file__).write_text("new = True")
argv = (sys.executable, "-m", "somepart", "--dir", "d")
child = launch.start(launch.Launch(argv, {"ONLY": "this", "PYTHONPATH": str(here)}, here / "log", here, here, module="somepart"), warmth)
print(os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]))
"""


def run(folder: Path, **environment: str) -> list[object]:
    """What the part printed; it ends with code 3."""
    (folder / "somepart.py").write_text(PART)
    (folder / "preloaded.py").write_text("")
    (folder / "held").touch()
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(ROOT), str(folder)],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "3\n"
    return list(json.loads((folder / "log").read_text()))


def test_a_warm_part_has_its_own_world_and_what_was_loaded(tmp_path: Path) -> None:
    argv, only, home, fds, name, ignored, preloaded = run(tmp_path)
    assert argv[1:] == ["--dir", "d"]  # type: ignore[index]
    assert (only, home, name, ignored) == ("this", False, "__main__", True)
    assert fds == [0, 1, 2]
    assert preloaded


def test_changed_code_is_started_cold(tmp_path: Path) -> None:
    *_, preloaded = run(tmp_path, edited="1")
    assert not preloaded


def test_freshness(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("")
    warmth = Warmth({str(path): path.stat().st_mtime_ns})
    assert warmth.fresh()
    path.unlink()
    assert not warmth.fresh()


def test_a_launch_without_a_module_is_always_cold() -> None:
    assert Launch(("/bin/true",), {}, Path("log"), Path("/"), Path("/")).module == ""
