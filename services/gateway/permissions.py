"""What a user of RBAC must be permitted, route by route, in LXD's words.

Most routes say it themselves, in `permission` of their REST option: "manage-networks", "operate-containers"; one that says nothing needs
"view". `NEEDS` holds the others: where LXD asks its RBAC users for something else than what holds for certificates.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.gateway.auth import ADMIN, GUEST
from services.gateway.routes import Route

VIEW = "view"
OPERATE_CONTAINERS = "operate-containers"
MANAGE_IMAGES = "manage-images"
MANAGE_PROJECTS = "manage-projects"
MANAGE_NETWORKS = "manage-networks"
MANAGE_VOLUMES = "manage-storage-volumes"

NEEDS = {
    # method, path: permission. Who may not make an image is no guest who uploads one with a secret.
    ("POST", "/1.0/images"): MANAGE_IMAGES,
    ("PUT", "/1.0/projects/{name}"): MANAGE_PROJECTS,
    ("PATCH", "/1.0/projects/{name}"): MANAGE_PROJECTS,
    ("GET", "/1.0/instances/{name}/console"): VIEW,
    ("GET", "/1.0/instances/{name}/logs"): VIEW,
    ("GET", "/1.0/instances/{name}/logs/{file}"): VIEW,
    ("GET", "/1.0/instances/{name}/metadata"): VIEW,
    ("GET", "/1.0/instances/{name}/metadata/templates"): VIEW,
}
# An operation is cancelled by who may do such things: what it works on, and the permission.
CANCELS = {"images": MANAGE_IMAGES, "networks": MANAGE_NETWORKS, "storage_volumes": MANAGE_VOLUMES}
OF_PROJECT = "/1.0/projects/{name}"


def needed(route: Route) -> str:
    """The permission; "guest" and "admin" as they stand."""
    path = route.option.path if route.option is not None else route.path  # an alias needs what the first name needs
    return NEEDS.get((route.verb, path)) or route.permission or VIEW


def place(route: Route, asked: str, parameters: tuple[str, ...]) -> str | None:
    """The project in which it is needed: the path's, or the one that is asked for; None where looking around is free."""
    if route.path == OF_PROJECT:
        return parameters[0]
    free = not route.names_project and needed(route) in (VIEW, GUEST, ADMIN)
    return None if free else asked


def cancelling(nouns: Iterable[str]) -> str:
    """The permission to cancel an operation that works on these."""
    return next((CANCELS[noun] for noun in nouns if noun in CANCELS), OPERATE_CONTAINERS)
