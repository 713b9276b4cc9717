"""Where the containers of one server stand: their folders, and the names of their cgroups, which no other server on the machine has."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from chassis.errors import Internal
from services.instances.host.cgroups import Groups
from services.instances.host.layout import Layout
from services.instances.host.lxcconfig import CONFIG, LOGS
from services.instances.host.spec import Key

ROUNDS = 400  # of killing what is left in a group
PAUSE = 0.005


class Places:
    """Names and folders; also what removes a dead container's cgroups."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        self.directory = directory / "instances"
        self.layout = layout
        self.token = hashlib.sha256(str(self.directory.resolve()).encode()).hexdigest()[:8]

    def make(self) -> None:
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)

    def folder(self, key: Key) -> Path:
        return self.directory / key.folder_name

    def logs(self, key: Key) -> Path:
        return self.folder(key) / LOGS

    def names(self) -> list[str]:
        """Folders of containers that were started at some time."""
        return [path.name for path in self.directory.iterdir() if (path / CONFIG).exists()]

    def payload(self, key: Key) -> str:
        return f"lxc.payload.{self.token}.{key.folder_name}"

    def monitor(self, key: Key) -> str:
        return f"lxc.monitor.{self.token}.{key.folder_name}"

    @property
    def pivot(self) -> str:
        """The group through which liblxc's monitors leave theirs."""
        return f"lxc.pivot.{self.token}"

    def groups(self, key: Key) -> Groups:
        return Groups(self.layout, self.payload(key))

    def with_groups(self) -> Iterator[Key]:
        """Whose groups exist, alive or dead."""
        found: set[str] = set()
        for hierarchy in self.layout.hierarchies:
            for path in hierarchy.group("").glob(f"lxc.*.{self.token}.*"):
                kind, _, folder = path.name.partition(f".{self.token}.")
                if kind in ("lxc.payload", "lxc.monitor"):
                    found.add(folder)
        return map(Key.of_folder, found)

    def sweep(self, running: Iterable[Key]) -> None:
        """Remove the groups of what does not run."""
        alive = set(running)
        for key in self.with_groups():
            if key not in alive:
                self.purge(key)
        if not alive:
            self.drop_pivot()

    def purge(self, key: Key) -> None:
        """Kill and remove whatever is left in its groups; liblxc has done that, unless something was killed under it. Blocks."""
        for groups in (self.groups(key), Groups(self.layout, self.monitor(key))):
            for _ in range(ROUNDS):
                if not groups.exist or groups.remove():
                    break
                for pid in groups.pids():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                with suppress(Internal, OSError):
                    groups.set_frozen(False)
                time.sleep(PAUSE)

    def drop_pivot(self) -> None:
        """liblxc never removes it; in use it stays."""
        Groups(self.layout, self.pivot).remove()
