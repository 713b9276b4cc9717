"""The questions of `nubibus init` without options: `lxd init`'s, for what this server can do."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import yaml

from cli.failure import Failure
from cli.preseed import Document
from cli.rest import Rest

Valid = Callable[[str], bool]


class Asker(Protocol):
    """Where answers come from."""

    def line(self, prompt: str) -> str: ...
    def secret(self, prompt: str) -> str: ...
    def say(self, text: str) -> None: ...


@dataclass
class Terminal:
    """The person at the terminal. The end of the input is a Failure, not an endless loop."""

    def line(self, prompt: str) -> str:
        try:
            return input(prompt).strip()
        except EOFError:
            raise Failure("the input ended before the last question") from None

    def secret(self, prompt: str) -> str:
        return getpass.getpass(prompt)

    def say(self, text: str) -> None:
        print(text)


def text(asker: Asker, question: str, default: str, valid: Valid = bool) -> str:
    """Asks until the answer is valid; an empty answer is the default."""
    while True:
        answer = asker.line(f"{question} [default={default}]: ") or default
        if valid(answer):
            return answer
        asker.say("Invalid input, try again.\n")


def yes(asker: Asker, question: str, default: bool) -> bool:
    answers = {"yes": True, "y": True, "no": False, "n": False}
    shown = "yes" if default else "no"
    return answers[text(asker, f"{question} (yes/no)", shown, lambda answer: answer.lower() in answers).lower()]


def interview(rest: Rest, asker: Asker) -> Document:
    """The configuration that the answers describe."""
    document: Document = {"config": {}, "networks": [], "storage_pools": [], "profiles": []}
    devices: dict[str, dict[str, str]] = {}
    _storage(rest, asker, document, devices)
    _network(rest, asker, document, devices)
    _https(asker, document)
    if devices:
        document["profiles"] = [{"name": "default", "devices": devices}]
    if yes(asker, 'Would you like a YAML "init" preseed to be printed?', False):
        asker.say(yaml.safe_dump(document, default_flow_style=False, sort_keys=False))
    return document


def _storage(rest: Rest, asker: Asker, document: Document, devices: dict[str, dict[str, str]]) -> None:
    if not yes(asker, "Do you want to configure a new storage pool?", True):
        return
    present = [pool["name"] for pool in rest.get("/1.0/storage-pools?recursion=1")]
    drivers = sorted(driver["Name"] for driver in rest.get("/1.0")["environment"]["storage_supported_drivers"])
    name = text(asker, "Name of the new storage pool", "default", lambda name: bool(name) and name not in present)
    shown = f"Name of the storage backend to use ({', '.join(drivers)})"
    driver = text(asker, shown, "dir" if "dir" in drivers else drivers[0], lambda driver: driver in drivers)
    config: dict[str, str] = {}
    if driver != "dir":
        if yes(asker, "Would you like to use an existing empty block device (e.g. a disk or partition)?", False):
            config["source"] = text(asker, "Path to the existing block device", "", lambda path: path.startswith("/"))
        else:
            size = text(asker, "Size in GiB of the new loop device (1GiB minimum)", "30", lambda size: size.isdecimal())
            config["size"] = f"{size}GiB"
    document["storage_pools"].append({"name": name, "driver": driver, "config": config})
    devices["root"] = {"type": "disk", "path": "/", "pool": name}


def _network(rest: Rest, asker: Asker, document: Document, devices: dict[str, dict[str, str]]) -> None:
    from cli.init import free_bridge

    if not yes(asker, "Would you like to create a new local network bridge?", True):
        return
    name = text(asker, "What should the new bridge be called?", free_bridge(rest), lambda name: 2 <= len(name) <= 15)
    hint = '(CIDR subnet notation, "auto" or "none")'
    config = {
        f"{family}.address": text(asker, f"What {label} address should be used? {hint}", "auto")
        for family, label in (("ipv4", "IPv4"), ("ipv6", "IPv6"))
    }
    for key, address in list(config.items()):
        family = key.partition(".")[0]
        question = f"Would you like to NAT {family} traffic on your bridge?"
        if address not in ("auto", "none") and yes(asker, question, True):
            config[f"{family}.nat"] = "true"
    document["networks"].append({"name": name, "type": "bridge", "config": config, "project": "default"})
    devices["eth0"] = {"type": "nic", "name": "eth0", "network": name}


def _https(asker: Asker, document: Document) -> None:
    from cli.init import listening_address

    if not yes(asker, "Would you like the server to be available over the network?", False):
        return
    address = text(asker, "Address to bind to (not including port)", "all")
    port = text(asker, "Port to bind to", "8443", lambda port: port.isdecimal() and 0 < int(port) < 65536)
    document["config"]["core.https_address"] = listening_address("[::]" if address == "all" else address, int(port))
    password = asker.secret("Trust password for new clients (empty: tokens only): ")
    if password:
        if password != asker.secret("Again: "):
            raise Failure("the two passwords differ")
        document["config"]["core.trust_password"] = password
