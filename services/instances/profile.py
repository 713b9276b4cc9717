"""Profiles: configuration and devices that instances share, applied in order below their own.

What always holds: the default project has a profile "default", which can be neither renamed nor deleted, and so has every project with
profiles of its own; a profile in use is not deleted; a change reaches the running instances that use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import msgspec
import structlog

from chassis import documents, listing, references
from chassis.calls import Call
from chassis.errors import BadRequest, Conflict, Fault, Forbidden, Internal, NotFound
from chassis.key_types import quote
from chassis.operations import SUCCESS, requestor_of
from chassis.store import Change, Versioned
from gen.nubibus.instances.v1 import profile_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows.profile import PROFILE, Profile
from services.instances import allowed, keys, names, rules
from services.instances import change as changes
from services.instances.body import ProfileBody, given, read, set_keys
from services.instances.expansion import Expanded, expand, root_disk
from services.instances.occurrences import of_instance, of_profile
from services.instances.parts import Parts
from services.instances.projects import DEFAULT
from services.instances.roster import Member
from services.instances.sagas import reach, rename_profile

BREATH = 32  # instances that are looked at in one turn
log = structlog.get_logger()

TRIES = 5
Become = Callable[[Profile, ProfileBody], Profile]


def check(profile: Profile) -> None:
    """The profile by itself. Raises BadRequest in LXD's words."""
    keys.validate_profile(profile.config)
    rules.check_merged(profile.config)
    try:
        rules.check_devices(profile.devices)
    except Internal as fault:
        raise BadRequest(fault.text.removeprefix("Invalid devices: ")) from None


def editable(profile: Profile) -> dict[str, Any]:
    return {"config": profile.config, "description": profile.description, "devices": profile.devices}


class Profiles:
    """The servicer."""

    service: ClassVar[str] = "nubibus.instances.v1.Profiles"

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.roster = parts.roster

    # Reading.

    def _holder(self, project: str) -> str:
        asked = project or DEFAULT
        self.roster.projects.require(asked, f"Failed loading project {quote(asked)}")
        return self.roster.projects.of_profiles(asked)

    def _one(self, project: str, name: str) -> Versioned[Profile]:
        row = self.roster.profiles.get(self._holder(project), name)
        if row is None:
            raise NotFound("Profile not found")
        return row

    def _free(self, project: str, name: str) -> Versioned[Profile]:
        """The profile, to be changed: nobody may be renaming it."""
        row = self._one(project, name)
        self.parts.sagas.operations.refuse_busy(rename_profile.locks(row.value.project, name))
        return row

    def describe(self, profile: Profile) -> dict[str, Any]:
        users = self.roster.users_of(profile.project, profile.name)
        return {
            "config": dict(sorted(profile.config.items())),
            "description": profile.description,
            "devices": profile.devices,
            "name": profile.name,
            "used_by": references.visible(names.instance_url(*user) for user in users),
        }

    async def List(self, request: profile_pb2.ListProfilesRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        rows = sorted(self.roster.profiles.select(self._holder(request.project)), key=lambda row: row.key)
        wanted = listing.parse_filter(request.filter)
        found = [self.describe(row.value) for row in rows] if request.recursion or wanted else []
        if wanted:
            found = [profile for profile in found if wanted.matches(profile)]
        if request.recursion:
            pieces = [documents.render(profile) for profile in found]
        else:
            listed = [profile["name"] for profile in found] if wanted else [row.value.name for row in rows]
            pieces = [documents.render(names.profile_url(request.project or DEFAULT, name)) for name in listed]
        async for chunk in listing.chunks(pieces):
            yield chunk

    async def Get(self, request: profile_pb2.ProfileRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.project, request.name)
        return documents.document(self.describe(row.value), editable=editable(row.value), revision=row.revision)

    # Changing.

    async def Create(self, request: profile_pb2.CreateProfileRequest, call: Call) -> rest_pb2.Document:
        body: ProfileBody = read(request.body, ProfileBody)
        profile = Profile(
            project=self._holder(request.project),
            name=names.profile_name(body.name),
            description=given(body.description, ""),
            config=set_keys(given(body.config, {})),
            devices=given(body.devices, {}),
        )
        check(profile)
        exists = Internal(f'Error inserting "{profile.name}" into database: The profile already exists')
        if self.roster.profiles.get(profile.project, profile.name) is not None:
            raise exists
        put = Change().put(PROFILE, profile, expect=0)
        put.event(
            of_profile(
                "profile-created", profile.project, profile.name, requestor=requestor_of(), location=self.parts.member
            )
        )
        try:
            revision = await self.parts.store.commit(put)
        except Conflict:
            raise exists from None
        return documents.empty(location=f"/1.0/profiles/{profile.name}", revision=revision)

    async def Put(self, request: profile_pb2.PutProfileRequest, call: Call) -> rest_pb2.Document:
        return await self._changed(request, _replaced)

    async def Patch(self, request: profile_pb2.PutProfileRequest, call: Call) -> rest_pb2.Document:
        return await self._changed(request, _patched)

    async def _changed(self, request: profile_pb2.PutProfileRequest, become: Become) -> rest_pb2.Document:
        """Tried anew when something that it was judged by has changed in the meantime."""
        for attempt in range(TRIES):
            row, body = self._asked(request)
            try:
                return await self._update(row, become(row.value, body))
            except Conflict:
                if attempt == TRIES - 1:
                    raise
                await self.parts.store.refresh()
        raise AssertionError("unreachable")

    def _asked(self, request: profile_pb2.PutProfileRequest) -> tuple[Versioned[Profile], ProfileBody]:
        row = self._free(request.project, request.name)
        documents.check_if_match(request.if_match, documents.etag_of(editable(row.value)))
        return row, read(request.body, ProfileBody)

    async def _update(self, row: Versioned[Profile], new: Profile) -> rest_pb2.Document:
        try:
            check(new)
        except BadRequest as fault:
            raise Internal(fault.text) from None
        users = [(member, self._expanded_with(member, new)) async for member in self._users(new)]
        _refuse_rootless(users)
        await self._check_users(new, users)
        put = Change().put(PROFILE, new, expect=row.revision)
        self._take_room(put, users)
        return documents.empty(revision=await self._follow(put, row.value, new, users))

    async def _users(self, profile: Profile) -> AsyncIterator[Member]:
        """The instances that use it. With thousands of them, others get their turn in between."""
        for number, member in enumerate(self.roster.using_profile(profile.project, profile.name)):
            if not number % BREATH:
                await asyncio.sleep(0)
            yield member

    def _expanded_with(self, member: Member, new: Profile) -> Expanded:
        """What the instance will be when the profile is this."""
        profiles = [
            new if profile.name == new.name else profile
            for profile in self.roster.profiles_of(member.value.project, member.value.profiles)
        ]
        return expand(profiles, member.value.config, member.value.devices)

    async def _check_users(self, new: Profile, users: list[tuple[Member, Expanded]]) -> None:
        """It, and what its instances become, against their projects; its devices against this server, once for all who use it."""
        allowed.check_profile(self.parts, new.project, new.name, new.config, new.devices)
        for number, (member, expanded) in enumerate(users):
            if not number % BREATH:
                await asyncio.sleep(0)
            held = allowed.held(member.value, expanded)
            allowed.check_restrictions(self.parts, member.value.project, held, allowed.PROFILE)
        if users and new.devices:
            member, expanded = users[0]
            only = Expanded(expanded.config, {**new.devices, **rules.root_of(expanded.devices)})
            await rules.validate_expanded(
                self.parts, member.value.project, member.value.name, member.value.type, member.value.config, only
            )

    def _take_room(self, put: Change, users: list[tuple[Member, Expanded]]) -> None:
        """In each project whose instances use the profile."""
        for project in sorted({member.value.project for member, _ in users}):
            held = [allowed.held(member.value, new) for member, new in users if member.value.project == project]
            self.roster.room.take(put, project, allowed.PROFILE, held)

    async def _follow(self, put: Change, before: Profile, after: Profile, users: list[tuple[Member, Expanded]]) -> int:
        """Write the profile and tell of all that follow it; as one operation when something runs that must change, or many
        follow. LXD tells of those that failed and so do we."""
        told: list[tuple[str, str]] = []
        reached: list[tuple[str, str]] = []
        for member, expanded in users:
            place = reached if changes.needs_host(self.parts, member, expanded) else told
            place.append((member.value.project, member.value.name))
        by, location = requestor_of(), self.parts.member
        if not reached and len(told) <= reach.AT_ONCE:
            for project, name in told:
                put.event(of_instance("instance-updated", project, name, requestor=by, location=location))
            put.event(of_profile("profile-updated", after.project, after.name, requestor=by, location=location))
            return await self.parts.store.commit(put)
        sagas = self.parts.sagas
        arguments = reach.arguments(before, after, reached=reached, told=told)
        accepted = await sagas.accept(reach.SAGA, arguments, project=users[0][0].value.project, change=put, waited="")
        ended = await sagas.operations.wait(accepted.id)
        if ended.status_code != SUCCESS:
            raise Internal(ended.err)
        return accepted.revision

    async def Rename(self, request: profile_pb2.PutProfileRequest, call: Call) -> rest_pb2.Document:
        if request.name == DEFAULT:
            raise Forbidden('The "default" profile cannot be renamed')
        body: ProfileBody = read(request.body, ProfileBody)
        new_name = names.profile_name(body.name)
        row = self._free(request.project, request.name)
        if self.roster.profiles.get(row.value.project, new_name) is not None:
            raise Internal(f'Name "{new_name}" already in use')
        project, old = row.value.project, row.value.name
        if len(self.roster.users_of(project, old)) > rename_profile.AT_ONCE:
            return await self._rename_slowly(project, old, new_name)
        put = Change().delete(PROFILE, row.key, expect=row.revision)
        put.put(PROFILE, msgspec.structs.replace(row.value, name=new_name), expect=0)
        rename_profile.moved(put, self.roster, project, old, new_name)
        by, location = requestor_of(), self.parts.member
        put.event(
            of_profile("profile-renamed", project, new_name, requestor=by, context={"old_name": old}, location=location)
        )
        revision = await self.parts.store.commit(put)
        return documents.empty(location=f"/1.0/profiles/{new_name}", revision=revision)

    async def _rename_slowly(self, project: str, old: str, new: str) -> rest_pb2.Document:
        sagas = self.parts.sagas
        arguments = rename_profile.arguments(project, old, new)
        locked = rename_profile.locks(project, old, new)
        where = f"/1.0/profiles/{new}"
        accepted = await sagas.accept(rename_profile.SAGA, arguments, project=project, locks=locked, waited=where)
        ended = await sagas.operations.wait(accepted.id)
        if ended.status_code != SUCCESS:
            raise Internal(ended.err)
        return documents.empty(location=where, revision=self.parts.store.revision)

    async def Delete(self, request: profile_pb2.ProfileRequest, call: Call) -> rest_pb2.Document:
        if request.name == DEFAULT:
            raise Forbidden('The "default" profile cannot be deleted')
        row = self._free(request.project, request.name)
        if self.roster.users_of(row.value.project, row.value.name):
            raise Internal("Profile is currently in use")
        put = Change().delete(PROFILE, row.key, expect=row.revision)
        put.event(
            of_profile(
                "profile-deleted",
                row.value.project,
                row.value.name,
                requestor=requestor_of(),
                location=self.parts.member,
            )
        )
        return documents.empty(revision=await self.parts.store.commit(put))


def _replaced(profile: Profile, body: ProfileBody) -> Profile:
    """PUT: the whole editable part."""
    return msgspec.structs.replace(
        profile,
        description=given(body.description, ""),
        config=set_keys(given(body.config, {})),
        devices=given(body.devices, {}),
    )


def _patched(profile: Profile, body: ProfileBody) -> Profile:
    """PATCH: what was given, over the rest."""
    return msgspec.structs.replace(
        profile,
        description=given(body.description, profile.description),
        config=set_keys({**profile.config, **given(body.config, {})}),
        devices={**profile.devices, **given(body.devices, {})},
    )


def _refuse_rootless(users: list[tuple[Member, Expanded]]) -> None:
    for _member, expanded in users:
        try:
            root_disk(expanded.active)
        except ValueError:
            raise Internal("At least one instance relies on this profile's root disk device") from None


class DefaultProfiles:
    """Every project with profiles of its own has a profile "default": made when the project appears, gone when it goes."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.woken = asyncio.Event()
        self.gone: set[str] = set()
        parts.roster.projects.rows.watch(self._note)

    def _note(self, key: tuple[str, ...], old: object, new: object) -> None:
        if new is None:
            self.gone.add(key[0])
        else:
            self.gone.discard(key[0])
        self.woken.set()

    async def ensure(self) -> None:
        parts = self.parts
        projects = {row.value.name for row in parts.roster.projects.rows.select()} | {DEFAULT}
        wanted = {name for name in projects if parts.roster.projects.of_profiles(name) == name}
        for name in sorted(wanted):
            if parts.roster.profiles.get(name, DEFAULT) is None:
                text = "Default LXD profile" if name == DEFAULT else f"Default LXD profile for project {name}"
                await self._commit(
                    Change().put(PROFILE, Profile(project=name, name=DEFAULT, description=text), expect=0)
                )
        for row in list(parts.roster.profiles.select()):
            if row.value.project in self.gone:
                await self._commit(Change().delete(PROFILE, row.key, expect=row.revision))

    async def _commit(self, change: Change) -> None:
        try:
            await self.parts.store.commit(change)
        except Conflict:
            self.woken.set()

    async def keep(self) -> None:
        while True:
            await self.woken.wait()
            self.woken.clear()
            try:
                await self.ensure()
            except Fault as fault:
                log.warning("default profiles could not be made", error=fault.text)
                await asyncio.sleep(1)
                self.woken.set()
