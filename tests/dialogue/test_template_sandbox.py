"""Foreign template code ends, stays small, and reaches nothing."""

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from dialogue.errors import TemplateError
from dialogue.template_sandbox import MAX_SOURCE, SandboxedTemplate

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% set x = 1 %}{% for b in range(1000) %}{% continue %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(900) }}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{% for a in range(100000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
        "{{ 'a' * 1000000000 }}",
        "{{ [1] * 1000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'a'.center(1000000000) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{{ ('a' * 10000) | replace('a', 'b' * 10000) }}",
        "{{ ('a' * 10000).replace('a', 'b' * 10000) }}",
        "{{ range(10000) | join('b' * 10000) }}",
        "{{ ('b' * 10000).join(['a'] * 10000) }}",
        "{{ 'a' | indent(1000000000) }}",
        "{% set a = 'x' * 1000 %}" + "{% set a = a ~ a %}" * 18 + "{{ a | length }}",
        "{{ [1] | batch(30000000, 'x') | list | length }}",
        "{{ {'a': 1} | tojson(indent=200000000) | length }}",
    ],
)
def test_a_template_cannot_run_or_grow_for_ever(source: str) -> None:
    """Loops, recursion, and every way of making a text long end in a sentence."""
    with pytest.raises(TemplateError, match="template"):
        SandboxedTemplate(source, {}).render(NOW)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__ }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ dict.mro() }}",
        "{{ strftime_now.__self__.__class__ }}x{{ lipsum() }}",
        "{{ cycler }}{{ cycler.__init__ }}",
        "{{ self.__init__.__globals__ }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{{ 'x' | xmlattr }}",
    ],
)
def test_a_template_reaches_nothing(source: str) -> None:
    """No attribute of Python's, no other file, no change of what it is given: an error, or nothing at all."""
    output = ""
    with suppress(TemplateError):
        output = SandboxedTemplate(source, {}).render(NOW, messages=[{}])
    assert output == ""


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{{ strftime_now('%Y-%m-%d') }}", "2026-01-02"),
        ("{{ {'b': 'é<', 'a': 1} | tojson }}", '{"b": "é<", "a": 1}'),
        ("{{ [1, 2] | join(', ') }}{{ 'a-b' | replace('-', '+') }}{{ 'x'.join(['1', '2']) }}", "1, 2a+b1x2"),
        ("{% for a in [1, 2, 3] %}{% if a == 2 %}{% break %}{% endif %}{{ a }}{% endfor %}", "1"),
        ("{% macro f(x) %}<{{ x }}{{ caller() }}>{% endmacro %}{% call f('b') %}c{% endcall %}", "<bc>"),
        ("{% set ns = namespace(n=1) %}{% for i in [1] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ dict(a=1).a }}", "21"),
        ("  {% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),
    ],
)
def test_the_language_of_chat_templates_works(source: str, output: str) -> None:
    """What published templates use is there."""
    assert SandboxedTemplate(source, {}).render(NOW) == output


def test_a_huge_template_is_not_read() -> None:
    """The source has a limit too."""
    with pytest.raises(TemplateError, match="characters"):
        SandboxedTemplate("a" * (MAX_SOURCE + 1), {})
