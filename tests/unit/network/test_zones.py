"""DNS zones: rules, contents, and who is answered."""

from __future__ import annotations

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.zone
import pytest

from rows.network import Network, NetworkZone, ZoneEntry, ZoneRecord
from services.network import zone_contents, zone_rules
from services.network.dns_server import DnsServer, Peer, Zone
from services.network.leases import Lease

ZONE = NetworkZone(project="default", name="lxd.example", config={"dns.nameservers": "ns1.lxd.example"})
NETWORK = Network(
    project="default",
    name="nb0",
    config={
        "ipv4.address": "198.18.1.1/24",
        "ipv4.nat": "true",
        "dns.zone.forward": "lxd.example",
        "dns.zone.reverse.ipv4": "1.18.198.in-addr.arpa",
    },
)
LEASES = [
    Lease("nb0.gw", "", "198.18.1.1", "gateway", ""),
    Lease("c1", "", "198.18.1.9", "static", "none"),
    Lease("c1", "", "fd42::9", "dynamic", "none"),
    Lease("*", "", "198.18.1.10", "dynamic", "none"),
]
ORIGIN = dns.name.from_text("lxd.example")


def listed(zone: NetworkZone, *records: ZoneRecord) -> list[str]:
    lines = zone_contents.body(zone, [(NETWORK, LEASES)], records)
    return [f"{line.name} {line.ttl} {dns.rdatatype.to_text(line.data.rdtype)} {line.data}" for line in lines]


def test_leases_become_addresses() -> None:
    assert listed(ZONE)[:3] == [
        "nb0.gw.lxd.example. 300 A 198.18.1.1",
        "c1.lxd.example. 300 A 198.18.1.9",
        "c1.lxd.example. 300 AAAA fd42::9",
    ]


def test_a_reverse_zone_points_back() -> None:
    reverse = NetworkZone(project="default", name="1.18.198.in-addr.arpa")
    assert listed(reverse)[1] == "9.1.18.198.in-addr.arpa. 300 PTR c1.lxd.example."


def test_addresses_behind_nat_can_be_left_out() -> None:
    zone = NetworkZone(project="default", name="lxd.example", config={"network.nat": "false"})
    assert listed(zone) == ["c1.lxd.example. 300 AAAA fd42::9"]


def test_records_stand_beside_what_is_made() -> None:
    entries = (ZoneEntry(type="A", ttl=900, value="192.0.2.9"), ZoneEntry(type="MX", value="10 mail"))
    records = [
        ZoneRecord(project="default", zone="lxd.example", name="demo", entries=entries),
        ZoneRecord(project="default", zone="lxd.example", name="@", entries=(ZoneEntry(type="TXT", value='"hi"'),)),
    ]
    assert listed(ZONE, *records)[-3:] == [
        "demo.lxd.example. 900 A 192.0.2.9",
        "demo.lxd.example. 300 MX 10 mail.lxd.example.",
        'lxd.example. 300 TXT "hi"',
    ]


@pytest.mark.parametrize("type_", ["SOA", "AXFR", "BOGUS", "", "ANY"])
def test_a_type_that_is_no_record_is_refused(type_: str) -> None:
    with pytest.raises(ValueError, match="unknown RR type"):
        zone_rules.parse(ZoneEntry(type=type_, value="x"), ORIGIN)


@pytest.mark.parametrize("name", ["", "a/b", "bad..zone", "a b"])
def test_a_wrong_zone_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        zone_rules.check_zone_name(name)


async def _lines() -> list[zone_contents.Line]:
    entries = tuple(ZoneEntry(type="A", value=f"192.0.2.{number}") for number in range(250))
    record = ZoneRecord(project="default", zone="lxd.example", name="many", entries=entries)
    return [*zone_contents.head(ZONE, 1), *zone_contents.body(ZONE, [(NETWORK, LEASES)], [record])]


def server(*peers: Peer) -> DnsServer:
    return DnsServer(lambda: {ORIGIN: Zone(peers, _lines)})


async def ask(
    found: DnsServer, type_: str, peer: str = "192.0.2.1", *, stream: bool = True
) -> list[dns.message.Message]:
    query = dns.message.make_query("lxd.example", type_)
    return [dns.message.from_wire(wire) for wire in await found.answers(query.to_wire(), peer, stream=stream)]


async def test_a_transfer_begins_and_ends_with_the_soa_and_is_divided() -> None:
    answers = await ask(server(Peer("192.0.2.1")), "AXFR")
    sets = [found for answer in answers for found in answer.answer]
    assert len(answers) == 3
    assert sets[0].rdtype == sets[-1].rdtype == dns.rdatatype.SOA


@pytest.mark.parametrize("peers", [(), (Peer("192.0.2.2"),), (Peer(""),)])
async def test_who_is_no_peer_is_told_that_there_is_nothing(peers: tuple[Peer, ...]) -> None:
    answers = await ask(server(*peers), "AXFR")
    assert [answer.rcode() for answer in answers] == [dns.rcode.NXDOMAIN]


async def test_a_peer_is_known_by_its_ipv4_address_on_an_ipv6_socket() -> None:
    answers = await ask(server(Peer("192.0.2.1")), "SOA", "::ffff:192.0.2.1", stream=False)
    assert answers[0].answer[0].rdtype == dns.rdatatype.SOA


async def test_other_questions_are_not_implemented() -> None:
    found = server(Peer("192.0.2.1"))
    assert (await ask(found, "A"))[0].rcode() == dns.rcode.NOTIMP
    assert (await ask(found, "AXFR", stream=False))[0].rcode() == dns.rcode.NOTIMP


async def test_rubbish_is_not_answered() -> None:
    assert await server().answers(b"rubbish", "192.0.2.1", stream=True) == []


async def test_a_peer_with_a_key_must_sign() -> None:
    key = dns.tsig.Key("lxd.example_me.", "c2VjcmV0", "hmac-sha256")
    found = server(Peer("", key))
    assert (await ask(found, "SOA"))[0].rcode() == dns.rcode.NXDOMAIN
    query = dns.message.make_query("lxd.example", "SOA")
    query.use_tsig(key)
    (wire,) = await found.answers(query.to_wire(), "192.0.2.1", stream=True)
    assert dns.message.from_wire(wire, keyring=key, request_mac=query.mac).answer
