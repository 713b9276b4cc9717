"""`nubibus init`: what each mode decides, and how a preseed meets what is there already."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from typing import Any

import pytest

from cli import __main__ as command
from cli import ask, init, preseed
from cli.failure import Failure


class FakeServer:
    """The REST face that init needs, on a dictionary of path -> metadata; changes are recorded."""

    def __init__(self, **present: Any) -> None:
        self.objects: dict[str, Any] = {
            "/1.0": {"config": {}, "environment": {"storage_supported_drivers": [{"Name": "dir"}, {"Name": "btrfs"}]}},
            "/1.0/storage-pools": [],
            "/1.0/storage-pools?recursion=1": [],
            "/1.0/networks?recursion=1": [],
            **present,
        }
        self.calls: list[tuple[str, str, Any]] = []

    def get(self, path: str) -> Any:
        return self.objects[path]

    def find(self, path: str) -> Any:
        return self.objects.get(path)

    def call(self, verb: str, path: str, body: Any = None) -> None:
        self.calls.append((verb, path, body))


def options(*arguments: str) -> argparse.Namespace:
    return command._parser().parse_args(["init", *arguments])


def automatic(server: FakeServer, *arguments: str) -> dict[str, Any]:
    return init.automatic(server, options("--auto", *arguments))  # type: ignore[arg-type]


def test_auto_makes_a_pool_a_bridge_and_a_profile_that_uses_both() -> None:
    document = automatic(FakeServer())
    assert document["storage_pools"] == [{"name": "default", "driver": "dir", "config": {}}]
    assert document["networks"] == [{"name": "nubibr0", "type": "bridge", "project": "default"}]
    assert document["profiles"][0]["devices"] == {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "name": "eth0", "network": "nubibr0"},
    }


def test_auto_leaves_what_is_there_and_takes_a_free_bridge_name() -> None:
    networks = [{"name": "nubibr0", "managed": False}]
    document = automatic(
        FakeServer(**{"/1.0/storage-pools": ["/1.0/storage-pools/x"], "/1.0/networks?recursion=1": networks})
    )
    assert document["storage_pools"] == []
    assert document["networks"][0]["name"] == "nubibr1"
    document = automatic(FakeServer(**{"/1.0/networks?recursion=1": [{"name": "br", "managed": True}]}))
    assert document["networks"] == []


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [("192.0.2.1", (), "192.0.2.1:8443"), ("::1", ("--network-port=9000",), "[::1]:9000")],
)
def test_auto_opens_https_on_the_address(address: str, port: tuple[str, ...], expected: str) -> None:
    document = automatic(FakeServer(), f"--network-address={address}", *port, "--trust-password=x")
    assert document["config"] == {"core.https_address": expected, "core.trust_password": "x"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--network-port=1",), "--network-port can't be used without --network-address"),
        (("--trust-password=x",), "--trust-password can't be used without --network-address"),
        (("--storage-create-loop=5",), "may be used with the 'dir' backend"),
        (("--storage-backend=btrfs", "--storage-create-loop=5", "--storage-create-device=/dev/x"), "Only one of"),
        (("--storage-backend=zfs",), "'zfs' isn't available"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(Failure, match=text):
        automatic(FakeServer(), *arguments)


def test_a_preseed_creates_what_is_missing_and_updates_what_is_there() -> None:
    pool = {"name": "p", "driver": "dir", "description": "old", "config": {"rsync.bwlimit": "1"}}
    server = FakeServer(**{"/1.0/storage-pools/p": pool})
    document = {
        "config": {"core.shutdown_timeout": 3},
        "storage_pools": [{"name": "p", "driver": "dir", "config": {"rsync.compression": False}}],
        "projects": [{"name": "a/b"}],
        "networks": [
            {"name": "n", "type": "bridge", "project": "q", "config": {"ipv6.address": None, "ipv4.nat": True}}
        ],
    }
    preseed.apply(server, document)  # type: ignore[arg-type]
    assert server.calls == [
        ("PUT", "/1.0", {"config": {"core.shutdown_timeout": "3"}}),
        (
            "PUT",
            "/1.0/storage-pools/p",
            {"config": {"rsync.bwlimit": "1", "rsync.compression": "false"}, "description": "old"},
        ),
        ("POST", "/1.0/projects", {"name": "a/b", "config": {}}),
        (
            "POST",
            "/1.0/networks?project=q",
            {"name": "n", "type": "bridge", "config": {"ipv6.address": "", "ipv4.nat": "true"}},
        ),
    ]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "no YAML mapping"),
        ({"pools": []}, "unknown sections: pools"),
        ({"cluster": {"enabled": True}}, "'cluster' is not supported"),
        ({"profiles": [{"config": {}}]}, "an entry of 'profiles' has no name"),
        ({"storage_pools": [{"name": "p", "driver": "btrfs"}]}, "its driver is 'dir' and cannot become 'btrfs'"),
    ],
)
def test_a_preseed_that_cannot_be_is_refused(document: Any, text: str) -> None:
    server = FakeServer(**{"/1.0/storage-pools/p": {"name": "p", "driver": "dir", "config": {}, "description": ""}})
    with pytest.raises(Failure, match=text):
        preseed.apply(server, document)  # type: ignore[arg-type]
    assert server.calls == []


def test_a_preseed_that_is_no_yaml_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a: [b"))
    with pytest.raises(Failure, match="no valid YAML"):
        init.run(options("--preseed"))


def test_a_dump_is_a_preseed() -> None:
    project = {"name": "default", "description": "d", "config": {"features.profiles": "true"}, "used_by": []}
    profile = {"name": "default", "description": "", "config": {}, "devices": {}, "used_by": []}
    network = {
        "name": "n",
        "type": "bridge",
        "description": "",
        "config": {"a": "b"},
        "managed": True,
        "status": "Created",
    }
    server = FakeServer(
        **{
            "/1.0/projects?recursion=1": [project],
            "/1.0/networks?recursion=1&project=default": [network, {**network, "name": "eth0", "managed": False}],
            "/1.0/profiles?recursion=1&project=default": [profile],
        }
    )
    document = preseed.dump(server)  # type: ignore[arg-type]
    assert list(document) == ["config", "networks", "storage_pools", "profiles", "projects"]
    assert [one["name"] for one in document["networks"]] == ["n"]
    preseed.apply(server, document)  # type: ignore[arg-type]
    assert ("POST", "/1.0/networks?project=default") in [call[:2] for call in server.calls]


class Answers:
    """A person who answers from a list; an empty answer takes the default."""

    def __init__(self, *answers: str) -> None:
        self.answers: Iterator[str] = iter(answers)
        self.said: list[str] = []

    def line(self, prompt: str) -> str:
        self.said.append(prompt)
        return next(self.answers, "")

    secret = line

    def say(self, text: str) -> None:
        self.said.append(text)


def test_an_interview_of_defaults_is_like_auto() -> None:
    document = ask.interview(FakeServer(), Answers())  # type: ignore[arg-type]
    assert document["storage_pools"] == [{"name": "default", "driver": "dir", "config": {}}]
    assert document["networks"][0]["config"] == {"ipv4.address": "auto", "ipv6.address": "auto"}
    assert document["config"] == {}


def test_an_interview_asks_again_after_a_wrong_answer_and_follows_the_right_ones() -> None:
    person = Answers(
        "maybe",
        "yes",
        "tank",
        "zfs",
        "btrfs",
        "no",
        "10",
        "yes",
        "br7",
        "192.0.2.1/24",
        "none",
        "no",
        "yes",
        "::1",
        "9000",
        "s",
        "s",
        "yes",
    )
    document = ask.interview(FakeServer(), person)  # type: ignore[arg-type]
    assert document["storage_pools"] == [{"name": "tank", "driver": "btrfs", "config": {"size": "10GiB"}}]
    assert document["networks"][0]["config"] == {"ipv4.address": "192.0.2.1/24", "ipv6.address": "none"}
    assert document["config"] == {"core.https_address": "[::1]:9000", "core.trust_password": "s"}
    assert person.said.count("Invalid input, try again.\n") == 2


def test_the_end_of_the_input_is_no_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(Failure, match="input ended"):
        ask.interview(FakeServer(), ask.Terminal())  # type: ignore[arg-type]
