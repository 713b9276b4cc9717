"""DNS zones made of networks, served by zone transfer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.zone
import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.world import Bridge, World, unique

HERE = "127.0.0.1"
NUMBERS = count()


def reverse_name(bridge: Bridge) -> str:
    return ".".join(reversed(str(bridge.v4[0]).split(".")[:3])) + ".in-addr.arpa"


@pytest.fixture(scope="module")
def port(api: Client) -> Iterator[int]:
    """Where the server's DNS listens."""
    with socket.socket() as free:
        free.bind((HERE, 0))
        number = int(free.getsockname()[1])
    api.patch("/1.0", {"config": {"core.dns_address": f"{HERE}:{number}"}})
    yield number
    api.patch("/1.0", {"config": {"core.dns_address": ""}})


def zone(world: World, name: str = "", **config: str) -> str:
    name = name or f"z{next(NUMBERS)}-{unique('z')}.example"
    world.finally_do(partial(world.gone, f"/1.0/network-zones/{name}"))
    base = {"peers.me.address": HERE, "dns.nameservers": f"ns1.{name}"}
    body = {"name": name, "config": {**base, **{key.replace("__", "."): value for key, value in config.items()}}}
    world.api.post("/1.0/network-zones", body)
    return name


def transfer(name: str, port: int, **options: Any) -> dict[str, list[str]]:
    """Owner -> texts "TYPE data" of a zone transfer."""
    messages = dns.query.xfr(HERE, name, port=port, timeout=5, lifetime=20, **options)
    found = dns.zone.from_xfr(messages, check_origin=False, relativize=True)
    texts: dict[str, list[str]] = {}
    for owner, ttl, data in found.iterate_rdatas():
        texts.setdefault(str(owner), []).append(f"{ttl} {dns.rdatatype.to_text(data.rdtype)} {data}")
    return texts


def transferred(name: str, port: int, *owners: str, **options: Any) -> dict[str, list[str]]:
    """The same, as soon as the server listens and has heard of the owners: instances are another service's."""

    def ready() -> dict[str, list[str]] | None:
        try:
            found = transfer(name, port, **options)
        except (OSError, EOFError, dns.exception.DNSException):
            return None
        return found if found.keys() >= set(owners) else None

    return dict(eventually(ready))


@pytest.mark.extension("network_dns")
def test_a_transfer_lists_gateways_and_instances(world: World, port: int) -> None:
    forward = zone(world)
    bridge = world.bridge({"dns.zone.forward": forward, "ipv6.nat": "false"})
    reverse = zone(world, reverse_name(bridge))
    world.finally_do(partial(world.gone, f"/1.0/networks/{bridge.name}"))  # before the zone that it is going to name
    world.api.patch(f"/1.0/networks/{bridge.name}", {"config": {"dns.zone.reverse.ipv4": reverse}})
    device = {"type": "nic", "network": bridge.name, "name": "eth0", "ipv4.address": str(bridge.v4[9])}
    name = world.instance(devices={"eth0": device})
    found = transferred(forward, port, name)
    assert f"300 A {bridge.gateway}" in found[f"{bridge.name}.gw"]
    assert f"300 AAAA {bridge.gateway6}" in found[f"{bridge.name}.gw"]
    assert f"300 A {bridge.v4[9]}" in found[name]
    assert any("SOA" in text for text in found["@"])
    assert any("NS ns1" in text for text in found["@"])
    assert f"300 PTR {name}.{forward}." in transferred(reverse, port)["9"]
    later = world.instance(devices={"eth0": {**device, "ipv4.address": str(bridge.v4[10])}})
    assert f"300 A {bridge.v4[10]}" in transferred(forward, port, later)[later]


@pytest.mark.extension("network_dns")
def test_who_is_no_peer_learns_nothing(world: World, port: int) -> None:
    hidden = zone(world, peers__me__address="192.0.2.1")
    open_one = zone(world)
    transferred(open_one, port)
    query = dns.message.make_query(hidden, dns.rdatatype.AXFR)
    assert dns.query.tcp(query, HERE, port=port, timeout=5).rcode() == dns.rcode.NXDOMAIN
    query = dns.message.make_query(f"x.{open_one}", dns.rdatatype.A)
    assert dns.query.udp(query, HERE, port=port, timeout=5).rcode() == dns.rcode.NOTIMP
    query = dns.message.make_query(open_one, dns.rdatatype.SOA)
    assert dns.query.udp(query, HERE, port=port, timeout=5).answer


@pytest.mark.extension("network_dns")
def test_a_peer_with_a_key_must_sign(world: World, port: int) -> None:
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
    name = zone(world, peers__me__key=secret)
    ring = {dns.name.from_text(f"{name}_me."): secret}
    key = {"keyring": dns.tsig.Key(f"{name}_me.", secret, "hmac-sha256")}
    assert ring
    assert transferred(name, port, **key)["@"]
    query = dns.message.make_query(name, dns.rdatatype.AXFR)
    assert dns.query.tcp(query, HERE, port=port, timeout=5).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.extension("network_dns_nat")
def test_addresses_behind_nat_can_be_left_out(world: World, port: int) -> None:
    name = zone(world)
    bridge = world.bridge({"dns.zone.forward": name, "ipv4.nat": "true", "ipv6.nat": "false"})
    gateway = f"{bridge.name}.gw"
    assert len(transferred(name, port)[gateway]) == 2
    world.api.patch(f"/1.0/network-zones/{name}", {"config": {"network.nat": "false"}})
    assert transferred(name, port)[gateway] == [f"300 AAAA {bridge.gateway6}"]


@pytest.mark.extension("network_dns_records")
def test_records_are_served_changed_and_gone(world: World, port: int) -> None:
    name = zone(world)
    records = f"/1.0/network-zones/{name}/records"
    entries = [{"type": "A", "ttl": 900, "value": "192.0.2.9"}, {"type": "MX", "value": "10 mail.example."}]
    record = unique("demo")
    world.api.post(records, {"name": record, "description": "d", "entries": entries})
    assert world.api.get(records) == [f"{records}/{record}"]
    assert world.api.get(f"{records}/{record}")["entries"] == entries
    found = transferred(name, port)[record]
    assert "900 A 192.0.2.9" in found
    assert "300 MX 10 mail.example." in found
    world.api.put(f"{records}/{record}", {"entries": [{"type": "TXT", "value": '"hello"'}]})
    assert transferred(name, port)[record] == ['300 TXT "hello"']
    world.api.delete(f"{records}/{record}")
    assert record not in transferred(name, port)
    assert world.api.request("GET", f"{records}/{record}").status == 404


@pytest.mark.extension("network_dns_records")
@pytest.mark.differs("5.0.2 answers 500 with the database's words, and names are unique over all zones")
def test_a_name_is_unique_in_its_zone_only(world: World) -> None:
    one, two, record = zone(world), zone(world), unique("demo")
    world.api.post(f"/1.0/network-zones/{one}/records", {"name": record})
    world.api.post(f"/1.0/network-zones/{two}/records", {"name": record})
    assert world.api.refusal("POST", f"/1.0/network-zones/{one}/records", {"name": record}).status == 409
    world.api.patch(f"/1.0/network-zones/{one}/records/{record}", {"description": "x"})


@pytest.mark.extension("network_dns_records")
@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([{"type": "BOGUS", "value": "x"}], "Bad zone record entry: dns: unknown RR type"),
        ([{"type": "A", "value": "x"}], "Bad zone record entry: dns: bad A"),
        ([{"type": "A", "value": "192.0.2.8"}] * 2, 'Duplicate record for type "A" and value "192.0.2.8"'),
    ],
)
def test_a_wrong_record_is_refused(world: World, entries: list[dict[str, str]], told: str) -> None:
    records = f"/1.0/network-zones/{zone(world)}/records"
    refused = world.api.refusal("POST", records, {"name": unique("bad"), "entries": entries})
    assert refused.status == 500
    assert told in refused.text
    assert world.api.get(records) == []


@pytest.mark.extension("network_dns")
def test_a_zone_is_shown_changed_and_stays_while_it_is_used(world: World) -> None:
    name = zone(world)
    path = f"/1.0/network-zones/{name}"
    world.api.patch(path, {"description": "first", "config": {"user.a": "b"}})
    bridge = world.bridge({"dns.zone.forward": name})
    shown = world.api.get(path)
    assert (shown["description"], shown["config"]["user.a"]) == ("first", "b")
    assert shown["used_by"] == [f"/1.0/networks/{bridge.name}"]
    assert "in use" in world.api.refusal("DELETE", path).text
    assert path in world.api.get("/1.0/network-zones")
    stale = world.api.etag(path)
    world.api.put(path, {"config": {"peers.me.address": HERE}})
    assert world.api.request("PUT", path, {}, {"If-Match": stale}).status == 412


@pytest.mark.extension("network_dns")
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"name": ""}, "Name is required"),
        ({"name": "zz.example", "config": {"foo": "x"}}, 'Invalid config option "foo"'),
        ({"name": "zz.example", "config": {"peers.a.address": "x"}}, "Not an IP address"),
        ({"name": "zz.example", "config": {"network.nat": "x"}}, "Invalid value for a boolean"),
    ],
)
def test_a_wrong_zone_is_refused(api: Client, body: dict[str, Any], told: str) -> None:
    refused = api.refusal("POST", "/1.0/network-zones", body)
    assert refused.status == 500
    assert told in refused.text


def test_a_second_zone_of_a_name_and_an_unknown_one_are_refused(world: World) -> None:
    name = zone(world)
    refused = world.api.refusal("POST", "/1.0/network-zones", {"name": name})
    assert (refused.status, refused.text) == (400, "The network zone already exists")
    bridge = world.bridge()
    refused = world.api.refusal("PATCH", f"/1.0/networks/{bridge.name}", {"config": {"dns.zone.forward": "nope"}})
    assert refused.status == 400
    assert 'Network zone "nope" doesn\'t exist' in refused.text
