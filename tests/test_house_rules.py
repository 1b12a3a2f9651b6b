"""Rules of the house that no linter knows, each checked over the whole source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(path for package in ("bot", "dialogue", "finetune", "storage") for path in (ROOT / package).rglob("*.py"))
ENVIRONMENT_READER = ROOT / "bot" / "settings.py"


def violations(path: Path, source: str | None = None) -> Iterator[str]:
    """Yield one sentence for each broken rule of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8") if source is None else source)
    if path.name == "__init__.py" and any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)):
        yield "a package file imports something; it holds only the docstring that maps the room"
    if ast.get_docstring(tree) is None:
        yield "the module does not say what it is for"
    for node in ast.walk(tree):
        yield from _node_violations(node, path)


def _node_violations(node: ast.AST, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} and path != ENVIRONMENT_READER:
        yield f"line {node.lineno}: the environment is read only in bot/settings.py"
    if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
        yield f"line {node.value.lineno}: trust_remote_code never appears"
    if isinstance(node, ast.Import) and any(alias.name.split(".")[0] in {"pickle", "shelve", "marshal"} for alias in node.names):
        yield f"line {node.lineno}: nothing is unpickled"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_keeps_the_rules(path: Path) -> None:
    """Every source file reads no environment, unpickles nothing, trusts no remote code and says what it is for."""
    assert list(violations(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        '"""Doc."""\nimport os\nprint(os.environ["HOME"])\n',
        '"""Doc."""\nload(trust_remote_code=True)\n',
        '"""Doc."""\nimport pickle\n',
        "x = 1\n",
    ],
)
def test_the_check_can_fail(source: str) -> None:
    """A file that breaks a rule is reported."""
    assert list(violations(Path("module.py"), source))


def test_no_package_file_imports() -> None:
    """An __init__.py with an import is reported."""
    assert list(violations(Path("__init__.py"), '"""Doc."""\nimport os\n'))
