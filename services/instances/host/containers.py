"""The containers of this server: started, stopped, watched, and taken over by the next life of the service.

What runs is a fact of the kernel: each running container is held here by the pidfds of its init and of its liblxc monitor. One that has
ended is told of once (`on_exit`), when its monitor is gone too, and with it its cgroups, its namespaces and its nics' move home.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chassis.errors import Internal
from services.instances.host import cgroups, hotplug, layout, lxcconfig, preparation, process, rootfs, takeover
from services.instances.host.cgroups import Groups, Machine
from services.instances.host.idmap import IdMap, idmap_of_process
from services.instances.host.interception import rules, settings
from services.instances.host.interception.service import Interception
from services.instances.host.places import Places
from services.instances.host.process import Watched
from services.instances.host.spec import Exit, Key, Live, MountSpec, NicSpec, Spec
from services.instances.host.starter import Starter
from services.instances.host.worker import Worker

LINGER = 10.0  # seconds that a monitor may take to clear up after its init
FREEZING = 10.0
STUBBORN = 60.0  # seconds that even a forced stop may take
POLL = 0.002
STARTED = "started"  # what the child of a start says
HALT, REBOOT = signal.SIGRTMIN + 3, signal.SIGRTMIN + 5  # what systemd waits for


@dataclass
class Running:
    """One that runs, or whose monitor is clearing up after it."""

    init: Watched
    monitor: Watched
    since: float
    groups: Groups
    cpus: frozenset[int]
    gone: asyncio.Event


class Containers:
    """All of one server, in `directory`/instances. `on_exit` is called on the loop."""

    def __init__(self, directory: Path, starter: Starter, on_exit: Callable[[Key, Exit], None]) -> None:
        self.layout = layout.detect()
        self.places = Places(directory, self.layout)
        self.directory = self.places.directory
        self.starter = starter
        self.interception = Interception(self.places.directory)
        self._on_exit = on_exit
        self._running: dict[Key, Running] = {}
        self._turns: dict[Key, asyncio.Lock] = {}
        self._watches: set[asyncio.Task[None]] = set()
        self.machine: Machine = cgroups.machine(self.layout)
        self._host = lxcconfig.Host()

    # -- the life of the service

    async def open(self) -> None:
        """Take over what runs; end what is neither running nor stopped; clear what dead ones have left."""
        self.places.make()
        self._host = await asyncio.to_thread(self._probe)
        await asyncio.to_thread(takeover.await_starts, self.directory)
        async for found in takeover.look(self.starter, self.directory, self.places.names()):
            key = Key.of_folder(found.folder)
            if not (found.alive and self._adopt(key, found.pid)) and not found.stopped:
                await asyncio.to_thread(self.places.purge, key)
        await asyncio.to_thread(self._sweep)
        if any(preparation.is_intercepted(self.folder(key)) for key in self._running):
            self.interception.ensure()

    async def close(self) -> None:
        """Let go of everything; what runs goes on."""
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self.interception.close()
        for found in self._running.values():
            found.init.close()
            found.monitor.close()
        self._running.clear()

    def _sweep(self) -> None:
        self.places.sweep(self._running)
        for folder in self.directory.iterdir():
            preparation.unstage(folder)

    # -- names

    def folder(self, key: Key) -> Path:
        return self.places.folder(key)

    def logs(self, key: Key) -> Path:
        """Where lxc.log, console.log and recorded output lie."""
        return self.places.logs(key)

    def groups(self, key: Key) -> Groups:
        found = self._running.get(key)
        return self.places.groups(key) if found is None else found.groups

    def _turn(self, key: Key) -> asyncio.Lock:
        return self._turns.setdefault(key, asyncio.Lock())

    # -- state

    def state(self, key: Key) -> Live | None:
        """None: it is stopped. One that is going down counts as live until nothing of it is left."""
        found = self._running.get(key)
        return None if found is None else Live(found.init.pid, found.groups.frozen, found.since)

    def init(self, key: Key) -> Watched | None:
        """The init of one that runs."""
        found = self._running.get(key)
        return None if found is None else found.init

    def running(self) -> dict[Key, int]:
        """Init pids."""
        return {key: found.init.pid for key, found in self._running.items()}

    def _need(self, key: Key) -> Running:
        found = self._running.get(key)
        if found is None:
            raise Internal("The instance is not running")
        return found

    # -- start

    async def start(self, spec: Spec) -> int:
        """The pid of its init. One that runs already is left alone. Raises Internal in liblxc's words; nothing is left then.

        Cancelling the wait does not stop a start half way: whoever comes next waits for it.
        """
        return await asyncio.shield(asyncio.ensure_future(self._start_in_turn(spec)))

    async def _start_in_turn(self, spec: Spec) -> int:
        async with self._turn(spec.key):
            found = self._running.get(spec.key)
            if found is not None and not found.init.ended.done():
                return found.init.pid
            if found is not None:
                await found.gone.wait()
            try:
                if rules.intercepted(spec.config):
                    self.interception.ensure()
                cpus = self._cpus_for(spec.config)
                mapped = await rootfs.settle(spec.volume, spec.idmap)
                await asyncio.to_thread(preparation.prepare, self.places, self._host, self.machine, spec, cpus, mapped)
                return await self._start(spec.key)
            except (ValueError, OSError) as error:
                raise Internal(f"Failed to prepare the container: {error}") from None
            finally:
                preparation.unstage(self.folder(spec.key))

    async def _start(self, key: Key) -> int:
        status, said = await self.starter.ask({"job": "start", "name": key.folder_name, "path": str(self.directory)})
        status.close()
        word, _, pid = said.partition(" ")
        if word == STARTED and pid.isdigit() and self._adopt(key, int(pid)):
            return int(pid)
        await asyncio.to_thread(self.places.purge, key)
        if not self._running:
            self.places.drop_pivot()
        if word == STARTED:
            raise Internal("The container ended as soon as it was started")
        reason = preparation.complaint(self.places, key) or said.partition(": ")[2] or "the start was cut off"
        raise Internal(f"Failed to start the container: {reason}")

    def _probe(self) -> lxcconfig.Host:
        points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return lxcconfig.probe(self.layout.unified, self.layout.get("devices") is not None, mounted=points)

    def _cpus_for(self, config: Mapping[str, str]) -> set[int] | None:
        return cgroups.choose_cpus(
            config.get("limits.cpu", ""), self.machine.cpus, [f.cpus for f in self._running.values()]
        )

    # -- the watch

    def _adopt(self, key: Key, pid: int) -> bool:
        """Watch a container by its init; false if that has ended."""
        try:
            init = Watched(pid)
        except ProcessLookupError:
            return False
        try:
            if not process.is_in_group(pid, self.places.payload(key)):
                raise ProcessLookupError(pid)
            monitor, since = Watched(process.parent(pid)), process.since(pid)
        except ProcessLookupError:
            init.close()
            return False
        groups = self.groups(key)
        bound = cgroups.cpu_set(groups.read("cpuset", "cpuset.cpus"))
        cpus = frozenset() if bound >= set(self.machine.cpus) else frozenset(bound)
        found = Running(init, monitor, since, groups, cpus, asyncio.Event())
        self._running[key] = found
        task = asyncio.ensure_future(self._watch(key, found))
        self._watches.add(task)
        task.add_done_callback(self._watches.discard)
        return True

    async def _watch(self, key: Key, found: Running) -> None:
        """Wait for the end of both, then clear up and tell."""
        await asyncio.wait((found.init.ended, found.monitor.ended), return_when=asyncio.FIRST_COMPLETED)
        if not await found.monitor.wait(LINGER):
            found.monitor.signal(signal.SIGKILL)
        if not found.init.ended.done():  # the monitor was killed; the kernel kills its init with it
            found.init.signal(signal.SIGKILL)
            await found.init.wait(LINGER)
        found.init.close()
        found.monitor.close()
        target = self._target(key)
        with suppress(OSError):  # what cannot be cleared now is by the next start or the next life
            await asyncio.to_thread(self.places.purge, key)
        del self._running[key]
        if not self._running:
            self.places.drop_pivot()
        found.gone.set()
        self._on_exit(key, Exit(target, found.init.pid))

    def _target(self, key: Key) -> Literal["stop", "reboot"]:
        with suppress(OSError):
            if (self.folder(key) / lxcconfig.TARGET).read_text().strip() == "reboot":
                return "reboot"
        return "stop"

    # -- stop

    async def shutdown(self, key: Key, timeout: float | None = None) -> bool:
        """Ask its init to stop; whether it went down within `timeout` seconds. One that is stopped has done so."""
        return await self._ask(key, "lxc.signal.halt", HALT, signal.SIGPWR, timeout)

    async def reboot(self, key: Key, timeout: float | None = 0.0) -> bool:
        """Ask its init to reboot; the end that follows has the target "reboot"."""
        return await self._ask(key, "lxc.signal.reboot", REBOOT, signal.SIGINT, timeout)

    async def _ask(self, key: Key, setting: str, modern: int, classic: int, timeout: float | None) -> bool:
        found = self._running.get(key)
        if found is None:
            return True
        number = self._configured_signal(key, setting)
        if number is None:
            number = modern if process.blocks(found.init.pid, modern) else classic
        found.init.signal(number)
        with suppress(TimeoutError):
            await asyncio.wait_for(found.gone.wait(), timeout)
        return found.gone.is_set()

    def _configured_signal(self, key: Key, setting: str) -> int | None:
        """From raw.lxc: a number, "SIGTERM", "SIGRTMIN+3"."""
        with suppress(OSError):
            for line in reversed((self.folder(key) / lxcconfig.CONFIG).read_text().splitlines()):
                name, _, value = line.partition("=")
                if name.strip() == setting:
                    return process.signal_number(value.strip())
        return None

    async def kill(self, key: Key) -> None:
        """Stop it by force. Returns when nothing of it is left; may be called at any time."""
        if key not in self._running:
            async with self._turn(key):
                if key not in self._running:
                    await asyncio.to_thread(self.places.purge, key)
        found = self._running.get(key)
        if found is None:
            return
        found.init.signal(signal.SIGKILL)
        with suppress(OSError, Internal):
            found.groups.set_frozen(False)
        try:
            await asyncio.wait_for(found.gone.wait(), STUBBORN)
        except TimeoutError:
            raise Internal(
                f"The container did not end within {STUBBORN:g}s (a process that cannot be killed?)"
            ) from None

    # -- freeze

    async def freeze(self, key: Key) -> None:
        """Raises Internal if it cannot be done in time; it runs on then."""
        await self._set_frozen(key, True)

    async def unfreeze(self, key: Key) -> None:
        await self._set_frozen(key, False)

    async def _set_frozen(self, key: Key, frozen: bool) -> None:
        found = self._need(key)
        deadline = asyncio.get_running_loop().time() + FREEZING
        try:
            found.groups.set_frozen(frozen)
            while found.groups.frozen != frozen:
                if asyncio.get_running_loop().time() > deadline:
                    found.groups.set_frozen(False)
                    raise Internal(f"Failed to {'freeze' if frozen else 'unfreeze'} within {FREEZING:g}s")
                await asyncio.sleep(POLL)
        except OSError as error:
            raise Internal(f"Failed to {'freeze' if frozen else 'unfreeze'}: {error.strerror}") from None

    # -- limits

    async def apply_limits(self, key: Key, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        """Make a running container go by new limits.*. Raises Internal naming file and value."""
        found = self._running.get(key)
        if found is None:
            return
        bound = set(found.cpus) or None
        cpus = self._cpus_for(new) if old.get("limits.cpu") != new.get("limits.cpu") else bound
        before, after = (cgroups.plan(c, self.machine, n, complete=True) for c, n in ((old, bound), (new, cpus)))
        await asyncio.to_thread(found.groups.apply, cgroups.changed(before, after))
        found.cpus = frozenset(cpus or ())
        if settings.of(old) != settings.of(new):
            await asyncio.to_thread(settings.write, str(self.folder(key)), settings.of(new))

    # -- devices

    async def attach_nic(self, key: Key, nic: NicSpec) -> None:
        """Done already is as good. Raises Internal."""
        what = f'Failed to attach the interface "{nic.guest_name}"'
        await self._change(key, lambda init: hotplug.attach_nic(init, nic), what)

    async def detach_nic(self, key: Key, guest_name: str, back_as: str = "") -> None:
        """A link made for the container is deleted, another goes home as `back_as`. Done already is as good. Raises Internal."""
        if key in self._running:
            what = f'Failed to detach "{guest_name}"'
            await self._change(key, lambda init: hotplug.detach_nic(init, guest_name, back_as), what)

    async def attach_mount(self, key: Key, mount: MountSpec) -> None:
        """Raises Internal."""
        idmap = idmap_of_process(self._need(key).init.pid)
        what = f'Failed to mount "{mount.source}"'
        await self._change(key, lambda init: hotplug.attach_mount(init, mount, idmap), what, idmap)

    async def detach_mount(self, key: Key, target: str) -> None:
        """Done already is as good. Raises Internal."""
        if key in self._running:
            await self._change(key, lambda init: hotplug.detach_mount(init, target), f'Failed to unmount "{target}"')

    async def _change(
        self, key: Key, work: Callable[[Watched], None], failure: str, idmap: IdMap | None = None
    ) -> None:
        """In a thread that does nothing else."""
        init = self._need(key).init
        worker = Worker((idmap.to_host("u", 0) or 0, idmap.to_host("g", 0) or 0) if idmap is not None else None)
        try:
            await worker.do(lambda: work(init))
        except OSError as error:
            raise Internal(f"{failure}: {error.strerror}") from None
        finally:
            worker.close()

    # -- folders

    async def rename(self, old: Key, new: Key) -> None:
        """Of a stopped one. Done already is as good."""
        if self.folder(old).exists():
            self.folder(old).rename(self.folder(new))

    async def forget(self, key: Key) -> None:
        """Remove its folder. Done already is as good. Raises Internal if something is still mounted in it."""
        await asyncio.to_thread(preparation.discard, self.folder(key))
        self._turns.pop(key, None)
