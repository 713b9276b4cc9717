"""Batches that are whole after any crash of nats-server or of the machine.

nats-server checks a batch as a whole and then writes its messages one by one; what it needs to complete a batch that a crash cut
short lies in a directory that it never syncs. So the first message of each batch carries the others in a header. Whoever connects looks
at the last message of the log before anything else: if it belongs to a batch without its end, the rest is appended, exactly behind it.
Nobody writes before having looked, so the rest gets the very sequences it would have had.

A header holds 64 KiB. A rest that does not fit (a profile that a thousand instances follow, an instance with much user data) is written
down before, as a message of its own that the header names; it stays for a day.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from chassis.log import HEADER_TTL, Message, Moved, Stored

if TYPE_CHECKING:
    from chassis.bus import Bus

log = structlog.get_logger(__name__)

HEADER_REST = "Nubibus-Rest"
HEADER_NOTE = "Nubibus-Note"  # the subject of a message that has the rest
HEADER_SKIP = "Nubibus-Skip"  # how much of it belongs to messages before
NOTES = "row.redo."
LARGEST = 60_000  # bytes of a header's text; nats-server takes 64 KiB for all headers of a message
KEPT = 24 * 3600  # seconds
_BATCH, _NUMBER, _COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"
_LAST = "Nats-Expected-Last-Sequence"

_Rest = list[tuple[str, bytes, dict[str, str]]]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Rest)


def with_rest(messages: Sequence[Message]) -> tuple[list[Message], Message | None]:
    """The same batch, its first message carrying what the others say; and what must be written down before, if that is too much.

    What completes a batch has its note already: nothing may come between it and the part that is there.
    """
    if HEADER_NOTE in messages[0].headers:
        return list(messages), None
    rest = [(m.subject, m.data, m.headers) for m in messages[1:]]
    packed = _encoder.encode(rest)
    carried = base64.b64encode(packed).decode()
    note = None
    headers = {HEADER_REST: carried}
    if len(carried) > LARGEST:
        note = Message(f"{NOTES}{uuid.uuid4().hex}", packed, {HEADER_TTL: f"{KEPT}s"})
        headers = {HEADER_NOTE: note.subject}
    first = messages[0]
    return [first._replace(headers={**first.headers, **headers}), *messages[1:]], note


async def mend(bus: Bus) -> bool:
    """Complete the batch at the end of the log if a crash cut it short; whether there was anything to do."""
    while True:
        info = await bus.stream()
        newest = int(info["state"]["last_seq"])
        last = await bus.fetch({"seq": newest}) if newest else None
        if last is None or _BATCH not in last.headers or _COMMIT in last.headers:
            return False
        number = int(last.headers[_NUMBER])
        first = last if number == 1 else await bus.fetch({"seq": newest - number + 1})
        rest = await _rest_of(bus, first, last, number)
        if rest is None:
            log.error("A batch at the end of the log is not whole and cannot be completed", sequence=newest)
            return False
        log.warning("Completing a batch that a crash cut short", sequence=newest, messages=len(rest))
        guarded = rest[0]._replace(headers={**rest[0].headers, **_noted(first, number), _LAST: str(newest)})
        try:
            await bus.append([guarded, *rest[1:]])
        except Moved:
            continue  # somebody else did it
        return True


async def _rest_of(bus: Bus, first: Stored | None, last: Stored, number: int) -> list[Message] | None:
    """What is missing behind the `number`-th message of a batch."""
    if first is None or first.headers.get(_BATCH) != last.headers[_BATCH]:
        return None
    if HEADER_NOTE in first.headers:
        note = await bus.last(first.headers[HEADER_NOTE])
        packed = note.data if note is not None else b""
    else:
        packed = base64.b64decode(first.headers.get(HEADER_REST, ""))
    if not packed:
        return None
    messages = _decoder.decode(packed)[_skipped(first) + number - 1 :]
    return [Message(subject, data, headers) for subject, data, headers in messages] or None


def _skipped(first: Stored) -> int:
    """How many messages of its note come before those of this batch."""
    return int(first.headers.get(HEADER_SKIP, "0"))


def _noted(first: Stored | None, number: int) -> dict[str, str]:
    """What the first message of the completing batch says, so that a crash in the middle of it can be mended again."""
    if first is None or HEADER_NOTE not in first.headers:
        return {}
    return {HEADER_NOTE: first.headers[HEADER_NOTE], HEADER_SKIP: str(_skipped(first) + number)}
