"""LoRA adapters made part of a model file."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jitllm.kernels import formats
from jitllm.llm.config import ModelConfig
from jitllm.llm.loaders.gguf import GGUFFile, TensorInfo
from jitllm.llm.loaders.gguf_copy import alignment_of, check_targets, copied, metadata_of
from jitllm.llm.loaders.gguf_writer import NewTensor, scalar, write_gguf
from jitllm.llm.loaders.sources import resolve
from jitllm.llm.lora import LoraAdapter
from jitllm.llm.lora_graph import EMBEDDINGS, Part, scales_behind
from jitllm.llm.models.loading import build_graph
from jitllm.llm.progress import ProgressBar
from jitllm.llm.quantize.writing import blocks_of

_log = logging.getLogger("jitllm.lora")

Floats = npt.NDArray[np.float32]
Adapter = LoraAdapter | str | os.PathLike[str]

_WEIGHTS_AT_ONCE = 1 << 22
_MOSTLY_F16 = 1


def merge(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    adapters: Sequence[tuple[Adapter, float]],
    *,
    keep_types: bool = False,
    progress: bool = False,
) -> Path:
    """Write a copy of a model with adapters in its matrices, as `llama-export-lora` does.

    The file appears when it is complete; an error or an interrupt leaves nothing behind. A model in
    several files becomes one. Matrices that change become F16, or stay F32.

    Parameters
    ----------
    source : str or path
        What `load` takes.
    target : path
        Replaced if there is such a file.
    adapters : sequence of (LoraAdapter or path, scale)
        They need not change the same matrices.
    keep_types : bool
        Quantize what was quantized into its type again: smaller, but small changes may be lost.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    Path
        The target.

    Raises
    ------
    GGUFError, ModelFormatError
        If a file is damaged, or a weight becomes too large for its type.
    ModelNotFoundError
        If there is no such file.
    ValueError
        If an adapter is for another model, there is none, a scale is not finite, a type cannot be
        written, or the target is the source.
    OSError
        If the file cannot be written.
    """
    loaded = [_loaded(adapter, scale) for adapter, scale in adapters]
    if not loaded:
        raise ValueError("expected adapters to merge, got none")
    path = Path(target)
    with GGUFFile(resolve(source, progress=progress)) as file:
        check_targets(file, [path])
        _check(file, loaded)
        changed = {name for adapter, _ in loaded for name in adapter.factors}
        merger = _Merger(file, loaded, {name: _type(file, name, keep_types) for name in changed})
        with ProgressBar(progress, "merging", scale=True) as bar:
            data = merger.data(bar)
            write_gguf(path, merger.values(), merger.tensors, data, alignment_of(file))
    return path


def _loaded(adapter: Adapter, scale: float) -> tuple[LoraAdapter, float]:
    if not np.isfinite(scale):
        raise ValueError(f"expected a finite scale, got {scale}")
    return adapter if isinstance(adapter, LoraAdapter) else LoraAdapter.load(adapter), scale


def _check(file: GGUFFile, adapters: Sequence[tuple[LoraAdapter, float]]) -> None:
    architecture = file.get("general.architecture", str)
    for adapter, _ in adapters:
        if adapter.architecture != architecture:
            raise ValueError(
                f"expected adapters for a model of architecture {architecture!r}, got one for "
                f"{adapter.architecture!r}"
            )
        for name, factors in adapter.factors.items():
            if name not in file.tensors:
                raise ValueError(
                    f"expected adapters of tensors that the model has, got one of {name!r}; it is "
                    "for another model"
                )
            factors.check(name, file.tensors[name].shape)
        if EMBEDDINGS in adapter.factors and "output.weight" not in file.tensors:
            _log.warning("the output matrix is that of the embeddings: it changes with them")


def _type(file: GGUFFile, name: str, keep: bool) -> str:
    before = file.tensors[name].type_name
    if before == "F32" or (keep and before in formats.writable()):
        return before
    if keep:
        raise ValueError(f"tensor {name!r}: expected a type that can be written, one of "
                         f"{', '.join(formats.writable())}, got {before}")  # fmt: skip
    return "F16"


def _scales(file: GGUFFile, changed: Iterable[str]) -> dict[str, Floats]:
    """Scales of changed matrices that the model's architecture uses, if the file has any."""
    if not any(f"{name.removesuffix('weight')}scale" in file.tensors for name in changed):
        return {}
    config = ModelConfig.from_file(file)
    return scales_behind(build_graph(file, config, config.max_position_embeddings)[0])


class _Change(NamedTuple):
    """What is added to a matrix: scale * b a, or a b^T for embeddings."""

    scale: float
    a: Floats
    b: Floats

    def rows(self, name: str, rows: range, expert: int) -> Floats:
        if name == EMBEDDINGS:
            product = self.a[rows.start : rows.stop] @ self.b.T
        elif self.a.ndim == 3:
            product = self.b[expert, rows.start : rows.stop] @ self.a[expert]
        else:
            product = self.b[rows.start : rows.stop] @ self.a
        return np.asarray(np.float32(self.scale) * product, np.float32)


class _Merger:
    def __init__(
        self,
        file: GGUFFile,
        adapters: Sequence[tuple[LoraAdapter, float]],
        types: Mapping[str, str],
    ) -> None:
        self._file, self._types, self._scales = file, types, _scales(file, types)
        self._changes: dict[str, list[_Change]] = {}
        for adapter, scale in adapters:
            part = Part(adapter.factors, adapter.alpha)
            for name, factors in adapter.factors.items():
                change = _Change(scale * part.gain(name), *factors)
                self._changes.setdefault(name, []).append(change)
        self.tensors = [
            NewTensor(info.name, info.shape, types.get(info.name, info.type_name))
            for info in file.tensors.values()
        ]

    def values(self) -> dict[str, bytes]:
        """The metadata of the new file."""
        values = metadata_of(self._file)
        if "F16" in self._types.values():
            values["general.file_type"] = scalar("uint32", _MOSTLY_F16)
        return values

    def data(self, bar: ProgressBar) -> Iterator[Iterator[bytes]]:
        """Yield pieces of the data of every tensor."""
        done, total = 0, sum(tensor.nbytes for tensor in self.tensors)
        for info, tensor in zip(self._file.tensors.values(), self.tensors, strict=True):
            is_changed = info.name in self._types
            yield self._changed(info) if is_changed else copied(self._file, info.name)
            done += tensor.nbytes
            bar.update(done, total)
            self._file.release(info.name)

    def _changed(self, info: TensorInfo) -> Iterator[bytes]:
        """Yield some rows at a time, never of two experts."""
        *_, n_rows, width = info.shape
        data = self._file.data(info.name).reshape(prod(info.shape[:-1]), -1)
        at_once = max(1, _WEIGHTS_AT_ONCE // width)
        for first in range(0, len(data), n_rows):
            for start in range(0, n_rows, at_once):
                rows = range(start, min(start + at_once, n_rows))
                piece = data[first + rows.start : first + rows.stop]
                values = formats.dequantize(info.type_name, piece, (len(rows), width))
                yield self._merged(info.name, values, rows, first // n_rows)

    def _merged(self, name: str, values: Floats, rows: range, expert: int) -> bytes:
        # the model multiplies products with the matrix by these, so what is added is divided
        scales = self._scales.get(name, np.ones(1, np.float32))
        scale = scales[expert % len(scales)] or np.float32(1)
        for change in self._changes[name]:
            values = values + change.rows(name, rows, expert) / scale
        return blocks_of(name, self._types[name], values, hint="use a smaller scale")
