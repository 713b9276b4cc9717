"""Several requests at once: what the clients were answered explains what is there in the end. The whole minute: tools/faults/crowd.py."""

from __future__ import annotations

import pytest

from tools.faults import crowd
from tools.faults.lifecycle import ABSENT, RUNNING, STOPPED, Done, explained
from tools.faults.subject import subject


@pytest.mark.parametrize(
    ("history", "last", "is_explained"),
    [
        ([("create", 0, 1), ("start", 2, 3)], RUNNING, True),
        ([("create", 0, 1), ("start", 2, 3)], STOPPED, False),
        ([("start", 0, 5), ("create", 1, 2)], RUNNING, True),
        ([("start", 0, 1), ("create", 2, 3)], RUNNING, False),
        ([("create", 0, 1), ("create", 2, 3)], STOPPED, False),
        ([("create", 0, 1), ("delete", 2, 6), ("create", 3, 5)], STOPPED, True),
        ([("create", 0, 1), ("start", 2, 3), ("stop", 4, 6), ("stop", 5, 7)], STOPPED, True),
        ([("create", 0, 1), ("start", 2, 3), ("stop", 4, 5), ("stop", 6, 7)], STOPPED, False),
        ([("create", 0, 1), ("leave", 2, 3), ("arrive", 4, 5), ("delete", 6, 7)], ABSENT, True),
    ],
)
def test_a_history_is_explained_or_not(history: list[tuple[str, float, float]], last: str, is_explained: bool) -> None:
    assert explained([Done(*each) for each in history], last) == is_explained


@pytest.mark.timeout(400)
def test_a_crowd_is_answered_truly_and_leaves_nothing() -> None:
    with subject() as found:
        made = crowd.play(found, clients=12, names=5, seconds=8, seed=7)
    assert sum(map(len, made.done.values())) >= 5
