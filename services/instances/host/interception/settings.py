"""What a container may have mounted for it: from its configuration into a file beside it, which each call reads, so that changes count at
once. Pure, but for `write` and `read`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "security.syscalls.intercept.mount"
ALLOWED, FUSE, SHIFT = f"{PREFIX}.allowed", f"{PREFIX}.fuse", f"{PREFIX}.shift"
TRUE = ("true", "1", "yes", "on")
FILE = "interception"


@dataclass(frozen=True, slots=True)
class Settings:
    """`allowed` file systems are mounted by the host's kernel, those of `fuse` by a program of the container's."""

    allowed: frozenset[str] = frozenset()
    fuse: Mapping[str, str] | None = None
    shift: bool = False

    def text(self) -> str:
        fuse = ",".join(f"{kind}={program}" for kind, program in sorted((self.fuse or {}).items()))
        return f"allowed {','.join(sorted(self.allowed))}\nfuse {fuse}\nshift {'true' if self.shift else ''}\n"


def of(config: Mapping[str, str]) -> Settings:
    """Raises ValueError in LXD's words."""
    allowed = frozenset(_words(config.get(ALLOWED, "")))
    fuse = pairs(config.get(FUSE, ""))
    for kind in sorted(allowed & fuse.keys()):
        raise ValueError(f"Filesystem {kind} cannot appear in {ALLOWED} and {FUSE}")
    return Settings(allowed, fuse, config.get(SHIFT, "").lower() in TRUE)


def pairs(text: str) -> dict[str, str]:
    """ "ext4=fuse2fs,ntfs=ntfs-3g". Raises ValueError."""
    found = {}
    for word in _words(text):
        kind, equals, program = word.partition("=")
        if not kind or not equals or not program:
            raise ValueError(f"{word!r} is not of the form 'filesystem=fuse-binary'")
        found[kind] = program
    return found


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def write(folder: str, settings: Settings) -> None:
    """In place of what was there, at once. Raises OSError."""
    fresh = f"{folder}/{FILE}~"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(settings.text())
    os.rename(fresh, f"{folder}/{FILE}")


def read(folder: str) -> Settings:
    """Raises OSError."""
    with open(f"{folder}/{FILE}", "rb") as file:
        lines = dict(line.split(" ", 1) for line in file.read().decode().splitlines())
    return of({ALLOWED: lines["allowed"], FUSE: lines["fuse"], SHIFT: lines["shift"]})
