"""Convert the tensors of a model in parallel and write them, a piece at a time."""

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jitllm.kernels import formats
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_copy import alignment_of, copied
from jitllm.llm.loaders.gguf_writer import NewTensor, write_gguf
from jitllm.llm.progress import ProgressBar
from jitllm.llm.quantize.importance import Importance
from jitllm.llm.quantize.plan import TensorPlan

_WEIGHTS_AT_ONCE = 1 << 18  # enough for NumPy to be busy, few enough for caches
_LARGEST_F16 = 65504
_LARGEST = {"F32": np.inf, "BF16": np.inf}  # other types have float16 scales or exponents


def write_model(
    file: GGUFFile,
    path: Path,
    values: Mapping[str, bytes],
    plan: tuple[TensorPlan, ...],
    importance: Importance | None,
    n_threads: int,
    progress: bool,
) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    file : GGUFFile
        The source.
    path : Path
    values : mapping of str to bytes
        Metadata, as `gguf_writer.read_values` gives it.
    plan : tuple of TensorPlan
    importance : Importance or None
    n_threads : int
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    ModelFormatError
        If weights are not finite, or importance was measured on another model.
    OSError
        If the file cannot be written.
    """
    tensors = [NewTensor(step.name, step.shape, step.type_name) for step in plan]
    with ProgressBar(progress, "quantizing", scale=True) as bar:
        with ThreadPoolExecutor(n_threads) as pool:
            data = _all_data(file, plan, importance, _Workers(pool, n_threads), bar)
            write_gguf(path, values, tensors, data, alignment_of(file))


class _Workers:
    """Threads that are given little more work than they can do at once."""

    def __init__(self, pool: ThreadPoolExecutor, n_threads: int) -> None:
        self._pool, self._limit = pool, 2 * n_threads

    def quantize(
        self, file: GGUFFile, step: TensorPlan, columns: NDArray[np.float32] | None
    ) -> Iterator[bytes]:
        """Yield a tensor's data, converted in parallel, in order."""
        n_rows = prod(step.shape[:-1])
        at_once = max(1, _WEIGHTS_AT_ONCE // max(1, step.shape[-1]))
        waiting: deque[Future[bytes]] = deque()
        for start in range(0, n_rows, at_once):
            rows = range(start, min(start + at_once, n_rows))
            waiting.append(self._pool.submit(_convert, file, step, columns, rows))
            if len(waiting) > self._limit:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _all_data(
    file: GGUFFile,
    plan: tuple[TensorPlan, ...],
    importance: Importance | None,
    workers: _Workers,
    bar: ProgressBar,
) -> Iterator[Iterator[bytes]]:
    done, total = 0, sum(step.nbytes for step in plan)
    for step in plan:
        if step.type_name == step.source_type:
            pieces = copied(file, step.source_name)
        else:
            columns = importance.of(step.source_name, step.shape) if importance else None
            pieces = workers.quantize(file, step, columns)
        yield _counted(pieces, bar, done, total)
        done += step.nbytes
        file.release(step.source_name)


def _counted(pieces: Iterator[bytes], bar: ProgressBar, done: int, total: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        done += len(piece)
        bar.update(done, total)


def _convert(
    file: GGUFFile, step: TensorPlan, columns: NDArray[np.float32] | None, rows: range
) -> bytes:
    """Quantize some rows of a tensor."""
    n_columns, row_bytes = step.shape[-1], step.source_nbytes // prod(step.shape[:-1])
    data = file.data(step.source_name)[rows.start * row_bytes : rows.stop * row_bytes]
    values = formats.dequantize(step.source_type, data, (len(rows), n_columns))
    weight = None
    if columns is not None:
        expert = np.arange(rows.start, rows.stop) // step.shape[-2]
        weight = columns[expert]
    hint = "fetch or convert the model again"
    return blocks_of(step.name, step.type_name, values, weight, hint=hint)


def blocks_of(
    name: str,
    type_name: str,
    values: NDArray[np.float32],
    weight: NDArray[np.float32] | None = None,
    *,
    hint: str,
) -> bytes:
    """Return rows of a tensor as the bytes of a type.

    Parameters
    ----------
    name : str
        The tensor's, for the message.
    type_name : str
    values : float32 array (rows, K)
    weight : float32 array (rows, K), optional
        Importance.
    hint : str
        What to do if the type cannot hold them.

    Raises
    ------
    ModelFormatError
        If it cannot.
    """
    if not (np.abs(values) <= _LARGEST.get(type_name, _LARGEST_F16)).all():
        raise ModelFormatError(
            f"tensor {name!r}: expected finite weights that {type_name} can hold, got larger "
            f"ones, infinite ones or NaN; {hint}"
        )
    return formats.quantize(type_name, values, weight).tobytes()
