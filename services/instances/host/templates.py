"""An image's templates: files of the rootfs that are filled in when an instance is created, copied, renamed or started.

metadata.yaml says which (`templates: {path: {template, when, create_only, properties}}`), templates/ beside it has their texts.
Rendering is done by a process of its own (`renderer`), writing beneath the rootfs as a process inside would.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chassis import beneath, plain_yaml
from chassis.errors import Fault, Internal, NotFound
from services.instances.host.files import Tree
from services.instances.host.rootfs import disk_map

RENDERER = Path(__file__).with_name("renderer.py")
MOST = 1024 * 1024  # bytes of metadata.yaml, and of a template
TIMEOUT = 30.0
DIRECTORY_MODE = 0o755
NAME = re.compile(r"{{\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*}}")
PLAIN = re.compile(rf"(?:[^{{]|{{(?![{{%#])|{NAME.pattern})*")


@dataclass(frozen=True, slots=True)
class Template:
    path: str
    name: str
    create_only: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)


def due(metadata: str | bytes, trigger: str) -> list[Template]:
    """Those of a metadata.yaml that a trigger fills in. Raises ValueError for a file that makes no sense."""
    try:
        found = plain_yaml.load(metadata) or {}
    except ValueError as error:
        raise ValueError(f"Could not parse metadata.yaml: {error}") from None
    entries = found.get("templates") if isinstance(found, dict) else None
    if not isinstance(entries, dict):
        return []
    wanted: list[Template] = []
    for path, entry in entries.items():
        if isinstance(entry, dict) and trigger in (entry.get("when") or ()):
            properties = {str(k): str(v) for k, v in (entry.get("properties") or {}).items()}
            wanted.append(
                Template(str(path), str(entry.get("template", "")), bool(entry.get("create_only")), properties)
            )
    return wanted


async def apply(volume: Path, trigger: str, context: Mapping[str, Any]) -> None:
    """Fill in what is due in a mounted volume. `context` has container, config and devices.

    Raises Internal naming the template.
    """
    texts = await asyncio.to_thread(_load, volume, trigger)
    if not texts:
        return
    async with Tree(volume / "rootfs", disk_map(volume)) as tree:
        wanted = [
            (template, text)
            for template, text in texts
            if not (template.create_only and await _exists(tree, template.path))
        ]
        rendered = await render([_job(template, text, trigger, context) for template, text in wanted])
        for (template, _), text in zip(wanted, rendered, strict=True):
            await _write(tree, template, text)


def _load(volume: Path, trigger: str) -> list[tuple[Template, str]]:
    """What is due, with its text."""
    with beneath.tree(volume) as folder:
        try:
            metadata = beneath.read_beneath(folder, "metadata.yaml", MOST)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Internal(f"Failed to read metadata.yaml: {error.strerror}") from None
        try:
            templates = due(metadata, trigger)
        except ValueError as error:
            raise Internal(str(error)) from None
        return [(template, _text(folder, template)) for template in templates]


def _text(folder: int, template: Template) -> str:
    try:
        return beneath.read_beneath(folder, f"templates/{template.name}", MOST).decode(errors="replace")
    except OSError as error:
        raise Internal(f'Failed to read template "{template.name}": {error.strerror}') from None


def _job(template: Template, text: str, trigger: str, context: Mapping[str, Any]) -> dict[str, Any]:
    own = {"trigger": trigger, "path": template.path, "properties": dict(template.properties)}
    return {"text": text, "context": {"instance": context.get("container", {}), **context, **own}}


async def render(jobs: list[dict[str, Any]]) -> list[str]:
    """The texts of jobs {text, context}. Raises Internal."""
    plain = [substituted(job["text"], job["context"]) for job in jobs]
    hard = [job for job, text in zip(jobs, plain, strict=True) if text is None]
    rendered = iter(await _render(hard) if hard else ())
    return [next(rendered) if text is None else text for text in plain]


def substituted(text: str, context: Mapping[str, Any]) -> str | None:
    """The text with names replaced, if that is all it asks for (most do, and it saves a process); else None."""
    if not PLAIN.fullmatch(text):
        return None

    def value(match: re.Match[str]) -> str:
        found: Any = context
        for name in match[1].split("."):
            found = found.get(name, "") if isinstance(found, Mapping) else ""
        return found if isinstance(found, str) else ""

    return NAME.sub(value, text)


async def _render(jobs: list[dict[str, Any]]) -> list[str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(RENDERER),
        stdin=pipe,
        stdout=pipe,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LANG": "C.UTF-8"},
    )
    try:
        async with asyncio.timeout(TIMEOUT):
            output, _ = await process.communicate(json.dumps(jobs).encode())
    except TimeoutError:
        output = b""
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        answer = json.loads(output)
    except ValueError:
        answer = {"error": "it took too much time or memory"}
    if "error" in answer:
        raise Internal(f"Failed to render template: {answer['error']}")
    return list(answer["texts"])


async def _exists(tree: Tree, path: str) -> bool:
    try:
        await tree.stat(path)
    except NotFound:
        return False
    except Fault:
        return True
    return True


async def _write(tree: Tree, template: Template, text: str) -> None:
    parts = posixpath.dirname(template.path).strip("/").split("/")
    for depth in range(1, len(parts) + 1):
        if parts[0]:
            await tree.mkdir("/".join(parts[:depth]), mode=DIRECTORY_MODE)

    async def data() -> AsyncIterator[bytes]:
        yield text.encode()

    await tree.write(template.path, data())
