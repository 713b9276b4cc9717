"""A model of one instance's life, and whether a history of concurrent requests can be explained by it.

Each name is absent, stopped or running; a request that succeeded took effect at one moment between its sending and its answer. The
history is explained if there is an order of these moments in which every success is possible and the last state is the one found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ABSENT, STOPPED, RUNNING = "absent", "stopped", "running"
TRIED = "tried"  # a stop that failed
CHANGES = {
    "create": (ABSENT, STOPPED),
    "arrive": (ABSENT, STOPPED),  # renamed to this name
    "leave": (STOPPED, ABSENT),  # renamed away
    "delete": (STOPPED, ABSENT),
    "start": (STOPPED, RUNNING),
    "stop": (RUNNING, STOPPED),
}


@dataclass(frozen=True)
class Done:
    """A request that succeeded (or a stop that failed): what it did to a name, and between which moments (seconds)."""

    action: str
    sent: float
    answered: float


def explained(history: Sequence[Done], last: str) -> bool:
    """Whether some order of the successes leads from absent to `last`."""
    done = sorted((each for each in history if each.action in CHANGES), key=lambda each: each.sent)
    seen: set[tuple[frozenset[int], str]] = set()
    stack = [(frozenset(range(len(done))), ABSENT)]
    while stack:
        left, state = stack.pop()
        if not left:
            if state == last:
                return True
            continue
        if (left, state) in seen:
            continue
        seen.add((left, state))
        bound = min(done[number].answered for number in left)  # whoever is first began before the first answer
        for number in sorted(left, reverse=True):
            if done[number].sent > bound:
                continue
            before, after = CHANGES[done[number].action]
            if before == state:
                stack.append((left - {number}, after))
            elif state != RUNNING and _joins(done[number], history):
                stack.append((left - {number}, state))
    return False


def _joins(own: Done, history: Sequence[Done]) -> bool:
    """Whether a forced stop may have joined another one that was under way (also one that failed): it succeeds if nothing runs then."""
    return own.action == "stop" and any(
        each.action in ("stop", TRIED) and each is not own and each.sent <= own.answered and own.sent <= each.answered
        for each in history
    )
