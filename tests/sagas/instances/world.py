"""The host, storage, network and images of an instance, as its sagas see them: kept in memory, alive across a kill of the service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chassis.errors import NotFound
from chassis.sagas import Sagas
from chassis.store import Change, Store
from rows.instance import INSTANCE, SNAPSHOT, Instance
from rows.profile import PROFILE, Profile
from rows.storage import POOL, Pool
from services.instances.host.spec import Key, Live, MountSpec, NicSpec, Spec
from services.instances.neighbours import AttachedNic, Image, NicOf, VolumeId
from services.instances.parts import Parts
from services.instances.projects import Projects
from services.instances.roster import Roster

IDMAP = '[{"Isuid":true,"Isgid":false,"Hostid":1000000,"Nsid":0,"Maprange":65536}]'
DEVICES = {"root": {"type": "disk", "path": "/", "pool": "p"}, "eth0": {"type": "nic", "nictype": "p2p"}}
IMAGE = Image("default", "f" * 64, "container", "x86_64", {"os": "busybox"}, ("default",))


class FakeHost:
    """What `Containers` does, without a kernel."""

    def __init__(self) -> None:
        self.running: dict[Key, Live] = {}
        self.folders: set[Key] = set()
        self.nics: set[tuple[Key, str]] = set()
        self.mounts: set[tuple[Key, str]] = set()
        self.limits: dict[Key, dict[str, str]] = {}
        self.specs: dict[Key, Spec] = {}
        self.pid = 1000

    def state(self, key: Key) -> Live | None:
        return self.running.get(key)

    async def start(self, spec: Spec) -> int:
        self.specs[spec.key] = spec
        if spec.key not in self.running:
            self.pid += 1
            self.running[spec.key] = Live(self.pid, False, 0.0)
            self.folders.add(spec.key)
            self.nics |= {(spec.key, nic.guest_name) for nic in spec.nics}
        return self.running[spec.key].pid

    async def kill(self, key: Key) -> None:
        self.running.pop(key, None)
        self.nics = {nic for nic in self.nics if nic[0] != key}
        self.mounts = {mount for mount in self.mounts if mount[0] != key}

    async def shutdown(self, key: Key, timeout: float | None = None) -> bool:
        await self.kill(key)
        return True

    async def freeze(self, key: Key) -> None:
        self.running[key] = Live(self.running[key].pid, True, 0.0)

    async def unfreeze(self, key: Key) -> None:
        self.running[key] = Live(self.running[key].pid, False, 0.0)

    async def rename(self, old: Key, new: Key) -> None:
        if old in self.folders:
            self.folders.remove(old)
            self.folders.add(new)

    async def forget(self, key: Key) -> None:
        self.folders.discard(key)

    async def attach_nic(self, key: Key, nic: NicSpec) -> None:
        self.nics.add((key, nic.guest_name))

    async def detach_nic(self, key: Key, guest_name: str) -> None:
        self.nics.discard((key, guest_name))

    async def attach_mount(self, key: Key, mount: MountSpec) -> None:
        self.mounts.add((key, mount.target))

    async def detach_mount(self, key: Key, target: str) -> None:
        self.mounts.discard((key, target))

    async def apply_limits(self, key: Key, old: Mapping[str, str], new: Mapping[str, str]) -> None:
        self.limits[key] = {name: text for name, text in new.items() if name.startswith("limits.")}


class FakeVolumes:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.volumes: set[VolumeId] = set()
        self.mounted: set[VolumeId] = set()

    def path(self, volume: VolumeId) -> Path:
        path = self.folder / volume.pool / volume.project / volume.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    async def ensure(self, volume: VolumeId, config: Mapping[str, str], *, image: str = "") -> Path:
        self.volumes.add(volume)
        return self.path(volume)

    async def mount(self, volume: VolumeId) -> Path:
        if volume not in self.volumes:
            raise NotFound("Storage volume not found")
        self.mounted.add(volume)
        return self.path(volume)

    async def unmount(self, volume: VolumeId) -> None:
        self.mounted.discard(volume)

    async def remove(self, volume: VolumeId) -> None:
        self.mounted.discard(volume)
        self.volumes.discard(volume)

    async def rename(self, volume: VolumeId, target: VolumeId) -> Path:
        if volume in self.volumes:
            self.volumes.remove(volume)
            self.volumes.add(target)
        return self.path(target)

    async def usage(self, volume: VolumeId) -> tuple[int, int] | None:
        return None

    async def set_quota(self, volume: VolumeId, size: str) -> None:
        return None


class FakeNics:
    def __init__(self) -> None:
        self.links: dict[str, tuple[str, str]] = {}  # host name -> (instance, device)

    async def attach(self, nic: NicOf) -> AttachedNic:
        host = nic.config.get("host_name") or nic.volatile["host_name"]
        self.links[host] = (nic.instance, nic.device)
        return AttachedNic(host, f"{host}p", nic.volatile.get("hwaddr", ""), 1500, {}, "")

    async def detach(self, nic: NicOf) -> None:
        self.links.pop(nic.config.get("host_name") or nic.volatile.get("host_name", ""), None)

    async def update(self, nic: NicOf) -> None:
        return None

    async def forget(self, nic: NicOf) -> None:
        return None

    async def validate(
        self, project: str, instance: str, device: str, config: Mapping[str, str], instance_type: str
    ) -> None:
        return None


class FakeImages:
    def __init__(self) -> None:
        self.images = {IMAGE.fingerprint: IMAGE}

    async def resolve(
        self,
        project: str,
        *,
        fingerprint: str = "",
        alias: str = "",
        properties: Mapping[str, str] | None = None,
        type_: str = "",
    ) -> Image:
        if fingerprint not in self.images:
            raise NotFound("Image not found")
        return self.images[fingerprint]

    async def used(self, project: str, fingerprint: str) -> None:
        return None


def instance(**fields: Any) -> Instance:
    config = {"volatile.idmap.next": IDMAP, "volatile.eth0.hwaddr": "00:16:3e:00:00:01", **fields.pop("config", {})}
    return Instance(
        **{
            "project": "default",
            "name": "c1",
            "uid": "u1",
            "profiles": ("default",),
            "devices": DEVICES,
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "config": config,
            **fields,
        }
    )


class InstanceWorld:
    """One run of one saga. `rows` are the instances that exist before, `running` those of them that run."""

    def __init__(
        self,
        folder: Path,
        args: dict[str, Any],
        *,
        rows: tuple[Instance, ...] = (),
        running: bool = False,
        achieved: Callable[[InstanceWorld], list[str]] = lambda world: [],
        locks: tuple[tuple[str, str, str], ...] = (("instance", "default", "c1"),),
    ) -> None:
        self.args = args
        self.locks = locks
        self.rows = rows
        self.is_running = running
        self.check = achieved
        self.folder = folder
        self.host = FakeHost()
        self.volumes = FakeVolumes(folder)
        self.nics = FakeNics()
        self.images = FakeImages()
        self.store: Store | None = None
        self.before: dict[str, Any] = {}

    def parts(self, store: Store) -> Parts:
        self.store = store
        parts = Parts(
            store=store,
            roster=Roster(store, Projects(store), self.host),  # type: ignore[arg-type]
            host=self.host,  # type: ignore[arg-type]
            volumes=self.volumes,  # type: ignore[arg-type]
            nics=self.nics,  # type: ignore[arg-type]
            images=self.images,  # type: ignore[arg-type]
            snapshots=store.mirror(SNAPSHOT),
            directory=self.folder,
        )
        parts.sagas = Sagas(store, "other", [])
        return parts

    async def given(self, store: Store) -> None:
        change = Change()
        change.put(PROFILE, Profile(project="default", name="default"), expect=0)
        change.put(POOL, Pool(name="p", driver="dir"), expect=0)
        for row in self.rows:
            change.put(INSTANCE, row, expect=0)
            volume = VolumeId("p", row.project, row.type, row.name)
            self.volumes.volumes.add(volume)
            self.host.folders.add(Key(row.project, row.name))
            if self.is_running:
                self.host.running[Key(row.project, row.name)] = Live(7, False, 0.0)
                self.host.nics.add((Key(row.project, row.name), "eth0"))
                self.nics.links["veth0"] = (row.name, "eth0")
                self.volumes.mounted.add(volume)
        await store.commit(change)
        self.before = self.things()

    def things(self) -> dict[str, Any]:
        """Everything that exists, by kind."""
        assert self.store is not None
        return {
            "instance": {row.key for row in self.store.mirror(INSTANCE).select()},
            "volume": set(self.volumes.volumes),
            "link": set(self.nics.links.values()),
            "container": set(self.host.running),
            "folder": set(self.host.folders),
            "nic": set(self.host.nics),
            "mount": set(self.host.mounts),
        }

    def leftovers(self) -> list[str]:
        return [f"{kind} {found}" for kind, things in self.things().items() for found in things - self.before[kind]]

    def achieved(self) -> list[str]:
        return self.check(self)

    def row(self, name: str = "c1", project: str = "default") -> Instance | None:
        assert self.store is not None
        found = self.store.mirror(INSTANCE).get(project, name)
        return found.value if found else None
