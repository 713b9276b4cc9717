"""Documents, ETags, and bodies that cannot be read: in Go's words, as a real LXD 5.0.2 answered."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from chassis import documents, errors


class ProfilesPost(msgspec.Struct):
    name: str = ""
    config: dict[str, str] = {}
    devices: dict[str, dict[str, str]] = {}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("{bad", "invalid character 'b' looking for beginning of object key string"),
        ("", "EOF"),
        ("{", "unexpected EOF"),
        ('{"a":1,', "unexpected EOF"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ('{"a":tru}', "invalid character '}' in literal true (expecting 'e')"),
        ('{"a":nul', "unexpected EOF"),
        ('{"name":"x', "unexpected EOF"),
        ('{"name":"\x01"}', "invalid character '\\x01' in string literal"),
        ('{"name":"\\q"}', "invalid character 'q' in string escape code"),
        ('{"name":"\\u12g4"}', "invalid character 'g' in \\u hexadecimal character escape"),
        ("[]", "json: cannot unmarshal array into Go value of type api.ProfilesPost"),
        ("5", "json: cannot unmarshal number into Go value of type api.ProfilesPost"),
        ('{"name":5}', "json: cannot unmarshal number into Go struct field ProfilesPost.name of type string"),
        (
            '{"config":[]}',
            "json: cannot unmarshal array into Go struct field ProfilesPost.config of type map[string]string",
        ),
        (
            '{"devices":{"a":{"b":1}}}',
            "json: cannot unmarshal number into Go struct field ProfilesPost.devices of type string",
        ),
        ("{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        ('{"a":-}', "invalid character '}' in numeric literal"),
        ("nope", "invalid character 'o' in literal null (expecting 'u')"),
        ("[" * 100_000, "invalid character in body"),
    ],
)
def test_bodies(body: str, text: str) -> None:
    with pytest.raises(errors.BadRequest) as caught:
        documents.read_body(body.encode(), ProfilesPost)
    assert caught.value.text == text


def test_null_is_absent() -> None:
    found = documents.read_body(b'{"name":null,"config":{"a":null,"b":"c"}}', ProfilesPost)
    assert found == ProfilesPost(name="", config={"b": "c"})


def test_invalid_utf8() -> None:
    with pytest.raises(errors.BadRequest):
        documents.read_body(b'{"name":"\xff"}', ProfilesPost)


def test_etags() -> None:
    etag = documents.etag_of({"a": 1, "b": {"c": "d"}})
    assert etag == documents.etag_of({"b": {"c": "d"}, "a": 1})
    assert len(etag) == 64
    for good in ("", "*", etag, f'"{etag}"', f'W/"{etag}"'):
        documents.check_if_match(good, etag)
    with pytest.raises(errors.PreconditionFailed) as caught:
        documents.check_if_match('"abc"', etag)
    assert caught.value.text == f"ETag doesn't match: {etag} vs abc"


def test_answers() -> None:
    created = documents.empty(location="/1.0/profiles/p")
    assert (created.status, created.json) == (201, b"null")
    assert documents.answer(created).WhichOneof("kind") == "document"
    assert documents.empty().json == b"{}"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (None, "0001-01-01T00:00:00Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 120_000, tzinfo=UTC), "2026-01-02T03:04:05.12Z"),
    ],
)
def test_timestamps(moment: datetime | None, text: str) -> None:
    assert documents.timestamp(moment) == text
