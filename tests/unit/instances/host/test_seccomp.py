"""The seccomp policy of security.syscalls.*."""

from __future__ import annotations

import pytest

from services.instances.host.seccomp import policy


def test_the_default_denies_what_no_container_should_call() -> None:
    text = policy({})
    assert text is not None
    assert text.splitlines()[:3] == ["2", "denylist", "[all]"]
    assert "kexec_load errno 38" in text.splitlines()


def test_without_the_default_there_is_none() -> None:
    assert policy({"security.syscalls.deny_default": "false"}) is None
    assert policy({"security.syscalls.blacklist_default": "0"}) is None


@pytest.mark.parametrize("name", ["deny", "blacklist"])
def test_denied_calls_stand_in_a_section_for_all(name: str) -> None:
    text = policy({f"security.syscalls.{name}": "mkdir errno 1\nsethostname", "security.syscalls.deny_compat": "true"})
    assert text is not None
    lines = text.splitlines()
    assert lines[-3:] == ["[all]", "mkdir errno 1", "sethostname"]
    assert "[x86_64]" in lines


@pytest.mark.parametrize("name", ["allow", "whitelist"])
def test_an_allow_list_stands_alone(name: str) -> None:
    assert policy({f"security.syscalls.{name}": "read\nwrite\n"}) == "2\nallowlist\n[all]\nread\nwrite\n"


def test_keys_that_exclude_each_other() -> None:
    with pytest.raises(
        ValueError, match=r"security.syscalls.allow is mutually exclusive with security.syscalls.deny\*"
    ):
        policy({"security.syscalls.allow": "read", "security.syscalls.deny": "write"})
    with pytest.raises(ValueError, match="Mutually exclusive keys"):
        policy({"security.syscalls.deny": "read", "security.syscalls.blacklist": "write"})


def test_a_raw_policy_is_the_whole_of_it() -> None:
    assert policy({"raw.seccomp": "2\nallowlist\n[all]\nread"}) == "2\nallowlist\n[all]\nread\n"
    for name in ("allow", "deny", "deny_default", "blacklist_compat", "whitelist"):
        with pytest.raises(ValueError, match=r"raw\.seccomp is mutually exclusive with security\.syscalls\*"):
            policy({"raw.seccomp": "2\nallowlist\n[all]\nread", f"security.syscalls.{name}": "x"})


@pytest.mark.parametrize("name", ["allow", "deny", "whitelist", "blacklist"])
def test_a_list_hands_no_call_to_the_host(name: str) -> None:
    with pytest.raises(ValueError, match='action "notify"'):
        policy({f"security.syscalls.{name}": "read\nmknod  notify"})
    assert policy({f"security.syscalls.{name}": "notify"}) is not None  # the name of a call, if there were such a one
