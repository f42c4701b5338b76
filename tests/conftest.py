"""What all tests have in common, and models that many of them use."""

import gc
from collections.abc import Iterator

import pytest
from driver import devices
from models import model_path

import jitllm


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_search() -> None:
    """Let the garbage collector search only what the tests of a file make.

    Thousands of tests and the types of compiled kernels are millions of objects: a search of all
    of them takes half a second, and tests of what is left behind ask for hundreds.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", params=devices())
def stories(request: pytest.FixtureRequest) -> Iterator[jitllm.Model]:
    """The 260K-parameter story model, on every device."""
    with jitllm.load(model_path("stories260K"), device=request.param, progress=False) as model:
        yield model


@pytest.fixture(scope="module")
def reference() -> Iterator[jitllm.Model]:
    """The same model on the NumPy backend alone, for what does not depend on the device."""
    with jitllm.load(model_path("stories260K"), device="reference", progress=False) as model:
        yield model
