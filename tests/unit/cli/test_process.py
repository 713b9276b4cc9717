"""The commands that steer a server, where none runs, and the texts they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.__main__ import main
from cli.process import _age


@pytest.mark.parametrize("command", ["status", "restart"])
def test_steering_needs_a_server(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = ["gateway"] if command == "restart" else []
    assert main([command, "--dir", str(tmp_path), *extra]) == 1
    assert capsys.readouterr().err == f"Error: no server runs in {tmp_path}\n"


def test_ending_a_server_that_does_not_run_is_no_error(tmp_path: Path) -> None:
    assert main(["down", "--dir", str(tmp_path)]) == 0
    assert main(["shutdown", "--dir", str(tmp_path)]) == 0


def test_waiting_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["waitready", "--dir", str(tmp_path), "--timeout", "0"]) == 1
    assert "not ready after 0 s: gateway" in capsys.readouterr().err


def test_logs_name_a_part_that_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "--dir", str(tmp_path), "nobody"]) == 1
    assert "there is no log of nobody" in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(3.7, "3s"), (600, "10m"), (7300, "2h"), (200000, "2d7h")])
def test_ages_are_short(seconds: float, text: str) -> None:
    assert _age(seconds) == text
