"""docs/openapi.json and docs/asyncapi.json hold to their specifications, as a whole; docs/keys.md has every key.

asyncapi-3.0.0.json.xz is the specification's own schema (https://github.com/asyncapi/spec-json-schemas, Apache-2.0).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import lzma
import pkgutil
import re
from pathlib import Path
from typing import Any

import jsonschema
from openapi_spec_validator import OpenAPIV31SpecValidator

import services
from chassis.keys import Schema

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = Path(__file__).with_name("asyncapi-3.0.0.json.xz")


def read(name: str) -> Any:
    return json.loads((DOCS / name).read_text())


def openapi_errors(document: Any) -> list[str]:
    return [str(error)[:300] for error in OpenAPIV31SpecValidator(document).iter_errors()]


def test_the_openapi_document_is_valid() -> None:
    document = read("openapi.json")
    assert openapi_errors(document) == []
    nameless = {"get": {"responses": {"200": {"description": "Done"}}}}  # the path's parameter is not described
    flawed = {**document, "paths": {"/1.0/profiles/{name}": nameless}, "components": {}}
    assert openapi_errors(flawed), "a flaw would not be found"


def asyncapi_errors(document: Any) -> list[str]:
    schema = json.loads(lzma.decompress(SCHEMA.read_bytes()))
    return [error.message[:300] for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


def test_the_asyncapi_document_is_valid() -> None:
    document = read("asyncapi.json")
    assert asyncapi_errors(document) == []
    document["channels"]["events"]["address"] = 5
    assert asyncapi_errors(document), "a flaw would not be found"


def test_the_page_of_keys_has_every_key_that_is_accepted() -> None:
    for each in pkgutil.walk_packages(services.__path__, "services."):
        if not each.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # some can only be imported after others
                importlib.import_module(each.name)
    schemas = [found for found in gc.get_objects() if isinstance(found, Schema) and found.name != "test"]
    assert {"server", "project", "instance", "profile"} <= {schema.name for schema in schemas}
    shown = set(re.findall(r"^\| `([^`]+)` \|", (DOCS / "keys.md").read_text(), re.MULTILINE))
    for schema in schemas:
        assert {key.name for key in schema.keys} <= shown, schema.name
