"""/debug/pprof/: of the gateway and, over the bus, of any other part."""

from __future__ import annotations

import asyncio
import http.client

from tests.unit.gateway.test_trust import configure, free_port, listening, writer_of
from tests.unit.gateway.world import World


async def get(port: int, path: str) -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    return await asyncio.to_thread(ask)


async def test_an_address_that_is_none_ends_nothing(world: World) -> None:
    store, port = await writer_of(world), free_port()
    bad = {"core__debug_address": "nowhere.invalid:x", "core__metrics_address": "256.1.1.1:1"}
    await configure(store, core__https_address=f"127.0.0.1:{port}", **bad)
    await listening(port)
    (world.directory / "server.crt").write_text("no certificate")
    await configure(store, core__https_address=f"127.0.0.1:{free_port()}", **bad)
    await listening(port, yes=False)
    assert (await world.ask("GET", "/")).status == 200
    await store.stop()


async def test_profiles(world: World) -> None:
    store, port = await writer_of(world), free_port()
    await configure(store, core__debug_address=f"127.0.0.1:{port}")
    await listening(port)
    assert "goroutine" in (await get(port, "/debug/pprof/"))[1]
    status, text = await get(port, "/debug/pprof/goroutine?debug=1")
    assert status == 200
    assert "tasks and threads" in text
    assert "listen" in text
    assert "objects in reach" in (await get(port, "/debug/pprof/heap"))[1]
    assert (await get(port, "/debug/pprof/profile?seconds=1"))[1].strip()
    assert (await get(port, "/debug/pprof/cmdline"))[0] == 200
    assert (await get(port, "/debug/pprof/goroutine?part=network"))[0] == 503
    assert (await get(port, "/debug/pprof/nothing"))[0] == 404
    assert (await get(port, "/"))[0] == 404
    await configure(store)
    await listening(port, yes=False)
    await store.stop()
