"""Events under load: listeners that come and go, a stalled one and a killed gateway; nobody misses, doubles or reorders anything.

100,000 events: tools/faults/listeners.py.
"""

from __future__ import annotations

import pytest

from tools.faults.listeners import play
from tools.faults.subject import subject


@pytest.mark.timeout(400)
async def test_every_listener_hears_everything_once_and_in_order() -> None:
    with subject() as found:
        result = await play(found, count=3000, listeners=20, kills=2)
    assert result.wrong == []
    assert result.connections >= 20 + 2
