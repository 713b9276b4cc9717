"""Finding images and aliases: which project holds them, who may see them, which one a short fingerprint means."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from chassis import errors
from chassis.calls import Caller
from chassis.kinds import Versioned
from chassis.references import in_project
from chassis.store import Store
from rows.control import PROJECT, has_feature
from rows.image import IMAGE, IMAGE_ALIAS, Image, ImageAlias
from rows.profile import PROFILE

Found = Versioned[Image]


def url(fingerprint: str, project: str = "default") -> str:
    return in_project(f"/1.0/images/{fingerprint}", project)


def alias_url(name: str, project: str = "default") -> str:
    """LXD escapes the name twice in lists and locations."""
    return in_project(f"/1.0/images/aliases/{quote(quote(name, safe=''), safe='')}", project)


class Shelf:
    """The rows of images, seen from outside."""

    def __init__(self, store: Store) -> None:
        self.images = store.mirror(IMAGE)
        self.aliases = store.mirror(IMAGE_ALIAS)
        self.projects = store.mirror(PROJECT)
        self.profiles = store.mirror(PROFILE)
        self._by_fingerprint = self.images.index("fingerprint", lambda image: [image.fingerprint])
        self._by_target = self.aliases.index("target", lambda alias: [(alias.project, alias.target)])
        self._by_profile = self.images.index(
            "profile", lambda image: [(image.project, name) for name in image.profiles]
        )

    def project(self, name: str) -> str:
        """The project that holds the images which this one sees. NotFound for an unknown one."""
        return self._holder(name, "images")

    def _holder(self, name: str, feature: str) -> str:
        if name in ("", "default"):
            return "default"
        row = self.projects.get(name)
        if row is None:
            raise errors.NotFound("Project not found")
        return name if has_feature(row.value, feature) else "default"

    def check_profiles(self, project: str, names: list[str]) -> None:
        holder = self._holder(project, "profiles")
        for name in names:
            if self.profiles.get(holder, name) is None:
                raise errors.BadRequest(f"Profile '{name}' doesn't exist")

    def of(self, project: str) -> Iterator[Found]:
        return self.images.select(self.project(project))

    def anywhere(self, fingerprint: str) -> list[Found]:
        """The image in every project that has it."""
        return list(self._by_fingerprint.select(fingerprint))

    def one(self, project: str, fingerprint: str, *, public: bool = False) -> Found:
        """By its fingerprint or the beginning of it. `public`: as somebody sees it who is not trusted."""
        project = self.project(project)
        exact = self.images.get(project, fingerprint)
        if exact is not None and (exact.value.public or not public):
            return exact
        found = [
            row
            for row in self.images.select(project)
            if row.value.fingerprint.startswith(fingerprint) and (row.value.public or not public)
        ]
        if not fingerprint or not found:
            raise errors.NotFound("Image not found")
        if len(found) > 1:
            raise errors.BadRequest("Partial fingerprint matches more than one image")
        return found[0]

    def alias(self, project: str, name: str, *, public: bool = False) -> Versioned[ImageAlias]:
        row = self.aliases.get(self.project(project), name)
        if row is None or (public and not self.is_public(row.value)):
            raise errors.NotFound("Image alias not found")
        return row

    def is_public(self, alias: ImageAlias) -> bool:
        image = self.images.get(alias.project, alias.target)
        return image is not None and image.value.public

    def aliases_of(self, image: Image) -> list[Versioned[ImageAlias]]:
        found = self._by_target.select((image.project, image.fingerprint))
        return sorted(found, key=lambda row: row.value.name)

    def using_profile(self, project: str, name: str) -> list[str]:
        """URLs of images that name a profile explicitly."""
        return sorted(url(row.value.fingerprint, project) for row in self._by_profile.select((project, name)))


def sees_all(caller: Caller, project: str) -> bool:
    """Whether private images of a project are shown."""
    return caller.may_see(project or "default")
