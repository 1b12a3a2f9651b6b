"""Runs that several tests look at, on one thread: for models this small more threads only wait for one another."""

from collections.abc import Iterator

import pytest
import torch

from tests.finetune.pretraining.recipes import small_run

__all__ = ["small_run"]


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
