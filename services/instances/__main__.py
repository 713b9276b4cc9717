"""The instances service: wiring only."""

from __future__ import annotations

from chassis import service
from chassis.cancellation import Cancellation
from chassis.sagas import Sagas
from chassis.service import Part
from chassis.sockets import Sockets
from chassis.troubles import Troubles
from rows.instance import SNAPSHOT
from services.instances.backupfile import BackupFiles
from services.instances.boot import Boot
from services.instances.exits import Exits
from services.instances.host import layout
from services.instances.host.containers import Containers
from services.instances.host.spec import Exit, Key
from services.instances.host.starter import Starter
from services.instances.neighbours import Images, Nics, Volumes
from services.instances.parts import Parts
from services.instances.profile import DefaultProfiles, Profiles
from services.instances.projects import Projects
from services.instances.roster import Roster
from services.instances.sagas import SAGAS
from services.instances.servicer import InstanceServicer


async def wire(part: Part) -> None:
    starter = Starter.spawn()
    watchers: list[Exits] = []

    def on_exit(key: Key, exit_: Exit) -> None:
        for exits in watchers:
            exits.note(key, exit_)

    host = Containers(part.directory, starter, on_exit)
    parts = Parts(
        store=part.store,
        roster=Roster(part.store, Projects(part.store), host),
        host=host,
        volumes=Volumes(),
        nics=Nics(),
        images=Images(),
        snapshots=part.store.mirror(SNAPSHOT),
        directory=part.directory,
        member=part.member,
    )
    parts.sagas = Sagas(part.store, part.name, SAGAS, parts=parts, member=part.member)
    exits, sockets, default_profiles = Exits(parts), Sockets(), DefaultProfiles(parts)
    boot, backup_files = Boot(parts, exits), BackupFiles(parts)
    boot.tell = Troubles("Failed to autostart instance", "low", part.member).tell
    watchers.append(exits)
    instances = InstanceServicer(parts, sockets)
    part.serve(instances, Profiles(parts), Cancellation(parts.sagas.cancel), boot, sockets)
    part.need("cgroups", layout.lacks)
    for hook in (host.open, default_profiles.ensure, boot.converge, parts.sagas.start):
        part.before_ready(hook)
    for task in (boot.keep, backup_files.keep, default_profiles.keep):
        part.keep(task)

    async def close_starter() -> None:
        starter.close()

    for ending in (close_starter, host.close, exits.close, parts.sagas.stop, instances.close):
        part.at_end(ending)


if __name__ == "__main__":
    service.main("instances", wire)
