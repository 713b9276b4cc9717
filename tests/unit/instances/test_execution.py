"""What a command is given, and control messages."""

from __future__ import annotations

from services.instances.execution import environment


def test_the_instances_environment_lies_below_the_clients() -> None:
    found = environment({"environment.A": "1", "environment.B": "1", "user.x": "y"}, {"B": "2"}, 0, terminal=True)
    assert (found["A"], found["B"], found["HOME"], found["USER"], found["TERM"]) == ("1", "2", "/root", "root", "linux")
    assert found["PATH"].startswith("/usr/local/sbin:")


def test_another_user_has_no_home_of_root() -> None:
    found = environment({}, {"LANG": "de"}, 1000, terminal=False)
    assert "HOME" not in found
    assert "TERM" not in found
    assert found["LANG"] == "de"
