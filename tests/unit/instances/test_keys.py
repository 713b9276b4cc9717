"""The keys of instances and profiles: what is taken, what is refused, and in which words."""

from __future__ import annotations

import pytest

from chassis.errors import BadRequest
from chassis.keys import Config
from services.instances import keys
from services.instances.keys import limits, volatile


@pytest.mark.parametrize(
    "config",
    [
        {"limits.cpu": "2"},
        {"limits.cpu": "0-1,3"},
        {"limits.cpu.allowance": "50%"},
        {"limits.cpu.allowance": "25ms/100ms"},
        {"limits.memory": "10%"},
        {"limits.memory": "512MiB"},
        {"boot.autostart": "TRUE"},
        {"environment.FOO": "a b"},
        {"user.anything.at.all": "line\nline"},
        {"image.os": "Busybox"},
        {"volatile.eth0.hwaddr": "00:16:3e:00:00:01"},
        {"raw.lxc": "lxc.environment = A=b\n# comment\n"},
        {"cloud-init.user-data": "#cloud-config\n"},
        {"linux.sysctl.net.ipv4.ip_forward": "1"},
        {"limits.kernel.nofile": "100:200"},
        {"limits.memory": ""},
        {"volatile.eth.0.hwaddr": "00:16:3e:00:00:01"},
    ],
)
def test_what_lxd_takes_is_taken(config: dict[str, str]) -> None:
    keys.INSTANCE.validate(config)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("foo", "1", "Unknown configuration key: foo"),
        ("volatile.foo", "1", "Unknown configuration key: volatile.foo"),
        ("security.secureboot", "true", "Unknown configuration key: security.secureboot"),
        ("limits.memory", "abc", "Invalid value: abc"),
        ("limits.cpu", "x", "Invalid CPU limit syntax"),
        ("limits.cpu", "3-1", "Invalid CPU limit"),
        ("limits.cpu.allowance", "x", "Invalid allowance: x"),
        ("limits.cpu.priority", "11", "Must be between 0 and 10"),
        ("boot.autostart", "maybe", 'Invalid value for a boolean "maybe"'),
        ("boot.stop.priority", "x", 'Invalid value for an integer "x"'),
        ("security.idmap.size", "x", "strconv.ParseUint"),
        ("raw.lxc", "foo", "Invalid raw.lxc line: foo"),
        ("raw.lxc", "lxc.log.file = /x", "Setting lxc.log.file is not allowed"),
        ("volatile.uuid", "x", "Invalid UUID"),
        ("snapshots.schedule", "x", "Schedule must be of the form"),
        ("environment.A", "x\ny", "Line breaks are not allowed"),
        ("limits.cpu", "0-99999999999", "Invalid CPU limit"),
        ("volatile.eth0.host_name", "../all", "Network interface contains invalid characters"),
        ("linux.sysctl.a = 1\nlxc.hook.pre-start", "/bin/evil", "Unknown configuration key"),
        ("environment.A\nlxc.hook.pre-start", "x", "Unknown configuration key"),
    ],
)
def test_what_is_wrong_is_told_in_lxds_words(key: str, value: str, reason: str) -> None:
    with pytest.raises(BadRequest) as caught:
        keys.INSTANCE.validate({key: value})
    assert reason in caught.value.text
    assert key in caught.value.text


@pytest.mark.parametrize(
    ("key", "value"), [("nvidia.runtime", "true"), ("snapshots.schedule", "@daily"), ("security.devlxd", "true")]
)
def test_a_key_without_effect_yet_is_refused_but_not_when_it_changes_nothing(key: str, value: str) -> None:
    with pytest.raises(BadRequest, match="Not supported by this server yet"):
        keys.INSTANCE.validate({key: value})
    keys.INSTANCE.validate({"nvidia.runtime": "false", "security.devlxd": "false"})


def test_profiles_carry_neither_volatile_nor_image_keys() -> None:
    keys.validate_profile({"limits.cpu": "1"})
    with pytest.raises(BadRequest, match="Volatile keys can only be set on instances"):
        keys.validate_profile({"volatile.x": "1"})
    with pytest.raises(BadRequest, match="Image keys can only be set on instances"):
        keys.validate_profile({"image.os": "x"})


def test_a_key_is_its_own_accessor() -> None:
    config = Config({"limits.cpu": "0,2-3"})
    assert config[limits.CPU] == {0, 2, 3}
    assert config.get(limits.MEMORY_SWAP) is True
    assert Config({"limits.cpu": "4"})[limits.CPU] == 4


def test_volatile_keys_of_a_device() -> None:
    config = {"volatile.eth0.hwaddr": "a", "volatile.eth0.name": "eth0", "volatile.eth01.name": "x", "user.a": "b"}
    assert volatile.of_device(config, "eth0") == {"hwaddr": "a", "name": "eth0"}
    assert volatile.without_device(config, "eth0") == {"volatile.eth01.name": "x", "user.a": "b"}
    changed = volatile.with_device(config, "eth0", {"hwaddr": "", "host_name": "veth1"})
    assert volatile.of_device(changed, "eth0") == {"host_name": "veth1", "name": "eth0"}
