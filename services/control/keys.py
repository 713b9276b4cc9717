"""The configuration keys of a server, with LXD's names, defaults and sentences.

A key whose machinery does not exist yet is declared too, with what it waits for: setting it is refused with that reason, so nothing is
ever stored that does nothing.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from chassis import compression, errors, key_types, listening, retention, units
from chassis.key_types import Str, Type, quote
from chassis.keys import Key, Schema
from rows.control import has_rbac

T = TypeVar("T")
LAST_AS = 4294967294
ARCHITECTURES = (
    "x86_64", "armv6l", "riscv32", "aarch64", "ppc64le", "i686", "s390x", "mips", "riscv64", "armv7l", "armv8l", "ppc",
    "ppc64", "mips64",
)  # fmt: skip


def _whole(text: str) -> int:
    try:
        return key_types.Int().parse(text)
    except ValueError:
        raise ValueError("invalid integer") from None


def _truth(text: str) -> bool:
    try:
        return key_types.Bool.parse(text)
    except ValueError:
        raise ValueError("invalid boolean") from None


Whole = Type("integer", _whole, 0)
Truth = Type("bool", _truth, False)


def number(test: Callable[[int], bool], reason: str) -> Type[int]:
    """A whole number that passes a test."""

    def check(text: str) -> int:
        found = _whole(text)
        if not test(found):
            raise ValueError(reason)
        return found

    return Type("integer", check, 0)


def _expiry(text: str) -> str:
    from datetime import UTC, datetime

    try:
        units.parse_expiry(datetime.now(UTC), text)
    except ValueError:
        raise ValueError("Invalid expiry expression") from None
    return text


def _compressor(text: str) -> str:
    try:
        compression.parse(text)
    except errors.BadRequest:
        raise ValueError(f"Invalid compression algorithm {quote((text.split() or [''])[0])}") from None
    return text


def _public_key(text: str) -> str:
    """Base64 of the 32 bytes of a Curve25519 key."""
    try:
        raw = base64.b64decode(text, validate=False)
    except ValueError:
        raise ValueError("illegal base64 data") from None
    if len(raw) != 32:
        raise ValueError(f"wrong length for key, got {len(raw)} want 32")
    return text


def _address(text: str) -> str:
    """An address to listen on. A name is looked up when it is set, beside the loop (`configuration`)."""
    host, _port = text, ""
    with contextlib.suppress(ValueError):  # of the port: the one who listens complains, as in LXD
        host, _port = listening.divide(text)
    try:
        listening.is_number(host)
    except ValueError:
        raise ValueError(f"Couldn't resolve {quote(host)}") from None
    return text


def _odd(number: int) -> bool:
    return number >= 3 and number % 2 == 1


Address = Type("listening address", _address, "")
Expiry = Type("expiry", _expiry, "")
Compressor = Type("compression algorithm", _compressor, "")
PublicKey = Type("public key", _public_key, "")
AsNumber = number(lambda n: 0 <= n <= LAST_AS, f"Value isn't within valid range. Must be between 0 and {LAST_AS}")
Voters = number(_odd, "Value must be an odd number equal to or higher than 3")
Standby = number(lambda n: 0 <= n <= 5, "Value must be between 0 and 5")
Threshold = number(lambda n: n > 10, "Value must be greater than '10'")
Replicas = number(lambda n: n >= 1 or n == -1, "Invalid value for image replica count")


@dataclass(frozen=True, eq=False)
class ServerKey(Key[T]):
    """`waits` says what must exist before the key can be set; empty when it works."""

    waits: str = ""


def _waiting(what: str, *names_and_types: tuple[str, Type[Any], str]) -> list[ServerKey[Any]]:
    return [ServerKey(name, type_, default=default, waits=what) for name, type_, default in names_and_types]


HTTPS_ADDRESS = ServerKey("core.https_address", Address, scope="local", doc="Where the REST API listens over HTTPS")
ALLOWED_CREDENTIALS = ServerKey(
    "core.https_allowed_credentials", Truth, since="https_allowed_credentials", doc="Access-Control-Allow-Credentials"
)
ALLOWED_HEADERS = ServerKey("core.https_allowed_headers", Str, doc="Access-Control-Allow-Headers")
ALLOWED_METHODS = ServerKey("core.https_allowed_methods", Str, doc="Access-Control-Allow-Methods")
ALLOWED_ORIGIN = ServerKey("core.https_allowed_origin", Str, doc="Access-Control-Allow-Origin")
TRUST_PASSWORD = ServerKey(
    "core.trust_password", Str, secret=True, doc="With it an untrusted client may add its certificate"
)
TOKEN_EXPIRY = ServerKey("core.remote_token_expiry", Expiry, doc="How long a certificate token is good for")
SHUTDOWN_TIMEOUT = ServerKey(
    "core.shutdown_timeout", Whole, default="5", doc="Minutes that running operations may take at the end"
)
# Not LXD's: what is kept for clients that come back.
Hours = number(lambda n: 1 <= n <= 24 * 366, "Value must be between 1 and 8784")
Minutes = number(lambda n: 1 <= n <= 60 * 24 * 31, "Value must be between 1 and 44640")
Events = number(lambda n: n >= 1000, "Value must be 1000 or more")
EVENTS_RETENTION = ServerKey(
    retention.EVENTS, Hours, default=retention.HOURS, doc="Hours that events are kept for clients that resume"
)
EVENTS_LIMIT = ServerKey(
    retention.EVENTS_LIMIT, Events, default=retention.NUMBER, doc="How many events are kept at most"
)
EVENTS_SIZE = ServerKey(
    retention.EVENTS_SIZE, key_types.Size, default=retention.SIZE, doc="How much room kept events may take, about"
)
OPERATIONS_RETENTION = ServerKey(
    retention.OPERATIONS, Minutes, default=retention.MINUTES, doc="Minutes that an ended operation can be read"
)
TRUSTED_PROXY = ServerKey(
    "core.https_trusted_proxy",
    Str,
    since="server_trusted_proxy",
    doc="Addresses whose connections may begin with a PROXY header",
)
METRICS_ADDRESS = ServerKey(
    "core.metrics_address", Address, since="metrics", scope="local", doc="Where metrics are served too"
)
METRICS_AUTHENTICATION = ServerKey(
    "core.metrics_authentication",
    Truth,
    default="true",
    since="metrics_authentication",
    doc="Whether metrics need a certificate",
)
DEBUG_ADDRESS = ServerKey(
    "core.debug_address", Address, since="pprof_http", scope="local", doc="Where profiles are served, to anybody"
)
TRUST_AUTHORITY = ServerKey(
    "core.trust_ca_certificates", Truth, default="false", since="trust_ca_certificates",
    doc="Whether a certificate of D/server.ca is trusted by itself",
)  # fmt: skip
CANDID_URL = ServerKey(
    "candid.api.url", Str, since="candid_authentication", doc="Identity service that clients prove themselves to"
)
CANDID_KEY = ServerKey(
    "candid.api.key", PublicKey, since="candid_config_key", doc="The service's public key; needed for http:// URLs"
)
CANDID_DOMAINS = ServerKey(
    "candid.domains", Str, since="candid_config", doc="Domains whose users are let in; empty for all"
)
CANDID_EXPIRY = ServerKey(
    "candid.expiry", Whole, default="3600", since="candid_config", doc="Seconds that a discharged macaroon is good for"
)
RBAC: tuple[ServerKey[Any], ...] = (
    ServerKey("rbac.agent.private_key", Str, since="rbac", doc="Key of the agent as which the server logs in at RBAC"),
    ServerKey("rbac.agent.public_key", Str, since="rbac", doc="Its public half"),
    ServerKey("rbac.agent.url", Str, since="rbac", doc="Identity service that knows the agent"),
    ServerKey("rbac.agent.username", Str, since="rbac", doc="The agent's name there"),
    ServerKey("rbac.api.expiry", Whole, default="3600", since="rbac", doc="Seconds that a user's macaroon is good for"),
    ServerKey("rbac.api.key", PublicKey, since="rbac", doc="The service's public key; needed for http:// URLs"),
    ServerKey("rbac.api.url", Str, since="rbac", doc="Service that says who may do what in which project"),
    ServerKey("rbac.expiry", Whole, default="3600", since="rbac", doc="The same as `rbac.api.expiry`, which wins"),
)
IMAGE_COMPRESSION = ServerKey(
    "images.compression_algorithm",
    Compressor,
    default="gzip",
    since="image_compression_algorithm",
    doc="For published images",
)
BACKUP_COMPRESSION = ServerKey(
    "backups.compression_algorithm", Compressor, default="gzip", since="backup_compression", doc="For backups"
)
DNS_ADDRESS = ServerKey(
    "core.dns_address",
    Address,
    since="network_dns",
    scope="local",
    doc="Where the zones of networks can be transferred",
)
USER = ServerKey("user.*", Str, doc="Free for the user")

WORKING: tuple[ServerKey[Any], ...] = (
    HTTPS_ADDRESS, ALLOWED_CREDENTIALS, ALLOWED_HEADERS, ALLOWED_METHODS, ALLOWED_ORIGIN, TRUST_PASSWORD, TOKEN_EXPIRY,
    SHUTDOWN_TIMEOUT, TRUSTED_PROXY, METRICS_ADDRESS, METRICS_AUTHENTICATION, DEBUG_ADDRESS, TRUST_AUTHORITY, IMAGE_COMPRESSION,
    BACKUP_COMPRESSION,
    CANDID_URL, CANDID_KEY, CANDID_DOMAINS, CANDID_EXPIRY, *RBAC,
    EVENTS_RETENTION, EVENTS_LIMIT, EVENTS_SIZE, OPERATIONS_RETENTION, DNS_ADDRESS, USER,
)  # fmt: skip
CLUSTER = "clustering is not supported yet"
IMAGES = "images from remote servers are not supported yet"
WAITING: tuple[ServerKey[Any], ...] = (
    *_waiting(CLUSTER, ("cluster.https_address", Address, ""), ("cluster.images_minimal_replica", Replicas, "3"),
              ("cluster.join_token_expiry", Expiry, "3H"), ("cluster.max_standby", Standby, "2"),
              ("cluster.max_voters", Voters, "3"), ("cluster.offline_threshold", Threshold, "20")),
    *_waiting("BGP is not supported yet", ("core.bgp_address", Address, ""), ("core.bgp_asn", AsNumber, "0"),
              ("core.bgp_routerid", key_types.IPv4, "")),
    *_waiting(IMAGES, ("core.proxy_http", Str, ""), ("core.proxy_https", Str, ""), ("core.proxy_ignore_hosts", Str, ""),
              ("images.auto_update_cached", Truth, "true"), ("images.auto_update_interval", Whole, "6"),
              ("images.remote_cache_expiry", Whole, "10"), ("images.default_architecture", key_types.Enum(*ARCHITECTURES), "")),
    *_waiting("MAAS is not supported yet", ("maas.api.key", Str, ""), ("maas.api.url", Str, ""), ("maas.machine", Str, "")),
    *_waiting("OVN networks are not supported yet", ("network.ovn.integration_bridge", Str, "br-int"),
              ("network.ovn.northbound_connection", Str, "unix:/var/run/ovn/ovnnb_db.sock")),
    *_waiting("volumes for images and backups are not supported yet", ("storage.backups_volume", Str, ""),
              ("storage.images_volume", Str, "")),
)  # fmt: skip
# `user.*` stands for any name that begins so; the schema finds the exact names first.
SERVER = Schema(
    "server",
    (*WORKING, *WAITING),
    unknown="cannot set '{bare}' to '{raw}': unknown key",
    invalid="cannot set '{bare}' to '{raw}': {reason}",
)


def check(name: str, text: str) -> None:
    """One key and its new value. Raises BadRequest; an empty value removes the key and is always right for a known one."""
    SERVER.check(name, text, raw=text)


def refuse_waiting(name: str, text: str) -> None:
    """Raises BadRequest for a key whose machinery is still to come, unless the value is what holds without it."""
    key = SERVER.find(name)
    if text and isinstance(key, ServerKey) and key.waits and kept(name, text):
        raise errors.BadRequest(f"cannot set '{name}' to '{text}': {key.waits}")


def refuse_mixture(texts: Mapping[str, str]) -> None:
    """Raises BadRequest for a configuration with both Candid and RBAC."""
    set_ = {name.partition(".")[0] for name, text in texts.items() if text}
    if {"candid", "rbac"} <= set_:
        raise errors.BadRequest("RBAC and Candid are mutually exclusive")


def refuse_agent(texts: Mapping[str, str]) -> None:
    """Raises Internal, as LXD, for an agent that could not log in: keys that are none. Looked at when RBAC is complete."""
    if not has_rbac(texts):
        return
    for name in ("rbac.agent.private_key", "rbac.agent.public_key"):
        text = texts[name]
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:
            raise errors.Internal(f"{name} is not base64") from None
        if len(raw) != 32:
            raise errors.Internal(f"{name} is not a key: it has {len(raw)} bytes instead of 32")


def kept(name: str, text: str) -> str:
    """What is stored for a right value: a truth in one spelling, and nothing for what is the default anyway."""
    key = SERVER.find(name)
    if key is None or not text:
        return ""
    if key.type is Truth:
        text = "true" if Truth.parse(text) else "false"
    return "" if text == (key.default or ("false" if key.type is Truth else "")) else text


def is_secret(name: str) -> bool:
    key = SERVER.find(name)
    return key is not None and key.secret


def is_address(name: str) -> bool:
    key = SERVER.find(name)
    return key is not None and key.type is Address
