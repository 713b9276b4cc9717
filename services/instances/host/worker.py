"""A thread of its own for work on a tree that somebody else controls: it may hang there (a FUSE server inside) without holding up others.

Also the one place where a thread takes on a container's root's ids: a host's root that is not mapped into an idmapped mount or a user
namespace's file system cannot create anything in it. Ids and capabilities belong to the thread and die with it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TypeVar

from services.instances.host.capabilities import take_ids

T = TypeVar("T")


class Worker:
    """Does one thing after the other in its thread. Cancelling the wait does not stop what is under way."""

    def __init__(self, ids: tuple[int, int] | None = None) -> None:
        self._ids = ids
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def do(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, daemon=True, name="tree")
            self._thread.start()
        done: asyncio.Future[T] = self._loop.create_future()

        def job() -> None:
            try:
                result = work()
            except BaseException as error:
                self._tell(_fail, done, error)
            else:
                self._tell(_succeed, done, result)

        self._jobs.put(job)
        return await done

    def _tell(self, how: Callable[..., None], *what: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(how, *what)

    def later(self, work: Callable[[], None]) -> None:
        """Do it when there is time; nobody waits."""
        if self._thread is None:
            work()
        else:
            self._jobs.put(work)

    def _serve(self) -> None:
        failed: OSError | None = None
        if self._ids is not None:
            try:
                take_ids(*self._ids)
            except OSError as error:
                failed = error
        while (job := self._jobs.get()) is not None:
            if failed is not None:
                os.write(2, f"cannot take the ids {self._ids}: {failed}\n".encode())
            with suppress(OSError):
                job()

    def close(self) -> None:
        """After what is queued the thread ends."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[T], error: BaseException) -> None:
    if not done.done():
        done.set_exception(error)
