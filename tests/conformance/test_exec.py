"""Commands in a running instance: POST /1.0/instances/{name}/exec."""

from __future__ import annotations

import secrets

import pytest
from websockets.exceptions import InvalidStatus

from tests.conformance.client import Client, OperationFailed, eventually
from tests.conformance.process import attach, execution, output, run
from tests.conformance.world import World, unique


def exec_path(box: str) -> str:
    return f"/1.0/instances/{box}/exec"


def test_a_command_gets_its_input_and_gives_back_both_outputs_and_its_exit_code(api: Client, box: str) -> None:
    ran = run(api, box, "sh", "-c", "cat; echo out; echo err >&2; exit 7", stdin=b"in\n")
    assert (ran.code, ran.stdout, ran.stderr) == (7, "in\nout\n", "err\n")


def test_a_command_without_websockets_ends_with_its_exit_code(api: Client, box: str) -> None:
    operation = api.post(exec_path(box), {"command": ["sh", "-c", "exit 3"], "wait-for-websocket": False})
    assert operation["metadata"]["return"] == 3


@pytest.mark.extension("container_exec_recording")
def test_recorded_output_can_be_fetched_and_deleted(api: Client, box: str) -> None:
    command = ["sh", "-c", "echo hi; echo err >&2; exit 7"]
    body = {"command": command, "record-output": True, "wait-for-websocket": False}

    metadata = api.post(exec_path(box), body)["metadata"]

    assert metadata["return"] == 7
    assert api.request("GET", metadata["output"]["1"]).body == b"hi\n"
    assert api.request("GET", metadata["output"]["2"]).body == b"err\n"
    assert metadata["output"]["1"] in api.get(f"/1.0/instances/{box}/logs")
    api.delete(metadata["output"]["1"])
    assert api.request("GET", metadata["output"]["1"]).status in (404, 500)
    assert metadata["output"]["1"] not in api.get(f"/1.0/instances/{box}/logs")
    api.delete(metadata["output"]["2"])


@pytest.mark.extension("container_exec_signal_handling")
@pytest.mark.parametrize(("number", "code"), [(1, 129), (2, 130), (15, 143)])
def test_a_signal_over_the_control_socket_reaches_the_command(api: Client, box: str, number: int, code: int) -> None:
    with execution(api, box, ["sleep", "1000"]) as session:
        session.signal(number)
        assert session.finish().code == code


@pytest.mark.extension("container_exec_signal_handling")
def test_a_window_resize_is_seen_by_the_terminal(api: Client, box: str) -> None:
    with execution(api, box, ["sh"], interactive=True, width=80, height=24) as session:
        terminal = session.streams["0"]
        terminal.send(b"stty size\n")
        terminal.expect("24 80")
        session.resize(132, 50)
        terminal.send(b"stty size; exit 3\n")
        terminal.expect("50 132")
        assert session.finish().code == 3


def test_an_interactive_command_has_a_terminal_and_others_have_none(api: Client, box: str) -> None:
    with execution(api, box, ["sh", "-c", "tty; read line"], interactive=True) as session:
        session.streams["0"].expect("/dev/pts/")
        session.streams["0"].send(b"\n")
        assert session.finish().code == 0
    assert run(api, box, "tty").code == 1


@pytest.mark.differs("5.0.2 loses at times what an interactive command writes just before it ends")
def test_what_an_interactive_command_writes_last_arrives(api: Client, box: str) -> None:
    with execution(api, box, ["tty"], interactive=True) as session:
        session.streams["0"].expect("/dev/pts/")
        assert session.finish().code == 0


@pytest.mark.extension("container_exec_user_group_cwd")
def test_a_command_runs_as_the_user_group_and_directory_asked_for(api: Client, box: str) -> None:
    seen = output(api, box, "sh", "-c", "id -u; id -g; pwd", user=1000, group=1001, cwd="/tmp")
    assert seen.split() == ["1000", "1001", "/tmp"]


@pytest.mark.extension("container_exec_user_group_cwd")
def test_a_command_runs_as_root_in_its_home_by_default(api: Client, box: str) -> None:
    assert output(api, box, "sh", "-c", "id -u; id -g; pwd").split() == ["0", "0", "/root"]


@pytest.mark.extension("container_exec_user_group_cwd")
def test_a_working_directory_that_does_not_exist_is_replaced_by_the_root(api: Client, box: str) -> None:
    assert output(api, box, "pwd", cwd="/no/such/directory") == "/"


@pytest.mark.extension("container_exec_user_group_cwd")
def test_a_negative_user_is_refused(api: Client, box: str) -> None:
    refusal = api.refusal("POST", exec_path(box), {"command": ["true"], "user": -1})
    assert refusal.status == 400


def test_the_environment_of_a_command_has_defaults_and_what_was_asked_for(api: Client, box: str) -> None:
    seen = output(api, box, "env", environment={"COLOR": "blue", "USER": "other"}).splitlines()
    for expected in ("COLOR=blue", "USER=other", "HOME=/root", "LANG=C.UTF-8"):
        assert expected in seen
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in seen)


def test_environment_keys_of_the_instance_reach_init_and_commands(world: World) -> None:
    name = world.instance(start=True, config={"environment.COLOR": "green"})
    assert "COLOR=green" in world.shell(name, "env").splitlines()
    assert "COLOR=green" in world.shell(name, "tr '\\0' '\\n' </proc/1/environ").splitlines()


@pytest.mark.parametrize(
    ("command", "text", "code"),
    [("no-such-command", "Command not found", 127), ("/etc/passwd", "Command not executable", 126)],
)
def test_a_command_that_cannot_run_fails_its_operation(
    api: Client, box: str, command: str, text: str, code: int
) -> None:
    refusal = api.refusal("POST", exec_path(box), {"command": [command], "wait-for-websocket": False})
    assert (refusal.status, refusal.text) == (400, text)
    assert refusal.operation is not None
    assert refusal.operation["metadata"]["return"] == code


def test_a_command_that_cannot_run_fails_with_websockets_too(api: Client, box: str) -> None:
    with pytest.raises(OperationFailed, match="Command not found"):
        run(api, box, "no-such-command")


def test_a_wrong_secret_is_refused(api: Client, box: str) -> None:
    with execution(api, box, ["sleep", "1000"]) as session:
        with pytest.raises(InvalidStatus) as refused:
            api.websocket(f"{session.operation}/websocket?secret=wrong")
        session.signal(15)
        session.finish()
    assert refused.value.response.status_code == 500
    assert b"permission denied" in (refused.value.response.body or b"")


def test_a_client_that_goes_away_ends_its_command(api: Client, box: str) -> None:
    command = ["sleep", str(secrets.randbelow(10**6) + 10**6)]
    with execution(api, box, command) as session:
        eventually(lambda: " ".join(command) in output(api, box, "ps"))
        session.streams["control"].close()
        ended = api.finished(session.operation)
    assert ended["metadata"]["return"] == 137
    assert " ".join(command) not in output(api, box, "ps")


def test_a_client_that_never_connects_fails_the_operation(api: Client, box: str) -> None:
    answer = api.request("POST", exec_path(box), {"command": ["true"], "wait-for-websocket": True})
    ended = api.finished(answer.operation)
    assert (ended["status"], ended["err"]) == ("Failure", "Timed out waiting for websockets to connect")


def test_a_running_command_cannot_be_cancelled(api: Client, box: str) -> None:
    with execution(api, box, ["sleep", "1000"]) as session:
        assert api.refusal("DELETE", session.operation).status == 400
        session.signal(15)
        assert session.finish().code == 143


def test_a_large_output_arrives_whole(api: Client, box: str) -> None:
    ran = run(api, box, "dd", "if=/dev/zero", "bs=1M", "count=8")
    assert len(ran.stdout) == 8 << 20


def test_an_instance_that_is_stopped_runs_no_command(api: Client, still: str) -> None:
    refusal = api.refusal("POST", exec_path(still), {"command": ["true"]})
    assert (refusal.status, refusal.text) == (400, "Instance is not running")


def test_an_instance_that_is_frozen_runs_no_command_until_it_is_thawed(world: World) -> None:
    name = world.instance(start=True)
    world.state(name, "freeze")
    for websockets in (True, False):
        body = {"command": ["touch", "/root/ran"], "wait-for-websocket": websockets}
        refusal = world.api.refusal("POST", exec_path(name), body)
        assert (refusal.status, refusal.text, refusal.operation) == (400, "Instance is frozen", None)
    refusal = world.api.refusal("POST", f"/1.0/instances/{name}/console", {"type": "console"})
    assert (refusal.status, refusal.text) == (400, "Instance is frozen")

    world.state(name, "unfreeze")
    assert world.run(name, "test", "-e", "/root/ran").code == 1


@pytest.mark.extension("event_lifecycle")
def test_running_a_command_is_an_event(api: Client, box: str) -> None:
    mark = unique("mark")
    with api.events() as events:
        run(api, box, "echo", mark)
        event = events.wait_for(action="instance-exec", source=box, context={"command": ["echo", mark]})
    assert event["project"] == "default"


def test_a_client_may_do_without_the_control_socket(api: Client, box: str) -> None:
    body = {"command": ["cat"], "wait-for-websocket": True, "interactive": False}
    session = attach(api, exec_path(box), body, leave_out="control")  # pylxd does
    session.streams["0"].send(b"in\n")
    session.streams["0"].end()
    assert (session.finish().code, session.streams["1"].data) == (0, b"in\n")
    session.close()
