"""The evaluation as one page."""

from html import escape
from pathlib import Path

from finetune.evaluation.evaluate import Evaluation
from finetune.training.run_folder import RunManifest


def write_report(evaluation: Evaluation, run: RunManifest, run_folder: Path, path: Path) -> None:
    """Write the page."""
    path.write_text(
        f"<!doctype html><title>{escape(run.recipe.name)}</title><p>{evaluation.verdict.passed} {run_folder.name}", encoding="utf-8"
    )
