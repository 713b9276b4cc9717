"""Descriptions on disk of the rows that a part owns, so that a lost log can be rebuilt from the node (`nubibus recover`).

`D/copies/<kind>/<key>.json` is a row as the log has it; `D/copies/<kind>/.log` says of which log (the moment it was made). Rows that
are gone because the log was lost or replaced must not take their descriptions along: a folder of another log is moved to
`D/copies/lost` as it is, whoever finds it so. What was written in the last seconds before a power cut may be missing.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from chassis.bus import Bus
from chassis.errors import Fault
from chassis.mirror import Mirror
from chassis.store import Store

FOLDER, LOST, IDENTITY = "copies", "lost", ".log"
UNTOLD = frozenset({"control_warning", "control_member"})  # what nobody would want back
CALM = 0.2  # seconds in which changes are gathered
REST = 2.0  # seconds between two rounds: under load the disk is the log's
log = structlog.get_logger(__name__)


class Copies:
    """Keeps the descriptions of all rows whose kind begins with the part's name."""

    def __init__(self, directory: Path, part: str, store: Store, bus: Bus) -> None:
        self._folder = directory / FOLDER
        self._mirrors = {m.kind.name: m for m in store.mirrors(f"{part}_") if m.kind.name not in UNTOLD}
        self._bus = bus
        self._changed: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._woken = asyncio.Event()

    async def keep(self) -> None:
        """For ever; at once for the rows that are there."""
        if not self._mirrors:
            return
        for mirror in self._mirrors.values():
            mirror.watch(self._noting(mirror))
        while True:
            await self._woken.wait()
            await asyncio.sleep(CALM)
            self._woken.clear()
            try:
                await self._flush()
            except (Fault, OSError) as error:
                log.warning("Descriptions of rows could not be written", error=str(error))
                self._woken.set()
            await asyncio.sleep(REST)

    def _noting(self, mirror: Mirror[Any]) -> Callable[[tuple[str, ...], object, object], None]:
        def note(key: tuple[str, ...], _old: object, _new: object) -> None:
            self._changed[mirror.kind.name].add(key)
            self._woken.set()

        return note

    async def _flush(self) -> None:
        identity = str((await self._bus.stream())["created"])
        for name in list(self._changed):
            keys = self._changed.pop(name)
            try:
                await asyncio.to_thread(write, self._folder, name, identity, self._texts(name, keys))
            except OSError:
                self._changed[name] |= keys
                raise

    def _texts(self, name: str, keys: set[tuple[str, ...]]) -> dict[str, bytes | None]:
        """By file name; None for a row that is gone."""
        mirror = self._mirrors[name]
        found: dict[str, bytes | None] = {}
        for key in keys:
            row = mirror.get(*key)
            file = mirror.kind.subject(key).removeprefix(mirror.kind.prefix)
            found[file] = mirror.kind.encode(row.value) if row is not None else None
        return found


def write(folder: Path, kind: str, identity: str, texts: dict[str, bytes | None]) -> None:
    """Write and remove descriptions of one kind that belong to a log."""
    here = folder / kind
    if here.exists() and identity_of(here) != identity:
        lost = folder / LOST
        lost.mkdir(exist_ok=True, mode=0o700)
        here.rename(lost / f"{kind}.{identity_of(here).replace(':', '')}.{os.urandom(3).hex()}")
    here.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (here / IDENTITY).exists():
        _replace(here / IDENTITY, identity.encode())
    for file, text in texts.items():
        path = here / f"{file}.json"
        if text is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != text:
            _replace(path, text)


def identity_of(folder: Path) -> str:
    """Of which log a folder of descriptions tells; "" if it does not say."""
    try:
        return (folder / IDENTITY).read_text()
    except OSError:
        return ""


def _replace(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".new.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
