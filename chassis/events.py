"""Events as LXD's clients see them, and how they travel.

Lifecycle and operation events are part of a change (`Change.event`) and are kept in the log. Log lines and progress ticks are not
stored: `Bus.announce` sends them to whoever listens now. All have the same JSON.
"""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec

from chassis import clock
from chassis.kinds import escape

EVENTS = "event.>"
LIVE = "live.>"
KEPT = ("lifecycle", "operation")


class Requestor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who caused it: protocol is "unix", "tls", "candid"; username the unix user or the certificate's fingerprint."""

    username: str = ""
    protocol: str = ""
    address: str = ""


class Lifecycle(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a lifecycle event tells: "instance-started" happened to "/1.0/instances/c1"."""

    action: str
    source: str
    context: dict[str, Any] | None = None
    requestor: Requestor | None = None


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event. `metadata` is what can be written as JSON, or a rendered document."""

    type: str
    timestamp: str
    metadata: Any
    location: str = ""
    project: str = ""

    def encode(self) -> bytes:
        return _ENCODER.encode(self)

    def subject(self) -> str:
        """Where it is kept: unique, so that no event replaces another."""
        return f"event.{self.type}.{escape(self.project)}.{unique()}"

    def live_subject(self) -> str:
        """Where it is announced without being kept."""
        return f"live.{self.type}.{escape(self.project)}"

    def headers(self) -> dict[str, str]:
        """CloudEvents attributes in the NATS binding's binary mode."""
        return {
            "ce-specversion": "1.0",
            "ce-id": unique(),
            "ce-source": f"/1.0/members/{self.location or 'none'}",
            "ce-type": f"nubibus.{self.type}",
            "ce-time": self.timestamp,
        }


_ENCODER = msgspec.json.Encoder()
_PROCESS = os.urandom(6).hex()
_count = 0


def _draw_process() -> None:
    """A fork is another process and needs a name of its own."""
    global _PROCESS
    _PROCESS = os.urandom(6).hex()


os.register_at_fork(after_in_child=_draw_process)


def unique() -> str:
    """A name that nobody draws again: the process, the moment, a counter."""
    global _count
    _count += 1
    return f"{_PROCESS}{time.time_ns():x}{_count:x}"


def lifecycle(
    action: str,
    source: str,
    *,
    project: str = "default",
    context: dict[str, Any] | None = None,
    requestor: Requestor | None = None,
    location: str = "none",
) -> Event:
    """A lifecycle event: lifecycle("instance-started", "/1.0/instances/c1", project="default", requestor=...)."""
    told = Lifecycle(action, source, context or None, requestor)
    return Event("lifecycle", clock.now(), told, location, project)


def operation(document: bytes, *, project: str, location: str = "none") -> Event:
    """An operation event; `document` is the rendered operation (JSON)."""
    return Event("operation", clock.now(), msgspec.Raw(document), location, project)


def logging(
    message: str, level: str = "info", context: dict[str, str] | None = None, *, location: str = "none"
) -> Event:
    """A log line for those who listen now."""
    told = {"message": message, "level": level, "context": context or {}}
    return Event("logging", clock.now(), told, location)
