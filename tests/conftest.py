"""What every black-box suite shares: the option `--server`, the server of the session, and the markers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.conformance import servers

pytest_plugins = ["tests.hostcheck"]
settings.load_profile("ci")  # no deadlines, and the same examples in every run

MARKERS = (
    "extension(name): shows the effect of this row of the ledger of API extensions",
    "differs(reason): real LXD has a bug here that is not copied on purpose; skipped on LXD",
    "saga(*sagas): runs these through chassis.testing.sagas.check_saga (tests/sagas/conftest.py holds it to that)",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--server",
        default="nubibus",
        help="what to test: nubibus (default, starts one), lxd (starts a private real LXD), or the path of a unix socket",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """The one server of the session; its last log lines are shown when a test failed."""
    running = servers.make(request.config.getoption("--server"))
    try:
        running.start()
        yield running
        if request.session.testsfailed:
            print(f"\n{running.log}:\n{running.tail()}")
    finally:
        running.close()


@pytest.fixture(scope="module")
def own_server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """A second server, for tests that end and start it again; skipped when `--server` names a running one."""
    choice = request.config.getoption("--server")
    if choice not in ("nubibus", "lxd"):
        pytest.skip("needs a server of its own to stop and start")
    running = servers.make(choice)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture(autouse=True)
def _skip_known_bugs_of_lxd(request: pytest.FixtureRequest) -> None:
    marker = request.node.get_closest_marker("differs")
    if marker is not None and "server" in request.fixturenames and request.getfixturevalue("server").is_lxd:
        pytest.skip(f"LXD differs: {marker.args[0]}")
