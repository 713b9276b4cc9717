"""Templates: which are due, and what becomes of their texts."""

from __future__ import annotations

import pytest
from jinja2 import TemplateError

from chassis.errors import Internal
from services.instances.host.renderer import render as rendered
from services.instances.host.renderer import to_jinja
from services.instances.host.templates import due, render, substituted

METADATA = """
architecture: x86_64
templates:
  /etc/hostname: {when: [create, copy], template: hostname.tpl}
  /etc/hosts: {when: [start], template: hosts.tpl, create_only: true, properties: {a: 1}}
  /bad: 5
"""
CONTEXT = {"container": {"name": "c1"}, "config": {"user.x": "1", "user.text": "two\n"}, "devices": {}}


def test_which_are_due() -> None:
    (hosts,) = due(METADATA, "start")
    assert (hosts.path, hosts.name, hosts.create_only, hosts.properties) == (
        "/etc/hosts",
        "hosts.tpl",
        True,
        {"a": "1"},
    )
    assert [t.path for t in due(METADATA, "copy")] == ["/etc/hostname"]
    assert due(METADATA, "rename") == []
    assert due("", "start") == []
    assert due("[]", "start") == []


def test_a_small_text_does_not_become_a_huge_one() -> None:
    layers = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    bomb = f"l0: &l0 x\n{layers}templates: {{/x: {{when: [start], template: t, properties: {{a: *l11}}}}}}\n"
    with pytest.raises(ValueError, match="aliases are not allowed"):
        due(bomb, "start")
    with pytest.raises(ValueError, match="nested too deeply"):
        due("[" * 100_000, "start")


def test_metadata_that_is_no_yaml() -> None:
    with pytest.raises(ValueError, match=r"Could not parse metadata\.yaml"):
        due("{: :", "start")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ container.name }}\n", "c1\n"),
        ("a { b } {{container.name}}!", "a { b } c1!"),
        ("{{ nothing.there }}.", "."),
        ("{{ container }}", ""),
        ("plain", "plain"),
        ("", ""),
        ("{% if true %}x{% endif %}", None),
        ("{{ config_get('a', 'b') }}", None),
        ("{{ container.name|upper }}", None),
        ("{# comment #}", None),
        ("{{", None),
    ],
)
def test_names_alone_are_replaced_here(text: str, expected: str | None) -> None:
    assert substituted(text, CONTEXT) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{% if config_get('user.x', '') == '1' %}yes{% else %}no{% endif %}", "yes"),
        ('{{ config_get("user.none", "default") }}', "default"),
        ('{{ config_get("user.text", "") }}|', "two|"),
        ('{{ container.nope|default:"dd" }}', "dd"),
        ("{% autoescape off %}<{{ container.name }}>{% endautoescape %}", "<c1>"),
        ("{{ nothing.at.all }}", ""),
        ("{% for key in ['a', 'b'] %}{{ key }}{% endfor %}\n", "ab\n"),
    ],
)
def test_pongo2s_spelling(text: str, expected: str) -> None:
    assert rendered(text, CONTEXT) == expected


def test_filters_are_translated_inside_tags_only() -> None:
    assert to_jinja('a|b:"c" {{ a|default:"x"|upper }}') == 'a|b:"c" {{ a|default("x")|upper }}'


@pytest.mark.parametrize(
    "text",
    [
        "{{ ().__class__.__bases__[0].__subclasses__() }}",
        "{{ config_get.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_code_is_out_of_reach(text: str) -> None:
    try:
        found = rendered(text, CONTEXT)
    except (TemplateError, TypeError):
        return
    assert found == ""


async def test_the_process_that_renders() -> None:
    jobs = [
        {"text": "{{ container.name }}", "context": CONTEXT},
        {"text": "{% if true %}x{% endif %}", "context": CONTEXT},
    ]
    assert await render(jobs) == ["c1", "x"]


async def test_a_template_that_cannot_be_rendered() -> None:
    with pytest.raises(Internal, match="Failed to render template: TemplateSyntaxError"):
        await render([{"text": "{% if %}", "context": {}}])


async def test_a_template_that_never_ends() -> None:
    text = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
    with pytest.raises(Internal, match="too much time or memory"):
        await render([{"text": text, "context": {}}])
