"""Memory that a part has freed goes back to the kernel: glibc alone gives back only what lies at the end of its heap."""

from __future__ import annotations

import asyncio
import ctypes
import gc

FIRST = 2.0  # seconds after the start, which has loaded and parsed a lot
EVERY = 15.0  # seconds; one pass takes a millisecond or two


async def give_back() -> None:
    """For the life of a part."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is None:
        return
    await asyncio.sleep(FIRST)
    gc.collect()
    while True:
        trim(0)
        await asyncio.sleep(EVERY)
