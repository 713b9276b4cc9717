"""Structured logs: one JSON object a line on stderr, and the same line as a `logging` event for whoever
listens.

`configure` is called once at the start of a process; `announce_on` when the bus is there. A line that cannot
be announced (the bus is away, or lines come faster than they leave) is still on stderr.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from typing import Any

import msgspec
import structlog

from chassis import events
from chassis.bus import Bus

WAITING = 1000  # lines that may wait to be announced
LEVELS = {"critical": "error", "exception": "error", "warn": "warning"}
HIDDEN = frozenset({"event", "level", "timestamp", "exception", "logger"})


class Announcer:
    """Sends log lines as events, from a task of its own, so that logging never waits."""

    def __init__(self, bus: Bus, location: str) -> None:
        self.bus = bus
        self.location = location
        self.lines: deque[events.Event] = deque(maxlen=WAITING)
        self.wake = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def add(self, line: dict[str, Any]) -> None:
        level = LEVELS.get(line["level"], line["level"])
        context = {key: str(value) for key, value in line.items() if key not in HIDDEN}
        event = events.logging(str(line["event"]), level, context, location=self.location)
        self.loop.call_soon_threadsafe(self._append, event)

    def _append(self, event: events.Event) -> None:
        self.lines.append(event)
        self.wake.set()

    async def run(self) -> None:
        while True:
            await self.wake.wait()
            self.wake.clear()
            while self.lines:
                await self.bus.announce(self.lines.popleft())


_announcer: Announcer | None = None


def announce_on(announcer: Announcer | None) -> None:
    global _announcer
    _announcer = announcer


def _announce(_logger: Any, _method: str, line: Any) -> Any:
    if _announcer is not None:
        _announcer.add(line)
    return line


def _plain(_logger: Any, _method: str, line: Any) -> Any:
    """Texts of exceptions and paths, so that every line can be written as JSON."""
    return {
        key: value if isinstance(value, str | int | float | bool | None) else str(value) for key, value in line.items()
    }


def configure(part: str, level: str = "info") -> None:
    """Set up structlog, and the standard library's logging (uvicorn, nats, grpc) to go the same way."""
    number = getattr(logging, level.upper(), logging.INFO)
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            *shared,
            _announce,
            _plain,
            structlog.processors.JSONRenderer(serializer=lambda line, **_: msgspec.json.encode(line).decode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(part=part)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _plain,
                structlog.processors.JSONRenderer(serializer=lambda line, **_: msgspec.json.encode(line).decode()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
