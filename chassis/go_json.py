"""What Go's encoding/json says about a body that it cannot read: clients of LXD know these sentences."""

from __future__ import annotations

import json
import re
import string

from chassis.key_types import quote

AFTER = {
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Expecting ':' delimiter": "after object key",
    "Expecting value": "looking for beginning of value",
    "Extra data": "after top-level value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
KINDS = {
    "object": "object",
    "array": "array",
    "str": "string",
    "bool": "bool",
    "int": "number",
    "float": "number",
    "null": "null",
}
TYPES = {
    "str": "string",
    "bool": "bool",
    "int": "int",
    "float": "float64",
    "object": "map[string]string",
    "array": "[]string",
}
MISMATCH = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
BRACKETS = re.compile(r"\[[^\]]*\]")


def complaint(body: bytes) -> str:
    """Why a body is no JSON; "" if it is."""
    text = body.decode("utf-8", "replace")
    if not text.strip():
        return "EOF"
    try:
        json.loads(text, parse_constant=_constant)
    except json.JSONDecodeError as error:
        return _sentence(text, error)
    except (ValueError, RecursionError):
        return "invalid character in body"
    return ""


def _constant(name: str) -> None:
    raise ValueError(name)


def _sentence(text: str, error: json.JSONDecodeError) -> str:
    position = error.pos
    if error.msg.startswith("Unterminated string") or position >= len(text.rstrip()):
        return "unexpected EOF"
    if error.msg == "Expecting ',' delimiter":
        where = "after object key:value pair" if _inside_object(text[:position]) else "after array element"
    else:
        where = next((words for start, words in AFTER.items() if error.msg.startswith(start)), "in body")
    if where == "looking for beginning of value":
        position, where = _literal(text, position)
    elif "escape" in where:
        position = _escape(text, position)
    if position >= len(text.rstrip()):
        return "unexpected EOF"
    return f"invalid character {_rune(text[position])} {where}"


def _literal(text: str, position: int) -> tuple[int, str]:
    """Where a misspelt true, false or null, or a lone minus, goes wrong."""
    for word in ("true", "false", "null"):
        if text[position] == word[0]:
            same = next((i for i, c in enumerate(word) if text[position + i : position + i + 1] != c), len(word))
            return position + same, f"in literal {word} (expecting '{word[same : same + 1]}')"
    if text[position] == "-":
        return position + 1, "in numeric literal"
    return position, "looking for beginning of value"


def _escape(text: str, position: int) -> int:
    """Where an escape in a text goes wrong: behind the backslash, or at the first character that is no hexadecimal digit."""
    start = text.rfind("\\", 0, position + 1) + 1
    if text[start : start + 1] != "u":
        return start
    return next((i for i in range(start + 1, len(text)) if text[i] not in string.hexdigits), len(text))


def _rune(character: str) -> str:
    """As Go quotes one: quotation marks, line ends and tabs escaped."""
    escaped = {"'": r"\'", "\n": r"\n", "\t": r"\t", "\r": r"\r", "\\": r"\\"}
    shown = character if character.isprintable() else f"\\x{ord(character):02x}"
    return "'" + escaped.get(character, shown) + "'"


def _inside_object(before: str) -> bool:
    """Whether the innermost bracket that is open at the end of `before` is a brace; texts are skipped."""
    opened: list[str] = []
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', before):
        if token in "{[":
            opened.append(token)
        elif token in "}]" and opened:
            opened.pop()
    return bool(opened) and opened[-1] == "{"


def mismatch(reason: str, name: str) -> str:
    """msgspec's sentence about a value of the wrong type, as Go says it of the struct `name`."""
    found = MISMATCH.match(reason)
    if found is None:
        missing = re.match(r"Object missing required field `([^`]+)`", reason)
        return f"Missing field {quote(missing[1])}" if missing else reason
    wanted, got, path = found.groups()
    kind = KINDS.get(got, got)
    if not path:
        target = "map[string]interface {}" if name == "Go value" else f"api.{name}"
        return f"json: cannot unmarshal {kind} into Go value of type {target}"
    field = BRACKETS.sub("", path)
    first = wanted.split(" ")[0]
    return f"json: cannot unmarshal {kind} into Go struct field {name}.{field} of type {TYPES.get(first, first)}"
