"""The marker `saga`: a test that bears it runs those sagas, and no other, through the standard checks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chassis.testing import sagas


@pytest.fixture(autouse=True)
def _claims_are_true(request: pytest.FixtureRequest) -> Iterator[None]:
    """A mark that nothing stands behind would make tests/sagas/test_every_saga.py lie."""
    sagas.CHECKED.clear()
    yield
    claimed = {saga.name for mark in request.node.iter_markers("saga") for saga in mark.args}
    if claimed:
        assert sagas.CHECKED, f"the test says that it checks {claimed}, and checks nothing"
        assert claimed >= sagas.CHECKED, f"the test checks {sagas.CHECKED} and says {claimed}"
        if not hasattr(request.node, "callspec"):
            assert claimed == sagas.CHECKED, f"the test checks {sagas.CHECKED} and says {claimed}"
