"""On which device these tests run. They need no more than torch, transformers and pytest, so a bare GPU machine can run them."""

import pytest
import torch

OPTION = "--torch-device"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option by which the bodies of these tests can be tried on a CPU."""
    parser.addoption(OPTION, default="cuda", help="cuda (default); cpu tries what does not need the device itself")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device; skips the test where there is none."""
    name = str(request.config.getoption(OPTION, default="cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return name


@pytest.fixture(scope="session")
def cuda(device: str) -> str:
    """The device, for what a CPU cannot do."""
    if device != "cuda":
        pytest.skip("this is about the device itself")
    return device
