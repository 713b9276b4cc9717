"""What belongs to a claim that does not hold: each answer that was not expected, and what the parts wrote near it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

NEAR = 1.0  # seconds before and after an answer
MOST = 10  # answers and, for each of them, lines that are shown
WIDTH = 600  # of a line
WORSE = re.compile(r'"level":"(warning|error|critical)"|\[(WRN|ERR|FTL)\]')
NATS = re.compile(r"\[\d+\] (\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+) ")


@dataclass(frozen=True)
class Odd:
    """An answer other than 200, or none. `at` is in seconds since 1970, `status` a number or the name of an exception."""

    at: float
    method: str
    path: str
    status: str
    text: str

    def __str__(self) -> str:
        return f"{clock(self.at)} {self.method} {self.path} {self.status}: {self.text}"


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def written_at(line: str) -> float:
    """When a part or nats-server wrote a line of its log; 0.0 if the line does not say (it belongs to the one before)."""
    try:
        if found := NATS.match(line):
            return datetime.strptime(found[1], "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC).timestamp()
        return datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return 0.0


def near(logs: Iterable[tuple[str, str]], at: float) -> Iterator[str]:
    """The lines of the logs (container, text) that were written around a moment, with their containers."""
    for container, text in logs:
        written = 0.0
        for line in text.splitlines():
            written = written_at(line) or written
            if abs(written - at) <= NEAR:
                yield f"{container}: {line}"


def troubles(logs: Iterable[tuple[str, str]], begin: float) -> Iterator[str]:
    """What was logged as a warning or worse from a moment on."""
    for container, text in logs:
        for line in text.splitlines():
            if written_at(line) >= begin and WORSE.search(line):
                yield f"{container}: {line}"


def report(odd: Iterable[Odd], logs: Iterable[tuple[str, str]], begin: float) -> list[str]:
    """The first of each path and status with what was written near it; then what else was logged as a trouble since `begin`."""
    kept, lines = list(logs), []
    first = {(one.path, one.status): one for one in sorted(odd, key=lambda one: -one.at)}
    for one in sorted(first.values(), key=lambda one: one.at)[:MOST]:
        lines.append(str(one))
        lines += [f"    {line[:WIDTH]}" for line in list(near(kept, one.at))[:MOST]]
    return lines + [f"  {line[:WIDTH]}" for line in list(troubles(kept, begin))[: 3 * MOST]]
