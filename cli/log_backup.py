"""`nubibus log-backup` and `nubibus log-restore`: the rows of the log in a file, of one machine or of a cluster (NUBIBUS_NATS).

The file is gzip of JSON lines: a head, a line a row, and an end that counts them. It is of no version of nats-server and has no events:
after a restore, listeners that resume with `since` are told that what they ask for is gone. Sequences go on beyond all that were given
out. It holds what the log holds, secrets too, and is made for its owner alone.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats

from chassis import durable
from chassis.bus import Bus
from chassis.errors import Fault, NotFound
from chassis.log import HEADER_BATCH, HEADER_TTL, ROWS, STREAM, Message
from chassis.refusal import explain
from chassis.stream import RESTORING, SHAPE, TRIMMED, noted_of
from cli import recover
from cli.failure import Failure
from cli.process import running

FORMAT = 1
PAGE = 256
PATIENCE = 15.0  # seconds for nats-server to answer
QUIET = 1.0  # seconds in which a part that runs would say so


@dataclass(frozen=True)
class Backup:
    """What a file holds. `sequence` is that of the log when it was read; rows are (subject, JSON, time to live or "")."""

    taken: str
    sequence: int
    replicas: int
    rows: list[tuple[str, str, str]]


def backup(options: argparse.Namespace) -> int:
    return asyncio.run(_backup(options.dir, options.file))


def restore(options: argparse.Namespace) -> int:
    return asyncio.run(_restore(options.dir, load(options.file), options.yes))


async def _backup(directory: Path, file: Path) -> int:
    if not (os.environ.get("NUBIBUS_NATS") or (directory / "nats").is_dir()):
        raise Failure(f"there is no log in {directory}")
    async with _log(directory) as bus:
        found = await read(bus)
        if found.rows and RESTORING in noted_of(await bus.stream()):
            raise Failure("the log is only half restored, so that this would be no backup of it")
    save(found, file)
    print(f"{len(found.rows)} rows are in {file}")
    return 0


async def _restore(directory: Path, found: Backup, yes: bool) -> int:
    if not os.environ.get("NUBIBUS_NATS") and running(directory):
        raise Failure(f"a server runs in {directory}: end it first (nubibus down --dir {directory})")
    async with _log(directory) as bus:
        if parts := await parts_of(bus):
            raise Failure(f"parts that use the log still run, end them first: {', '.join(parts)}")
        now = len((await read(bus)).rows)
        print(f"The backup of {found.taken} has {len(found.rows)} rows; the log has {now}, which it replaces.")
        if not yes and not recover.agreed("Replace the log? (yes/no) [default=no]: "):
            print("Nothing was written.")
            return 1
        await replace(bus, found)
    print(f"{len(found.rows)} rows were written. Start the server: what belongs to them on the host is put right then.")
    return 0


@asynccontextmanager
async def _log(directory: Path) -> AsyncIterator[Bus]:
    """The log of a cluster or of a running server; else that of the directory, with nats-server alone."""
    if not (os.environ.get("NUBIBUS_NATS") or running(directory)):
        async with recover.alone(directory) as bus:
            yield bus
        return
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of each TLS connection that a server ends
    bus = Bus(directory, "backup")
    refused: list[BaseException] = [TimeoutError(f"no answer in {PATIENCE:g} s")]
    bus.on_refused = refused.append
    try:
        await bus.connect(PATIENCE)
        yield bus
    except Fault as fault:
        raise Failure(fault.text if bus.up else explain(refused[-1], bus.where)) from None
    finally:
        await bus.close()


async def read(bus: Bus) -> Backup:
    """All rows as they are in one moment: that in which the last page has nothing more.

    Until then a row that changes is read again where it went, at the end; so a change of several rows is read as a whole or not at all.
    """
    try:
        info = await bus.stream()
    except NotFound:
        return Backup("", 0, 1, [])
    rows: dict[str, tuple[str, str]] = {}
    after = 0
    while page := await bus.page(f"{ROWS}>", after, PAGE):
        after = page[-1].sequence
        for row in page:
            rows.pop(row.subject, None)
            if not row.deleted:
                rows[row.subject] = row.data.decode(), row.headers.get(HEADER_TTL, "")
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    newest = max(after, int(info["state"]["last_seq"]))
    return Backup(taken, newest, int(info["config"]["num_replicas"]), [(name, *row) for name, row in rows.items()])


def save(found: Backup, file: Path) -> None:
    """The file is whole or not there."""
    head = {"nubibus-log": FORMAT, "taken": found.taken, "sequence": found.sequence, "replicas": found.replicas}
    lines = (head, *found.rows, {"rows": len(found.rows)})
    data = gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode())
    try:
        durable.replace(file, data)
    except OSError as error:
        raise Failure(f"{file} cannot be written: {error.strerror}") from None


def load(file: Path) -> Backup:
    """Failure for what is no backup, or not a whole one."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            head, *rows, end = [json.loads(line) for line in lines]
        if head["nubibus-log"] != FORMAT or end != {"rows": len(rows)}:
            raise ValueError
        found = [(str(subject), str(data), str(ttl)) for subject, data, ttl in rows]
        return Backup(head["taken"], int(head["sequence"]), int(head["replicas"]), found)
    except FileNotFoundError:
        raise Failure(f"there is no {file}") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        raise Failure(f"{file} is not a backup of the log, or not a whole one") from None


async def parts_of(bus: Bus) -> list[str]:
    """The names of those that are connected and answer."""
    found: set[str] = set()
    subscription = await bus.nats.subscribe(inbox := bus.nats.new_inbox())
    await bus.nats.publish("$SRV.PING", b"", reply=inbox)
    end = asyncio.get_running_loop().time() + QUIET
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            answer = await subscription.next_msg(left)
        except (nats.errors.Error, TimeoutError):
            break
        if answer.data:
            found.add(str(json.loads(answer.data)["name"]))
    await subscription.unsubscribe()
    return sorted(found)


async def replace(bus: Bus, found: Backup) -> None:
    """The log made anew, with the rows of the backup and as many copies as it has (or had, if it is lost).

    If this is broken off no part uses what is there, and it can be done again: the file has everything.
    """
    last, copies = found.sequence, found.replicas
    try:
        info = await bus.stream()
        last, copies = max(last, int(info["state"]["last_seq"])), int(info["config"]["num_replicas"])
        await _asked(bus, f"STREAM.DELETE.{STREAM}")
    except NotFound:
        pass
    config = {**SHAPE, "num_replicas": copies, "metadata": {TRIMMED: str(last)}}
    half = {**config, "metadata": {**config["metadata"], RESTORING: found.taken}}
    await _asked(bus, f"STREAM.CREATE.{STREAM}", half)
    await _asked(bus, f"STREAM.PURGE.{STREAM}", {"seq": last + 1})
    for subject, data, ttl in found.rows:
        headers = {HEADER_BATCH: f"restore-{subject}", **({HEADER_TTL: ttl} if ttl else {})}
        await bus.append([Message(subject, data.encode(), headers, 0)])
    await _asked(bus, f"STREAM.UPDATE.{STREAM}", config)


async def _asked(bus: Bus, name: str, request: Any = None) -> None:
    answer = await bus.api(name, request, timeout=PATIENCE)
    if "error" in answer:
        raise Failure(f"nats-server refused {name}: {answer['error'].get('description')}")
