"""`quantize`: a model file in, a smaller one out."""

import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jitllm.kernels import formats
from jitllm.llm.errors import ModelFormatError
from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_header import DEFAULT_ALIGNMENT
from jitllm.llm.loaders.gguf_writer import (
    NewTensor,
    read_values,
    scalar,
    write_gguf,
)
from jitllm.llm.loaders.sources import resolve
from jitllm.llm.progress import ProgressBar
from jitllm.llm.quantize import ftypes
from jitllm.llm.quantize.importance import Importance, load_importance
from jitllm.llm.quantize.plan import TensorPlan, check_plan, make_plan

_WEIGHTS_AT_ONCE = 1 << 18  # enough for NumPy to be busy, few enough for caches
_COPY_BYTES = 1 << 24
_LARGEST = {"F32": np.inf, "BF16": np.inf}  # other types have float16 scales or exponents
_QUANTIZATION_VERSION = 2


@dataclass(frozen=True)
class Quantized:
    """What `quantize` did, or would do.

    Attributes
    ----------
    path : Path or None
        The new file; None after a dry run.
    ftype : str
    tensors : tuple of TensorPlan
        In the order of the file.
    """

    path: Path | None
    ftype: str
    tensors: tuple[TensorPlan, ...]

    @property
    def source_nbytes(self) -> int:
        """Bytes of all tensors before."""
        return sum(step.source_nbytes for step in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors after."""
        return sum(step.nbytes for step in self.tensors)


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    ftype: str,
    *,
    overrides: Mapping[str, str] | None = None,
    imatrix: str | os.PathLike[str] | None = None,
    requantize: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> Quantized:
    """Write a copy of a model with smaller weights; tensors get the types of `llama-quantize`.

    The file appears when it is complete; an error or an interrupt leaves nothing behind. A model
    in several files becomes one.

    Parameters
    ----------
    source : str or path
        What `load` takes; F32, F16 or BF16 weights give the best results.
    target : path
        Replaced if there is such a file.
    ftype : str
        Such as "Q4_K_M"; a wrong one makes the error list all.
    overrides : mapping of str to str, optional
        Regular expressions, searched in names of matrices, and the types to use: the first that
        matches counts.
    imatrix : path, optional
        Importance of columns in GGUF, from `llama-imatrix`.
    requantize : bool
        Also quantize what is quantized already.
    dry_run : bool
        Decide everything and write nothing.
    progress : bool
        Show a bar on stderr.

    Raises
    ------
    GGUFError, ModelFormatError
        If the model or the importance matrix is damaged, or weights are not finite.
    ModelNotFoundError
        If there is no such file.
    ValueError
        If a name is unknown, or the result would be of no use.
    OSError
        If the file cannot be written.

    Examples
    --------
    ::

        jitllm.quantize("model-f16.gguf", "model-q4.gguf", "Q4_K_M", overrides={"ffn_down": "Q8_0"})
    """
    kind = ftypes.get(ftype)
    importance = None if imatrix is None else load_importance(imatrix)
    with GGUFFile(resolve(source, progress=progress)) as file:
        plan = make_plan(file, kind, overrides or {}, importance is not None)
        if dry_run:
            return Quantized(None, kind.name, plan)
        measured = frozenset(importance.columns if importance else ())
        check_plan(plan, kind, measured, requantize)
        path = Path(target)
        if path.exists() and any(path.samefile(p) for p in file.paths):
            raise ValueError(f"expected a target other than the source, got {path} for both")
        _write(file, path, kind, plan, importance, progress)
    return Quantized(path, kind.name, plan)


def _write(
    file: GGUFFile,
    path: Path,
    ftype: ftypes.FileType,
    plan: tuple[TensorPlan, ...],
    importance: Importance | None,
    progress: bool,
) -> None:
    tensors = [NewTensor(step.name, step.shape, step.type_name) for step in plan]
    alignment = file.get("general.alignment", int, DEFAULT_ALIGNMENT)
    threads = os.cpu_count() or 1
    with ProgressBar(progress, "quantizing", scale=True) as bar:
        with ThreadPoolExecutor(threads) as pool:
            data = _all_data(file, plan, importance, _Workers(pool, threads), bar)
            write_gguf(path, _values(file, ftype, importance), tensors, data, alignment)


def _values(
    file: GGUFFile, ftype: ftypes.FileType, importance: Importance | None
) -> dict[str, bytes]:
    """The metadata of the new file."""
    values = read_values(file.paths[0])
    for key in ("split.no", "split.count", "split.tensors.count"):
        values.pop(key, None)
    values["general.quantization_version"] = scalar("uint32", _QUANTIZATION_VERSION)
    values["general.file_type"] = scalar("uint32", ftype.number)
    if importance is not None:
        values["quantize.imatrix.file"] = scalar("string", Path(importance.path).name)
        values["quantize.imatrix.entries_count"] = scalar("uint32", len(importance.columns))
        if importance.dataset:
            values["quantize.imatrix.dataset"] = scalar("string", importance.dataset)
        if importance.n_chunks:
            values["quantize.imatrix.chunks_count"] = scalar("uint32", importance.n_chunks)
    return values


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
            pieces = _copy(file, step)
        else:
            columns = importance.of(step.name, step.shape) if importance else None
            pieces = workers.quantize(file, step, columns)
        yield _counted(pieces, bar, done, total)
        done += step.nbytes
        file.release(step.name)


def _counted(pieces: Iterator[bytes], bar: ProgressBar, done: int, total: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        done += len(piece)
        bar.update(done, total)


def _copy(file: GGUFFile, step: TensorPlan) -> Iterator[bytes]:
    data = file.data(step.name)
    for start in range(0, len(data), _COPY_BYTES):
        yield data[start : start + _COPY_BYTES].tobytes()


def _convert(
    file: GGUFFile, step: TensorPlan, columns: NDArray[np.float32] | None, rows: range
) -> bytes:
    """Quantize some rows of a tensor."""
    n_columns, row_bytes = step.shape[-1], step.source_nbytes // prod(step.shape[:-1])
    data = file.data(step.name)[rows.start * row_bytes : rows.stop * row_bytes]
    values = formats.dequantize(step.source_type, data, (len(rows), n_columns))
    if not (np.abs(values) <= _LARGEST.get(step.type_name, 65504)).all():
        raise ModelFormatError(
            f"tensor {step.name!r}: expected finite weights that {step.type_name} can hold, got "
            "larger ones, infinite ones or NaN; fetch or convert the model again"
        )
    weight = None
    if columns is not None:
        expert = np.arange(rows.start, rows.stop) // step.shape[-2]
        weight = columns[expert]
    return formats.quantize(step.type_name, values, weight).tobytes()
