"""No saga is forgotten: each is registered, passes the standard checks somewhere in tests/sagas, and has a scene in the fault matrix."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from chassis.saga import Saga
from tools.faults.__main__ import scenes

WITHOUT_A_SCENE = {
    "profile.rename"
}  # only runs where more than 200 instances use the profile; the standard checks play it
HERE = Path(__file__).parent
SERVICES = ("control", "images", "instances", "network", "storage")


def declared() -> dict[str, Saga]:
    """Every saga that a module of a service declares, by name."""
    found = [saga for service in SERVICES for module in _modules(f"services.{service}") for saga in _sagas(module)]
    return {saga.name: saga for saga in found}


def _modules(package: str) -> Iterator[ModuleType]:
    top = importlib.import_module(package)
    for found in pkgutil.walk_packages(top.__path__, f"{package}."):
        if ".sagas" in found.name:
            yield importlib.import_module(found.name)


def _sagas(module: ModuleType) -> Iterator[Saga]:
    yield from (thing for thing in vars(module).values() if isinstance(thing, Saga))


def registered() -> set[str]:
    """Names of the sagas that the services give to their engines: what their wiring reads."""
    from services.images.__main__ import VERBS as IMAGES
    from services.instances.sagas import SAGAS as INSTANCES
    from services.storage.__main__ import VERBS as STORAGE

    return {saga.name for saga in (*IMAGES, *INSTANCES, *STORAGE)}


def checked() -> set[str]:
    """Names of the sagas that tests say to check; conftest.py sees to it that they do."""
    found: set[str] = set()
    for path in HERE.rglob("test_*.py"):
        name = ".".join(path.relative_to(HERE.parents[1]).with_suffix("").parts)
        for thing in vars(importlib.import_module(name)).values():
            marks = getattr(thing, "pytestmark", ()) if callable(thing) else ()
            found |= {saga.name for mark in marks if mark.name == "saga" for saga in mark.args}
    return found


def test_every_saga_is_registered() -> None:
    assert registered() == declared().keys()


def test_every_saga_passes_the_standard_checks() -> None:
    assert checked() == declared().keys()


def test_every_saga_has_a_scene_in_the_fault_matrix() -> None:
    assert {make().saga for make in scenes()} >= declared().keys() - WITHOUT_A_SCENE
