"""Files, state and templates of real containers, running and stopped."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chassis.errors import Fault, Internal, NotFound
from services.instances.host import state, templates
from services.instances.host.files import Tree
from services.instances.host.idmap import IdMap
from services.instances.host.spec import Key, NicSpec, Spec
from tests.drivers.instances.conftest import IDMAP, World, requires_root
from tests.drivers.instances.test_containers import Pairs

pytestmark = requires_root
KEY = Key("default", "c1")


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def content(tree: Tree, path: str) -> bytes:
    return b"".join([piece async for piece in tree.read(path)])


@pytest.fixture(params=["running", "stopped", "privileged"])
async def spec(request: pytest.FixtureRequest, world: World) -> Spec:
    found = world.spec(idmap=None if request.param == "privileged" else IDMAP)
    if request.param != "stopped":
        await world.containers.start(found)
    return found


@pytest.fixture
async def tree(world: World, spec: Spec) -> AsyncIterator[Tree]:
    async with Tree.of(world.containers, KEY, spec.volume, spec.idmap) as found:
        yield found


async def test_a_file(tree: Tree) -> None:
    assert await tree.write("/tmp/f", pieces(b"one"), uid=1000, gid=1001, mode=0o640)
    info = await tree.stat("/tmp/f")
    assert (info.type, info.uid, info.gid, info.mode, info.size) == ("file", 1000, 1001, 0o640, 3)
    assert not await tree.write("tmp/f", pieces(b"two"), uid=5, mode=0o777, append=True)
    assert await content(tree, "/tmp/f") == b"onetwo"
    assert not await tree.write("/tmp/f", pieces(b"x"))
    assert await content(tree, "/tmp/f") == b"x"
    info = await tree.stat("/tmp/f")
    assert (info.uid, info.gid, info.mode) == (1000, 1001, 0o640)
    await tree.delete("/tmp/f")
    with pytest.raises(NotFound):
        await tree.stat("/tmp/f")
    with pytest.raises(NotFound):
        await tree.delete("/tmp/f")
    with pytest.raises(NotFound):
        await tree.write("/tmp/f", pieces(b"x"), append=True)


async def test_a_large_file(tree: Tree) -> None:
    data = os.urandom(3_500_000)
    await tree.write("/tmp/large", pieces(data[:10], data[10:2_000_000], data[2_000_000:]))
    assert await content(tree, "/tmp/large") == data


async def test_directories(tree: Tree) -> None:
    assert await tree.mkdir("/tmp/d", uid=1000, gid=1000, mode=0o711)
    assert not await tree.mkdir("/tmp/d", mode=0o700)
    await tree.write("/tmp/d/f", pieces())
    info = await tree.stat("/tmp/d")
    assert (info.type, info.uid, info.gid, info.mode, info.entries) == ("directory", 1000, 1000, 0o711, ("f",))
    with pytest.raises(Internal, match="not empty"):
        await tree.delete("/tmp/d")
    await tree.delete("/tmp/d/f")
    await tree.delete("/tmp/d")
    assert not await tree.mkdir("/")
    await tree.mkdir("/tmp/plain")
    assert (await tree.stat("/tmp/plain")).mode == 0o750


async def test_links(tree: Tree) -> None:
    await tree.write("/tmp/f", pieces(b"x"))
    assert await tree.symlink("/tmp/l", "f")
    assert not await tree.symlink("/tmp/l", "f")
    with pytest.raises(Internal, match="file exists"):
        await tree.symlink("/tmp/l", "g")
    info = await tree.stat("/tmp/l")
    assert (info.type, info.target) == ("symlink", "/tmp/f")
    assert await content(tree, "/tmp/l") == b"x"
    await tree.delete("/tmp/l")
    assert (await tree.stat("/tmp/f")).type == "file"


async def test_nothing_leads_out(tree: Tree, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    await tree.symlink("/tmp/absolute", str(secret))
    await tree.symlink("/tmp/up", "../" * 20 + str(secret).lstrip("/"))
    await tree.symlink("/tmp/folder", "../" * 20 + str(tmp_path).lstrip("/"))
    for path in ("/tmp/absolute", "/tmp/up", "/tmp/folder/secret", "../" * 20 + str(secret)):
        with pytest.raises(Fault):
            await content(tree, path)
        with pytest.raises(Fault):
            await tree.write(path, pieces(b"overwritten"), append=True)
    with pytest.raises(Fault):
        await tree.delete("/tmp/folder/secret")
    assert secret.read_text() == "secret"


async def test_what_is_no_file_is_left_alone(tree: Tree, spec: Spec) -> None:
    os.mkfifo(spec.rootfs / "tmp/fifo")
    os.mknod(spec.rootfs / "tmp/device", 0o20666, os.makedev(1, 5))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(spec.rootfs / "tmp/socket"))
    for name in ("fifo", "device", "socket"):
        for attempt in (
            tree.stat(f"/tmp/{name}"),
            content(tree, f"/tmp/{name}"),
            tree.write(f"/tmp/{name}", pieces(b"x")),
        ):
            with pytest.raises(Internal, match="not supported"):
                await attempt
        await tree.delete(f"/tmp/{name}")


@pytest.mark.parametrize("path", ["", "/", "..", "/tmp/..", "/tmp/x/..", "a" * 5000, "/tmp/nul\0byte"])
async def test_paths_that_make_no_sense(tree: Tree, path: str) -> None:
    with pytest.raises(Fault):
        await tree.write(path, pieces(b"x"))
    with pytest.raises(Fault):
        await tree.delete(path)


async def test_ids_that_the_container_lacks(tree: Tree, world: World, spec: Spec) -> None:
    if spec.idmap is None or world.containers.state(KEY) is None:
        return
    with pytest.raises(Internal, match="invalid argument"):
        await tree.write("/tmp/f", pieces(b"x"), uid=70_000)
    with pytest.raises(NotFound):
        await tree.stat("/tmp/f")


async def test_what_is_mounted_inside_is_reached(world: World) -> None:
    spec = world.spec()
    await world.containers.start(spec)
    await world.shell(KEY, "mount -t tmpfs none /mnt; echo inside > /mnt/f; chown 5:6 /mnt/f")
    async with Tree.of(world.containers, KEY, spec.volume, spec.idmap) as tree:
        assert await content(tree, "/mnt/f") == b"inside\n"
        assert (await tree.stat("/mnt/f")).uid == 5
        await tree.write("/mnt/g", pieces(b"outside\n"), uid=7)
    assert await world.shell(KEY, "cat /mnt/g; stat -c %u /mnt/g") == "outside\n7\n"
    assert not (spec.rootfs / "mnt/g").exists()


async def test_ids_on_disk_that_are_shifted(world: World, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    os.chown(tmp_path / "tree", 1_000_000, 1_000_000)
    async with Tree(tmp_path / "tree", IDMAP) as tree:
        await tree.write("/f", pieces(b"x"), uid=5, gid=6)
        assert (await tree.stat("/f")).uid == 5
    assert ((tmp_path / "tree/f").stat().st_uid, (tmp_path / "tree/f").stat().st_gid) == (1_000_005, 1_000_006)


async def test_no_tree(world: World, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        async with Tree(tmp_path / "nothing"):
            pass
    assert IdMap(()).base == 0


async def test_state(world: World, links: Pairs) -> None:
    _, peer = links()
    spec = world.spec(nics=(NicSpec(peer, "eth9"),), config={"limits.memory": "100MiB"})
    pid = await world.containers.start(spec)
    await world.shell(KEY, "ip addr add 198.18.99.2/24 dev eth9; ip link set lo up")
    (before,) = (await state.sample(world.containers, [KEY])).values()
    await world.shell(KEY, "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
    (found,) = (await state.sample(world.containers, [KEY], {KEY: {"eth9": "vethX"}})).values()
    assert found["pid"] == pid
    assert found["cpu"]["usage"] > before["cpu"]["usage"]
    assert 0 < found["memory"]["usage"] <= found["memory"]["usage_peak"]
    assert found["processes"] > 0
    link = found["network"]["eth9"]
    assert {"family": "inet", "address": "198.18.99.2", "netmask": "24", "scope": "global"} in link["addresses"]
    assert (link["host_name"], link["type"], link["state"]) == ("vethX", "broadcast", "up")
    statistics = "cat /sys/class/net/eth9/statistics/rx_bytes /sys/class/net/eth9/mtu"
    rx, mtu = map(int, (await world.shell(KEY, statistics)).split())
    assert link["mtu"] == mtu
    assert link["counters"]["bytes_received"] <= rx
    assert found["network"]["lo"]["type"] == "loopback"
    assert await state.sample(world.containers, [Key("default", "nothing")]) == {}


async def test_metrics(world: World) -> None:
    spec = world.spec(config={"limits.memory": "100MiB"})
    await world.containers.start(spec)
    (found,) = (await state.metrics(world.containers, [KEY])).values()
    assert found.memory["MemTotal_bytes"] == 100 * 1024 * 1024
    assert found.memory["RSS_bytes"] > 0
    assert found.filesystems[0][2] == "/"
    assert found.networks["lo"]["receive_bytes"] == 0
    assert found.processes > 0
    assert set(found.cpu["0"]) == {"user", "system"}


async def test_templates(world: World) -> None:
    spec = world.spec()
    (spec.volume / "templates").mkdir()
    (spec.volume / "templates/a.tpl").write_text("{{ container.name }} {{ trigger }} {{ path }} {{ properties.p }}\n")
    (spec.volume / "templates/b.tpl").write_text("{% if config_get('user.x', '') == '1' %}yes{% endif %}")
    (spec.volume / "metadata.yaml").write_text(
        "templates:\n"
        "  /etc/new/folder/a: {when: [create], template: a.tpl, properties: {p: q}}\n"
        "  /etc/b: {when: [create, start], template: b.tpl, create_only: true}\n"
    )
    context = {"container": {"name": "c1"}, "config": {"user.x": "1"}, "devices": {}}
    await templates.apply(spec.volume, "create", context)
    assert (spec.rootfs / "etc/new/folder/a").read_text() == "c1 create /etc/new/folder/a q\n"
    assert (spec.rootfs / "etc/b").read_text() == "yes"
    (spec.rootfs / "etc/b").write_text("kept")
    await templates.apply(spec.volume, "start", context)
    assert (spec.rootfs / "etc/b").read_text() == "kept"
    await templates.apply(spec.volume, "rename", context)


async def test_a_template_cannot_reach_out(world: World, tmp_path: Path) -> None:
    spec = world.spec()
    (spec.volume / "templates").mkdir()
    (tmp_path / "secret").write_text("secret")
    (spec.volume / "templates/link.tpl").symlink_to(tmp_path / "secret")
    for name in ("link.tpl", "../../secret", "nothing.tpl"):
        (spec.volume / "metadata.yaml").write_text(f"templates:\n  /etc/a: {{when: [create], template: {name}}}\n")
        with pytest.raises(Internal, match="Failed to read template"):
            await templates.apply(spec.volume, "create", {})
    (spec.volume / "templates/ok.tpl").write_text("written")
    (spec.rootfs / "etc/out").symlink_to(tmp_path)
    (spec.volume / "metadata.yaml").write_text("templates:\n  /etc/out/made: {when: [create], template: ok.tpl}\n")
    with pytest.raises(Fault):
        await templates.apply(spec.volume, "create", {})
    assert not (tmp_path / "made").exists()


async def test_a_volume_without_metadata(world: World) -> None:
    await templates.apply(world.spec().volume, "create", {})
