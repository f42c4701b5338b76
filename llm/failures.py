"""What backends raise, as the errors of jitllm."""

from collections.abc import Iterator
from contextlib import contextmanager

from jitllm.backends.base import BackendUnavailable
from jitllm.llm.errors import BackendError


@contextmanager
def device_errors(*, of_memory: bool = False) -> Iterator[None]:
    """Raise BackendError where a backend raises `BackendUnavailable` in the block.

    Parameters
    ----------
    of_memory : bool
        Take MemoryError for one of the device: where none of the caller's code runs.
    """
    try:
        yield
    except BackendUnavailable as error:
        raise BackendError(str(error)) from error
    except MemoryError as error:
        if not of_memory:
            raise
        raise BackendError(
            f"expected more free memory, got none: {error or 'out of memory'}; use a smaller "
            "model, a smaller n_ctx, or cache_bytes"
        ) from error
