"""Batches that are whole after any crash of nats-server or of the machine.

nats-server checks a batch as a whole and then writes its messages one by one; what it needs to complete a batch that a crash cut
short lies in a directory that it never syncs. So the first message of each batch carries the others in a header. Whoever connects looks
at the last message of the log before anything else: if it belongs to a batch without its end, the rest is appended, exactly behind it.
Nobody writes before having looked, so the rest gets the very sequences it would have had.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import structlog

from chassis.log import Message, Moved, Stored

if TYPE_CHECKING:
    from chassis.bus import Bus

log = structlog.get_logger(__name__)

HEADER_REST = "Nubibus-Rest"
_BATCH, _NUMBER, _COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"
_LAST = "Nats-Expected-Last-Sequence"

_Rest = list[tuple[str, bytes, dict[str, str]]]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Rest)


def with_rest(messages: Sequence[Message]) -> list[Message]:
    """The same batch, its first message carrying what the others say."""
    rest = [(m.subject, m.data, m.headers) for m in messages[1:]]
    first = messages[0]
    carried = base64.b64encode(_encoder.encode(rest)).decode()
    return [first._replace(headers={**first.headers, HEADER_REST: carried}), *messages[1:]]


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
        rest = _rest_of(first, last, number)
        if rest is None:
            log.error("A batch at the end of the log is not whole and cannot be completed", sequence=newest)
            return False
        log.warning("Completing a batch that a crash cut short", sequence=newest, messages=len(rest))
        guarded = rest[0]._replace(headers={**rest[0].headers, _LAST: str(newest)})
        try:
            await bus.append([guarded, *rest[1:]])
        except Moved:
            continue  # somebody else did it
        return True


def _rest_of(first: Stored | None, last: Stored, number: int) -> list[Message] | None:
    """What is missing behind the `number`-th message of a batch."""
    if first is None or HEADER_REST not in first.headers or first.headers.get(_BATCH) != last.headers[_BATCH]:
        return None
    messages = _decoder.decode(base64.b64decode(first.headers[HEADER_REST]))
    return [Message(subject, data, headers) for subject, data, headers in messages[number - 1 :]] or None
