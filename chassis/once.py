"""Requests that are done once however often they are sent: what `Idempotency-Key` leaves in the log, and `validate-only`.

What always holds: the row of a key is written in the batch that makes its request true, so no crash comes between the two. The
answer is added to that row by a second write; where a crash prevented it, the answer is made again from what the first one says.
A refused request had no effect and leaves no row. A request that is only to be validated ends where it would have written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog
from google.protobuf.message import Message

from chassis import calls, documents, errors
from chassis.calls import Call
from chassis.change import Change
from chassis.events import Lifecycle
from chassis.kinds import Kind
from gen.nubibus.rest.v1 import rest_pb2

if TYPE_CHECKING:
    from chassis.store import Store

KEPT = 24 * 3600  # seconds
PLACED = ("-created", "-renamed")  # actions whose answer tells where the object is
log = structlog.get_logger(__name__)


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that was done. `digest` tells it from another one with the same key.

    `answer` is a rest.v1.Answer. Until it is there: `operation` is what was accepted, `waited` whether the caller is answered at its
    end, and `location` where a synchronous answer points.
    """

    id: str
    digest: str
    operation: str = ""
    waited: bool = False
    location: str = ""
    answer: bytes = b""


DONE = Kind("request", Done, ("id",), fleeting=True)


def regard(change: Change) -> Done | None:
    """Add the row of the key to the change that makes its request true; that row, if there is such a key."""
    mark = calls.current().once
    if mark is None or mark.revision:
        return None
    done = Done(mark.id, mark.digest, mark.operation, mark.waited, mark.location or _location(change))
    change.put(DONE, done, expect=0, ttl=KEPT)
    return done


def _location(change: Change) -> str:
    """Where the object is whose row a change makes or renames: what its event tells of."""
    told = [event.metadata for event in change.events if isinstance(event.metadata, Lifecycle)] if change.rows else []
    return next((one.source for one in told if one.action.endswith(PLACED)), "")


def accepted(operation: str, waited: str | None) -> None:
    """The call being served is about to accept an operation. `waited`: see `Sagas.accept`."""
    mark = calls.current().once
    if mark is not None and not mark.revision:
        mark.operation, mark.waited, mark.location = operation, waited is not None, waited or ""


def written(change: Change, done: Done) -> None:
    """The change with this row is in the log."""
    mark = calls.current().once
    if mark is not None:
        mark.revision = change.revisions[DONE.subject((done.id,))]
        mark.done = done


async def remember(store: Store, call: Call, answer: Message) -> None:
    """Add the answer of a call to the row of its key; also where it had nothing to change."""
    mark = call.once
    if mark is None:
        return
    base = mark.done if isinstance(mark.done, Done) else Done(mark.id, mark.digest)
    done = msgspec.structs.replace(base, answer=_wrapped(answer).SerializeToString())
    try:
        await store.commit(Change().put(DONE, done, expect=mark.revision, ttl=KEPT), settles=False)
    except errors.Fault as fault:  # the request is done all the same
        log.warning("an answer could not be kept for a repetition", error=fault.text)


def _wrapped(answer: Message) -> rest_pb2.Answer:
    if isinstance(answer, rest_pb2.Answer):
        return answer
    if isinstance(answer, rest_pb2.Document | rest_pb2.Accepted):
        return documents.answer(answer)
    return documents.answer(documents.empty())
