"""Runs the Jinja template of a model, which is foreign code, within limits.

The template language is the one that transformers offers to chat templates (trimmed blocks, loop controls,
`raise_exception`, `strftime_now`, `tojson`, `{% generation %}`), in Jinja's immutable sandbox, with these limits:

    source      MAX_SOURCE characters
    time        MAX_STEPS turns of loops and calls of macros, and MAX_SECONDS of them
    depth       MAX_DEPTH calls within one another, far below what Python's own limit leaves to other code on the same stack
    size        MAX_OUTPUT characters of output, and of what `+`, `~`, `*`, `replace` and `join` build; not of nested lists
    reach       the filters and globals named below, nothing else

A template sees no content of any message: `dialogue.chat_template` gives it placeholders.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from dialogue.errors import TemplateError

MAX_SOURCE = 200_000
MAX_STEPS = 50_000
MAX_SECONDS = 2.0
MAX_DEPTH = 50
MAX_OUTPUT = 1_000_000
MAX_INDENT = 16  # of JSON

_FILTERS = (
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
)
_WIDENING_METHODS = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})
# What foreign code may raise while it runs; RecursionError is a RuntimeError.
_TEMPLATE_FAULTS = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class _Refusal(jinja2.TemplateError):
    """The template itself says that it does not take this conversation."""


class _Budget:
    """Counts the steps of one rendering."""

    def __init__(self) -> None:
        self._steps = 0
        self._depth = 0
        self._ends = time.monotonic() + MAX_SECONDS

    def concatenate(self, *parts: Any) -> str:
        """What `a ~ b` does; called from the compiled template."""
        return _join("", parts)

    def step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS or time.monotonic() > self._ends:
            raise jinja2.exceptions.SecurityError("it takes too long")

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """One call within the others."""
        if self._depth >= MAX_DEPTH:
            raise jinja2.exceptions.SecurityError("it calls itself too deeply")
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1


_budget: ContextVar[_Budget] = ContextVar("budget of the running template")


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}` marks assistant text for transformers; here it is just its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja declares it so

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    """A namespace whose values stay small and whose names stay public."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"it sets the attribute {name!r}")
        super().__setitem__(name, _sized(value))


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = _SizedConcat().visit(super()._parse(source, name, filename))
        for block in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock)):
            block.body.insert(0, nodes.ExprStmt(nodes.Call(nodes.EnvironmentAttribute("step"), [], [], None, None)))
        return tree

    def step(self) -> None:
        """Charge one step; called from the compiled template."""
        _budget.get().step()

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise jinja2.exceptions.SecurityError(f"it uses the operator {operator}")
        if operator == "*":
            _refuse_long_product(left, right)
        return _sized(super().call_binop(context, operator, left, right))

    def call(self, context: jinja2.runtime.Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        owner, method = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and method in _SIZED_METHODS:
            return _SIZED_METHODS[method](owner, *args, **kwargs)
        with _budget.get().deeper():
            return super().call(context, obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> None:
        """Leave `str.format` to `is_safe_attribute`: Jinja's safe version still pads to any width."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not (isinstance(obj, str) and attr in _WIDENING_METHODS) and super().is_safe_attribute(obj, attr, value)


def _sized(value: Any) -> Any:
    if isinstance(value, (str, list, tuple)) and len(value) > MAX_OUTPUT:
        raise jinja2.exceptions.SecurityError("it builds too long a text")
    return value


def _refuse_long_product(left: Any, right: Any) -> None:
    for text, times in ((left, right), (right, left)):
        if isinstance(text, (str, list, tuple)) and isinstance(times, int) and len(text) * times > MAX_OUTPUT:
            raise jinja2.exceptions.SecurityError("it builds too long a text")


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    if text.count(old) * len(new) > MAX_OUTPUT:
        raise jinja2.exceptions.SecurityError("it builds too long a text")
    return text.replace(old, new, count)


def _join(separator: str, parts: Iterable[Any]) -> str:
    texts = [str(part) for part in parts]
    if sum(map(len, texts)) + len(separator) * len(texts) > MAX_OUTPUT:
        raise jinja2.exceptions.SecurityError("it builds too long a text")
    return separator.join(texts)


def _join_filter(parts: Iterable[Any], d: str = "", attribute: str | None = None) -> str:
    return _join(d, parts if attribute is None else (part[attribute] for part in parts))


_SIZED_METHODS: Mapping[str, Callable[..., str]] = {"replace": _replace, "join": _join}


class _SizedConcat(NodeTransformer):
    """Jinja joins the operands of `~` past every check: let the environment do it."""

    def visit_Concat(self, node: nodes.Concat, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802 - Jinja's way to find it
        self.generic_visit(node, *args, **kwargs)
        return nodes.Call(nodes.EnvironmentAttribute("concatenate"), node.nodes, [], None, None)


class SandboxedTemplate:
    """One compiled chat template."""

    def __init__(self, source: str, variables: Mapping[str, Any]) -> None:
        """Compile `source`; `variables` are its constants. Raises TemplateError when it cannot be compiled."""
        if len(source) > MAX_SOURCE:
            raise TemplateError(f"The chat template has {len(source)} characters; at most {MAX_SOURCE} are allowed.")
        self._variables = dict(variables)
        try:
            self._template = _environment().from_string(source)
        except _TEMPLATE_FAULTS as error:
            raise TemplateError(f"The chat template cannot be compiled: {error}.") from error

    def render(self, moment: datetime, **variables: Any) -> str:
        """Return the output; `moment` is what the template takes for now. Raises TemplateError."""
        token = _budget.set(_Budget())
        try:
            return self._collect(self._variables | {"strftime_now": moment.strftime} | variables)
        except _Refusal as error:
            raise TemplateError(f"The chat template does not take this conversation: {error}.") from error
        except _TEMPLATE_FAULTS as error:
            raise TemplateError(f"The chat template failed: {error}.") from error
        finally:
            _budget.reset(token)

    def _collect(self, variables: Mapping[str, Any]) -> str:
        pieces: list[str] = []
        room = MAX_OUTPUT
        for piece in self._template.generate(variables):
            pieces.append(piece)
            room -= len(piece)
            if room < 0:
                raise jinja2.exceptions.SecurityError("it writes too long a text")
        return "".join(pieces)


def _environment() -> _Environment:
    environment = _Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    allowed: dict[str, Any] = {name: environment.filters[name] for name in _FILTERS}
    environment.filters = allowed | {"tojson": _to_json, "replace": _replace, "join": _join_filter}
    globals_: dict[str, Any] = {
        "range": environment.globals["range"],
        "dict": _new_dict,
        "namespace": _Namespace,
        "raise_exception": _refuse,
    }
    environment.globals = globals_
    return environment


def _new_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)  # the type itself would offer its own attributes


def _to_json(value: Any, *, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    # Jinja's own filter escapes for HTML
    if indent is not None and not 0 <= indent <= MAX_INDENT:
        raise jinja2.exceptions.SecurityError("it builds too long a text")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> None:
    raise _Refusal(message)
