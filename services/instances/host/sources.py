"""What is mounted from the host: opened by its path, or, where only one folder may be used, without leaving that folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from posixpath import normpath, relpath

from chassis.beneath import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, openat2, tree
from services.instances.host.spec import MountSpec


@contextmanager
def opened(mount: MountSpec) -> Iterator[str]:
    """A path that means the source as long as this lasts, whoever changes links on the way to it meanwhile.

    Raises OSError, EXDEV or ELOOP, for a source that a link leads out of `mount.beneath`.
    """
    source, parent = normpath(mount.source), normpath(mount.beneath or "/")
    if not mount.beneath or source == parent:
        yield mount.source
        return
    with tree(parent) as folder:
        found = openat2(folder, relpath(source, parent), os.O_PATH, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    try:
        yield f"/proc/self/fd/{found}"
    finally:
        os.close(found)
