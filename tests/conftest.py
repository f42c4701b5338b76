"""What all tests have in common."""

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_search() -> None:
    """Let the garbage collector search only what the tests of a file make.

    Thousands of tests and the types of compiled kernels are millions of objects: a search of all
    of them takes half a second, and tests of what is left behind ask for hundreds.
    """
    gc.collect()
    gc.freeze()
