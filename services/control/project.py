"""Projects: made, changed, renamed and deleted; what they hold and use."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from chassis import documents, errors, listing
from chassis.calls import Call
from chassis.events import Event, lifecycle
from chassis.key_types import is_true
from chassis.operation import requestor_of
from chassis.operations import Operations
from chassis.store import Change, Store, Versioned
from gen.nubibus.control.v1 import control_pb2
from gen.nubibus.rest.v1 import rest_pb2
from rows import limits, restrictions
from rows.control import CERTIFICATE, PROJECT, Project
from rows.profile import PROFILE, Profile
from services.control import project_keys
from services.control.holdings import Holdings
from services.control.requests import field, read_object, texts

DEFAULT = "default"
FEATURE_PROFILES = "features.profiles"


class Projects:
    """Answers for nubibus.control.v1.Projects."""

    service: ClassVar[str] = "nubibus.control.v1.Projects"

    def __init__(self, store: Store, holdings: Holdings, operations: Operations) -> None:
        self.store = store
        self.rows = store.mirror(PROJECT)
        self.certificates = store.mirror(CERTIFICATE)
        self.holdings = holdings
        self.operations = operations

    async def ensure_default(self) -> None:
        """The default project is there from the first start on."""
        if self.rows.get(DEFAULT) is None:
            config = dict.fromkeys(project_keys.FEATURES, "true")
            made = Project(name=DEFAULT, description="Default LXD project", config=config)
            await self.store.commit(Change().put(PROJECT, made, expect=0))

    # Reading.

    async def List(self, request: control_pb2.PlainListRequest, call: Call) -> AsyncIterator[rest_pb2.Chunk]:
        rows = [row.value for row in self.rows.select() if call.caller.may_see(row.value.name)]
        rows.sort(key=lambda project: (project.name != DEFAULT, project.name))
        async for chunk in listing.chunks(listing.pieces(rows, request, self._shown, _url)):
            yield chunk

    async def Get(self, request: control_pb2.NameRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.name, call)
        return documents.document(self._shown(row.value), editable=_editable(row.value), revision=row.revision)

    async def State(self, request: control_pb2.NameRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.name, call, "Fetch project database object: ")
        config, usage = row.value.config, self.holdings.usage(row.value.name)
        resources = {
            name: {"Limit": project_keys.limit(config, f"limits.{name}"), "Usage": used} for name, used in usage.items()
        }
        return documents.document({"resources": resources}, revision=row.revision)

    def _one(self, name: str, call: Call, prefix: str = "") -> Versioned[Project]:
        if not call.caller.may_see(name):
            raise errors.Forbidden("not authorized")
        row = self.rows.get(name)
        if row is None:
            raise errors.NotFound(f"{prefix}Project not found")
        return row

    def _shown(self, project: Project) -> dict[str, Any]:
        return {**_editable(project), "name": project.name, "used_by": self.holdings.urls(project.name)}

    # Making and changing.

    async def Create(self, request: control_pb2.CreateRequest, call: Call) -> rest_pb2.Document:
        body = read_object(request.body)
        name = field(body, "name", str, "", "ProjectsPost")
        check_name(name)
        given = texts(body, "config", "ProjectsPost")
        config = {**dict.fromkeys(project_keys.ON_BY_DEFAULT, "true"), **given}
        project_keys.validate(config)
        project = Project(name=name, description=field(body, "description", str, "", "ProjectsPost"), config=config)
        if self.rows.get(name) is not None:
            raise _exists(name)
        change = Change().put(PROJECT, project, expect=0)
        self._follow_profiles(change, name, wanted=is_true(config[FEATURE_PROFILES]))
        change.event(_event("project-created", project))
        return documents.empty(location=_url(project), revision=await self.store.commit(change))

    async def Put(self, request: control_pb2.PutRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.name, call)
        body = read_object(request.body)
        config = texts(body, "config", "ProjectPut")
        return await self._change(row, config, field(body, "description", str, "", "ProjectPut"), request.if_match)

    async def Patch(self, request: control_pb2.PutRequest, call: Call) -> rest_pb2.Document:
        row = self._one(request.name, call)
        body = read_object(request.body)
        config = {**row.value.config, **texts(body, "config", "ProjectPut")}
        description = field(body, "description", str, row.value.description, "ProjectPut")
        return await self._change(row, config, description, request.if_match)

    async def _change(
        self, row: Versioned[Project], config: dict[str, str], description: str, if_match: str
    ) -> rest_pb2.Document:
        now = row.value
        documents.check_if_match(if_match, documents.etag_of(_editable(now)))
        config = {name: text for name, text in config.items() if text}
        changed = [
            name for name in project_keys.FEATURES if is_true(config.get(name, "")) != is_true(now.config.get(name, ""))
        ]
        if changed and now.name == DEFAULT:
            raise errors.BadRequest("You can't change the features of the default project")
        if changed and self._in_use(now.name):
            raise errors.BadRequest("Features can only be changed on empty projects")
        project_keys.validate(config)
        limits.refuse_lower(now.config, config, now.name, self.holdings.room.use(now.name))
        self._check_restrictions(now, config)
        change = Change().put(
            PROJECT, msgspec.structs.replace(now, config=config, description=description), expect=row.revision
        )
        if now.name != DEFAULT:
            self._follow_profiles(change, now.name, wanted=is_true(config.get(FEATURE_PROFILES, "")))
        if limits.limited(config):
            self.holdings.room.close(change, now.name)
        change.event(_event("project-updated", now))
        return documents.empty(revision=await self.store.commit(change))

    def _check_restrictions(self, now: Project, config: dict[str, str]) -> None:
        """What the project holds must be allowed by what it becomes. Raises Internal, as LXD does."""
        changed = sorted(key for key in {*config, *now.config} if config.get(key) != now.config.get(key))
        changed = [key for key in changed if key.startswith("restricted")]
        if not changed:
            return
        for held in self.holdings.room.merged(now.name):
            owner = f'{held.type} "{held.name}"'
            for reason in restrictions.refusals(config, now.name, owner, held.config, held.devices):
                raise errors.Internal(
                    f'Conflict detected when changing "{changed[0]}" in project "{now.name}": {reason}'
                )

    def _follow_profiles(self, change: Change, name: str, *, wanted: bool) -> None:
        """A project with profiles of its own has a default profile. It comes and goes in the same batch as the project does, so
        this is the one row of another service that control writes."""
        row = self.holdings.profiles.get(name, DEFAULT)
        if wanted and row is None:
            profile = Profile(project=name, name=DEFAULT, description=f"Default LXD profile for project {name}")
            change.put(PROFILE, profile, expect=0)
        elif not wanted and row is not None:
            change.delete(PROFILE, row.key, expect=row.revision)

    def _in_use(self, name: str) -> bool:
        """Whether it holds anything but its default profile."""
        own = f"/1.0/profiles/{DEFAULT}"
        return any(url.partition("?")[0] != own for url in self.holdings.urls(name))

    async def Rename(self, request: control_pb2.PutRequest, call: Call) -> rest_pb2.Answer:
        if request.name == DEFAULT:
            raise errors.Forbidden("The 'default' project cannot be renamed")
        row = self._one(request.name, call, f'Fetch project "{request.name}": ')
        name = field(read_object(request.body), "name", str, "", "ProjectPost")
        if self.rows.get(name) is not None:
            raise errors.Conflict(f'A project named "{name}" already exists')
        if self._in_use(request.name):
            raise errors.BadRequest("Only empty projects can be renamed")
        check_name(name)
        renamed = msgspec.structs.replace(row.value, name=name)
        change = Change().delete(PROJECT, row.key, expect=row.revision).put(PROJECT, renamed, expect=0)
        self.holdings.room.forget(change, request.name)
        self._follow_profiles(change, request.name, wanted=False)
        self._follow_profiles(change, name, wanted=is_true(renamed.config.get(FEATURE_PROFILES, "")))
        self._rename_in_certificates(change, request.name, name)
        change.event(_event("project-renamed", renamed, {"old_name": request.name}))
        # LXD does it as an operation; here the change is one batch, so the operation has ended when it is answered.
        accepted = await self.operations.open("task", description="Renaming project", project=name)
        await self.operations.end(accepted.id, change=change)
        return documents.answer(
            rest_pb2.Accepted(id=accepted.id, operation=accepted.operation, revision=accepted.revision)
        )

    def _rename_in_certificates(self, change: Change, old: str, new: str) -> None:
        """Clients that are restricted to the project stay so under its new name."""
        for row in self.certificates.select():
            if old in row.value.projects:
                projects = tuple(new if project == old else project for project in row.value.projects)
                change.put(CERTIFICATE, msgspec.structs.replace(row.value, projects=projects), expect=row.revision)

    async def Delete(self, request: control_pb2.NameRequest, call: Call) -> rest_pb2.Document:
        if request.name == DEFAULT:
            raise errors.Forbidden("The 'default' project cannot be deleted")
        row = self._one(request.name, call, f'Fetch project "{request.name}": ')
        if self._in_use(request.name):
            raise errors.Internal("Only empty projects can be removed")  # LXD's code for it is 500
        change = Change().delete(PROJECT, row.key, expect=row.revision)
        self.holdings.room.forget(change, request.name)
        self._follow_profiles(change, request.name, wanted=False)
        for certificate in self.certificates.select():
            if request.name in certificate.value.projects:
                projects = tuple(project for project in certificate.value.projects if project != request.name)
                change.put(
                    CERTIFICATE,
                    msgspec.structs.replace(certificate.value, projects=projects),
                    expect=certificate.revision,
                )
        change.event(_event("project-deleted", row.value))
        return documents.empty(revision=await self.store.commit(change))


def check_name(name: str) -> None:
    """LXD's rules for the name of a project, and none longer than a file name may be. Raises BadRequest."""
    refusals = (
        (not name, "No name provided"),
        ("/" in name, "Project names may not contain slashes"),
        (name == "*", "Reserved project name"),
        (name in (".", ".."), f'Invalid project name "{name}"'),
        (any(letter.isspace() for letter in name), "Project names may not contain spaces"),
        ("_" in name, "Project names may not contain underscores"),
        ("'" in name or '"' in name, "Project names may not contain quotes"),
        (len(name) > 63, f'Invalid project name "{name}": longer than 63 characters'),
        (not name.isprintable(), f"Invalid project name {name!r}: it has characters that cannot be printed"),
    )
    for wrong, text in refusals:
        if wrong:
            raise errors.BadRequest(text)


def _exists(name: str) -> errors.Conflict:
    return errors.Conflict(
        f'Failed creating project "{name}": Failed adding database record: This "projects" entry already exists'
    )


def _url(project: Project) -> str:
    return f"/1.0/projects/{quote(project.name, safe='')}"


def _editable(project: Project) -> dict[str, Any]:
    return {"config": dict(sorted(project.config.items())), "description": project.description}


def _event(action: str, project: Project, context: dict[str, Any] | None = None) -> Event:
    return lifecycle(action, _url(project), project=project.name, context=context, requestor=requestor_of())
