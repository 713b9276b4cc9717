"""The simulation of saga engine, store and operations: ten thousand schedules, each decided by its seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog

from tests.sagas.simulation import simulate

CHUNK = 500
SCHEDULES = int(os.environ.get("NUBIBUS_SCHEDULES", "10000"))


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """Killed services and refused steps are what this is about: they need not be logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("first", range(1, SCHEDULES + 1, CHUNK))
def test_whatever_happens_every_operation_ends_and_nothing_is_left(first: int) -> None:
    for seed in range(first, first + CHUNK):
        found = simulate(seed)
        assert not found, f"{found[0]} (again: .venv/bin/python -m tests.sagas.simulation --seed {seed})"
