"""Files of an instance, running or stopped: /1.0/instances/{name}/files?path=."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.client import Answer, Client
from tests.conformance.process import shell
from tests.conformance.world import unique


@pytest.fixture
def folder(api: Client, box: str) -> Iterator[str]:
    """A directory in the running container that only one test uses."""
    path = f"/tmp/{unique('d')}"
    shell(api, box, f"mkdir {path}")
    yield path
    shell(api, box, f"rm -rf {path}")


def at(instance: str, path: str) -> str:
    return f"/1.0/instances/{instance}/files?path={path}"


def stat(api: Client, box: str, path: str) -> str:
    """Mode, owner, group and kind as the container sees them."""
    return shell(api, box, f"stat -c '%a %u %g %F' {path}")


def get(api: Client, instance: str, path: str) -> Answer:
    answer = api.request("GET", at(instance, path))
    assert answer.status == 200, answer.body
    return answer


def test_a_file_that_is_pushed_is_seen_inside_and_can_be_pulled(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/f"), b"one\n")
    assert shell(api, box, f"cat {folder}/f") == "one"
    assert stat(api, box, f"{folder}/f") == "644 0 0 regular file"
    assert get(api, box, f"{folder}/f").body == b"one\n"


def test_owner_and_mode_are_applied_to_a_new_file_and_ignored_for_an_existing_one(
    api: Client, box: str, folder: str
) -> None:
    api.post(at(box, f"{folder}/f"), b"1", X_LXD_uid="5", X_LXD_gid="6", X_LXD_mode="0600")
    api.post(at(box, f"{folder}/f"), b"2", X_LXD_uid="7", X_LXD_gid="8", X_LXD_mode="0755")
    assert stat(api, box, f"{folder}/f") == "600 5 6 regular file"
    assert get(api, box, f"{folder}/f").body == b"2"


def test_the_headers_of_a_file_tell_its_owner_mode_type_and_name(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/f"), b"1", X_LXD_uid="5", X_LXD_gid="6", X_LXD_mode="0640")
    headers = get(api, box, f"{folder}/f").headers
    assert headers["x-lxd-type"] == "file"
    assert (headers["x-lxd-uid"], headers["x-lxd-gid"], headers["x-lxd-mode"]) == ("5", "6", "0640")
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "inline;filename=f"
    assert "x-lxd-modified" in headers


def test_head_gives_the_headers_without_the_content(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/f"), b"12345")
    answer = api.request("HEAD", at(box, f"{folder}/f"))
    assert (answer.status, answer.body, answer.headers["x-lxd-type"]) == (200, b"", "file")


@pytest.mark.extension("directory_manipulation")
def test_a_directory_is_made_with_the_owner_and_mode_asked_for(api: Client, box: str, folder: str) -> None:
    headers = {"X_LXD_type": "directory", "X_LXD_mode": "0711", "X_LXD_uid": "1000", "X_LXD_gid": "1001"}
    api.post(at(box, f"{folder}/d"), None, **headers)
    assert stat(api, box, f"{folder}/d") == "711 1000 1001 directory"


@pytest.mark.extension("directory_manipulation")
def test_making_an_existing_directory_changes_nothing(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/d"), None, X_LXD_type="directory")
    api.post(at(box, f"{folder}/d"), None, X_LXD_type="directory", X_LXD_mode="0700")
    assert stat(api, box, f"{folder}/d") == "750 0 0 directory"


@pytest.mark.extension("directory_manipulation")
def test_a_directory_is_listed_by_its_names(api: Client, box: str, folder: str) -> None:
    shell(api, box, f"mkdir {folder}/d; touch {folder}/a {folder}/b")
    answer = get(api, box, folder)
    assert answer.headers["x-lxd-type"] == "directory"
    assert sorted(answer.metadata) == ["a", "b", "d"]


@pytest.mark.extension("directory_manipulation")
def test_a_directory_below_a_missing_one_is_not_found(api: Client, box: str, folder: str) -> None:
    assert api.refusal("POST", at(box, f"{folder}/no/d"), None, {"X-LXD-type": "directory"}).status == 404


@pytest.mark.extension("file_append")
def test_append_adds_to_a_file_and_keeps_its_owner_and_mode(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/f"), b"one", X_LXD_uid="5", X_LXD_mode="0600")
    api.post(at(box, f"{folder}/f"), b"two", X_LXD_write="append", X_LXD_uid="9", X_LXD_mode="0777")
    assert shell(api, box, f"cat {folder}/f") == "onetwo"
    assert stat(api, box, f"{folder}/f") == "600 5 0 regular file"


@pytest.mark.extension("file_append")
def test_overwrite_replaces_a_longer_file(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/f"), b"a longer text")
    api.post(at(box, f"{folder}/f"), b"short", X_LXD_write="overwrite")
    assert get(api, box, f"{folder}/f").body == b"short"


@pytest.mark.extension("file_append")
def test_append_to_a_missing_file_is_not_found(api: Client, box: str, folder: str) -> None:
    assert api.refusal("POST", at(box, f"{folder}/f"), b"x", {"X-LXD-write": "append"}).status == 404


@pytest.mark.extension("file_symlinks")
def test_a_symlink_is_made_with_the_body_as_its_target(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/l"), b"f", X_LXD_type="symlink")
    api.post(at(box, f"{folder}/l"), b"f", X_LXD_type="symlink")  # again: nothing to do
    assert shell(api, box, f"readlink {folder}/l") == "f"


@pytest.mark.extension("file_symlinks")
def test_a_symlink_is_not_turned_to_another_target(api: Client, box: str, folder: str) -> None:
    api.post(at(box, f"{folder}/l"), b"f", X_LXD_type="symlink")
    refusal = api.refusal("POST", at(box, f"{folder}/l"), b"g", {"X-LXD-type": "symlink"})
    assert refusal.status == 500
    assert "file exists" in refusal.text.lower()
    assert shell(api, box, f"readlink {folder}/l") == "f"


@pytest.mark.extension("file_get_symlink")
def test_getting_a_symlink_gives_its_target_and_not_the_file_behind_it(api: Client, box: str, folder: str) -> None:
    shell(api, box, f"ln -s /etc/passwd {folder}/l")
    answer = get(api, box, f"{folder}/l")
    assert (answer.headers["x-lxd-type"], answer.body) == ("symlink", b"/etc/passwd")
    assert api.request("HEAD", at(box, f"{folder}/l")).headers["x-lxd-type"] == "symlink"


@pytest.mark.extension("file_get_symlink")
def test_a_relative_target_is_given_as_an_absolute_path(api: Client, box: str, folder: str) -> None:
    shell(api, box, f"ln -s f {folder}/l")
    assert get(api, box, f"{folder}/l").body.decode() == f"{folder}/f"


@pytest.mark.extension("file_delete")
def test_a_deleted_file_is_gone_and_a_second_delete_is_not_found(api: Client, box: str, folder: str) -> None:
    shell(api, box, f"touch {folder}/f")
    api.delete(at(box, f"{folder}/f"))
    assert shell(api, box, f"ls {folder}") == ""
    assert api.refusal("DELETE", at(box, f"{folder}/f")).status == 404


@pytest.mark.extension("file_delete")
def test_an_empty_directory_is_deleted_and_a_full_one_is_not(api: Client, box: str, folder: str) -> None:
    shell(api, box, f"mkdir -p {folder}/empty {folder}/full; touch {folder}/full/f")
    api.delete(at(box, f"{folder}/empty"))
    refusal = api.refusal("DELETE", at(box, f"{folder}/full"))
    assert refusal.status == 500
    assert "not empty" in refusal.text.lower()
    assert shell(api, box, f"ls {folder}") == "full"


@pytest.mark.extension("file_delete")
def test_deleting_a_symlink_leaves_its_target(api: Client, box: str, folder: str) -> None:
    shell(api, box, f"touch {folder}/f; ln -s f {folder}/l")
    api.delete(at(box, f"{folder}/l"))
    assert shell(api, box, f"ls {folder}") == "f"


def test_files_of_a_stopped_instance_are_written_and_read(api: Client, still: str) -> None:
    path = f"/root/{unique('f')}"
    api.post(at(still, path), b"still", X_LXD_uid="1000", X_LXD_mode="0600")
    answer = get(api, still, path)
    assert answer.body == b"still"
    assert (answer.headers["x-lxd-uid"], answer.headers["x-lxd-mode"]) == ("1000", "0600")
    api.delete(at(still, path))


def test_a_large_file_is_pushed_and_pulled_whole(api: Client, box: str, folder: str) -> None:
    data = bytes(range(256)) * 32768
    api.post(at(box, f"{folder}/big"), data)
    assert shell(api, box, f"wc -c <{folder}/big") == str(len(data))
    assert get(api, box, f"{folder}/big").body == data


def test_a_path_does_not_lead_out_of_the_instance(api: Client, box: str) -> None:
    climbed = get(api, box, "/../../../../../../etc/hostname")
    assert climbed.body == get(api, box, "/etc/hostname").body == f"{box}\n".encode()


def test_a_symlink_does_not_lead_out_of_the_instance(api: Client, still: str) -> None:
    link = f"/root/{unique('l')}"
    api.post(at(still, link), b"/", X_LXD_type="symlink")
    assert get(api, still, f"{link}/etc/passwd").body == get(api, still, "/etc/passwd").body
    api.delete(at(still, link))


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_a_request_without_a_path_is_refused(api: Client, box: str, verb: str) -> None:
    refusal = api.refusal(verb, f"/1.0/instances/{box}/files")
    assert (refusal.status, refusal.text) == (400, "Missing path argument")


@pytest.mark.parametrize(
    ("header", "value", "text"),
    [("X-LXD-type", "fifo", "Bad file type: fifo"), ("X-LXD-write", "bogus", "Bad file write mode: bogus")],
)
def test_a_header_with_an_unknown_value_is_refused(
    api: Client, box: str, folder: str, header: str, value: str, text: str
) -> None:
    refusal = api.refusal("POST", at(box, f"{folder}/f"), b"x", {header: value})
    assert (refusal.status, refusal.text) == (400, text)
    assert shell(api, box, f"ls {folder}") == ""


def test_a_missing_file_is_not_found(api: Client, box: str) -> None:
    refusal = api.refusal("GET", at(box, "/no/such/file"))
    assert (refusal.status, refusal.text) == (404, "Not Found")


def test_a_directory_is_not_overwritten_by_a_file(api: Client, box: str, folder: str) -> None:
    shell(api, box, f"mkdir {folder}/d")
    assert api.refusal("POST", at(box, f"{folder}/d"), b"x").status == 500
    assert stat(api, box, f"{folder}/d").endswith("directory")


def test_files_of_a_missing_instance_are_not_found(api: Client) -> None:
    assert api.refusal("GET", at("no-such-instance", "/etc/passwd")).status == 404


@pytest.mark.extension("event_lifecycle")
def test_pushing_pulling_and_deleting_are_events(api: Client, box: str, folder: str) -> None:
    path = f"{folder}/f"
    with api.events() as events:
        api.post(at(box, path), b"x")
        get(api, box, path)
        api.delete(at(box, path))
        events.wait_for(action="instance-file-deleted", context={"path": path})
    about = [event["metadata"]["action"] for event in events.matching(context={"path": path})]
    assert about == ["instance-file-pushed", "instance-file-retrieved", "instance-file-deleted"]
