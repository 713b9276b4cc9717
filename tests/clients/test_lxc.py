"""Debian's own `lxc`, unmodified: what a user does with it, as a user would type it; here, and through a remote over HTTPS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients.lxc import Lxc, read_until, terminal
from tests.conformance import images
from tests.conformance.client import DEADLINE, eventually
from tests.conformance.world import Ground, World, unique

pytestmark = pytest.mark.skipif(shutil.which("lxc") is None, reason="Debian's lxd-client is not installed")


def test_launch_list_exec_and_delete(lxc: Lxc, c1: str) -> None:
    assert lxc("exec", c1, "--", "sh", "-c", "hostname; echo $((6 * 7))").split() == [c1, "42"]
    rows = {entry["name"]: entry for entry in lxc.json("list", c1)}
    assert rows[c1]["status"] == "Running"
    assert rows[c1]["state"]["pid"] > 0
    assert c1 in lxc("list", "-c", "ns", "--format=csv")
    assert "running" in lxc.refuses("delete", c1)
    lxc("delete", "-f", c1)
    assert lxc.json("list", c1) == []


def test_exec_gives_exit_codes_input_and_a_user(lxc: Lxc, c1: str) -> None:
    assert lxc.try_("exec", c1, "--", "sh", "-c", "exit 7").returncode == 7
    assert lxc("exec", c1, "--", "cat", stdin="through\n") == "through\n"
    assert lxc("exec", c1, "--user", "1000", "--group", "1000", "--cwd", "/tmp", "--", "sh", "-c", "id -u; pwd") == (
        "1000\n/tmp\n"
    )
    assert lxc("exec", c1, "--env", "COLOR=blue", "--", "sh", "-c", "echo $COLOR") == "blue\n"
    assert lxc.try_("exec", c1, "--", "no-such-command").returncode == 127


def test_a_shell_on_a_terminal(lxc: Lxc, c1: str) -> None:
    with terminal(lxc, "exec", c1, "--", "sh") as screen:
        os.write(screen, b"tty; echo $((6 * 7))\n")
        assert "/dev/pts/" in read_until(screen, "42", DEADLINE)
        os.write(screen, b"exit\n")


def test_the_console_and_its_log(lxc: Lxc, c1: str) -> None:
    lxc("exec", c1, "--", "sh", "-c", "echo marked >/dev/console")
    eventually(lambda: "marked" in lxc("console", c1, "--show-log"))
    with terminal(lxc, "console", c1) as screen:

        def answer() -> bool:
            os.write(screen, b"echo $((40 + 2))z\n")
            return "42z" in read_until(screen, "42z", 1)

        eventually(answer)
        os.write(screen, b"\x01q")


def test_monitor_shows_lifecycle_events(lxc: Lxc, c1: str) -> None:
    with (lxc.home / "events").open("w+b") as output:
        watching = subprocess.Popen(
            ["lxc", "monitor", "--type=lifecycle", "--format=json"],
            env=lxc.environment, stdout=output, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:

            def seen() -> bool:
                lxc("exec", c1, "--", "true")
                text = (lxc.home / "events").read_text()
                return "instance-exec" in text and c1 in text

            eventually(seen, pause=0.2)
        finally:
            watching.terminate()
            watching.wait(DEADLINE)


def test_files_go_in_and_out(lxc: Lxc, c1: str, tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "f").write_text("deep\n")
    (tmp_path / "tree" / "link").symlink_to("deep/f")

    lxc("file", "push", str(tmp_path / "tree" / "deep" / "f"), f"{c1}/root/f", "--mode=0640", "--uid=5", "--gid=6")
    assert lxc("exec", c1, "--", "stat", "-c", "%a %u %g", "/root/f").strip() == "640 5 6"
    lxc("file", "pull", f"{c1}/root/f", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "deep\n"

    lxc("file", "push", "-r", "-p", str(tmp_path / "tree"), f"{c1}/srv/made/")
    assert lxc("exec", c1, "--", "readlink", "/srv/made/tree/link").strip() == "deep/f"
    lxc("file", "pull", "-r", f"{c1}/srv/made/tree", str(tmp_path / "again"))
    assert next((tmp_path / "again").rglob("f")).read_text() == "deep\n"

    lxc("file", "delete", f"{c1}/root/f")
    assert lxc.try_("exec", c1, "--", "test", "-e", "/root/f").returncode == 1


def test_stop_start_restart_pause_info_and_rename(lxc: Lxc, world: World, c1: str) -> None:
    world.settle(c1)
    lxc("stop", c1, "--timeout", "30")
    assert "already stopped" in lxc.refuses("stop", c1)
    lxc("start", c1)
    lxc("restart", "-f", c1)
    lxc("pause", c1)
    assert lxc.json("list", c1)[0]["status"] == "Frozen"
    lxc("start", c1)
    info = lxc.yaml("info", c1)
    assert (info["Name"], info["Status"], info["Type"]) == (c1, "RUNNING", "container")
    assert info["Resources"]["Processes"] >= 2
    assert lxc("info", c1, "--show-log")
    lxc("stop", "-f", c1)
    new = unique("r")
    world.finally_do(lambda: world.remove_instance(new))
    lxc("rename", c1, new)
    assert [entry["name"] for entry in lxc.json("list")].count(new) == 1
    lxc("delete", "-f", new)


def test_images(lxc: Lxc, ground: Ground, bb: str, world: World, tmp_path: Path) -> None:
    meta, rootfs = images.split("squashfs", {"mine": unique("x")})
    (tmp_path / "m.tar.xz").write_bytes(meta)
    (tmp_path / "r.squashfs").write_bytes(rootfs)
    alias, other = unique("al"), unique("al")
    fingerprint = images.fingerprint(meta, rootfs)
    world.finally_do(lambda: world.gone(f"/1.0/images/{fingerprint}"))

    lxc("image", "import", str(tmp_path / "m.tar.xz"), str(tmp_path / "r.squashfs"), "--alias", alias, "color=blue")
    assert fingerprint[:12] in lxc("image", "list", "--format=csv")
    assert lxc.yaml("image", "info", alias)["Properties"]["color"] == "blue"
    lxc("image", "alias", "create", other, fingerprint)
    assert other in lxc("image", "alias", "list", "--format=csv")
    lxc("image", "alias", "rename", other, f"{other}r")
    lxc("image", "alias", "delete", f"{other}r")
    lxc("image", "export", alias, str(tmp_path / "out"))
    assert sorted(path.read_bytes() for path in tmp_path.glob("*out*")) == sorted([meta, rootfs])
    lxc("image", "set-property", alias, "color", "green")
    assert lxc("image", "get-property", alias, "color").strip() == "green"
    shown = lxc("image", "show", alias)
    lxc("image", "edit", alias, stdin=shown.replace("green", "red"))
    assert lxc.yaml("image", "show", alias)["properties"]["color"] == "red"
    lxc("image", "delete", alias)
    assert "not found" in lxc.refuses("image", "info", alias).lower()
    assert bb in lxc("image", "list")


def test_profiles(lxc: Lxc, world: World, c1: str) -> None:
    name, copy = unique("p"), unique("p")
    for each in (name, copy, f"{copy}r"):
        world.finally_do(lambda each=each: world.gone(f"/1.0/profiles/{each}"))
    world.finally_do(lambda: world.api.patch(f"/1.0/instances/{c1}", {"profiles": []}))
    lxc("profile", "create", name)
    lxc("profile", "set", name, "user.color", "blue")
    assert lxc("profile", "get", name, "user.color") == "blue\n"
    lxc("profile", "device", "add", name, "p0", "nic", "nictype=p2p")
    assert lxc.yaml("profile", "show", name)["devices"] == {"p0": {"type": "nic", "nictype": "p2p"}}
    lxc("profile", "device", "remove", name, "p0")
    lxc("profile", "add", c1, name)
    assert name in lxc("profile", "list", "--format=csv")
    assert lxc.yaml("profile", "show", name)["used_by"] == [f"/1.0/instances/{c1}"]
    lxc("profile", "remove", c1, name)
    lxc("profile", "copy", name, copy)
    lxc("profile", "rename", copy, f"{copy}r")
    lxc("profile", "unset", name, "user.color")
    lxc("profile", "edit", name, stdin="description: mine\nconfig:\n  user.a: '1'\ndevices: {}\n")
    assert lxc.yaml("profile", "show", name)["description"] == "mine"
    lxc("profile", "delete", name)
    lxc("profile", "delete", f"{copy}r")


def test_networks(lxc: Lxc, world: World, c1: str) -> None:
    bridge = world.bridge()
    other = unique("nb")
    world.finally_do(lambda: world.gone(f"/1.0/networks/{other}"))
    world.finally_do(lambda: world.remove_instance(c1))
    lxc("network", "create", other, "ipv4.address=none", "ipv6.address=none")
    assert lxc.yaml("network", "show", other)["config"]["ipv4.address"] == "none"
    lxc("network", "set", bridge.name, "dns.domain", "example")
    assert lxc("network", "get", bridge.name, "dns.domain") == "example\n"
    assert bridge.name in lxc("network", "list", "--format=csv")
    lxc("network", "attach", bridge.name, c1, "eth0", "eth0")
    lxc("exec", c1, "--", "net-up", "eth0")
    lease = world.lease(c1)
    eventually(lambda: lease["ip"] in lxc("network", "list-leases", bridge.name, "--format=csv"))
    assert bridge.gateway in lxc("network", "info", bridge.name)
    assert "in use" in lxc.refuses("network", "delete", bridge.name)
    lxc("network", "detach", bridge.name, c1, "eth0")
    lxc("network", "unset", bridge.name, "dns.domain")
    lxc("network", "delete", bridge.name)
    lxc("network", "delete", other)
    assert bridge.name not in lxc("network", "list", "--format=csv")


def test_storage(lxc: Lxc, world: World) -> None:
    name = unique("pool")
    world.finally_do(lambda: world.gone(f"/1.0/storage-pools/{name}"))
    lxc("storage", "create", name, "dir")
    assert lxc.yaml("storage", "show", name)["driver"] == "dir"
    assert name in lxc("storage", "list", "--format=csv")
    info = lxc.yaml("storage", "info", name)
    assert info["info"]["driver"] == "dir"
    lxc("storage", "set", name, "rsync.bwlimit", "1MiB")
    assert lxc("storage", "get", name, "rsync.bwlimit") == "1MiB\n"
    lxc("storage", "unset", name, "rsync.bwlimit")
    assert lxc("storage", "volume", "list", name, "--format=csv") == ""
    lxc("storage", "delete", name)
    assert "not found" in lxc.refuses("storage", "show", name).lower()


def test_config(lxc: Lxc, c1: str) -> None:
    lxc("config", "set", c1, "limits.memory", "64MiB")
    assert lxc("config", "get", c1, "limits.memory") == "64MiB\n"
    lxc("config", "unset", c1, "limits.memory")
    assert lxc("config", "get", c1, "limits.memory").strip() == ""
    shown = lxc.yaml("config", "show", c1, "--expanded")
    shown["config"]["user.color"] = "blue"
    shown["description"] = "mine"
    plain = lxc.yaml("config", "show", c1)
    plain["config"]["user.color"], plain["description"] = "blue", "mine"
    lxc("config", "edit", c1, stdin=yaml.safe_dump(plain))
    after = lxc.yaml("config", "show", c1)
    assert (after["config"]["user.color"], after["description"]) == ("blue", "mine")
    assert "bogus" in lxc.refuses("config", "set", c1, "bogus", "1")


def test_devices(lxc: Lxc, c1: str) -> None:
    lxc("config", "device", "add", c1, "p0", "nic", "nictype=p2p", "name=p0")
    assert sorted(lxc("config", "device", "list", c1).split()) == ["p0", "root"]
    assert lxc("exec", c1, "--", "test", "-e", "/sys/class/net/p0") == ""
    assert lxc("config", "device", "get", c1, "p0", "nictype") == "p2p\n"
    assert lxc.yaml("config", "device", "show", c1)["p0"]["type"] == "nic"
    lxc("config", "device", "set", c1, "p0", "mtu", "1400")
    assert lxc("exec", c1, "--", "cat", "/sys/class/net/p0/mtu") == "1400\n"
    lxc("config", "device", "remove", c1, "p0")
    assert lxc.try_("exec", c1, "--", "test", "-e", "/sys/class/net/p0").returncode == 1


def test_metadata_and_templates(lxc: Lxc, c1: str) -> None:
    metadata = lxc.yaml("config", "metadata", "show", c1)
    metadata["properties"]["color"] = "blue"
    lxc("config", "metadata", "edit", c1, stdin=yaml.safe_dump(metadata))
    assert lxc.yaml("config", "metadata", "show", c1)["properties"]["color"] == "blue"
    lxc("config", "template", "create", c1, "t.tpl")
    assert "t.tpl" in lxc("config", "template", "list", c1, "--format=csv")
    lxc("config", "template", "edit", c1, "t.tpl", stdin="text\n")
    assert "text" in lxc("config", "template", "show", c1, "t.tpl")
    lxc("config", "template", "delete", c1, "t.tpl")


def test_server_configuration_and_info(lxc: Lxc) -> None:
    key = f"user.{unique('k')}"
    lxc("config", "set", key, "1")
    assert lxc("config", "get", key) == "1\n"
    assert lxc.yaml("config", "show")["config"][key] == "1"
    lxc("config", "unset", key)
    info = lxc.yaml("info")
    assert info["environment"]["kernel"] == "Linux"
    assert "CPU" in lxc("info", "--resources")


def test_operations(lxc: Lxc, c1: str) -> None:
    command = ["lxc", "exec", c1, "--", "sleep", "1000"]
    running = subprocess.Popen(command, env=lxc.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        mine = eventually(lambda: [entry for entry in lxc.json("operation", "list") if executes(entry, c1)])
        assert "Executing command" in lxc("operation", "list")
        shown = lxc.yaml("operation", "show", mine[0]["id"])
        assert (shown["class"], shown["status"]) == ("websocket", "Running")
        assert "cancel" in lxc.refuses("operation", "delete", mine[0]["id"])
    finally:
        running.kill()
        running.wait(DEADLINE)


def executes(operation: dict[str, Any], name: str) -> bool:
    mine = f"/1.0/instances/{name}" in (operation["resources"] or {}).get("instances", [])
    return mine and (operation["class"], operation["status"]) == ("websocket", "Running")


def test_query(lxc: Lxc, c1: str) -> None:
    assert json.loads(lxc("query", f"/1.0/instances/{c1}"))["name"] == c1
    lxc("query", "-X", "PATCH", "-d", '{"config": {"user.color": "blue"}}', f"/1.0/instances/{c1}")
    assert lxc("config", "get", c1, "user.color") == "blue\n"
    lxc("query", "--wait", "-X", "PUT", "-d", '{"action": "stop", "force": true}', f"/1.0/instances/{c1}/state")
    assert json.loads(lxc("query", f"/1.0/instances/{c1}/state"))["status"] == "Stopped"
    assert "not found" in lxc.refuses("query", "/1.0/instances/no-such-instance").lower()


def test_mistakes_are_told(lxc: Lxc, ground: Ground, bb: str, c1: str) -> None:
    assert "not found" in lxc.refuses("start", "no-such-instance").lower()
    assert "Invalid instance name" in lxc.refuses("launch", bb, "1-bad", "--storage", ground.pool)
    assert "not found" in lxc.refuses("launch", "no-such-image", unique("c"), "--storage", ground.pool).lower()
    assert "already exists" in lxc.refuses("launch", bb, c1, "--storage", ground.pool)
    assert "Unknown configuration key" in lxc.refuses(
        "launch", bb, unique("c"), "--storage", ground.pool, "-c", "bogus=1"
    )
