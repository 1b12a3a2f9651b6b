"""Runs that several tests look at."""

from tests.finetune.pretraining.recipes import small_run

__all__ = ["small_run"]
