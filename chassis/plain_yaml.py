"""YAML of strangers: plain values, and no aliases, with which a small text would stand for a huge one."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


def load(text: str | bytes) -> Any:
    """Raises ValueError, with the line where there is one."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(_place(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).replace("\n", " ")
    return f"line {mark.line + 1}: {problem}" if mark else problem
