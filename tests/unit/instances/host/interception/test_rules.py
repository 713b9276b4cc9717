"""Which calls are held up for which keys."""

from __future__ import annotations

import pytest

from services.instances.host import seccomp
from services.instances.host.interception import calls, rules

PREFIX = rules.PREFIX


def test_nothing_is_held_up_without_a_key() -> None:
    assert list(rules.lines({})) == []
    assert list(rules.lines({f"{PREFIX}mknod": "false"})) == []
    assert "notify" not in (seccomp.policy({}) or "")


def test_a_privileged_container_needs_nobody() -> None:
    assert rules.intercepted({f"{PREFIX}mknod": "true", "security.privileged": "true"}) == []


def test_no_program_is_allowed_by_itself() -> None:
    assert rules.intercepted({f"{PREFIX}bpf": "true"}) == []
    assert rules.intercepted({f"{PREFIX}bpf.devices": "true"}) == []
    assert rules.intercepted({f"{PREFIX}bpf": "true", f"{PREFIX}bpf.devices": "true"}) == ["bpf.devices"]


@pytest.mark.parametrize("name", list(rules.NOTIFIED))
def test_what_is_held_up_is_served(name: str) -> None:
    found = list(rules.lines({f"{PREFIX}{name}": "1", f"{PREFIX}bpf": "1"}))
    assert found[0].startswith("seccomp errno 22 ")
    held_up = {line.split()[0] for line in found if line.split()[1] == "notify"}
    assert held_up
    assert held_up <= set(calls.NUMBERS[calls.X86_64].values())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"security.syscalls.deny_default": "false"},
        {"security.syscalls.allow": "read"},
        {"security.syscalls.deny": "mkdir"},
    ],
)
def test_the_filter_holds_up_calls_whatever_else_it_does(config: dict[str, str]) -> None:
    text = seccomp.policy({**config, f"{PREFIX}mknod": "true", "security.syscalls.deny_compat": ""})
    assert text is not None
    lines = text.splitlines()
    assert lines[0] == "2"
    assert lines[1] == ("allowlist" if "security.syscalls.allow" in config else "denylist")
    assert lines[2] == "[all]"
    assert set(rules.lines({f"{PREFIX}mknod": "true"})) <= set(lines)
