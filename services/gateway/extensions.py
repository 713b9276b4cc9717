"""The API extensions that are advertised:

those whose names stand on passing tests, listed in gen/extensions.txt (tools/extensions writes it at set-up).
"""

from __future__ import annotations

from pathlib import Path

LIST = Path(__file__).resolve().parent.parent.parent / "gen" / "extensions.txt"


def advertised(path: Path = LIST) -> tuple[str, ...]:
    """Names in the order of the list; nothing if it is missing."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return ()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
