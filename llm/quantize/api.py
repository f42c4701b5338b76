"""`quantize`: a model file in, a smaller one out."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_copy import check_targets, metadata_of
from jitllm.llm.loaders.gguf_writer import scalar
from jitllm.llm.loaders.sources import resolve
from jitllm.llm.quantize import ftypes
from jitllm.llm.quantize.importance import Importance, load_importance
from jitllm.llm.quantize.places import layer_of
from jitllm.llm.quantize.plan import TensorPlan, Wishes, check_plan, make_plan, unmeasured
from jitllm.llm.quantize.writing import write_model

Scalar = str | bool | int | float

log = logging.getLogger("jitllm.quantize")
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
    imatrix: str | os.PathLike[str] | Importance | None = None,
    metadata: Mapping[str, Scalar] | None = None,
    requantize: bool = False,
    dry_run: bool = False,
    n_threads: int | None = None,
    progress: bool = True,
    **wishes: Any,
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
        Such as "Q4_K_M", or its number in files; a wrong one makes the error list all. "COPY"
        changes no tensor.
    overrides : mapping of str to str, optional
        Regular expressions, searched in names of matrices, and the types to use: the first that
        matches counts.
    imatrix : path or Importance, optional
        Importance of columns, from `jitllm imatrix` or `llama-imatrix`.
    metadata : mapping, optional
        Values to set, such as {"general.name": "Small"}.
    requantize : bool
        Also quantize what is quantized already.
    dry_run : bool
        Decide everything and write nothing.
    n_threads : int, optional
        One for each processor unless given.
    progress : bool
        Show a bar on stderr.
    **wishes
        `output_type`, `token_embedding_type`, `leave_output`, `pure` and `prune_layers`, as
        `jitllm.llm.quantize.plan.Wishes` says.

    Raises
    ------
    GGUFError, ModelFormatError
        If the model or the importance matrix is damaged, or weights are not finite.
    ModelNotFoundError, OSError
        If there is no such file, or the new one cannot be written.
    ValueError
        If a name is unknown, or the result would be of no use.

    Examples
    --------
    ::

        jitllm.quantize("model-f16.gguf", "model-q4.gguf", "Q4_K_M", overrides={"ffn_down": "Q8_0"})
    """
    wanted = Wishes(ftypes.get(ftype), overrides or {}, **wishes)
    if not isinstance(imatrix, Importance | None):
        imatrix = load_importance(imatrix)
    with GGUFFile(resolve(source, progress=progress)) as file:
        job = _Job(file, wanted, imatrix, Path(target))
        if not dry_run:
            job.write(metadata or {}, requantize, n_threads or os.cpu_count() or 1, progress)
        return job.result(dry_run)


class _Job:
    """A source, and what is to become of it."""

    def __init__(
        self, file: GGUFFile, wishes: Wishes, importance: Importance | None, path: Path
    ) -> None:
        self._file, self._wishes, self._path = file, wishes, path
        self._importance = importance if importance and importance.squares else None
        self._measured = frozenset(self._importance.squares if self._importance else ())
        self._plan = make_plan(file, wishes, bool(self._measured))

    def result(self, dry_run: bool) -> Quantized:
        """What was done, or would be."""
        lacking = unmeasured(self._plan, self._wishes.ftype, self._measured)
        if lacking:
            log.warning("this will need an importance matrix, for %r", lacking[0].name)
        return Quantized(None if dry_run else self._path, self._wishes.ftype.name, self._plan)

    def write(
        self, metadata: Mapping[str, Scalar], requantize: bool, n_threads: int, progress: bool
    ) -> None:
        """Write the new file."""
        check_plan(self._plan, self._wishes.ftype, self._measured, requantize)
        check_targets(self._file, [self._path])
        values = _values(self._file, self._wishes, self._plan, self._importance)
        values |= _encoded(metadata)
        write_model(
            self._file, self._path, values, self._plan, self._importance, n_threads, progress
        )


def _values(
    file: GGUFFile, wishes: Wishes, plan: tuple[TensorPlan, ...], importance: Importance | None
) -> dict[str, bytes]:
    """The metadata of the new file."""
    values = metadata_of(file)
    values["general.quantization_version"] = scalar("uint32", _QUANTIZATION_VERSION)
    if wishes.ftype is not ftypes.COPY:
        values["general.file_type"] = scalar("uint32", wishes.ftype.number)
    if wishes.prune_layers:
        key = f"{file.get('general.architecture', str)}.block_count"
        values[key] = scalar("uint32", 1 + max(layer_of(step.name) for step in plan))
    if importance is not None:
        values["quantize.imatrix.file"] = scalar("string", Path(importance.path).name)
        values["quantize.imatrix.entries_count"] = scalar("uint32", len(importance.columns))
        if importance.dataset:
            values["quantize.imatrix.dataset"] = scalar("string", importance.dataset)
        if importance.n_chunks:
            values["quantize.imatrix.chunks_count"] = scalar("uint32", importance.n_chunks)
    return values


def _encoded(metadata: Mapping[str, Scalar]) -> dict[str, bytes]:
    """The values that the user sets."""
    values = {}
    for key, value in metadata.items():
        if key == "general.alignment":
            raise ValueError(f"expected metadata that does not move tensors, got {key}")
        if isinstance(value, bool):
            kind = "bool"
        elif isinstance(value, int):
            kind = "uint32" if 0 <= value < 1 << 32 else "int64"
        else:
            kind = "float32" if isinstance(value, float) else "string"
        values[key] = scalar(kind, value)
    return values
