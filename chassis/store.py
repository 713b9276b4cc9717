"""Rows of the log in memory, and changes to them.

What always holds: a change is applied as a whole or not at all; when `commit` has returned, it is durable and the own mirrors show it;
mirrors show the rows of one change together. A write that got no acknowledgement is looked up, not guessed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import structlog

from chassis import calls, once
from chassis.change import EVENTS_TTL, OPERATIONS_TTL, Change, Put
from chassis.errors import Conflict, Unavailable
from chassis.events import Event
from chassis.failpoint import at_commit
from chassis.kinds import AnyKind, Kind, Versioned, kind_name
from chassis.log import (
    HEADER_BATCH,
    HEADER_LEFT,
    Following,
    Last,
    Log,
    Message,
    Moved,
    Stored,
    Unknown,
)
from chassis.mirror import Mirror

__all__ = ["Change", "Kind", "Mirror", "Store", "Versioned"]

T = TypeVar("T", bound=msgspec.Struct)

log = structlog.get_logger(__name__)

ROWS = "row.>"
PATIENCE = 5.0
ASK_AFTER = 0.05  # seconds without a row that is waited for until the log is asked
RETRY = 0.05
EVENTS_GRACE = 120  # seconds that an event outlives its time: `stream.trim` drops it before, in the order of the log
_MARKER_SLACK = 10_000_000_000  # nanoseconds


class Store:
    """The log as a process sees it. Ask for mirrors first, then `start`."""

    def __init__(self, log: Log, service: str = "") -> None:
        self.log = log
        self.service = service
        self.revision = 0
        self.events_ttl = EVENTS_TTL
        self.operations_ttl = OPERATIONS_TTL
        self._mirrors: dict[str, Mirror[Any]] = {}
        self._following: Following | None = None
        self._held: list[Stored] = []
        self._held_until = 0
        self._caught_up = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._expiries: dict[str, asyncio.TimerHandle] = {}

    def mirror(self, kind: Kind[T]) -> Mirror[T]:
        """The mirror of a kind; the same object for everybody who asks in this process. Must be asked for before `start`."""
        if kind.name not in self._mirrors:
            if self._following is not None:
                raise RuntimeError(f"The mirror of {kind.name} was asked for after the start")
            self._mirrors[kind.name] = Mirror(kind)
        return self._mirrors[kind.name]

    def mirrors(self, prefix: str) -> list[Mirror[Any]]:
        """Those that were asked for, of kinds whose name begins so."""
        return [mirror for name, mirror in self._mirrors.items() if name.startswith(prefix)]

    async def start(self) -> None:
        """Follow the log; returns when everything that is in it has been read."""
        await self.log.ready()
        self._following = await self.log.follow(ROWS, 0, self._deliver, caught_up=self._reached, anew=self._anew)
        await self._caught_up.wait()

    async def stop(self) -> None:
        if self._following is not None:
            await self._following.stop()
        for timer in self._expiries.values():
            timer.cancel()
        self._expiries.clear()

    async def reached(self, revision: int, timeout: float = PATIENCE) -> None:
        """Wait until the mirrors have seen a revision. Unavailable when they do not within `timeout` seconds."""
        if revision <= self.revision:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (revision, waiter)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(timeout):
                await self._seen(revision, waiter)
        except TimeoutError:
            raise Unavailable(f"The log has not reached revision {revision} in time") from None
        finally:
            if entry in self._waiters:
                self._waiters.remove(entry)

    async def _seen(self, revision: int, waiter: asyncio.Future[None]) -> None:
        """Until the row comes, or the log says that none is to come: `revision` may be the place of an event in the log."""
        pause = ASK_AFTER
        while not (await asyncio.wait([waiter], timeout=pause))[0]:
            pause *= 4
            with suppress(Unavailable):
                newest = await self.log.last(ROWS)
                if newest is None or newest.sequence <= self.revision:
                    self.revision = max(self.revision, revision)
                    return

    async def commit(
        self, change: Change, *, patience: float | None = PATIENCE, wait: bool = True, settles: bool = True
    ) -> int:
        """Apply a change; the revision of its last row (of its last event, if it has no rows).

        Raises Conflict when a guard did not hold, Unavailable when the log is away. `patience`: how many seconds to wait for the log
        if it goes away in the middle, None = as long as it takes. `wait`: whether the own mirrors must show it before returning.
        `settles`: whether this is what the call being served was asked for; false for a record that a crash makes void.
        """
        if change:
            calls.current().act()
        done = once.regard(change) if change and settles else None
        messages = change.messages(events_ttl=self.events_ttl + EVENTS_GRACE)
        if not messages:
            return self.revision
        if patience is None:
            await self.log.when_up()
        messages = [self._tightened(m, change.rows.get(m.subject)) for m in messages]
        await at_commit((row.kind.name for row in change.rows.values()), "before")
        last = await self._append(messages, change, patience)
        await at_commit((row.kind.name for row in change.rows.values()), "after")
        if not change.rows:
            return last
        revision = last - len(change.events)
        first = revision - len(change.rows) + 1
        change.revisions = dict(zip(change.rows, range(first, revision + 1), strict=True))
        calls.current().saw(revision)
        if done is not None:
            once.written(change, done)
        if wait:
            await self._shown(revision, patience)
        return revision

    async def fetch(self, kind: Kind[T], *key: str) -> Versioned[T] | None:
        """A row as the log has it at this moment, not as the mirror shows it."""
        stored = await self.log.last(kind.subject(key))
        if stored is None or stored.deleted:
            return None
        return Versioned(kind.decode(stored.data), stored.sequence, key)

    async def refresh(self) -> None:
        """Wait until the mirrors show what the log holds at this moment."""
        newest = await self.log.last(ROWS)
        if newest is not None:
            await self.reached(newest.sequence)

    async def outdated(self, change: Change) -> bool:
        """Whether a guard of a change does not hold any more; asked of the mirrors, so `refresh` first."""
        for row in change.rows.values():
            if row.expect is None:
                continue
            mirror = self._mirrors.get(row.kind.name)
            now = mirror.get(*row.key) if mirror is not None else await self.fetch(row.kind, *row.key)
            if (now.revision if now else 0) != row.expect:
                return True
        return False

    async def until(
        self,
        kind: Kind[T],
        key: tuple[str, ...],
        holds: Callable[[Versioned[T] | None], bool],
        timeout: float | None = None,
    ) -> Versioned[T] | None:
        """Wait until a row is as it should be; the row as it is then, or when `timeout` seconds have passed."""
        mirror = self.mirror(kind)
        if holds(mirror.get(*key)):
            return mirror.get(*key)
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look(found: tuple[str, ...], _old: Versioned[T] | None, new: Versioned[T] | None) -> None:
            if found == key and not changed.done() and holds(new):
                changed.set_result(None)

        end = mirror.watch(look)
        try:
            async with asyncio.timeout(timeout):
                await changed
        except TimeoutError:
            pass
        finally:
            end()
        return mirror.get(*key)

    async def announce(self, event: Event) -> None:
        """An event that is not kept; dropped while the log is away."""
        if self.log.up:
            await self.log.announce(event)

    # Writing.

    async def _shown(self, revision: int, patience: float | None) -> None:
        """Wait until the own mirrors show what was written; it is durable even if they do not in time."""
        while True:
            try:
                await self.reached(revision)
                return
            except Unavailable:
                if patience is not None:
                    log.warning("The mirrors are late", revision=revision, seen=self.revision)
                    return

    async def _append(self, messages: list[Message], change: Change, patience: float | None) -> int:
        """Append; look the outcome up where no acknowledgement came."""
        uncertain = False
        deadline = None if patience is None else asyncio.get_running_loop().time() + patience
        while True:
            try:
                return await self.log.append(messages)
            except Moved:
                if uncertain and (found := await self._find(messages)):
                    return found
                fresh = [await self._regard(m, change.rows.get(m.subject)) for m in messages]
                if fresh == messages:
                    raise Conflict("The object was changed by somebody else in the meantime") from None
                messages = fresh
            except Unknown:
                uncertain = True
                await self._return_of_log(patience)
                if found := await self._find(messages):
                    return found
                if deadline is not None and asyncio.get_running_loop().time() > deadline:
                    raise Unavailable("The log cannot write; the change was not made") from None
                await asyncio.sleep(RETRY)
            except Unavailable:
                if patience is not None:
                    raise
                await asyncio.sleep(RETRY)
                await self.log.when_up()

    async def _regard(self, message: Message, row: Put | None) -> Message:
        """The guard of a row that must not exist, as the log has it: the sequence of its deletion, 0 if it never was."""
        if row is None or row.expect != 0:
            return message
        stored = await self.log.last(message.subject)
        if stored is None:
            return message._replace(expect=0)
        # A deletion that the mirror does not know means that the row was there in between, unless its marker is about to go.
        known = not row.exact or stored.expires <= time.time_ns() + _MARKER_SLACK
        return message._replace(expect=stored.sequence) if stored.deleted and known else message

    def _tightened(self, message: Message, row: Put | None) -> Message:
        """`expect=0` means that the row does not exist; the log knows a deleted one by the sequence of its deletion."""
        if row is None or message.expect != 0:
            return message
        mirror = self._mirrors.get(row.kind.name)
        return message._replace(expect=mirror.guard(row.key)) if mirror is not None else message

    async def _return_of_log(self, patience: float | None) -> None:
        if not await self.log.when_up(patience):
            raise Unavailable("The message bus went away; whether the change was written is not known")

    async def _find(self, messages: list[Message]) -> int:
        """The sequence of the batch's last message if it was applied, else 0. One of its messages that is still there is enough."""
        batch = messages[0].headers[HEADER_BATCH]
        for distance, message in enumerate(reversed(messages)):
            while True:
                try:
                    stored = await self.log.last(message.subject)
                    break
                except Unavailable:
                    await self.log.when_up(1.0)
                    await asyncio.sleep(0.05)
            if stored is not None and stored.headers.get(HEADER_BATCH) == batch:
                return stored.sequence + distance
        return 0

    # Reading.

    def _deliver(self, stored: Stored) -> None:
        """Called for each row message in order. The rows of a change are held back until its last one is here."""
        if self._held and stored.sequence > self._held_until:
            self._apply_held()
        self._held.append(stored)
        left = stored.headers.get(HEADER_LEFT)
        self._held_until = stored.sequence + int(left) if left else 0
        if not left:
            self._apply_held()

    def _apply_held(self) -> None:
        held, self._held = self._held, []
        told: list[Callable[[], Any]] = []
        for stored in held:
            told += self._apply(stored)
            self.revision = stored.sequence
        self._tell(told)
        self._wake()

    def _tell(self, calls: list[Callable[[], Any]]) -> None:
        for call in calls:
            try:
                call()
            except Exception:
                log.exception("A watcher of rows failed")

    def _anew(self) -> None:
        """Everything will be delivered again: what is not, is gone."""
        self._held.clear()
        self.revision = 0
        for mirror in self._mirrors.values():
            mirror.doubt()

    def _apply(self, stored: Stored) -> list[Callable[[], Any]]:
        mirror = self._mirrors.get(kind_name(stored.subject))
        if mirror is None:
            return []
        kind: AnyKind = mirror.kind
        key = kind.key_from(stored.subject)
        self._schedule_expiry(mirror, key, stored)
        if stored.deleted:
            return mirror.apply(key, None, stored.sequence)
        try:
            value = kind.decode(stored.data)
        except msgspec.MsgspecError as e:
            log.error("A row cannot be read", subject=stored.subject, sequence=stored.sequence, error=str(e))
            return []
        return mirror.apply(key, Versioned(value, stored.sequence, key), stored.sequence)

    def _schedule_expiry(self, mirror: Mirror[Any], key: tuple[str, ...], stored: Stored) -> None:
        """A message with a time to live vanishes from the log silently: the mirror lets go of it at the same moment."""
        before = self._expiries.pop(stored.subject, None)
        if before is not None:
            before.cancel()
        if stored.expires:
            delay = max(0.0, (stored.expires - time.time_ns()) / 1e9)
            last = Last(
                stored.subject, stored.sequence, stored.deleted
            )  # not the message: it would be held for an hour
            self._expiries[stored.subject] = asyncio.get_running_loop().call_later(
                delay, self._expire, mirror, key, last
            )

    def _expire(self, mirror: Mirror[Any], key: tuple[str, ...], last: Last) -> None:
        self._expiries.pop(last.subject, None)
        row = mirror.get(*key)
        if row is not None and row.revision == last.sequence:
            self._tell(mirror.apply(key, None, last.sequence + 1))
        mirror.forget_tomb(key, last.sequence if last.deleted else last.sequence + 1)

    def _reached(self, sequence: int) -> None:
        """Nothing below `sequence` is missing."""
        if self._held:
            return
        self._tell([call for mirror in self._mirrors.values() for call in mirror.settle()])
        self.revision = max(self.revision, sequence)
        self._caught_up.set()
        self._wake()

    def _wake(self) -> None:
        if not self._waiters:
            return
        still = []
        for revision, waiter in self._waiters:
            if revision > self.revision:
                still.append((revision, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiters = still
