"""What a running part can tell about itself: its tasks and threads, its objects, where its time goes. All as
text.

Asked over the bus (`$SRV.DEBUG.<part>`, see chassis/service.py); the gateway shows it on
`core.debug_address`.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

INTERVAL = 0.005  # seconds between samples
LONGEST = 300.0  # seconds of a profile
SHOWN = 60  # lines of a ranking


def tasks() -> str:
    """Stacks of all tasks of the loop, and of all threads."""
    parts = []
    for task in sorted(asyncio.all_tasks(), key=lambda each: each.get_name()):
        frames = task.get_stack()
        lines = "".join("".join(traceback.format_stack(frame, limit=1)) for frame in frames)
        parts.append(f"task {task.get_name()}: {task.get_coro()!r}\n{lines}")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    return f"{len(parts)} tasks and threads\n\n" + "\n".join(parts)


def heap() -> str:
    """Live objects by type, and the memory that the kernel counts."""
    counted = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())
    ranked = "\n".join(f"{number:9d} {name}" for name, number in counted.most_common(SHOWN))
    memory = Path("/proc/self/smaps_rollup").read_text()
    return f"{counted.total()} objects in reach of the collector\n{ranked}\n\n{memory}"


def _stack(frame: FrameType | None) -> str:
    names = []
    while frame is not None:
        names.append(f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return ";".join(reversed(names))


def _sample(seconds: float) -> Counter[str]:
    """Stacks of the main thread, sampled from another one."""
    main = threading.main_thread().ident or 0
    found: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found[_stack(sys._current_frames().get(main))] += 1
        time.sleep(INTERVAL)
    return found


async def profile(seconds: float) -> str:
    """Where the loop's thread was, as collapsed stacks with their number ("a;b;c 12"), for flame graphs."""
    sampled = await asyncio.to_thread(_sample, min(seconds, LONGEST))
    return "\n".join(f"{stack} {number}" for stack, number in sampled.most_common())


async def tell(question: str) -> str:
    """The answer to "tasks", "heap", "cmdline" or "profile SECONDS"."""
    what, _, rest = question.partition(" ")
    if what == "tasks":
        return tasks()
    if what == "heap":
        return heap()
    if what == "profile":
        return await profile(float(rest or 30))
    return Path("/proc/self/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
