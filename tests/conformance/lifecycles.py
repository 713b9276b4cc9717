"""Which lifecycle events each change tells of: scripts of requests, each with the events that it must lead to, in order.

A request is (verb, path, body, events...); an event is "action source" or "action source {context}". In all of them `{n}` and its like
stand for names of one run. Paths that begin with a mark stand for a project: "@p/1.0/…" is asked for, and told of, with `?project={p}`.
"""

from __future__ import annotations

from typing import Any

Step = tuple[Any, ...]  # verb, path, body, events...
ROOT = {"root": {"type": "disk", "path": "/", "pool": "{pool}"}}
INSTANCE = {"name": "{n}", "source": {"type": "image", "fingerprint": "{image}"}, "devices": ROOT, "profiles": []}
CREATED = '{"storage-pool": "{pool}", "type": "container"}'
ME = "/1.0/instances/{n}"
FORCE = {"action": "stop", "force": True}


def of_instance(mark: str = "") -> list[Step]:
    me = f"{mark}{ME}"
    return [
        ("POST", f"{mark}/1.0/instances", INSTANCE, f"instance-created {me} {CREATED}"),
        ("PATCH", me, {"config": {"user.a": "1"}}, f"instance-updated {me}"),
        ("PUT", f"{me}/state", {"action": "start"}, f"instance-started {me}"),
        ("PATCH", me, {"config": {"limits.processes": "100"}}, f"instance-updated {me}"),
        ("PUT", f"{me}/state", {"action": "freeze"}, f"instance-paused {me}"),
        ("PUT", f"{me}/state", {"action": "unfreeze"}, f"instance-resumed {me}"),
        ("PUT", f"{me}/state", {"action": "restart", "force": True}, f"instance-restarted {me}"),
        ("POST", f"{me}/exec", {"command": ["true"]}, f'instance-exec {me} {{"command": ["true"]}}'),
        ("POST", f"{me}/files?path=/tmp/x", b"x", f'instance-file-pushed {me} {{"path": "/tmp/x"}}'),
        ("GET", f"{me}/files?path=/tmp/x", None, f'instance-file-retrieved {me} {{"path": "/tmp/x"}}'),
        ("DELETE", f"{me}/files?path=/tmp/x", None, f'instance-file-deleted {me} {{"path": "/tmp/x"}}'),
        ("GET", f"{me}/logs/lxc.log", None, f"instance-log-retrieved {me}/logs/lxc.log"),
        ("GET", f"{me}/metadata", None, f"instance-metadata-retrieved {me}/metadata"),
        ("PATCH", f"{me}/metadata", {"properties": {"a": "b"}}, f"instance-metadata-updated {me}/metadata"),
        *[
            (verb, f"{me}/metadata/templates?path=t", body, f'{action} {me}/metadata/templates {{"path": "t"}}')
            for verb, body, action in (
                ("POST", b"x", "instance-metadata-template-created"),
                ("GET", None, "instance-metadata-template-retrieved"),
                ("DELETE", None, "instance-metadata-template-deleted"),
            )
        ],
        ("DELETE", f"{me}/console", None, f"instance-console-reset {me}"),
        ("PUT", f"{me}/state", FORCE, f"instance-stopped {me}"),
        ("POST", me, {"name": "{m}"}, f'instance-renamed {mark}/1.0/instances/{{m}} {{"old_name": "{{n}}"}}'),
        ("DELETE", f"{mark}/1.0/instances/{{m}}", None, f"instance-deleted {mark}/1.0/instances/{{m}}"),
    ]


def simple(collection: str, noun: str, *, rename: bool = True, **body: Any) -> list[Step]:
    """Made, replaced, changed, renamed, deleted; nothing else to say."""
    me, then = f"{collection}/{{n}}", f"{collection}/{'{m}' if rename else '{n}'}"
    found: list[Step] = [
        ("POST", collection, {"name": "{n}", **body}, f"{noun}-created {me}"),
        ("PUT", me, {**body, "description": "x"}, f"{noun}-updated {me}"),
        ("PATCH", me, {"description": "y"}, f"{noun}-updated {me}"),
    ]
    if rename:
        found.append(("POST", me, {"name": "{m}"}, f'{noun}-renamed {then} {{"old_name": "{{n}}"}}'))
    return [*found, ("DELETE", then, None, f"{noun}-deleted {then}")]


PROFILE = "/1.0/profiles/{n}"
IN_USE: list[Step] = [
    ("POST", "/1.0/profiles", {"name": "{n}"}, f"profile-created {PROFILE}"),
    ("POST", "/1.0/instances", {**INSTANCE, "profiles": ["{n}"]}, f"instance-created {ME} {CREATED}"),
    ("PUT", PROFILE, {"config": {"user.a": "1"}}, f"instance-updated {ME}", f"profile-updated {PROFILE}"),
    ("PUT", f"{ME}/state", {"action": "start"}, f"instance-started {ME}"),
    ("PUT", PROFILE, {"config": {"limits.processes": "90"}}, f"instance-updated {ME}", f"profile-updated {PROFILE}"),
    ("POST", PROFILE, {"name": "{m}"}, 'profile-renamed /1.0/profiles/{m} {"old_name": "{n}"}'),
    ("PUT", f"{ME}/state", FORCE, f"instance-stopped {ME}"),
    ("DELETE", ME, None, f"instance-deleted {ME}"),
    ("DELETE", "/1.0/profiles/{m}", None, "profile-deleted /1.0/profiles/{m}"),
]
PROJECT: list[Step] = [
    ("POST", "/1.0/projects", {"name": "{p}", "config": {"features.images": "false"}}, "project-created @p/1.0/projects/{p}"),
    ("PATCH", "/1.0/projects/{p}", {"description": "x", "config": {"features.images": "false", "features.profiles": "true",
     "features.storage.volumes": "true"}}, "project-updated @p/1.0/projects/{p}"),
    *simple("@p/1.0/profiles", "profile"),
    *of_instance("@p"),
    ("DELETE", "/1.0/projects/{p}", None, "project-deleted @p/1.0/projects/{p}"),
]  # fmt: skip
IMAGE, ALIAS = "/1.0/images/{f}", "/1.0/images/aliases/{n}"
IMAGES: list[Step] = [
    ("POST", "/1.0/images", "{data}", f'image-created {IMAGE} {{"type": "container"}}'),
    ("PATCH", IMAGE, {"properties": {"x": "y"}}, f"image-updated {IMAGE}"),
    ("PUT", IMAGE, {"public": True}, f"image-updated {IMAGE}"),
    (
        "POST",
        "/1.0/images/aliases",
        {"name": "{n}", "target": "{f}"},
        f'image-alias-created {ALIAS} {{"target": "{{f}}"}}',
    ),
    ("PUT", ALIAS, {"description": "x", "target": "{f}"}, f'image-alias-updated {ALIAS} {{"target": "{{f}}"}}'),
    ("GET", f"{IMAGE}/export", None, f"image-retrieved {IMAGE}"),
    ("POST", f"{IMAGE}/secret", {}, f"image-secret-created {IMAGE}", "operation-cancelled /1.0/operations/{o}"),
    ("DELETE", ALIAS, None, f"image-alias-deleted {ALIAS}"),
    ("DELETE", IMAGE, None, f"image-deleted {IMAGE}"),
]
FORWARD, NO_ADDRESS = "/1.0/networks/{n}/forwards/{listen}", {"ipv4.address": "none", "ipv6.address": "none"}
NETWORK: list[Step] = [
    ("POST", "/1.0/networks", {"name": "{n}", "config": NO_ADDRESS}, "network-created /1.0/networks/{n}"),
    (
        "PUT",
        "/1.0/networks/{n}",
        {"config": {**NO_ADDRESS, "ipv4.address": "{v4}"}},
        "network-updated /1.0/networks/{n}",
    ),
    ("PATCH", "/1.0/networks/{n}", {"description": "x"}, "network-updated /1.0/networks/{n}"),
    ("POST", "/1.0/networks/{n}/forwards", {"listen_address": "{listen}"}, f"network-forward-created {FORWARD}"),
    ("PUT", FORWARD, {"description": "x"}, f"network-forward-updated {FORWARD}"),
    ("DELETE", FORWARD, None, f"network-forward-deleted {FORWARD}"),
    ("POST", "/1.0/networks/{n}", {"name": "{m}"}, 'network-renamed /1.0/networks/{m} {"old_name": "{n}"}'),
    ("DELETE", "/1.0/networks/{m}", None, "network-deleted /1.0/networks/{m}"),
]
ZONE, RECORDS = "/1.0/network-zones/{n}.example", "/1.0/network-zones/{n}.example/records"
ZONES: list[Step] = [
    ("POST", "/1.0/network-zones", {"name": "{n}.example"}, f"network-zone-created {ZONE}"),
    ("PUT", ZONE, {"description": "x"}, f"network-zone-updated {ZONE}"),
    ("POST", RECORDS, {"name": "r"}, f"network-zone-record-created {RECORDS}/r"),
    ("PUT", f"{RECORDS}/r", {"description": "x"}, f"network-zone-record-updated {RECORDS}/r"),
    ("DELETE", f"{RECORDS}/r", None, f"network-zone-record-deleted {RECORDS}/r"),
    ("DELETE", ZONE, None, f"network-zone-deleted {ZONE}"),
]
POOL = "/1.0/storage-pools/{n}"
CUSTOM = f"{POOL}/volumes/custom"
V, W, COPY = f"{CUSTOM}/v", f"{CUSTOM}/w", f"{CUSTOM}/copy"
TYPE = '{"type": "custom"}'
STORAGE: list[Step] = [
    ("POST", "/1.0/storage-pools", {"name": "{n}", "driver": "dir"}, f"storage-pool-created {POOL}"),
    ("PATCH", POOL, {"description": "x"}, f"storage-pool-updated {POOL}"),
    ("POST", CUSTOM, {"name": "v"}, f"storage-volume-created {V} {TYPE}"),
    ("PATCH", V, {"description": "x"}, f"storage-volume-updated {V}"),
    ("POST", f"{V}/snapshots", {"name": "s"}, f"storage-volume-snapshot-created {V}/snapshots/s {TYPE}"),
    ("PUT", f"{V}/snapshots/s", {"description": "x"}, f"storage-volume-snapshot-updated {V}/snapshots/s"),
    ("PUT", V, {"restore": "s"}, f'storage-volume-restored {V} {{"snapshot": "s"}}'),
    ("POST", f"{V}/snapshots/s", {"name": "t"}, f'storage-volume-snapshot-renamed {V}/snapshots/t {{"old_name": "s"}}'),
    ("POST", CUSTOM, {"name": "copy", "source": {"type": "copy", "pool": "{n}", "name": "v"}},
     f"storage-volume-created {COPY} {TYPE}"),
    ("POST", f"{V}/backups", {"name": "b"}, f"storage-volume-backup-created {V}/backups/b {TYPE}"),
    ("GET", f"{V}/backups/b/export", None, f"storage-volume-backup-retrieved {V}/backups/b"),
    ("POST", f"{V}/backups/b", {"name": "c"}, f'storage-volume-backup-renamed {V}/backups/c {{"old_name": "v/b"}}'),
    ("DELETE", f"{V}/backups/c", None, f"storage-volume-backup-deleted {V}/backups/c"),
    ("DELETE", f"{V}/snapshots/t", None, f"storage-volume-snapshot-deleted {V}/snapshots/t"),
    ("POST", V, {"name": "w"}, f'storage-volume-renamed {W} {{"old_name": "v"}}'),
    ("DELETE", W, None, f"storage-volume-deleted {W}"),
    ("DELETE", COPY, None, f"storage-volume-snapshot-deleted {COPY}/snapshots/t", f"storage-volume-deleted {COPY}"),
    ("DELETE", POOL, None, f"storage-pool-deleted {POOL}"),
]  # fmt: skip
CERTIFICATE = "/1.0/certificates/{fingerprint}"
CERTIFICATES: list[Step] = [
    ("POST", "/1.0/certificates", {"type": "client", "name": "{n}", "certificate": "{certificate}"},
     f"certificate-created {CERTIFICATE}"),
    ("PATCH", CERTIFICATE, {"name": "x"}, f"certificate-updated {CERTIFICATE}"),
    ("PUT", CERTIFICATE, {"name": "y", "type": "client"}, f"certificate-updated {CERTIFICATE}"),
    ("DELETE", CERTIFICATE, None, f"certificate-deleted {CERTIFICATE}"),
]  # fmt: skip
CONFIG: list[Step] = [
    ("PATCH", "/1.0", {"config": {"user.{n}": "1"}}, "config-updated /1.0"),
    ("PATCH", "/1.0", {"config": {"user.{n}": "1"}}, "config-updated /1.0"),
    ("PATCH", "/1.0", {"config": {"user.{n}": ""}}, "config-updated /1.0"),
]
SCRIPTS: dict[str, list[Step]] = {
    "an instance": of_instance(),
    "a project and what is in it": PROJECT,
    "a profile": simple("/1.0/profiles", "profile"),
    "a profile in use": IN_USE,
    "an image": IMAGES,
    "a network": NETWORK,
    "an ACL": simple("/1.0/network-acls", "network-acl"),
    "a zone": ZONES,
    "a pool and its volumes": STORAGE,
    "a certificate": CERTIFICATES,
    "the configuration": CONFIG,
}
