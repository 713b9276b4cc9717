"""What an instance may do to the kernel: system calls that are filtered, kernel parameters of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.world import World

SET_NAME = ("hostname", "other")  # busybox calls sethostname


def seccomp_mode(world: World, name: str) -> str:
    """0: nothing is filtered, 2: a filter is in place."""
    lines = Path(f"/proc/{world.pid(name)}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("Seccomp:"))


@pytest.mark.extension("container_syscall_filtering")
def test_a_denied_call_is_answered_as_the_list_says_until_it_is_allowed_again(world: World) -> None:
    name = world.instance(start=True, config={"security.syscalls.blacklist": "sethostname errno 1"})
    assert "not permitted" in world.run(name, *SET_NAME).stderr
    world.stop(name)
    world.set(name, security_syscalls_blacklist="")
    world.start(name)
    assert world.run(name, *SET_NAME).code == 0


@pytest.mark.extension("container_syscall_filtering_allow_deny_syntax")
def test_a_denied_call_without_an_answer_ends_the_command(world: World) -> None:
    name = world.instance(start=True, config={"security.syscalls.deny": "sethostname"})
    assert world.run(name, *SET_NAME).code == 128 + 31  # SIGSYS


def test_the_default_filter_can_be_left_out(world: World) -> None:
    name = world.instance(config={"security.syscalls.deny_default": "false"})
    other = world.instance(start=True)
    world.start(name)
    assert (seccomp_mode(world, name), seccomp_mode(world, other)) == ("0", "2")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (("whitelist", "blacklist"), "security.syscalls.allow is mutually exclusive with security.syscalls.deny*"),
        (("allow", "deny"), "security.syscalls.allow is mutually exclusive with security.syscalls.deny*"),
        (("deny", "blacklist"), "Mutually exclusive keys"),
    ],
)
def test_lists_that_exclude_each_other_are_refused(world: World, keys: tuple[str, str], text: str) -> None:
    config = {f"security.syscalls.{key}": "mkdir" for key in keys}
    refusal = world.api.refusal("PATCH", f"/1.0/instances/{world.instance()}", {"config": config})
    assert refusal.status == 500
    assert text in refusal.text


@pytest.mark.extension("linux_sysctl")
def test_a_kernel_parameter_is_set_in_that_instance_only(world: World) -> None:
    host = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    name = world.instance(start=True, config={"linux.sysctl.net.ipv4.ip_default_ttl": "77"})
    other = world.instance(start=True)
    inside = [world.shell(which, "cat /proc/sys/net/ipv4/ip_default_ttl").strip() for which in (name, other)]
    assert inside == ["77", "64"]
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == host


def test_a_kernel_parameter_that_is_none_fails_the_start_and_leaves_nothing(world: World) -> None:
    name = world.instance(config={"linux.sysctl.kernel.nonsense": "1"})
    refusal = world.api.refusal("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
    assert refusal.status == 400
    assert world.api.get(f"/1.0/instances/{name}")["status"] == "Stopped"


def test_a_raw_policy_is_the_whole_policy(world: World) -> None:
    policy = "2\ndenylist\n[all]\nsethostname errno 1\n"
    name = world.instance(start=True, config={"raw.seccomp": policy})
    assert "not permitted" in world.run(name, *SET_NAME).stderr
    for key in ("deny", "allow", "deny_default", "blacklist_compat"):
        config = {f"security.syscalls.{key}": "true" if "_" in key else "mkdir errno 1"}
        refusal = world.api.refusal("PATCH", f"/1.0/instances/{name}", {"config": config})
        assert "raw.seccomp is mutually exclusive with security.syscalls*" in refusal.text
