"""What deploy/images/Containerfile copies is there, and is let into its build."""

from __future__ import annotations

from pathlib import Path

from tools.play.containerfile import BASE, packages_of

TOP = Path(__file__).parents[3]
LINES = (TOP / "deploy/images/Containerfile").read_text().splitlines()


def test_what_is_copied_is_there_and_not_ignored() -> None:
    let_in = {line.removeprefix("!") for line in (TOP / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = [line.split()[1:-1] for line in LINES if line.startswith("COPY ") and "--from" not in line]
    sources = {source.replace("${PART}", "gateway") for line in copied for source in line}
    assert len(sources) >= 5
    for source in sources:
        assert (TOP / source).exists(), source
        assert source.split("/")[0] in let_in, source


def test_its_base_is_the_one_that_is_made() -> None:
    assert {line.split()[1] for line in LINES if line.startswith("FROM ")} == {BASE.removeprefix("localhost/")}


def test_packages_are_those_of_the_list() -> None:
    assert packages_of("gateway") == []
    assert "dnsmasq-base" in packages_of("network")
