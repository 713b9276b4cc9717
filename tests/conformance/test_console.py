"""The console of an instance and its log."""

from __future__ import annotations

import pytest

from tests.conformance.client import Client, eventually
from tests.conformance.process import Session, console
from tests.conformance.world import World, unique


@pytest.fixture(scope="module")
def name(shared: World) -> str:
    """An instance whose console only this module uses."""
    return shared.instance(start=True)


def ask(session: Session, line: str, expected: str) -> str:
    """Types a line until its answer comes: what is typed before the console is attached is lost."""
    terminal = session.streams["0"]

    def answer() -> str:
        terminal.send(line.encode() + b"\r")
        return terminal.expect(expected, timeout=0.5)

    return str(eventually(answer))


@pytest.mark.extension("console")
def test_the_shell_on_the_console_answers(api: Client, name: str) -> None:
    with console(api, name) as session:
        ask(session, "echo a$((6 * 7))z", "a42z")


@pytest.mark.extension("console")
@pytest.mark.differs("the size never reaches /dev/console, which stays at 0 x 0")
def test_a_resize_changes_the_size_of_the_console(api: Client, name: str) -> None:
    with console(api, name) as session:
        ask(session, "echo r$((6 * 7))y", "r42y")
        session.resize(101, 37)
        ask(session, "stty size", "37 101")


@pytest.mark.extension("console")
def test_what_is_written_to_the_console_is_in_its_log_until_it_is_cleared(
    api: Client, shared: World, name: str
) -> None:
    mark, path = unique("mark"), f"/1.0/instances/{name}/console"
    shared.shell(name, f"echo {mark} >/dev/console")
    eventually(lambda: mark.encode() in api.request("GET", path).body)

    api.delete(path)

    assert mark.encode() not in api.request("GET", path).body


@pytest.mark.extension("console")
def test_closing_the_control_socket_ends_the_session(api: Client, name: str) -> None:
    with console(api, name) as session:
        ask(session, "echo e$((6 * 7))x", "e42x")
        session.streams["control"].close()
        assert api.finished(session.operation)["status_code"] >= 200


def test_the_console_is_an_operation_with_a_description(api: Client, name: str) -> None:
    with console(api, name) as session:
        operation = api.get(session.operation)
    assert (operation["class"], operation["description"]) == ("websocket", "Showing console")
    assert sorted(operation["metadata"]["fds"]) == ["0", "control"]


@pytest.mark.extension("console")
def test_only_virtual_machines_have_a_vga_console(api: Client, name: str) -> None:
    refusal = api.refusal("POST", f"/1.0/instances/{name}/console", {"type": "vga"})
    assert (refusal.status, refusal.text) == (400, "VGA console is only supported by virtual machines")


@pytest.mark.extension("console")
def test_an_unknown_type_of_console_is_refused(api: Client, name: str) -> None:
    refusal = api.refusal("POST", f"/1.0/instances/{name}/console", {"type": "x"})
    assert (refusal.status, refusal.text) == (400, 'Unknown console type "x"')


@pytest.mark.extension("console")
def test_a_stopped_instance_has_no_console_to_attach_to(api: Client, still: str) -> None:
    refusal = api.refusal("POST", f"/1.0/instances/{still}/console", {"type": "console"})
    assert (refusal.status, refusal.text) == (400, "Instance is not running")


def test_the_log_of_the_console_outlives_the_instance_being_stopped(world: World) -> None:
    name, mark = world.instance(start=True), unique("mark")
    world.shell(name, f"echo {mark} >/dev/console")
    world.stop(name)
    assert mark.encode() in world.api.request("GET", f"/1.0/instances/{name}/console").body
