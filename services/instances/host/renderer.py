"""Fills in templates: run as a process of its own, JSON in and out (see `templates`). Never imported by the service.

An image's templates are somebody else's text: they are rendered in jinja2's sandbox, with values and one function in reach, without a
loader, and within limits of time and memory that the kernel keeps. pongo2's spelling is translated to jinja2's first.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from typing import Any

from jinja2 import ChainableUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS, MEMORY = 5, 512 * 1024 * 1024
TAG = re.compile(r"({[{%].*?[%}]})", re.DOTALL)
ARGUMENT = re.compile(r"\|\s*(\w+)\s*:\s*(\"[^\"]*\"|'[^']*'|[\w.]+)")
AUTOESCAPE = re.compile(r"{%-?\s*(?:end)?autoescape\b[^%]*%}")


def to_jinja(text: str) -> str:
    """`value|filter:"argument"` becomes `value|filter("argument")`; autoescape tags go (nothing is ever escaped, as in LXD)."""
    parts = TAG.split(AUTOESCAPE.sub("", text))
    return "".join(ARGUMENT.sub(r"|\1(\2)", part) if part.startswith(("{{", "{%")) else part for part in parts)


def render(text: str, context: dict[str, Any]) -> str:
    """Raises jinja2's errors."""
    config = context.get("config", {})

    def config_get(key: str, default: str = "") -> str:
        return str(config[key]).rstrip("\r\n") if key in config else str(default)

    environment = ImmutableSandboxedEnvironment(
        autoescape=False, keep_trailing_newline=True, undefined=ChainableUndefined
    )
    return environment.from_string(to_jinja(text)).render(**context, config_get=config_get)


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    jobs = json.load(sys.stdin)
    try:
        answer: dict[str, object] = {"texts": [render(job["text"], job["context"]) for job in jobs]}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
