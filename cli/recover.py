"""`nubibus recover`: rebuild a lost log from what lies on this node. The server must be down; nothing is written before a yes.

Two sources: the descriptions of rows that every part keeps in D/copies, and, for instances without one, `backup.yaml` beside their
rootfs. A row that the log has already is left as it is, unless it is one that a fresh server makes by itself and nobody has changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chassis import copies, natsd
from chassis.bus import Bus
from chassis.kinds import escape
from chassis.log import Message
from cli import backups
from cli.failure import Failure
from cli.process import running

# In this order, so that what is interrupted leaves nothing that names what is not there.
ORDER = (
    "control_project", "control_config", "control_certificate", "storage_pool", "network_network", "images_image", "images_alias",
    "instances_profile", "storage_volume", "storage_snapshot", "instances_instance", "instances_snapshot",
)  # fmt: skip
UNKNOWABLE = (
    "operations that were under way, and those that had ended",
    "events; listeners that resume with `since` are told that they are gone",
    "warnings, and certificate tokens that nobody has used yet",
)
FRESH: tuple[Any, ...] = ({}, None)


@dataclass
class Plan:
    """What is to be written: subject to row, with the guard it is written under; and what is to be told."""

    rows: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    used: list[Path] = field(default_factory=list)

    def kinds(self) -> Counter[str]:
        return Counter(subject.split(".")[1] for subject in self.rows)


def run(options: argparse.Namespace) -> int:
    if running(options.dir):
        raise Failure(f"a server runs in {options.dir}: end it first (nubibus down --dir {options.dir})")
    return asyncio.run(_run(options.dir, options.yes))


async def _run(directory: Path, yes: bool) -> int:
    async with alone(directory) as bus:
        plan = await make_plan(bus, directory)
        _tell(plan)
        if not plan.rows:
            return 0
        if not yes and not agreed(f"Write {len(plan.rows)} rows into the log of {directory}? (yes/no) [default=no]: "):
            print("Nothing was written.")
            return 1
        for subject, (data, expect) in plan.rows.items():
            await bus.append([Message(subject, data, {"Nubibus-Batch": f"recover-{subject}"}, expect)])
    for folder in plan.used:
        folder.rename(folder.with_name(f"recovered-{folder.name}"))
    print(f"{len(plan.rows)} rows were written. Start the server: what belongs to them on the host is put right then.")
    return 0


@asynccontextmanager
async def alone(directory: Path) -> AsyncIterator[Bus]:
    """The log with nobody else at it: nats-server alone."""
    server = natsd.prepare(directory)
    with (directory / "log" / "nats.log").open("ab") as out:
        process = subprocess.Popen(server.argv, stdout=out, stderr=out, start_new_session=True)
    bus = Bus(server.url, "recover")
    try:
        await bus.connect(30)
        await bus.ready()
        yield bus
    finally:
        await bus.close()
        process.terminate()
        await asyncio.to_thread(process.wait)


async def make_plan(bus: Bus, directory: Path) -> Plan:
    """What is on disk and not in the log."""
    present = await _present(bus)
    plan = Plan()
    for kind in ORDER:
        for folder in _folders(directory / copies.FOLDER, kind, str((await bus.stream())["created"])):
            plan.used += [folder] if folder.parent.name == copies.LOST else []
            for path in sorted(folder.glob("*.json")):
                _consider(plan, f"row.{kind}.{path.stem}", path.read_bytes(), present)
    known = set(plan.rows) | set(present)
    for found in backups.instances(directory):
        subject = f"row.instances_instance.{escape(found.project)}.{escape(found.name)}"
        if subject not in known:
            plan.told.append(f"instance {found.name} of project {found.project}: from its backup.yaml")
            for name, row in found.rows().items():
                if name not in known:
                    plan.rows[name] = json.dumps(row).encode(), 0
    plan.told += _missing(plan, directory)
    return plan


def _folders(folder: Path, kind: str, identity: str) -> list[Path]:
    """Descriptions that tell of another log than this one: the newest ones of the kind."""
    here = folder / kind
    if here.is_dir() and copies.identity_of(here) != identity:
        return [here]
    lost = [path for path in (folder / copies.LOST).glob(f"{kind}.*") if path.is_dir()]
    return sorted(lost, key=lambda path: path.stat().st_mtime)[-1:]


async def _present(bus: Bus) -> dict[str, tuple[Any, int]]:
    """Every subject of the log: its row (None for a deleted one) and its sequence."""
    found: dict[str, tuple[Any, int]] = {}
    after = 0
    while page := await bus.page("row.>", after, 256):
        after = page[-1].sequence
        found.update({row.subject: (json.loads(row.data) if row.data else None, row.sequence) for row in page})
    return found


def _consider(plan: Plan, subject: str, data: bytes, present: dict[str, tuple[Any, int]]) -> None:
    row, sequence = present.get(subject, (None, 0))
    if row is None or _is_fresh(row):
        if row != json.loads(data):
            plan.rows[subject] = data, sequence
    elif row != json.loads(data):
        plan.told.append(f"{subject} is in the log and differs from its description on disk: it is left as it is")


def _is_fresh(row: dict[str, Any]) -> bool:
    """Whether a row is what a new server makes by itself: the default project or profile without anything in it."""
    return row.get("name") == "default" and row.get("config") in FRESH and row.get("devices") in FRESH


def _missing(plan: Plan, directory: Path) -> list[str]:
    """Rows whose files are not there."""
    told = []
    for subject, (data, _) in plan.rows.items():
        row = json.loads(data)
        if subject.startswith("row.images_image.") and not (directory / "images" / row["fingerprint"]).exists():
            told.append(f"image {row['fingerprint'][:12]}: its file is not there")
    return told


def _tell(plan: Plan) -> None:
    for kind, count in plan.kinds().items():
        print(f"{count:>6}  {kind.partition('_')[2]} ({kind.partition('_')[0]})")
    for line in plan.told:
        print(f"note: {line}")
    if not plan.rows:
        print("Nothing on this node is missing in the log.")
        return
    print("What cannot be known any more:")
    for line in UNKNOWABLE:
        print(f"  - {line}")


def agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("yes", "y")
    except EOFError:
        sys.stdout.write("\n")
        return False
