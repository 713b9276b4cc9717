"""The conventions that every endpoint follows: envelopes, unknown paths and verbs, the socket."""

from __future__ import annotations

import platform

import pytest

from tests.conformance.client import Client, UnixConnection
from tests.conformance.servers import Server


def test_the_root_names_the_one_version_of_the_api(api: Client) -> None:
    answer = api.request("GET", "/")
    assert (answer.status, answer.metadata) == (200, ["/1.0"])


def test_an_answer_is_an_envelope_of_type_sync(api: Client) -> None:
    answer = api.request("GET", "/1.0/profiles")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json.keys() == {
        "type",
        "status",
        "status_code",
        "operation",
        "error_code",
        "error",
        "metadata",
    }
    assert (answer.json["type"], answer.json["status"], answer.json["status_code"]) == ("sync", "Success", 200)


def test_a_refusal_is_an_envelope_of_type_error(api: Client) -> None:
    answer = api.request("GET", "/1.0/instances/no-such-instance")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert (answer.json["type"], answer.json["error_code"], answer.json["error"]) == (
        "error",
        404,
        "Instance not found",
    )
    assert answer.json["metadata"] is None


@pytest.mark.parametrize("path", ["/1.1", "/1.0/nope", "/1.0/instances/a/b/c/d"])
def test_an_unknown_path_is_not_found(api: Client, path: str) -> None:
    refusal = api.refusal("GET", path)
    assert (refusal.status, refusal.text) == (404, "not found")


@pytest.mark.parametrize(("verb", "path"), [("POST", "/1.0"), ("DELETE", "/1.0/instances"), ("PUT", "/1.0/images")])
def test_a_verb_that_a_path_does_not_have_is_not_implemented(api: Client, verb: str, path: str) -> None:
    refusal = api.refusal(verb, path)
    assert (refusal.status, refusal.text) == (501, "not implemented")


def test_the_server_says_what_it_is(api: Client) -> None:
    server = api.get("/1.0")
    assert (server["api_version"], server["api_status"]) == ("1.0", "stable")
    assert (server["auth"], server["public"]) == ("trusted", False)
    assert "tls" in server["auth_methods"]
    assert {"etag", "patch", "instances", "network", "storage"} <= set(server["api_extensions"])
    environment = server["environment"]
    assert environment["architectures"][0] == platform.machine()
    assert (environment["kernel"], environment["kernel_version"]) == ("Linux", platform.release())
    assert (environment["project"], environment["server_clustered"]) == ("default", False)
    assert environment["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert len(environment["certificate_fingerprint"]) == 64


def test_the_socket_is_for_its_group_only(server: Server) -> None:
    assert server.socket.stat().st_mode & 0o777 == 0o660


def test_many_requests_go_over_one_connection(server: Server) -> None:
    connection = UnixConnection(server.socket, 60)
    for _ in range(20):
        connection.request("GET", "/1.0/profiles")
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        assert not answer.will_close
    connection.close()
