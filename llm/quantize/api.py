"""`quantize`: a model file in, a smaller one out."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jitllm.llm.loaders.gguf import GGUFFile
from jitllm.llm.loaders.gguf_writer import read_values, scalar
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
    output_type: str | None = None,
    token_embedding_type: str | None = None,
    leave_output: bool = False,
    pure: bool = False,
    imatrix: str | os.PathLike[str] | None = None,
    include_weights: Sequence[str] = (),
    exclude_weights: Sequence[str] = (),
    prune_layers: Sequence[int] = (),
    metadata: Mapping[str, Scalar] | None = None,
    requantize: bool = False,
    dry_run: bool = False,
    n_threads: int | None = None,
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
        Such as "Q4_K_M", or its number in files; a wrong one makes the error list all. "COPY"
        changes no tensor.
    overrides : mapping of str to str, optional
        Regular expressions, searched in names of matrices, and the types to use: the first that
        matches counts.
    output_type, token_embedding_type : str, optional
        Types of the output matrix and of the embeddings of tokens.
    leave_output : bool
        Keep the output matrix as it is.
    pure : bool
        Give all matrices the same type, delicate ones too.
    imatrix : path, optional
        Importance of columns, from `jitllm imatrix` or `llama-imatrix`.
    include_weights, exclude_weights : sequence of str
        Parts of tensors' names: use the importance of these only, or of all but these.
    prune_layers : sequence of int
        Layers to leave out; those behind them move up.
    metadata : mapping, optional
        Values to set, such as {"general.name": "Small"}. Whole numbers become uint32, or int64 if
        they do not fit.
    requantize : bool
        Also quantize what is quantized already.
    dry_run : bool
        Decide everything and write nothing.
    n_threads : int, optional
        One for each processor unless given.
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
    wishes = Wishes(
        kind, overrides or {}, output_type, token_embedding_type, leave_output, pure,
        tuple(prune_layers),
    )  # fmt: skip
    importance = _importance(imatrix, include_weights, exclude_weights)
    measured = frozenset(importance.columns if importance else ())
    with GGUFFile(resolve(source, progress=progress)) as file:
        plan = make_plan(file, wishes, bool(measured))
        if dry_run:
            _warn(plan, kind, measured)
            return Quantized(None, kind.name, plan)
        check_plan(plan, kind, measured, requantize)
        path = Path(target)
        if path.exists() and any(path.samefile(p) for p in file.paths):
            raise ValueError(f"expected a target other than the source, got {path} for both")
        values = _values(file, wishes, plan, importance) | _encoded(metadata or {})
        threads = n_threads or os.cpu_count() or 1
        write_model(file, path, values, plan, importance, threads, progress)
    return Quantized(path, kind.name, plan)


def _importance(
    path: str | os.PathLike[str] | None, included: Sequence[str], excluded: Sequence[str]
) -> Importance | None:
    """What an importance matrix says of the tensors that the user wants it for."""
    if included and excluded:
        raise ValueError("expected include_weights or exclude_weights, got both")
    if path is None:
        if included or excluded:
            raise ValueError("include_weights and exclude_weights need an importance matrix")
        return None
    matrix = load_importance(path)
    squares = {
        name: value
        for name, value in matrix.squares.items()
        if not any(part in name for part in excluded)
        and (not included or any(part in name for part in included))
    }
    return replace(matrix, squares=squares)


def _warn(plan: tuple[TensorPlan, ...], kind: ftypes.FileType, measured: frozenset[str]) -> None:
    lacking = unmeasured(plan, kind, measured)
    if lacking:
        log.warning("%s will need an importance matrix, for %r", kind.name, lacking[0].name)


def _values(
    file: GGUFFile, wishes: Wishes, plan: tuple[TensorPlan, ...], importance: Importance | None
) -> dict[str, bytes]:
    """The metadata of the new file."""
    values = read_values(file.paths[0])
    for key in ("split.no", "split.count", "split.tensors.count"):
        values.pop(key, None)
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
