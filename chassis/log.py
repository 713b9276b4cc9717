"""What the store needs of a log: append atomically, read the last message of a subject, follow a pattern.

`bus.Bus` is the real one (a JetStream stream); `testing.memory.MemoryLog` is the one that a simulation runs on. Sequences start at 1
and grow; they are the one revision number of the whole system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from chassis.errors import Unavailable

if TYPE_CHECKING:
    from chassis.events import Event

STREAM = "LOG"
ROWS = "row."

# Headers of a message in the log. Batch: the change that a message belongs to. Left: how many rows of its change follow it.
# Back: how many messages before this event the last row of its change lies.
HEADER_BATCH = "Nubibus-Batch"
HEADER_LEFT = "Nubibus-Left"
HEADER_BACK = "Nubibus-Back"
HEADER_ROW = "Nubibus-Row"
HEADER_TTL = "Nats-TTL"
HEADER_ROLLUP = "Nats-Rollup"
DELETED = "deleted"


class Message(NamedTuple):
    """One message to append. `expect` is the sequence that the last message of the subject must have (0: there is none)."""

    subject: str
    data: bytes
    headers: dict[str, str]
    expect: int | None = None

    @property
    def guarded(self) -> dict[str, str]:
        """Its headers, with the one by which nats-server checks `expect`, and the one by which a row takes the place of the one before.

        A limit of messages a subject would do that too, but leaves no trace in the files: when the last row of a subject has lived out its
        time, and the server is killed and reads its files anew, the one before would be there again. A roll-up is written down.
        """
        headers = dict(self.headers)
        if self.subject.startswith(ROWS):
            headers[HEADER_ROLLUP] = "sub"
        if self.expect is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(self.expect)
        return headers


class Stored(NamedTuple):
    """One message as the log holds it. `time` is in nanoseconds since 1970."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    sequence: int
    time: int

    @property
    def deleted(self) -> bool:
        return self.headers.get(HEADER_ROW) == DELETED

    @property
    def expires(self) -> int:
        """When its time to live ends, in nanoseconds since 1970; 0 = never."""
        ttl = self.headers.get(HEADER_TTL)
        return self.time + seconds(ttl) * 1_000_000_000 if ttl else 0


class Last(NamedTuple):
    """What of the last message on a subject is remembered until it vanishes."""

    subject: str
    sequence: int
    deleted: bool


class Moved(Exception):
    """A guard did not hold: nothing of the batch was applied."""


class Unknown(Unavailable):
    """The batch was sent and no acknowledgement came: it was applied as a whole or not at all."""


class Following(Protocol):
    """A running follower. `caught_up` is true while everything that was in the log has been delivered."""

    async def stop(self) -> None: ...


class Log(Protocol):
    """An append-only log with guards. `append` raises Moved, Unavailable (nothing was sent) or Unknown."""

    @property
    def up(self) -> bool: ...

    async def when_up(self, timeout: float | None = None) -> bool: ...

    async def ready(self) -> None: ...

    async def append(self, messages: Sequence[Message]) -> int: ...

    async def last(self, subject: str) -> Stored | None: ...

    async def announce(self, event: Event) -> None: ...

    async def follow(
        self,
        pattern: str,
        after: int,
        deliver: Callable[[Stored], None],
        *,
        caught_up: Callable[[int], None],
        anew: Callable[[], None],
    ) -> Following: ...


def seconds(ttl: str) -> int:
    """A time to live as NATS writes it in a header: "3600", "3600s", "60m", "1h"."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(ttl[-1:])
    return int(ttl[:-1]) * unit if unit else int(ttl)
