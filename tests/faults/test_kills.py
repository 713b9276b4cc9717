"""kill -9 at chosen points of every kind of operation: the same id answers, it ends, and nothing is left.

All points: tools/faults --all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tools.faults.__main__ import bounded
from tools.faults.cases import Case, Player
from tools.faults.subject import subject


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    with subject() as found:
        yield Player(found)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("case", bounded(), ids=lambda case: case.name)
def test_a_kill_breaks_no_promise(player: Player, case: Case) -> None:
    outcome = player.play(case)
    assert not outcome.broken, outcome.broken
