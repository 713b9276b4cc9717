"""What instances and profiles refer to: networks, volumes, pools, images, profiles, projects. Asked by those who own them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from chassis.calls import Call
from gen.nubibus.rest.v1 import rest_pb2
from services.instances import names
from services.instances.keys import volatile
from services.instances.parts import Parts
from services.instances.projects import DEFAULT


class References:
    service: ClassVar[str] = "nubibus.rest.v1.References"

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    async def Find(self, request: rest_pb2.UsedByRequest, call: Call) -> rest_pb2.UsedBy:
        return rest_pb2.UsedBy(urls=sorted(set(self._users(request.kind, request.project or DEFAULT, request.name))))

    def _users(self, kind: str, project: str, name: str) -> Iterator[str]:
        if kind == "profile":
            members = self.parts.roster.using_profile(project, name)
            yield from (names.instance_url(member.value.project, member.value.name) for member in members)
        elif kind == "image":
            for member in self.parts.roster.select(project):
                if member.value.config.get(volatile.BASE_IMAGE.name) == name:
                    yield names.instance_url(member.value.project, member.value.name)
        elif kind == "project":
            yield from self._of_project(name)
        else:
            yield from self._by_device(kind, project, name)

    def _of_project(self, project: str) -> Iterator[str]:
        for member in self.parts.roster.select(project):
            yield names.instance_url(project, member.value.name)
        for row in self.parts.roster.profiles.select(project):
            yield names.profile_url(project, row.value.name)

    def _by_device(self, kind: str, project: str, name: str) -> Iterator[str]:
        everywhere = kind == "storage-pool"
        for member in self.parts.roster.select():
            if (everywhere or self._sees(kind, member.value.project, project)) and _uses(
                kind, member.expanded.devices, name
            ):
                yield names.instance_url(member.value.project, member.value.name)
        for row in self.parts.roster.profiles.select():
            if (everywhere or self._sees(kind, row.value.project, project)) and _uses(kind, row.value.devices, name):
                yield names.profile_url(row.value.project, row.value.name)

    def _sees(self, kind: str, user: str, project: str) -> bool:
        """Whether what stands in project `project` is what a name means in project `user`."""
        feature = "networks" if kind.startswith("network") else "storage.volumes"
        return (user if self.parts.roster.projects.has(user, feature) else DEFAULT) == project


def _uses(kind: str, devices: Mapping[str, Mapping[str, str]], name: str) -> bool:
    return any(_one_uses(kind, device, name) for device in devices.values())


def _one_uses(kind: str, device: Mapping[str, str], name: str) -> bool:
    if kind == "network":
        return device.get("type") == "nic" and name in (device.get("network"), device.get("parent"))
    if kind == "network-acl":
        return device.get("type") == "nic" and name in [
            acl.strip() for acl in device.get("security.acls", "").split(",")
        ]
    if device.get("type") != "disk":
        return False
    if kind == "storage-pool":
        return device.get("pool") == name
    pool, _, volume = name.rpartition("/")
    return device.get("source") == volume and (not pool or device.get("pool") == pool)
