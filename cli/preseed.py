"""A configuration as a document (the preseed of `lxd init`), read from a server and applied to one.

The YAML has LXD's form: config, networks, storage_pools, profiles, projects. What exists is updated, what does not is created, in an order
in which everything finds what it refers to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cli.failure import Failure
from cli.rest import Rest, segment

Document = dict[str, Any]
SECTIONS = ("config", "networks", "storage_pools", "profiles", "projects")


@dataclass(frozen=True)
class Section:
    """A list of named things: where they live, and what of them cannot be changed after they were made."""

    name: str
    path: str
    put: tuple[str, ...]
    fixed: str = ""


STORAGE = Section("storage_pools", "/1.0/storage-pools", ("config", "description"), fixed="driver")
PROJECTS = Section("projects", "/1.0/projects", ("config", "description"))
NETWORKS = Section("networks", "/1.0/networks", ("config", "description"), fixed="type")
PROFILES = Section("profiles", "/1.0/profiles", ("config", "description", "devices"))


def apply(rest: Rest, document: Document) -> None:
    """Raises Failure that says which thing was refused and why."""
    _check(document)
    if document.get("config"):
        server = rest.get("/1.0")
        config = {**server["config"], **_texts(document["config"])}
        rest.call("PUT", "/1.0", {"config": config})
    for section in (STORAGE, PROJECTS, NETWORKS, PROFILES):
        for entry in document.get(section.name) or []:
            _apply_one(rest, section, entry)


def _check(document: Any) -> None:
    if not isinstance(document, dict):
        raise Failure("the preseed is no YAML mapping")
    if document.get("cluster"):
        raise Failure("the preseed's section 'cluster' is not supported yet")
    unknown = sorted(set(document) - set(SECTIONS) - {"cluster"})
    if unknown:
        raise Failure(f"the preseed has unknown sections: {', '.join(unknown)}")
    for name in SECTIONS[1:]:
        for entry in document.get(name) or []:
            if not isinstance(entry, dict) or not entry.get("name"):
                raise Failure(f"an entry of {name!r} has no name")


def _apply_one(rest: Rest, section: Section, entry: Document) -> None:
    name = entry["name"]
    query = f"?project={segment(entry['project'])}" if entry.get("project") else ""
    wanted = {key: value for key, value in entry.items() if key != "project"}
    wanted["config"] = _texts(wanted.get("config"))
    if "devices" in wanted:
        wanted["devices"] = {device: _texts(options) for device, options in (wanted["devices"] or {}).items()}
    path = f"{section.path}/{segment(name)}{query}"
    present = rest.find(path)
    try:
        if present is None:
            rest.call("POST", f"{section.path}{query}", wanted)
        else:
            rest.call("PUT", path, _merged(section, present, wanted))
    except Failure as failure:
        raise Failure(f"{section.name} {name!r}: {failure}") from None


def _merged(section: Section, present: Document, wanted: Document) -> Document:
    """What is there, with what is wanted laid over it key by key, as `lxd init` does."""
    if section.fixed and wanted.get(section.fixed, present[section.fixed]) != present[section.fixed]:
        raise Failure(f"its {section.fixed} is {present[section.fixed]!r} and cannot become {wanted[section.fixed]!r}")
    merged: Document = {}
    for key in section.put:
        old, new = present.get(key), wanted.get(key)
        merged[key] = {**(old or {}), **(new or {})} if isinstance(old, dict) else (new if new is not None else old)
    return merged


def _texts(config: Any) -> dict[str, str]:
    """Configuration is strings on the wire; YAML's true is "true"."""
    return {str(key): _text(value) for key, value in (config or {}).items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def dump(rest: Rest) -> Document:
    """The server's configuration in the form that `apply` takes."""
    projects = rest.get("/1.0/projects?recursion=1")
    networks = []
    for project in projects:
        for network in rest.get(f"/1.0/networks?recursion=1&project={segment(project['name'])}"):
            shared = project["name"] != "default" and project["config"].get("features.networks") != "true"
            if network["managed"] and not shared:
                networks.append({**_only(network, "config", "description", "name", "type"), "project": project["name"]})
    profiles = [
        {**_only(profile, "config", "description", "devices", "name"), **_of(project["name"])}
        for project in projects
        if project["config"].get("features.profiles") == "true"
        for profile in rest.get(f"/1.0/profiles?recursion=1&project={segment(project['name'])}")
    ]
    return {
        "config": rest.get("/1.0")["config"],
        "networks": networks,
        "storage_pools": [
            _only(pool, "config", "description", "name", "driver")
            for pool in rest.get("/1.0/storage-pools?recursion=1")
        ],
        "profiles": profiles,
        "projects": [_only(project, "config", "description", "name") for project in projects],
    }


def _of(project: str) -> dict[str, str]:
    return {} if project == "default" else {"project": project}


def _only(document: Document, *keys: str) -> Document:
    return {key: document[key] for key in keys}
