"""The evaluation as one page that an owner can read: no network, no scripts, everything in one file.

Whatever people or models wrote is escaped by the template; control characters, which could turn a line around, are shown.
"""

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from dialogue.normalise import escape_control
from finetune.evaluation.evaluate import Evaluation
from finetune.evaluation.page import Page, build_page
from finetune.training import metrics_file
from finetune.training.run_folder import RunManifest


def write_report(evaluation: Evaluation, run: RunManifest, run_folder: Path, path: Path) -> None:
    """Write the page of an evaluation."""
    page = build_page(evaluation, run.recipe.name, run.recipe.description, metrics_file.read(run_folder))
    path.write_text(render(page), encoding="utf-8")


def render(page: Page) -> str:
    """Return the page as HTML."""
    return _template().render(page=page)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("finetune.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = _visible
    return environment.get_template("report.html.jinja")


def _visible(text: str) -> str:
    return escape_control(text, keep="\n\t")
