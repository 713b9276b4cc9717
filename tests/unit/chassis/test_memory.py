"""Freed memory goes back now and then."""

from __future__ import annotations

import asyncio
import ctypes

import pytest

from chassis import memory


class Library:
    def __init__(self, passes: int) -> None:
        self.left = passes
        self.done = asyncio.Event()

    def malloc_trim(self, pad: int) -> None:
        assert pad == 0
        self.left -= 1
        if self.left == 0:
            self.done.set()


async def test_memory_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(3)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(memory, "FIRST", 0.0)
    monkeypatch.setattr(memory, "EVERY", 0.0)
    giving = asyncio.create_task(memory.give_back())
    async with asyncio.timeout(30):
        await library.done.wait()
    giving.cancel()
    await asyncio.gather(giving, return_exceptions=True)


async def test_a_c_library_without_the_call_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    await memory.give_back()
