"""What was shown, and what was not."""

from __future__ import annotations


class Claims:
    """Prints one line a claim; `broken` are those that do not hold."""

    def __init__(self) -> None:
        self.told = 0
        self.broken: list[str] = []

    def tell(self, claim: str, holds: bool, detail: object = "") -> bool:
        self.told += 1
        line = f"{claim}{f': {detail}' if detail else ''}"
        if not holds:
            self.broken.append(line)
        print(f"{'ok    ' if holds else 'BROKEN'} {line}", flush=True)
        return holds
