"""The file system that a part without root sees: the system's programs and libraries read-only, the code, and the server's directory.

It lives in a mount namespace of its own. Two things follow: a checkout or an interpreter below a directory that only root may enter
(/root, a temporary folder) works all the same, and no mount of the host (a storage pool, say) is kept busy by the part.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from supervisor import linux

SYSTEM = ("bin", "etc", "lib", "lib32", "lib64", "sbin", "usr")
KERNEL = ("dev", "proc")
ROOT = "/run"  # a directory that exists everywhere; the tmpfs on it is seen by this namespace alone


def enter(read_only: Iterable[Path], writable: Iterable[Path]) -> None:
    """Move this process (single-threaded, root) into the view. The working directory is `/` afterwards. Raises OSError."""
    code = _outermost(path.resolve() for path in read_only)
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    # A directory handle reaches what the tmpfs on ROOT hides.
    places = sorted([*code, *(path.resolve() for path in writable)], key=lambda path: len(path.parts))
    handles = [(path, os.open(path, os.O_PATH)) for path in places]
    linux.mount("nubibus", ROOT, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=0755,size=16m")
    _bind_system()
    for path, handle in handles:
        target = ROOT + str(path)
        os.makedirs(target, mode=0o755, exist_ok=True)
        _bind(f"/proc/self/fd/{handle}", target, read_only=path in code)
        os.close(handle)
    os.makedirs(f"{ROOT}/tmp", exist_ok=True)
    os.chmod(f"{ROOT}/tmp", 0o1777)
    os.chdir(ROOT)
    linux.pivot_root(".", ".")
    linux.unmount(".", linux.MNT_DETACH)
    os.chdir("/")


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Without what lies below another of them or below the system's own directories."""
    found: list[Path] = []
    for path in sorted(set(paths), key=lambda path: len(path.parts)):
        if path.parts[1] not in SYSTEM and not any(path.is_relative_to(outer) for outer in found):
            found.append(path)
    return found


def _bind_system() -> None:
    for name in (*SYSTEM, *KERNEL):
        source, target = f"/{name}", f"{ROOT}/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            os.mkdir(target, 0o755)
            _bind(source, target, read_only=name not in KERNEL)


def _bind(source: str, target: str, read_only: bool) -> None:
    """Not recursive: mounts below it stay out of the view."""
    linux.mount(source, target, flags=linux.MS_BIND)
    if read_only:
        linux.mount("none", target, flags=linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY)
