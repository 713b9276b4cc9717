"""Each change tells the same lifecycle events as in LXD, in the same order: action, source, context, project, who asked."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import images
from tests.conformance.client import Answer, Client
from tests.conformance.lifecycles import SCRIPTS
from tests.conformance.servers import Server
from tests.conformance.tls import Identity
from tests.conformance.world import World, free_subnets, unique

ROOT = {"username": "root", "protocol": "unix", "address": "@"}
BY_NAME_ALONE = ("/volumes/custom/default_", "/volumes/custom/")  # LXD puts the project before the volume's name


def filled(value: Any, names: dict[str, str]) -> Any:
    """With names in the places of {n} and its like."""
    if isinstance(value, dict):
        return {filled(key, names): filled(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace(f"{{{name}}}", text)
    return value


def placed(text: str, names: dict[str, str]) -> tuple[str, str]:
    """A path without its mark, and the project that the mark stands for."""
    return (text[2:], names["p"]) if text.startswith("@p") else (text, "default")


def expected(event: str, names: dict[str, str]) -> tuple[str, str, str, Any]:
    """Action, source, project and context of an event of a script."""
    action, source, *context = filled(event, names).split(" ", 2)
    path, project = placed(source, names)
    asked = path if project == "default" or path.startswith("/1.0/projects") else f"{path}?project={project}"
    return action, asked, project, json.loads(context[0]) if context else None


def seen(event: dict[str, Any], server: Server) -> tuple[str, str, str, Any]:
    metadata = event["metadata"]
    source = metadata["source"].replace(*BY_NAME_ALONE) if server.is_lxd else metadata["source"]
    return metadata["action"], source, event["project"], metadata.get("context")


def in_lxd(event: tuple[str, str, str, Any]) -> tuple[str, str, str, Any]:
    """The same as LXD tells it."""
    action, source, *rest = event
    if action == "storage-volume-snapshot-renamed":
        source = source.replace("/snapshots/t", "/snapshots/s")
    return action, source.replace("/logs/", "/backups/"), *rest  # type: ignore[return-value]


def ask(api: Client, step: tuple[Any, ...], names: dict[str, str], data: bytes) -> Answer:
    verb, path, body = step[:3]
    where, project = placed(filled(path, names), names)
    if project != "default":
        where += f"{'&' if '?' in where else '?'}project={project}"
    answer = api.request(verb, where, data if body == "{data}" else filled(body, names))
    assert answer.status < 300, f"{verb} {where}: {answer.body[:500]!r}"
    if where.endswith("/secret"):
        names["o"] = answer.operation.rpartition("/")[2]
        api.delete(answer.operation)
    elif answer.status == 202:
        api.wait(answer)
    return answer


def names_of(world: World, data: bytes, folder: Path) -> dict[str, str]:
    identity = Identity.make(folder, "client")
    v4, _ = free_subnets()
    return {
        **{short: unique(f"l{short}") for short in "nmp"},
        "pool": world.ground.pool,
        "image": world.ground.image,
        "f": images.fingerprint(data),
        "v4": f"{v4[1]}/24",
        "listen": str(v4[9]),
        "certificate": identity.base64,
        "fingerprint": identity.fingerprint,
    }


@pytest.mark.extension("event_lifecycle")
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_each_change_is_told_as_in_lxd(world: World, server: Server, tmp_path: Path, script: list[Any]) -> None:
    data = images.unified_with({"lifecycle": unique("l")})
    names = names_of(world, data, tmp_path)
    clean_up(world, names)
    last = unique("last")
    with world.api.events(query="&all-projects=true") as events:
        for step in script:
            ask(world.api, step, names, data)
        world.profile(name=last)
        events.wait_for(action="profile-created", source=last)
        heard = [event for event in events.seen if is_ours(event, names)]
    wanted = [expected(event, names) for step in script for event in step[3:]]
    if server.is_lxd:
        heard.sort(key=lambda event: event["timestamp"])  # it hands them out in an order of chance
        wanted = [in_lxd(event) for event in wanted]
    assert [seen(event, server) for event in heard] == wanted
    askers = [event["metadata"].get("requestor") for event in heard]
    assert all(asker == ROOT or (server.is_lxd and asker is None) for asker in askers)


def is_ours(event: dict[str, Any], names: dict[str, str]) -> bool:
    """Whether it is about what this test made (others may go on tidying up)."""
    source = event["metadata"]["source"]
    ours = [names[key] for key in ("n", "m", "p", "f", "fingerprint", "o") if key in names]
    return source == "/1.0" or any(name in source for name in ours)


def clean_up(world: World, names: dict[str, str]) -> None:
    """What is left when a script ends in the middle."""
    n, m, p = names["n"], names["m"], names["p"]
    gone = [f"/1.0/projects/{p}", f"/1.0/storage-pools/{n}", f"/1.0/images/{names['f']}"]
    gone += [f"/1.0/storage-pools/{n}/volumes/custom/{name}" for name in ("v", "w", "copy")]
    gone += [f"/1.0/certificates/{names['fingerprint']}", f"/1.0/network-zones/{n}.example"]
    for name in (n, m):
        gone += [f"/1.0/{noun}/{name}" for noun in ("profiles", "networks", "network-acls")]
        gone.append(f"/1.0/profiles/{name}?project={p}")
    for path in gone:
        world.finally_do(partial(world.gone, path))
    for name in (n, m):
        world.finally_do(partial(world.remove_instance, name))
        world.finally_do(partial(remove_in, world, name, p))


def remove_in(world: World, name: str, project: str) -> None:
    """An instance of another project."""
    path = f"/1.0/instances/{name}?project={project}"
    answer = world.api.request(
        "PUT", f"/1.0/instances/{name}/state?project={project}", {"action": "stop", "force": True}
    )
    if answer.status == 202:
        world.api.finished(answer.operation)
    world.gone(path)
