"""What RBAC's users need for each route: the table, and the bodies that name other projects."""

from __future__ import annotations

from typing import Any

import pytest

from chassis import errors
from chassis.calls import Caller
from rows.control import Project
from services.gateway.auth import ADMIN, GUEST, authorize, refuse_foreign_projects, refuse_shared
from services.gateway.own import add_all
from services.gateway.permissions import NEEDS, cancelling, needed, place
from services.gateway.requests import READING
from services.gateway.routes import Route, Table, table_of_contracts
from tests import roles


def whole() -> Table:
    table = table_of_contracts()
    add_all(table, {})
    return table


TABLE = whole()
# What is asked of the caller there is more than a permission: see control's certificates and the gateway's operations.
CHECKED_ELSEWHERE = {"/1.0/certificates/{fingerprint}", "/1.0/operations/{id}"}


def user(**rights: tuple[str, ...]) -> Caller:
    seen = tuple(name for name, held in rights.items() if "view" in held)
    return Caller(protocol="candid", username="jane", trusted=True, projects=seen, rights=rights)


def route(verb: str, path: str) -> tuple[Route, tuple[str, ...]]:
    found = TABLE.match(path)
    assert found is not None
    return found[0][verb], found[1]


def allowed(caller: Caller, verb: str, path: str, project: str = "p1") -> bool:
    taken, parameters = route(verb, path)
    where = place(taken, project, parameters)
    try:
        authorize(caller, needed(taken), path, where)
    except errors.Forbidden:
        return False
    return True


def test_an_auditor_changes_nothing() -> None:
    for each in TABLE.all:
        if each.verb not in READING and each.path not in CHECKED_ELSEWHERE and needed(each) != GUEST:
            assert needed(each) not in roles.AUDITOR, each.path


def test_every_permission_is_one_of_lxd() -> None:
    for each in TABLE.all:
        assert needed(each) in {*roles.ADMIN, GUEST, ADMIN}, each.path
    known = {(each.verb, each.path) for each in TABLE.all}
    assert set(NEEDS) <= known


def test_an_alias_needs_what_the_first_name_needs() -> None:
    for path in ("instances", "containers", "virtual-machines"):
        assert needed(route("GET", f"/1.0/{path}/c1/logs")[0]) == "view"
        assert needed(route("POST", f"/1.0/{path}/c1/exec")[0]) == "operate-containers"


@pytest.mark.parametrize(
    ("verb", "path", "from_role"),
    [
        ("GET", "/1.0/instances", "auditor"),
        ("GET", "/1.0/instances/c1/logs", "auditor"),
        ("GET", "/1.0/profiles", "auditor"),
        ("PUT", "/1.0/instances/c1/state", "user"),
        ("POST", "/1.0/instances/c1/exec", "user"),
        ("GET", "/1.0/instances/c1/files", "user"),
        ("POST", "/1.0/instances", "operator"),
        ("POST", "/1.0/images", "operator"),
        ("DELETE", "/1.0/networks/n1", "operator"),
        ("POST", "/1.0/profiles", "operator"),
        ("POST", "/1.0/storage-pools/s1/volumes/custom", "operator"),
        ("PUT", "/1.0/projects/p1", "admin"),
        ("PATCH", "/1.0/projects/p1", "admin"),
        ("POST", "/1.0/projects", "nobody"),
        ("DELETE", "/1.0/projects/p1", "nobody"),
        ("PATCH", "/1.0", "nobody"),
        ("POST", "/1.0/storage-pools", "nobody"),
        ("GET", "/1.0/warnings", "nobody"),
    ],
)
def test_roles(verb: str, path: str, from_role: str) -> None:
    names = [*roles.ROLES, "nobody"]
    for name, held in roles.ROLES.items():
        assert allowed(user(p1=held), verb, path) == (names.index(name) >= names.index(from_role)), name
    assert not allowed(user(p2=roles.ADMIN), verb, path)


def test_the_project_of_the_path_counts() -> None:
    assert allowed(user(p1=roles.ADMIN), "PUT", "/1.0/projects/p1", project="p2")
    assert not allowed(user(p1=roles.ADMIN), "PUT", "/1.0/projects/p2", project="p1")


def test_what_belongs_to_no_project_can_be_looked_at() -> None:
    assert allowed(user(), "GET", "/1.0/storage-pools")
    assert not allowed(user(), "GET", "/1.0/instances")


@pytest.mark.parametrize(
    ("body", "good"),
    [
        (b'{"name": "c1", "project": "p2"}', False),
        (b'{"name": "c1", "Project": "p2"}', False),
        (b'{"name": "c1", "project": "p1"}', True),
        (b'{"source": {"project": "p2"}}', True),
        (b'{"source": {"project": "p3"}}', False),
    ],
)
def test_a_target_must_be_manageable_and_a_source_visible(body: bytes, good: bool) -> None:
    caller = user(p1=roles.OPERATOR, p2=roles.AUDITOR)
    try:
        refuse_foreign_projects(caller, body, "manage-containers")
    except errors.Forbidden:
        assert not good
    else:
        assert good


def test_what_is_the_default_projects_is_changed_with_rights_there() -> None:
    row = Project(name="p1", config={"features.profiles": "false"})
    with pytest.raises(errors.Forbidden):
        refuse_shared(user(p1=roles.OPERATOR, default=roles.AUDITOR), "manage-profiles", "p1", row)
    refuse_shared(user(p1=roles.OPERATOR, default=roles.OPERATOR), "manage-profiles", "p1", row)


@pytest.mark.parametrize(
    ("nouns", "permission"), [(["images"], "manage-images"), (["instances"], "operate-containers")]
)
def test_cancelling(nouns: Any, permission: str) -> None:
    assert cancelling(nouns) == permission
