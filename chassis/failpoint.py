"""Failpoints: where a test makes a saga die, fail or stand still. Nothing happens unless the environment says so.

`NUBIBUS_FAILPOINT="instance.start:mount.do.after=kill"`; several are separated by commas. Points are `<step>.do.before|after`,
`<step>.undo.before|after` and `finish.before|after`; of a change, `commit:<kind of row>.before|after` (before it is sent to the log, and
when it is there but nobody was told). Actions: `kill` (SIGKILL to this process), `fail` (the step raises), `hold` (see
below). `NUBIBUS_FAILPOINT=@/path/file` reads the text from that file at each point; a point that fires is taken out of the file first,
so it fires once, also when the process comes back; the last one takes the file along. `hold` then creates `/path/file.reached` and
waits until that is removed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from chassis.errors import Internal

VARIABLE = "NUBIBUS_FAILPOINT"


async def failpoint(saga: str, point: str) -> None:
    """Do what the environment asks for at this point of this saga."""
    setting = os.environ.get(VARIABLE)
    if not setting:
        return
    path = Path(setting[1:]) if setting.startswith("@") else None
    try:
        text = path.read_text() if path else setting
    except OSError:
        return
    actions = _actions(text)
    action = actions.pop(f"{saga}:{point}", None)
    if action is None:
        return
    if path is not None:
        _keep(path, actions)
    await _act(action, f"{saga}:{point}", path)


async def at_commit(kinds: Iterable[str], side: str) -> None:
    """The points of a change, one for each kind of row in it."""
    if os.environ.get(VARIABLE):
        for kind in sorted(set(kinds)):
            await failpoint("commit", f"{kind}.{side}")


def _actions(text: str) -> dict[str, str]:
    pairs = (item.strip().partition("=") for item in text.split(",") if item.strip())
    return {point: action for point, _, action in pairs}


def _keep(path: Path, actions: dict[str, str]) -> None:
    """The file with what has not fired yet."""
    if not actions:
        path.unlink(missing_ok=True)
        return
    fresh = Path(f"{path}.new")
    fresh.write_text(",".join(f"{point}={action}" for point, action in actions.items()))
    fresh.replace(path)


async def _act(action: str, point: str, path: Path | None) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "fail":
        raise Internal(f"Failpoint {point}")
    elif action == "hold" and path is not None:
        reached = Path(f"{path}.reached")
        reached.touch()
        while reached.exists():
            await asyncio.sleep(0.01)
