"""The disk itself under the servers' directories: small appends, each written through, as a log makes them.

A virtual machine's disk may stand still now and then for longer than any change takes, and both servers wait for it: what of a
high percentile is the disk's cannot be told without asking the disk alone.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

SIZE, RATE = 2048, 200  # bytes of an append; appends a second, as many as the events' measurement makes changes
SLOW = 10.0  # milliseconds: one that takes longer is counted


def appends(directory: Path, count: int = 500) -> list[float]:
    """Milliseconds of each append and its fsync, in a new file of `directory` that is gone afterwards.

    Each is made at its time, or at once when the one before took too long.
    """
    found = []
    record = os.urandom(SIZE)
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        begin = time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            start = time.perf_counter()
            file.write(record)
            os.fsync(file.fileno())
            found.append((time.perf_counter() - start) * 1000)
    return found
